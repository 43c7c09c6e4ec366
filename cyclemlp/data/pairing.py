"""Which of a network's classes each class of a source is: by name wherever both sides know names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cyclemlp.data.classes import imagenet_class_map, imagenet_classes
from cyclemlp.data.images import EncodedImage
from cyclemlp.data.sources import Label, Sample, Source, is_multi_label
from cyclemlp.errors import DataError
from cyclemlp.text import counted, listed, part_of, printable, shortened

MOST_NAMES = 5


class View:
    """A source of which some images are left out, or whose classes have other numbers.

    Args:
        source: the images.
        indices: which of them, in this order; None takes all.
        numbers: the new number of each of the source's classes; None keeps the numbers.
        classes, num_classes: names and number of the classes after that; None keeps the source's.
        multi_label: a label that is one class becomes a tuple of it.
    """

    def __init__(
        self,
        source: Source,
        *,
        indices: Sequence[int] | np.ndarray | None = None,
        numbers: Sequence[int] | np.ndarray | None = None,
        classes: Sequence[str] | None = None,
        num_classes: int | None = None,
        multi_label: bool = False,
    ) -> None:
        self.source, self._multi_label = source, multi_label
        self._indices = np.arange(len(source)) if indices is None else np.asarray(indices, dtype=np.int64)
        self._numbers = None if numbers is None else np.asarray(numbers, dtype=np.int64)
        self.classes = source.classes if classes is None else list(classes)
        self.num_classes = source.num_classes if num_classes is None else num_classes
        if hasattr(source, "file"):  # the loader then decodes no more of an image than it needs
            self.file = self._file

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        return Sample(index, self.source[self._inner(index)].image, self.label(index))

    def name(self, index: int) -> str:
        """The image's name in the source."""
        return self.source.name(self._inner(index))

    def location(self, index: int) -> str:
        """Its place, as the source has it."""
        return self.source.location(self._inner(index))

    def label(self, index: int) -> Label | None:
        """Its class or classes, by the new numbers."""
        label = self.source.label(self._inner(index))
        if label is None:
            return None
        classes = label if isinstance(label, tuple) else (label,)
        if self._numbers is not None:
            classes = tuple(sorted({int(self._numbers[number]) for number in classes}))
        return classes if self._multi_label or isinstance(label, tuple) else classes[0]

    def _file(self, index: int) -> EncodedImage:
        opened: EncodedImage = self.source.file(self._inner(index))  # type: ignore[attr-defined]
        return opened

    def _inner(self, index: int) -> int:
        return int(self._indices[index])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "source":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.source, name)


def pair_classes(
    source: Source,
    names: Sequence[str] | None,
    count: int,
    *,
    what: str,
    whose: str,
    way_out: str,
    aliases: Mapping[str, int] | None = None,
    numbers_are_meant: bool = False,
) -> Source:
    """The source with its labels numbered as a network's classes are.

    Where both know names, a class is found by its name; ImageNet's WordNet ids count as the names of its 1000 classes,
    and where only one side has names, folders that are named by whole numbers are those numbers. Else the place in
    sorted order is all there is, and a warning says so.

    Args:
        source: the images; one without labels is returned as it is.
        names: the network's class names in class order, if they are known.
        count: the number of its classes.
        what: the source, for messages: "the validation images".
        whose: whose names they are, for messages: "the model".
        way_out: what can be done, the end of an error.
        aliases: other names of the classes, such as those of the training images' folders.
        numbers_are_meant: the names were given for these very images, so that class numbers need no warning.

    Raises:
        DataError: a class of the source is none of the network's.

    Warns:
        UserWarning: classes are paired by their place, or some of the network's classes have no images.
    """
    own = source.classes
    if source.num_classes is None:
        return source
    if own is None:
        if source.num_classes > count:
            raise DataError(
                f"{what} have {counted(source.num_classes, 'class')} and {whose} has {count}; {way_out}"
            )
        if not (
            names is None or numbers_are_meant or _are_places(names) or list(names) == imagenet_classes()
        ):
            _warn(
                f"{what} have class numbers and no names: 0 is taken for {_list(names, 1)}, and so on in the order "
                f"of {whose}"
            )
        # Of several labels an image, a batch has a column a class.
        return View(source, num_classes=count) if is_multi_label(source) else source
    if names is not None and list(own) == list(names):
        return source
    found = _numbers(own, names, count, aliases or {})
    if found is not None:
        numbers, word = found
        if word:
            _warn(f"{what}: {word}")
    elif names is None and len(own) == count:
        numbers = list(range(count))
        _warn(
            f"{what} have class names ({_list(own, 3)}) and {whose} has none: they are taken as its classes in this "
            "order"
        )
    else:
        raise DataError(_unpaired(own, names, count, aliases or {}, what, whose) + f"; {way_out}")
    present = set(numbers)
    lacking = [index for index in range(count) if index not in present]
    if lacking:
        called = [names[index] if names is not None else str(index) for index in lacking]
        _warn(f"{what} have none of {len(lacking)} of the {counted(count, 'class')}: {_list(called)}")
    return View(source, numbers=numbers, classes=names, num_classes=count)


def _numbers(
    own: Sequence[str], names: Sequence[str] | None, count: int, aliases: Mapping[str, int]
) -> tuple[list[int], str | None] | None:
    """The number of each class, and what is to be said of how it was found; None if it cannot be."""
    tables: list[Mapping[str, int]] = [aliases]
    if names is not None:
        tables.insert(0, unique_numbers(names))
    if count == 1000:
        tables.append(imagenet_class_map())
    for table in tables:
        if all(name in table for name in own):
            return [table[name] for name in own], None
    if all(map(_is_number, own)) and all(int(name) < count for name in own):
        if names is None:
            return [int(name) for name in own], None
        if not any(map(_is_number, names)):
            return [int(name) for name in own], (
                f"the folders' names are taken as class numbers: {own[0]!r} is {names[int(own[0])]!r}"
            )
    return None


def unique_numbers(names: Sequence[str]) -> dict[str, int]:
    """Name → number, of those that occur once: two of ImageNet's names are those of two classes each."""
    numbers: dict[str, int] = {}
    twice = set()
    for index, name in enumerate(names):
        if numbers.setdefault(name, index) != index:
            twice.add(name)
    return {name: index for name, index in numbers.items() if name not in twice}


def _unpaired(
    own: Sequence[str],
    names: Sequence[str] | None,
    count: int,
    aliases: Mapping[str, int],
    what: str,
    whose: str,
) -> str:
    if names is None:
        return f"{what} have {counted(len(own), 'class')} and {whose} has {count}, without names"
    unknown = [name for name in own if name not in names and name not in aliases]
    if not unknown:
        return f"{what}: the classes {_list(own)} cannot be distinguished by {whose}'s names, some of which occur twice"
    found = (
        f"{part_of(len(unknown), len(own), 'class', 'is', 'are')} none that {whose} knows: {_list(unknown)}"
    )
    return f"{what}: {found}; it has {count}: {_list(names, 3)}"


def _list(names: Sequence[str], most: int = MOST_NAMES) -> str:
    names = [shortened(printable(name, lines=False), 40) for name in names]
    return listed(names[:1] if most == 1 else names, most)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 10


def _are_places(names: Sequence[str]) -> bool:
    return list(names) == [str(index) for index in range(len(names))]


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)
