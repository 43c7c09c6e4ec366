"""Several processes, one a device, as one run: a thin layer over `paddle.distributed`.

`python -m paddle.distributed.launch` starts the processes and tells each by its environment who it is; Paddle's NCCL
(GPUs) or gloo (CPUs) carries what they say to each other, its `DataParallel` averages the gradients. Every process
does every step with its own share of the batch, so that all have the same weights at every moment; process 0, the
first, is the only one that writes.

A run of one process is the same code: `World()` is the process alone, and everything here then does nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from cyclemlp.errors import ConfigError
from cyclemlp.text import counted

if TYPE_CHECKING:
    from paddle import nn

T = TypeVar("T")

#: Paddle's launcher looks at its processes every one or two seconds.
NOTICE_SECONDS = 5


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: this one's number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks to people."""
        return self.rank == 0

    def wrap(self, model: nn.Layer, *, some_unused: bool = False) -> nn.Layer:
        """The model as it is to be called for training; both share their parameters.

        Every process has the first one's weights, and `backward` averages the gradients over the processes.

        Args:
            some_unused: some of its trainable parameters will be without gradients in some steps.
        """
        if self.size == 1:
            return model
        import paddle

        return paddle.DataParallel(model, find_unused_parameters=some_unused)

    def sum(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Each value's sum over the processes, float64 and the same bits in all of them. All must call this."""
        own = np.asarray(values, dtype=np.float64)
        if self.size == 1:
            return own
        import paddle
        from paddle import distributed

        total = paddle.to_tensor(own)
        distributed.all_reduce(total)
        return cast(np.ndarray, total.numpy())

    def from_first(self, value: T) -> T:
        """The first process's value, which is pickled, in all of them. All must call this."""
        if self.size == 1:
            return value
        from paddle import distributed

        box: list[Any] = [value]
        distributed.broadcast_object_list(box, src=0)
        return cast(T, box[0])

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process. All must call this."""
        return bool(self.sum([flag])[0])

    def gather(self, value: T) -> list[T]:
        """The values of all processes, which are pickled, by their ranks. All must call this."""
        if self.size == 1:
            return [value]
        from paddle import distributed

        values: list[Any] = []
        distributed.all_gather_object(values, value)
        return values

    def first_given(self, value: T | None) -> T | None:
        """Of the values, which are pickled, the first process's that is not None. All must call this."""
        return next((v for v in self.gather(value) if v is not None), None)


#: The process of a run that no launcher started.
ALONE = World()


def join(device: str | None = None) -> World:
    """Meet the other processes of a run that `paddle.distributed.launch` started; without it, be alone.

    May be called again. Afterwards Paddle computes on this process's own device.

    Args:
        device: what the user asked for: "cpu" joins the processors of a machine that has GPUs too.

    Raises:
        ConfigError: one GPU is named for all processes.
    """
    size = int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)
    if size == 1:
        return ALONE
    if device is not None and ":" in device:
        raise ConfigError(
            f"--device is {device!r}, but there are {counted(size, 'process')}, each with a device of its own: leave "
            "it out and name them to the launcher: python -m paddle.distributed.launch --devices 0,1 …"
        )
    if device == "cpu":
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    from paddle import distributed

    distributed.init_parallel_env()
    return World(distributed.get_rank(), distributed.get_world_size())


@contextlib.contextmanager
def gradients_stay_here(model: nn.Layer, here: bool = True) -> Iterator[None]:
    """Within it, `backward` of a model from `World.wrap` only adds up this process's own gradients: for all but the
    last part of a step that is computed in parts. The last part averages what was added up."""
    if here and hasattr(model, "no_sync"):
        with model.no_sync():
            yield
    else:
        yield


@contextlib.contextmanager
def faults_told_apart(agreed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Within it, the process where a fault lies is the one whose error the launcher shows.

    The launcher takes the first process that it finds ended, shows the end of its log and then ends the others. But
    when one ends, the others lose their connection to it and end too, before the launcher looks. So the one at
    fault keeps its connections open for a while after it ended, and one that lost a connection ends later, by a
    ConnectionError that says so.

    Args:
        agreed: what all processes raise together.
    """
    try:
        yield
    except agreed:
        raise
    except Exception as error:
        rank, size = (os.environ.get(f"PADDLE_TRAINER{name}") for name in ("_ID", "S_NUM"))
        if int(size or 1) == 1:
            raise
        if not _is_of_the_connection(error):
            _leave_connections_open()
            raise
        time.sleep(NOTICE_SECONDS)
        logs = os.environ.get("PADDLE_LOG_DIR", "log")
        raise ConnectionError(
            f"process {rank} of {size} lost the connection to another one, which has ended; the reason is in that "
            f"one's log, {logs}/workerlog.N on its machine ({str(error).strip().splitlines()[-1]})"
        ) from error


def _leave_connections_open() -> None:
    if hasattr(os, "fork") and os.fork() == 0:  # a copy, which does nothing, has the sockets too
        os.closerange(0, 3)
        time.sleep(NOTICE_SECONDS)
        os._exit(0)


def _is_of_the_connection(error: Exception) -> bool:
    # Paddle has no class for these.
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError | SystemError) and any(
        word in text for word in ("gloo", "nccl", "tcpstore", "tcp_utils")
    )
