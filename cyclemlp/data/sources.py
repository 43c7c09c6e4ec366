"""What a source of images is, and what the sources of files share.

A source knows names, labels and places of its images and decodes one when asked. It is small and cheap to
hand to worker processes: names are one block of bytes, numbers are NumPy arrays.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from cyclemlp.data.classes import PathLike
from cyclemlp.data.images import EncodedImage, named
from cyclemlp.errors import DataError

#: The class of an image; or, where images have several labels, its classes, rising: `()` of an image without labels.
Label = int | tuple[int, ...]


class Sample(NamedTuple):
    """One image: its index in the source, the decoded image in its own mode, its label or None."""

    index: int  # type: ignore[assignment]  # instead of tuple's method
    image: Image.Image
    label: Label | None


class Source(Protocol):
    """What a loader needs of a collection of images."""

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in class order, if the source knows them."""

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None without labels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Decode an image. Raises DataError, with `location`, if that fails."""

    def name(self, index: int) -> str:
        """What results call the image."""

    def location(self, index: int) -> str:
        """Where it was named, for messages: "val.txt:12" or its path."""

    def label(self, index: int) -> Label | None:
        """Its class or, of a source of several labels an image, its classes, without decoding it."""


def is_multi_label(source: Source) -> bool:
    """Whether the images of a source have several labels each, or none."""
    return len(source) > 0 and isinstance(source.label(0), tuple)


def known_labels(source: Source) -> list[Label]:
    """The label of each image, without decoding one. Raises DataError if the images have none."""
    labels = [source.label(index) for index in range(len(source))]
    if None in labels:
        raise DataError(
            f"{source.location(labels.index(None))}: the images have no labels; a list needs lines `name label`"
        )
    return labels  # type: ignore[return-value]  # no None is left


def labels_of(source: Source) -> np.ndarray:
    """The class of each image, int64 [N], without decoding one. Raises DataError if an image has none, or several."""
    if is_multi_label(source):
        raise DataError(f"{source.location(0)}: the images have several labels each; expected one")
    return np.array(known_labels(source), dtype=np.int64)


def label_text(label: Label | None, classes: Sequence[str] | None) -> str | None:
    """A label by the names of its classes, or else by their numbers; None for None."""
    if label is None:
        return None
    numbers = label if isinstance(label, tuple) else (label,)
    return ", ".join(classes[number] if classes else str(number) for number in numbers) or "no label"


def class_counts(source: Source, num_classes: int) -> np.ndarray:
    """How many images have each class, int64 [K]. Raises DataError if the images have no labels."""
    numbers = (n for label in known_labels(source) for n in (label if isinstance(label, tuple) else (label,)))
    return np.bincount(np.fromiter(numbers, dtype=np.int64), minlength=num_classes)


def multi_hot(labels: Sequence[tuple[int, ...]], num_classes: int) -> np.ndarray:
    """Rows with 1 at the classes of each image and 0 elsewhere, float32 [B, K]."""
    rows = np.zeros((len(labels), num_classes), dtype=np.float32)
    for row, classes in zip(rows, labels, strict=True):
        row[list(classes)] = 1
    return rows


class Names:
    """Many strings in one block of bytes: the list of ImageNet's images as Python strings takes 150 MB, and
    every worker that touches a string copies the page it lies on."""

    def __init__(self, block: bytes, starts: Iterable[int], lengths: Iterable[int]) -> None:
        self._block = block
        self._starts = np.asarray(starts, dtype=np.int64)
        self._lengths = np.asarray(lengths, dtype=np.int32)

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        block, starts, lengths = bytearray(), array("q"), array("i")
        for name in names:
            encoded = os.fsencode(name)
            starts.append(len(block))
            lengths.append(len(encoded))
            block += encoded
        return cls(bytes(block), starts, lengths)

    def __len__(self) -> int:
        return len(self._starts)

    def take(self, indices: np.ndarray) -> Names:
        """Some of them; the block is shared."""
        return Names(self._block, self._starts[indices], self._lengths[indices])

    def raws(self) -> Iterator[bytes]:
        """All of them, as bytes; for a million it is worth half of the time."""
        for start, length in zip(self._starts.tolist(), self._lengths.tolist(), strict=True):
            yield self._block[start : start + length]

    def raw(self, index: int) -> bytes:
        start = int(self._starts[index])
        return self._block[start : start + int(self._lengths[index])]

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self.raw(index))


class Files:
    """What the sources of files share: `root`, `_names`, `_labels`."""

    root: Path
    classes: list[str] | None
    num_classes: int | None
    _names: Names
    _labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]  # negative indices, IndexError
        return Sample(index, self.file(index).decode(), self.label(index))

    def file(self, index: int) -> EncodedImage:
        """The image's file, not decoded yet. Raises DataError as `__getitem__` does."""
        return EncodedImage(self.path(index), self.location(index))

    def file_sizes(self) -> np.ndarray:
        """Sizes of all images' files in bytes, int64. Raises DataError if there is no such file."""
        sizes = np.empty(len(self), dtype=np.int64)
        for index in range(len(self)):
            try:
                sizes[index] = self.path(index).stat().st_size
            except OSError as error:
                raise DataError(
                    f"{named(self.location(index), self.path(index), 'the image ')} cannot be found: {error.strerror}"
                ) from error
        return sizes

    def path(self, index: int) -> Path:
        """The image's file."""
        return self.root / self._names[index]

    def name(self, index: int) -> str:
        """The image's name, relative to the root unless it was named absolutely."""
        return self._names[index]

    def location(self, index: int) -> str:
        """The image's path."""
        return str(self.path(index))

    def label(self, index: int) -> Label | None:
        """The image's class."""
        return None if self._labels is None else int(self._labels[index])


def existing_folder(root: PathLike) -> Path:
    """`root` as a Path. Raises DataError if there is no such folder."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: {'is not a folder' if root.exists() else 'there is no such folder'}")
    return root


def map_classes(class_map: Mapping[str, int]) -> list[str] | None:
    """The words in class order, if the map is one to one onto 0, 1, 2 …"""
    words = {index: word for word, index in class_map.items()}
    return (
        [words[i] for i in range(len(words))]
        if sorted(class_map.values()) == list(range(len(words)))
        else None
    )
