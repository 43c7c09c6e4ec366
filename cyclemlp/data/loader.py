"""Batches of images, read here or by worker processes; the same images whichever it is.

Everything random is a function of (seed, epoch, sample): the order of an epoch of (seed, epoch), what happens to an
image of (seed, epoch, its index, which of its repetitions), see `Draws`. So the number of workers or of ranks, the
batch size of another run, a resume in a later epoch or in the middle of one change nothing.

Worker processes are `paddle.io.DataLoader`'s. Without workers Paddle is not needed.
"""

from __future__ import annotations

import copy
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cyclemlp.data.images import named, orientation
from cyclemlp.data.memory import BatchMemory
from cyclemlp.data.order import Draws, EpochOrder, Key
from cyclemlp.data.sources import Label, Source, multi_hot
from cyclemlp.data.transforms import Begun, Finish, Left, Transform
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.text import printable

SHARED_MEMORY = Path("/dev/shm")
#: What stops a run; sent to its whole group.
STOPS = {signal.SIGINT, signal.SIGTERM}
PREFETCH = 2  # batches under way for each worker, Paddle's own default


class Batch(NamedTuple):
    """Some images. B images, C channels, H height, W width.

    Attributes:
        images: float32 [B, C, H, W], a NumPy array, or a Paddle tensor where the loader was built so.
        labels: int64 [B], likewise; of several labels an image float32 [B, K], 1 at its classes; None where the source
            has no labels.
        indices: int64 [B], a NumPy array: the images' places in the source.
    """

    images: Any
    labels: Any
    indices: np.ndarray


@dataclass(frozen=True)
class Failure:
    """An image that could not be read.

    Attributes:
        index: its place in the source.
        name: its name there.
        message: what went wrong, with file and line.
        traceback: of an error that is not the image's fault, but the program's; else None.
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
    rank: int = 0,
    world_size: int = 1,
    repeats: int = 1,
    weights: np.ndarray | None = None,
    tensors: bool = False,
    on_failure: Callable[[Failure], None] | None = None,
) -> Loader:
    """A loader of `source`'s images through `transform`.

    Args:
        source: where the images come from.
        transform: from an image and a NumPy generator to float32 [C, H, W].
        batch_size: images a batch on each rank; the last one may have fewer.
        shuffle: a new order each epoch, and the same number of images on every rank, for training. Without it
            every image is read exactly once, by one of the ranks, for evaluation. See `EpochOrder`.
        drop_last: leave out a last batch with fewer images. If it is the only one it is kept, with a warning.
        num_workers: processes that read; 0 reads here. They live as long as the loader.
        seed: of order and transform, from 0.
        rank, world_size: this process's number, and how many share an epoch.
        repeats: how often an image that is shown comes in its epoch, augmented anew each time (repeated
            augmentation; needs `shuffle`). The epoch stays as long: it shows fewer different images.
        weights: of the images, float [N], from 0: each place of an epoch is drawn by itself, an image by its share of
            them (needs `shuffle`, without `repeats`). None shows each image once.
        tensors: give images and labels as Paddle tensors on the current device instead of NumPy arrays.
        on_failure: called for each image that cannot be read, which is then left out of its batch; None raises.

    Raises:
        ConfigError: an impossible number, or weights that do not fit.
        DataError: while iterating, for an image that cannot be read, or if a worker process dies.
    """
    if num_workers < 0:
        raise ConfigError(f"num_workers is {num_workers}; give a whole number from 0")
    keys = EpochOrder(
        len(source),
        batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        seed=seed,
        rank=rank,
        world_size=world_size,
        repeats=repeats,
        weights=weights,
    )
    if num_workers and not sys.platform.startswith("linux"):
        warnings.warn(
            f"Paddle reads with worker processes on Linux only; on {sys.platform} none is used", stacklevel=2
        )
        num_workers = 0
    reader = _Reader(source, transform, seed)
    return Loader(reader, keys, min(num_workers, len(keys)), tensors, on_failure)


class Loader:
    """Iterable over one epoch's batches; `set_epoch` chooses the epoch. Made by `build_loader`."""

    def __init__(
        self,
        reader: _Reader,
        keys: EpochOrder,
        num_workers: int,
        tensors: bool,
        on_failure: Callable[[Failure], None] | None,
    ) -> None:
        self.source, self.transform = reader.source, reader.transform
        self.batch_size = keys.batch_size
        self.num_workers = num_workers
        self._reader, self._keys = reader, keys
        # What is finished, or becomes a tensor, is copied.
        reader.reuses_memory = num_workers == 0 and (tensors or reader.finish is not None)
        self._tensors, self._on_failure = tensors, on_failure
        self._memory = BatchMemory()
        self._engine: Any = None  # paddle.io.DataLoader
        self._told_of_turned = False

    def __len__(self) -> int:
        """Number of this rank's batches in a whole epoch."""
        return len(self._keys)

    @property
    def images(self) -> int:
        """Number of images that this rank reads in an epoch, repetitions included."""
        return self._keys.images

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Let the next iteration read epoch `epoch`, from 0, beginning with its batch `first_batch`.

        So a run that was stopped in the middle of an epoch goes on without reading what it has had.
        """
        self._keys.epoch, self._keys.first_batch = epoch, first_batch

    def __iter__(self) -> Iterator[Batch]:
        for images, labels, outcome in self._read():
            for failure in outcome.failures:
                if failure.traceback is not None or self._on_failure is None:
                    raise failure.error()
                self._on_failure(failure)
            if outcome.turned and not self._told_of_turned:
                self._told_of_turned = True
                warnings.warn(
                    f"{printable(outcome.turned[0], lines=False)}: its EXIF data say that it is stored turned; it and "
                    'others like it are read as they are stored (--exif apply, or preprocessing {"exif": "apply"} in '
                    "training, turns them)",
                    stacklevel=2,
                )
            if images is not None:
                yield Batch(images, labels, np.asarray(outcome.indices, dtype=np.int64))

    def _read(self) -> Iterator[tuple[Any, Any, Outcome]]:
        if self.num_workers == 0:
            for keys in self._keys:
                images, labels, outcome = self._reader.read(keys)
                yield *self._finished(images, labels, outcome), outcome
            return
        if self._engine is None:
            self._engine = self._start()
        complete = False
        try:
            for images, labels, outcome, _ in iterate_without_signals(partial(iter, self._engine)):
                yield *self._finished(images, labels, outcome), outcome
            complete = True
        except SystemError as error:  # what Paddle's queue raises once its threads have ended
            raise DataError(
                "a process that reads images ended without a word; perhaps memory ran out (it is then in `dmesg`). "
                "Use fewer workers, or none (`--workers 0`)"
            ) from error
        finally:
            if not complete:  # Paddle would begin the next epoch with what is left of this one
                self.close()

    def _finished(self, images: Any, labels: Any, outcome: Outcome) -> tuple[Any, Any]:
        """Of what the reader gave, as arrays here or as tensors from Paddle: as the user wants it."""
        finish = self._reader.finish
        if images is None:
            return None, None
        if self._tensors:
            import paddle

            if finish is not None and not paddle.get_device().startswith("cpu"):
                return finish.on_device(_as_tensor(images), outcome.left), _as_tensor(labels)
        images = np.asarray(images)
        if finish is not None:
            batch, height, width, channels = images.shape
            images = finish(images, outcome.left, out=self._memory.array((batch, channels, height, width)))
        if self._tensors:
            return _as_tensor(images), _as_tensor(labels)
        return images, None if labels is None else np.asarray(labels)

    def _start(self) -> Any:
        import paddle

        shared = _shared_memory_suffices(self._reader.transform, self.batch_size, self.num_workers)
        # Paddle then copies a batch before it asks for the next, so its memory can be used again: new memory, which
        # the system clears page by page, costs a fifth of the reading.
        reader = copy.copy(self._reader)
        reader.reuses_memory = shared
        return paddle.io.DataLoader(
            _WholeBatches(reader),
            batch_sampler=_OneItemBatches(self._keys),
            collate_fn=_only_item,
            num_workers=self.num_workers,
            worker_init_fn=begin_worker,
            persistent_workers=True,
            prefetch_factor=PREFETCH,
            timeout=1,  # seconds between looks at whether the workers live; nothing ends by it
            use_shared_memory=shared,
            # To a GPU only what is finished there.
            places=None if self._tensors and self._reader.finish is not None else paddle.CPUPlace(),
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


def _as_tensor(values: Any) -> Any:
    import paddle

    return paddle.to_tensor(values) if isinstance(values, np.ndarray) else values


def begin_worker(number: int) -> None:
    """In a worker, at its start: it lives exactly as long as the run.

    Ctrl-C and Paddle's launcher signal the whole group of a process, but a run that stops still needs its
    workers until it is saved. One that is killed leaves them; Paddle means them to see that, and they do not.
    """
    os.setpgid(0, 0)
    while signal.sigtimedwait(STOPS, 0):  # what the group was sent before; see `iterate_without_signals`
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    for batch in SHARED_MEMORY.glob(
        f"paddle_{os.getpid()}_*"
    ):  # it would stay until the machine is restarted
        batch.unlink(missing_ok=True)
    os._exit(1)


def iterate_without_signals(start: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """The iterator of Paddle's loader that `start` makes, without the handler by which Paddle raises, at any line of
    the program, when a worker dies: half a checkpoint may be written there. The loader notices by itself, within
    seconds, when it waits for that worker.

    Its workers are begun with the signals that stop a run held back: until `begin_worker` they are of the run's group,
    and one that ended by such a signal would end the run before it is saved.
    """
    if threading.current_thread() is not threading.main_thread():
        return start()
    before = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        iterator = start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    return iterator


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: the images that were read, in its order, those that could not be, and what is left
    to do in each of the former; and the name of an image that is stored turned, and was read so."""

    indices: list[int]
    failures: list[Failure]
    left: list[Left]
    turned: list[str] = field(default_factory=list)  # the first image whose EXIF orientation was ignored


class _Reader:
    """Reads the images of a batch; runs here or in a worker process. Never raises for an image."""

    def __init__(self, source: Source, transform: Transform, seed: int) -> None:
        self.source, self.transform, self.draws = source, transform, Draws(seed)
        # Transforms of our own leave their last part to be done for the whole batch, by who reads the loader.
        self.finish: Finish | None = getattr(transform, "finish", None)
        self._looks_for_turned = getattr(transform, "preprocessing", Preprocessing()).exif == "ignore"
        self.reuses_memory = False
        self._memory: np.ndarray | None = None

    def read(self, keys: list[Key]) -> tuple[np.ndarray | None, np.ndarray | None, Outcome]:
        """(images, labels, outcome); images None if every image failed."""
        labels: list[Label | None] = []
        outcome = Outcome([], [], [])
        images: np.ndarray | None = None
        for key in keys:
            index = key[1]
            try:
                (image, left), label = self._read_one(key, outcome)
                if images is None:
                    images = self._room(len(keys), image)
                elif (image.shape, image.dtype) != (images.shape[1:], images.dtype):
                    raise ValueError(
                        f"the transform gave {image.dtype} {image.shape}, but {images.dtype} {images.shape[1:]} before"
                    )
            except DataError as error:
                outcome.failures.append(Failure(index, self.source.name(index), str(error)))
            except Exception as error:
                message = f"{self.source.location(index)}: {type(error).__name__}: {error}"
                outcome.failures.append(
                    Failure(index, self.source.name(index), message, traceback.format_exc())
                )
            else:
                images[len(labels)] = image
                labels.append(label)
                outcome.indices.append(index)
                outcome.left.append(left)
        if images is None:
            return None, None, outcome
        return images[: len(labels)], self._as_array(labels), outcome

    def _as_array(self, labels: list[Any]) -> np.ndarray | None:
        """The labels of a batch as `Batch` has them."""
        if None in labels:
            return None
        if isinstance(labels[0], tuple):
            return multi_hot(labels, self.source.num_classes or 0)
        return np.asarray(labels, dtype=np.int64)

    def _room(self, count: int, image: np.ndarray) -> np.ndarray:
        """An array for `count` images like this one."""
        shape, dtype = (count, *image.shape), image.dtype
        if not self.reuses_memory:
            return np.empty(shape, dtype=dtype)
        memory = self._memory
        if memory is None or (memory.shape[1:], memory.dtype) != (image.shape, dtype) or len(memory) < count:
            memory = self._memory = np.empty(shape, dtype=dtype)
        return memory[:count]

    def _look_for_turned(self, index: int, stored: int, outcome: Outcome) -> None:
        if stored != 1:
            self._looks_for_turned = False  # one is enough
            outcome.turned.append(self.source.name(index))

    def _read_one(self, key: Key, outcome: Outcome) -> tuple[Begun, Label | None]:
        """An image to be finished, or finished (by a transform that is not of our own), and its label."""
        index, transform, rng = key[1], self.transform, self.draws(key)
        begin_file, open_file = getattr(transform, "begin_file", None), getattr(self.source, "file", None)
        if begin_file is not None and open_file is not None:  # decode no more than is needed
            file = open_file(index)
            if self._looks_for_turned:
                self._look_for_turned(index, file.orientation, outcome)
            return begin_file(file, rng), self.source.label(index)
        sample = self.source[index]
        if self._looks_for_turned:
            self._look_for_turned(index, orientation(sample.image), outcome)
        try:
            if self.finish is None:
                return Begun(transform(sample.image, rng), Left()), sample.label
            return transform.begin(sample.image, rng), sample.label  # type: ignore[attr-defined]
        except DataError as error:  # a transform does not know the image's place
            raise DataError(
                f"{named(self.source.location(index), self.source.name(index))}: {error}"
            ) from error


# Paddle's loader asks for the items of a batch one by one and collates them. An item here is a whole batch, so that
# failures travel beside it: what a worker raises reaches the user as a traceback in a SystemError.


class _WholeBatches:
    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def __getitem__(self, keys: list[Key]) -> list[Any]:
        # Paddle takes an item without any array for the end of the epoch: hence the last one.
        return [*self._reader.read(keys), np.zeros(1)]


class _OneItemBatches:
    def __init__(self, keys: EpochOrder) -> None:
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
    bytes_each = (1 if hasattr(transform, "finish") else 4) * getattr(transform, "views", 1)
    needed = (
        bytes_each * p.channels * p.input_height * p.input_width * batch_size * (PREFETCH * num_workers + 2)
    )
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
