"""Batches of pictures, read here or by worker processes; the same pictures whichever it is.

Everything random is a function of (seed, epoch, sample): the order of an epoch of (seed, epoch), what happens to a
picture of (seed, epoch, its index). So the number of workers, the batch size of another run or a resume in a later
epoch change nothing.

Worker processes are `paddle.io.DataLoader`'s. Without workers Paddle is not needed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cyclemlp.data.sources import Source
from cyclemlp.data.transforms import Transform
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.preprocessing import Preprocessing

# First words of the seeds: NumPy treats [a, b] and [a, b, 0] as the same seed.
ORDER, SAMPLE = 1, 2
SHARED_MEMORY = Path("/dev/shm")
PREFETCH = 2  # batches under way for each worker, Paddle's own default

Key = tuple[int, int]  # epoch, index


class Batch(NamedTuple):
    """Some pictures. B pictures, C channels, H height, W width.

    Attributes:
        images: float32 [B, C, H, W], a NumPy array, or a Paddle tensor where the loader was built so.
        labels: int64 [B], likewise; None where the source has no labels.
        indices: int64 [B], a NumPy array: the pictures' places in the source.
    """

    images: Any
    labels: Any
    indices: np.ndarray


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read.

    Attributes:
        index: its place in the source.
        name: its name there.
        message: what went wrong, with file and line.
        traceback: of an error that is not the picture's fault, but the program's; else None.
    """

    index: int
    name: str
    message: str
    traceback: str | None = None

    def error(self) -> Exception:
        """As an exception to raise."""
        if self.traceback is not None:
            return RuntimeError(f"{self.message}\nwhere it happened:\n{self.traceback}")
        return DataError(self.message)


def build_loader(
    source: Source,
    transform: Transform,
    *,
    batch_size: int,
    shuffle: bool = False,
    drop_last: bool = False,
    num_workers: int = 0,
    seed: int = 0,
    tensors: bool = False,
    on_failure: Callable[[Failure], None] | None = None,
) -> Loader:
    """A loader of `source`'s pictures through `transform`.

    Args:
        source: where the pictures come from.
        transform: from a picture and a NumPy generator to float32 [C, H, W].
        batch_size: pictures a batch; the last one may have fewer.
        shuffle: a new order each epoch.
        drop_last: leave out a last batch with fewer pictures. If it is the only one it is kept, with a warning.
        num_workers: processes that read; 0 reads here. They live as long as the loader.
        seed: of order and transform, from 0.
        tensors: give images and labels as Paddle tensors on the current device instead of NumPy arrays.
        on_failure: called for each picture that cannot be read, which is then left out of its batch; None raises.

    Raises:
        ConfigError: an impossible number.
        DataError: while iterating, for a picture that cannot be read, or if a worker process dies.
    """
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("num_workers", num_workers, 0),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}; give a whole number from {least}")
    if drop_last and 0 < len(source) < batch_size:
        warnings.warn(
            f"{len(source)} pictures are fewer than one batch of {batch_size}: the one smaller batch is kept",
            stacklevel=2,
        )
        drop_last = False
    if num_workers and not sys.platform.startswith("linux"):
        warnings.warn(
            f"Paddle reads with worker processes on Linux only; on {sys.platform} none is used", stacklevel=2
        )
        num_workers = 0
    reader = _Reader(source, transform, seed)
    keys = _Keys(len(source), batch_size, shuffle, drop_last, seed)
    return Loader(reader, keys, min(num_workers, len(keys)), tensors, on_failure)


class Loader:
    """Iterable over one epoch's batches; `set_epoch` chooses the epoch. Made by `build_loader`."""

    def __init__(
        self,
        reader: _Reader,
        keys: _Keys,
        num_workers: int,
        tensors: bool,
        on_failure: Callable[[Failure], None] | None,
    ) -> None:
        self.source = reader.source
        self.batch_size = keys.batch_size
        self.num_workers = num_workers
        self._reader, self._keys = reader, keys
        self._tensors, self._on_failure = tensors, on_failure
        self._engine: Any = None  # paddle.io.DataLoader

    def __len__(self) -> int:
        """Number of batches an epoch."""
        return len(self._keys)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration reads epoch `epoch`, from 0."""
        self._keys.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        for images, labels, asked, failures in self._read():
            failed = {failure.index for failure in failures}
            for failure in failures:
                if failure.traceback is not None or self._on_failure is None:
                    raise failure.error()
                self._on_failure(failure)
            if images is not None:
                yield Batch(images, labels, np.asarray([i for i in asked if i not in failed], dtype=np.int64))

    def _read(self) -> Iterator[tuple[Any, Any, list[int], list[Failure]]]:
        if self.num_workers == 0:
            for keys in self._keys:
                images, labels, failures = self._reader.read(keys)
                if self._tensors and images is not None:
                    import paddle

                    images, labels = (
                        paddle.to_tensor(images),
                        None if labels is None else paddle.to_tensor(labels),
                    )
                yield images, labels, [index for _, index in keys], failures
            return
        if self._engine is None:
            self._engine = self._start()
        complete = False
        try:
            for images, labels, asked, failures in _iterate_without_signals(self._engine):
                if not self._tensors and images is not None:
                    images, labels = images.numpy(), None if labels is None else labels.numpy()
                yield images, labels, asked.numpy().tolist(), failures
            complete = True
        except SystemError as error:  # what Paddle's queue raises once its threads have ended
            raise DataError(
                "a process that reads pictures ended without a word; perhaps memory ran out (it is then in `dmesg`). "
                "Use fewer workers, or none (`--workers 0`)"
            ) from error
        finally:
            if not complete:  # Paddle would begin the next epoch with what is left of this one
                self.close()

    def _start(self) -> Any:
        import paddle

        return paddle.io.DataLoader(
            _WholeBatches(self._reader),
            batch_sampler=_OneItemBatches(self._keys),
            collate_fn=_only_item,
            num_workers=self.num_workers,
            persistent_workers=True,
            prefetch_factor=PREFETCH,
            timeout=1,  # seconds between looks at whether the workers live; nothing ends by it
            use_shared_memory=_shared_memory_suffices(
                self._reader.transform, self.batch_size, self.num_workers
            ),
            places=None if self._tensors else paddle.CPUPlace(),
        )

    def close(self) -> None:
        """End the worker processes; the next iteration starts new ones."""
        engine, self._engine = self._engine, None
        iterator = getattr(engine, "_iterator", None)
        if iterator is not None:
            # Paddle has no public way, and its own thread keeps the iterator from being collected.
            iterator._try_shutdown_all(timeout=5)

    def __del__(self) -> None:
        self.close()


def _iterate_without_signals(engine: Any) -> Iterator[Any]:
    """`iter(engine)` without the handler by which Paddle raises, at any line of the program, when a worker dies: half
    a checkpoint may be written there. The loader notices by itself, within seconds, when it waits for that worker."""
    if threading.current_thread() is not threading.main_thread():
        return iter(engine)
    before = signal.getsignal(signal.SIGCHLD)
    iterator = iter(engine)
    signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    return iterator


class _Keys:
    """An epoch's batches as lists of (epoch, index)."""

    def __init__(self, size: int, batch_size: int, shuffle: bool, drop_last: bool, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch = 0

    def __len__(self) -> int:
        return self.size // self.batch_size if self.drop_last else -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        if self.shuffle:
            order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(self.size)
        else:
            order = np.arange(self.size)
        for batch in range(len(self)):
            start = batch * self.batch_size
            yield [(epoch, int(index)) for index in order[start : start + self.batch_size]]


class _Reader:
    """Reads the pictures of a batch; runs here or in a worker process. Never raises for a picture."""

    def __init__(self, source: Source, transform: Transform, seed: int) -> None:
        self.source, self.transform, self.seed = source, transform, seed

    def read(self, keys: list[Key]) -> tuple[np.ndarray | None, np.ndarray | None, list[Failure]]:
        """(images, labels, failures); images None if every picture failed."""
        images, labels, failures = [], [], []
        for epoch, index in keys:
            try:
                image, label = self._read_one(epoch, index)
            except DataError as error:
                failures.append(Failure(index, self.source.name(index), str(error)))
            except Exception as error:
                message = f"{self.source.location(index)}: {type(error).__name__}: {error}"
                failures.append(Failure(index, self.source.name(index), message, traceback.format_exc()))
            else:
                images.append(image)
                labels.append(label)
        if not images:
            return None, None, failures
        return np.stack(images), None if None in labels else np.asarray(labels, dtype=np.int64), failures

    def _read_one(self, epoch: int, index: int) -> tuple[np.ndarray, int | None]:
        sample = self.source[index]
        rng = np.random.default_rng([SAMPLE, self.seed, epoch, index])
        try:
            return self.transform(sample.image, rng), sample.label
        except DataError as error:  # a transform does not know the picture's place
            raise DataError(f"{self.source.location(index)}: {self.source.name(index)}: {error}") from error


# Paddle's loader asks for the items of a batch one by one and collates them. An item here is a whole batch, so that
# failures travel beside it: what a worker raises reaches the user as a traceback in a SystemError.


class _WholeBatches:
    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def __getitem__(self, keys: list[Key]) -> list[Any]:
        images, labels, failures = self._reader.read(keys)
        return [images, labels, np.asarray([index for _, index in keys], dtype=np.int64), failures]


class _OneItemBatches:
    def __init__(self, keys: _Keys) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[list[list[Key]]]:
        return ([keys] for keys in self._keys)


def _only_item(items: list[Any]) -> Any:
    return items[0]


def _shared_memory_suffices(transform: Transform, batch_size: int, num_workers: int) -> bool:
    """Whether the batches under way fit in /dev/shm: where they do not (64 MB in many containers), writing to it
    ends the process by SIGBUS, so they go through pipes, which is slower."""
    p = getattr(transform, "preprocessing", Preprocessing())
    needed = 4 * p.channels * p.input_size**2 * batch_size * (PREFETCH * num_workers + 2)
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    free = shutil.disk_usage(SHARED_MEMORY).free if usable else 0
    if free >= needed:
        return True
    warnings.warn(
        f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free and the batches under way may need {needed / 2**20:.0f}: "
        "worker processes hand them over through pipes, which is slower (docker run --shm-size 8g gives more)",
        stacklevel=2,
    )
    return False
