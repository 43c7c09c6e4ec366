"""How the engines read images: Paddle's DataLoader, in which a fault of one image ends the run with a clear error.

Paddle 3's own waits for ever, deaf to Ctrl-C and SIGTERM, when reading fails without worker processes; with them it
prints the workers' tracebacks and stops with an error that names no file. And a signal to the group of the process,
as a terminal or a launcher sends it, ends the workers before the run could be saved.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.io.dataloader.collate import default_collate_fn

from cyclemlp.data.images import decode_image
from cyclemlp.data.loader import begin_worker, iterate_without_signals
from cyclemlp.dense.images import read_image
from cyclemlp.errors import DataError
from cyclemlp.text import printable, shortened
from cyclemlp.training import TrainingFailedError

#: Key of a batch that is none: what failed.
_FAULT = "cyclemlp_fault"
LONGEST_REASON = 300
MOST_FILES = 4


class ReaderError(DataError, TrainingFailedError):
    """An image or annotation could not be read while a model was trained or evaluated; the message names the file."""


@contextlib.contextmanager
def checked_loading() -> Iterator[None]:
    """Within it, the engines' loops read through `CheckedLoader`, whatever their number of workers.

    Both engines look up Paddle's loader by name when they start to read, PaddleSeg in `paddle.io` and PaddleDetection
    in its own module.
    """
    places: list[Any] = [
        paddle.io,
        *(sys.modules[name] for name in ("ppdet.data.reader",) if name in sys.modules),
    ]
    before = [place.DataLoader for place in places]
    for place in places:
        place.DataLoader = CheckedLoader
    try:
        yield
    finally:
        for place, loader in zip(places, before, strict=True):
            place.DataLoader = loader


class CheckedLoader(paddle.io.DataLoader):
    """Paddle's DataLoader, over whose iterators `ReaderError` is raised where reading fails.

    Worker processes are not reached by signals to the group of this one, and end with it.

    Args:
        dataset: a data set with items of its own kind; files are named by PaddleSeg's `file_list` and
            PaddleDetection's `roidbs`.
        collate_fn: list of items → batch.
        worker_init_fn: called in each worker process with its number.
        options: of Paddle's.
    """

    def __init__(
        self,
        dataset: Any,
        *args: Any,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        worker_init_fn: Callable[[int], object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            _Items(dataset),
            *args,
            collate_fn=_Collate(dataset, collate_fn or default_collate_fn),
            worker_init_fn=partial(_begin, worker_init_fn),
            **options,
        )

    def __iter__(self) -> Iterator[Any]:
        return _Batches(iterate_without_signals(super().__iter__))


class _Batches:
    """An iterator of Paddle's loader, whose faults are raised here, where the batch is asked for."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._batches)
        except SystemError as error:  # what Paddle's queue raises once its threads have ended
            raise ReaderError(
                "a process that reads images ended without a word; perhaps memory ran out (it is then in `dmesg`): use "
                "fewer workers, or none"
            ) from error
        if isinstance(batch, Mapping) and _FAULT in batch:
            raise ReaderError(batch[_FAULT])
        return batch


@dataclass(frozen=True)
class _Item:
    """An item with its number in the data set; `fault` says why it could not be read."""

    index: int
    value: Any
    fault: str | None = None


class _Items(paddle.io.Dataset):
    """A data set whose items are `_Item`s, and which raises nothing. All else is the data set's own."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __getitem__(self, index: int) -> _Item:
        try:
            return _Item(index, self._dataset[index])
        except Exception as error:  # of any transform, decoder or operator
            return _Item(index, None, _fault(_files(self._dataset, index), index, error))


class _Collate:
    """Items → batch; a fault is a batch that says so, which Paddle carries to the process that asked for it."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self._dataset, self._collate = dataset, collate

    def __call__(self, items: list[_Item]) -> Any:
        fault = next((item.fault for item in items if item.fault is not None), None)
        if fault is None:
            try:
                return self._collate([item.value for item in items])
            except Exception as error:
                files = [path for item in items for path in _files(self._dataset, item.index)[:1]]
                fault = f"a batch cannot be made of {_listed(files)}: {_reason(error)}"
        return {
            _FAULT: fault,
            "image": np.zeros(1, np.float32),
        }  # Paddle's queue takes no batch without a tensor


def _begin(also: Callable[[int], object] | None, number: int) -> None:
    begin_worker(number)
    if also is not None:
        also(number)


def _files(dataset: Any, index: int) -> list[Path]:
    """The files of an item: the image, and a label if it is one."""
    records = getattr(dataset, "file_list", None) or getattr(dataset, "roidbs", None)
    try:
        record = (records or [])[index % len(records or [1])]
    except (LookupError, TypeError):
        return []
    named = [record.get("im_file")] if isinstance(record, Mapping) else record
    return [Path(name) for name in named if isinstance(name, str | Path)]


def _fault(files: Sequence[Path], index: int, error: Exception) -> str:
    """What is wrong with an item: what the file itself shows, else what the engine said of it."""
    for number, path in enumerate(files):
        try:
            if number == 0:
                read_image(path)
            else:
                decode_image(path, f"item {index} of the data")
        except DataError as found:
            return printable(str(found), lines=False)
    return f"{_listed(files) or f'item {index} of the data'} cannot be used: {_reason(error)}"


def _listed(files: Sequence[Path]) -> str:
    names = [printable(str(path), lines=False) for path in files[:MOST_FILES]]
    return ", ".join(names) + (" …" if len(files) > MOST_FILES else "")


def _reason(error: Exception) -> str:
    text = printable(" ".join(str(error).split()), lines=False)
    return shortened(f"{type(error).__name__}: {text}", LONGEST_REASON)
