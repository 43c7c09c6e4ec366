"""Curves for TensorBoard and VisualDL, while a run goes on; each library is optional and imported at first use.

Look at them with `tensorboard --logdir RUN/tensorboard`, or `visualdl --logdir RUN/visualdl --disable-telemetry`:
VisualDL's viewer, unless disabled, reports its use to its makers. The writers here open no connection.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from cyclemlp.errors import ConfigError, MissingDependencyError

#: Kind of writer → the library that writes its files.
WRITERS = {"tensorboard": "tensorboardX", "visualdl": "visualdl"}


class Writer(Protocol):
    """Takes figures; whatever was given to `scalars` is in the file when it returns."""

    def scalars(self, figures: Mapping[str, float | None], step: int) -> None:
        """Write one point of each named curve; None leaves a gap."""

    def close(self) -> None:
        """End the file; may be called again."""


def open_writer(kind: str, folder: str | os.PathLike[str]) -> Writer:
    """Begin an event file in `folder`, which is made if need be and may hold those of earlier starts of a run.

    TensorBoard joins all files of a folder. VisualDL shows the newest only, so each later start gets a folder
    of its own inside: start-2, start-3, …

    Args:
        kind: "tensorboard" or "visualdl".
        folder: where to write.

    Raises:
        ConfigError: another kind.
        MissingDependencyError: the library is not installed.
    """
    require_writer(kind)
    return (_TensorBoard if kind == "tensorboard" else _VisualDL)(Path(folder))


def require_writer(kind: str) -> None:
    """Raise what `open_writer` would, before anything is written.

    Raises:
        ConfigError: an unknown kind.
        MissingDependencyError: its library is not installed.
    """
    if kind not in WRITERS:
        raise ConfigError(f"unknown kind of log {kind!r}; the possible ones are {', '.join(WRITERS)}")
    if importlib.util.find_spec(WRITERS[kind]) is None:
        raise _missing(kind)


class _Synchronous:
    """What both have in common: `_write` a point, `_flush`, `_end`."""

    _open = True

    def scalars(self, figures: Mapping[str, float | None], step: int) -> None:
        if not self._open:
            raise ValueError("this writer is closed")
        for name, value in figures.items():
            if value is not None:
                self._write(name, float(value), step)
        self._flush()

    def close(self) -> None:
        if self._open:
            self._end()
        self._open = False

    _write: Callable[[str, float, int], None]
    _flush: Callable[[], object]
    _end: Callable[[], object]


class _TensorBoard(_Synchronous):
    """Not by tensorboardX's SummaryWriter: its `flush` does not wait for its thread, and a crash loses points."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX.event_file_writer import EventsWriter
        except ImportError:
            raise _missing("tensorboard") from None
        folder.mkdir(parents=True, exist_ok=True)
        # The file's name holds the second of the start; the suffix keeps two starts in one second apart.
        events = EventsWriter(str(folder / "events"), f".{_count(folder, 'events.') + 1}")
        self._events, self._flush, self._end = events, events.flush, events.close

    def _write(self, name: str, value: float, step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        self._events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))


class _VisualDL(_Synchronous):
    def __init__(self, folder: Path) -> None:
        try:
            from visualdl import LogWriter
        except ImportError:
            raise _missing("visualdl") from None
        starts = _count(folder, "vdlrecords.") + 1
        log = LogWriter(logdir=str(folder if starts == 1 else folder / f"start-{starts}"))
        self._write, self._flush, self._end = log.add_scalar, log.flush, log.close


def _count(folder: Path, beginning: str) -> int:
    return sum(1 for path in folder.rglob(f"{beginning}*") if path.is_file())


def _missing(kind: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"a log for {kind} needs {WRITERS[kind]}, which is not installed: "
        f'pip install "paddle-cyclemlp[{kind}]"'
    )
