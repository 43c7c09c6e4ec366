"""A data set divided into training, validation and test images: by class, by a seed, and without copying an image."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.data.label_sets import NO_LABEL
from cyclemlp.data.pairing import MOST_NAMES
from cyclemlp.data.sources import Label, Source, is_multi_label, known_labels
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.files import write_text
from cyclemlp.text import listed, shown

PARTS = ("train", "val", "test")
CLASSES_FILE = "classes.txt"
#: Every file that `write_split` writes or, of a former split, removes.
#: Counts as the class of images without labels, where an image may have several: each part has its share of them.
UNLABELLED = -1
SPLIT_FILES = (*(f"{part}.txt" for part in PARTS), CLASSES_FILE)


@dataclass(frozen=True)
class Split:
    """Which images are in each part.

    Attributes:
        parts: "train", "val" and, where it has a share, "test" → places in the source, int64, ordered by class, then by
            name.
        labels: the class of each image of the source, or its classes.
        counts: class number → number of its images in each of these parts; classes without images are left out.
            `UNLABELLED` counts images without labels, where an image may have several.
    """

    parts: dict[str, np.ndarray]
    labels: list[Label]
    counts: dict[int, dict[str, int]]


def split_source(
    source: Source, *, val: float = 0.2, test: float = 0.0, seed: int = 0, separator: str | None = None
) -> Split:
    """Divide the images of a source, each class by the same shares.

    Without `separator` the part of each class is exact up to rounding, but that every class has a training image and,
    with two images or more, a validation image. Where images have several labels, shares are as near as the images
    permit (iterative stratification, Sechidis et al., 2011). The result depends on the images' names and
    classes, the shares and the seed only: not on the order in which the source has the images.

    Args:
        source: images with labels. Images of one name are never in two parts.
        val, test: shares of the validation and test images, from 0 to below 1; `val` is above 0.
        seed: from 0; another one gives another split.
        separator: files whose names, without folders and extension, agree up to the first `separator` form a group,
            whose images are all in one part: frames of a video, crops of a photograph. Shares are then as near as the
            groups permit.

    Raises:
        ConfigError: shares that leave no training or no validation images; no file name holds the separator.
        DataError: no labels, one class only, or no image that can be a validation image.

    Warns:
        UserWarning: classes that have no validation images.
    """
    shares = _exact_shares(val, test)
    names = [source.name(index) for index in range(len(source))]
    labels = known_labels(source)
    numbers = [_classes(label) for label in labels]
    if len(set(numbers)) < 2 and not is_multi_label(source):
        raise DataError(
            f"there is one class only, {_class_name(source, numbers[0][0])}; training needs at least two"
        )
    if separator is not None and not any(separator in _stem(name) for name in names):
        raise ConfigError(f"no file name holds {separator!r}, by which images are grouped; e.g. {names[0]!r}")
    groups = _grouped(names, numbers, seed, separator)
    parts = PARTS[: len(shares)]
    of_image = np.empty(len(names), dtype=np.int64)
    for group, part in zip(groups, _assigned(groups, shares), strict=True):
        of_image[group.images] = part
    order = sorted(range(len(names)), key=lambda index: (numbers[index], names[index]))
    ordered = np.asarray(order, dtype=np.int64)
    found = {part: ordered[of_image[ordered] == place] for place, part in enumerate(parts)}
    counted = {
        part: Counter(n for index in indices for n in numbers[index]) for part, indices in found.items()
    }
    counts = {
        label: {part: counted[part][label] for part in parts}
        for label in sorted({n for one in numbers for n in one})
    }
    if not len(found["val"]):
        why = "every class has one image" if separator is None else "the groups are too few or too large"
        raise DataError(f"there would be no validation images: {why}")
    _warn_of_missing(source, counts)
    return Split(found, labels, counts)


def write_split(
    folder: Path, source: Source, split: Split, classes: Sequence[str] | None = None
) -> list[Path]:
    """Write a list file for each part, and `classes.txt` where names of the classes are known.

    A line is `name label`; the label is the class number, or numbers separated by commas, or `-` for none, where
    images have several labels. Where class names are themselves numbers, and others than the
    classes' own, a number would be read as a name, so the label is the name.

    Args:
        folder: an existing folder. Files of a former split that this one does not have are removed.
        source: what was split.
        classes: names in class order; None for none.

    Returns:
        The files written.

    Raises:
        DataError: a name that no list file can hold; nothing is written then.
    """
    labels = _written_labels(source, split, classes)
    texts = {
        f"{part}.txt": "".join(
            f"{_checked_name(source, index)} {_written_label(split.labels[index], labels)}\n"
            for index in indices.tolist()
        )
        for part, indices in split.parts.items()
    }
    if classes is not None:
        texts[CLASSES_FILE] = "".join(f"{index} {name}\n" for index, name in enumerate(classes))
    for name, text in texts.items():
        write_text(folder / name, text)
    for name in SPLIT_FILES:
        if name not in texts:
            (folder / name).unlink(missing_ok=True)
    return [folder / name for name in texts]


# ---- images that stay together, and the part of each


@dataclass(frozen=True)
class _Group:
    """Images of one part; `counts`: class → how many of them are of it."""

    images: list[int] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)


def _classes(label: Label) -> tuple[int, ...]:
    """The classes of a label, by which its image is divided."""
    return (label or (UNLABELLED,)) if isinstance(label, tuple) else (label,)


def _stem(name: str) -> str:
    """A file's name without folders and extension."""
    base = name.rsplit("/", 1)[-1]
    return base.rsplit(".", 1)[0] or base


def _grouped(
    names: Sequence[str], labels: Sequence[tuple[int, ...]], seed: int, separator: str | None
) -> list[_Group]:
    """The groups, in the random order of the seed."""
    groups: dict[str, _Group] = {}
    for index, (name, label) in enumerate(zip(names, labels, strict=True)):
        key = name if separator is None else _stem(name).split(separator, 1)[0]
        group = groups.setdefault(key, _Group())
        group.images.append(index)
        group.counts.update(label)

    def drawn(key: str) -> bytes:
        return hashlib.blake2b(f"{seed}\0{key}".encode(errors="surrogateescape"), digest_size=16).digest()

    return [groups[key] for key in sorted(groups, key=drawn)]


def _exact_shares(val: float, test: float) -> list[Fraction]:
    """Shares of training, validation and, if there are any, test images."""
    for name, value, least in (("val", val, "above 0"), ("test", test, "from 0")):
        if not 0 <= value < 1 or (name == "val" and not value):
            raise ConfigError(f"the share {name} is {value}; give a number {least} and below 1")
    shares = [Fraction(str(val)), Fraction(str(test))]  # 0.1 as it is written, not as it is stored
    if sum(shares) >= 1:
        raise ConfigError(
            f"val {val:g} and test {test:g} leave no training images; they must add up to less than 1"
        )
    return [1 - sum(shares, Fraction()), *(shares if test else shares[:1])]


def _wanted(count: int, shares: Sequence[Fraction]) -> list[int]:
    """How many of a class's images each part should have: largest remainders, then one each for training and val."""
    exact = [count * share for share in shares]
    wanted = [floor(value) for value in exact]
    for part in sorted(range(len(shares)), key=lambda part: (wanted[part] - exact[part], part))[
        : count - sum(wanted)
    ]:
        wanted[part] += 1
    for part in range(min(count, 2)):
        if not wanted[part]:
            wanted[max(range(len(wanted)), key=lambda other: (wanted[other], other))] -= 1
            wanted[part] = 1
    return wanted


def _assigned(groups: Sequence[_Group], shares: Sequence[Fraction]) -> list[int]:
    """The part of each group: the rarest class first, and its larger groups first (Sechidis et al., 2011).

    A group goes where it exceeds what is wanted of its classes least; of several such parts, to that which lacks the
    largest share of what it wants. The last groups of a class are kept for parts that have none of it yet.
    """
    counts: Counter[int] = Counter()
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        counts.update(group.counts)
        for label in group.counts:
            members.setdefault(label, []).append(place)
    wanted = {label: _wanted(count, shares) for label, count in counts.items()}
    left = {label: list(numbers) for label, numbers in wanted.items()}
    parts: list[int | None] = [None] * len(groups)

    def put(place: int, part: int) -> None:
        for label, count in groups[place].counts.items():
            left[label][part] -= count
            if (former := parts[place]) is not None:
                left[label][former] += count
        parts[place] = part

    def is_empty(label: int, part: int) -> bool:
        return left[label][part] == wanted[label][part]

    for label in sorted(counts, key=lambda label: (counts[label], label)):
        open_places = [place for place in members[label] if parts[place] is None]
        open_places.sort(key=lambda place: -groups[place].counts[label])  # stable: the rest stays random
        for done, place in enumerate(open_places):
            empty = [part for part, count in enumerate(wanted[label]) if count and is_empty(label, part)]
            still = len(open_places) - done

            def cost(part: int, place: int = place, label: int = label) -> tuple[int, float, int]:
                excess = sum(max(0, n - left[other][part]) for other, n in groups[place].counts.items())
                return excess, -left[label][part] / (wanted[label][part] or 1), part

            put(place, min(empty[:still] if still <= len(empty) else range(len(shares)), key=cost))
    for label, places in members.items():  # groups of several classes may all have gone elsewhere
        if is_empty(label, 0):
            put(min(places, key=lambda place: len(groups[place].images)), 0)
    return [part or 0 for part in parts]


def _warn_of_missing(source: Source, counts: Mapping[int, Mapping[str, int]]) -> None:
    missing = {
        label: sum(parts.values())
        for label, parts in counts.items()
        if not parts["val"] and label != UNLABELLED
    }
    single = [label for label, count in missing.items() if count == 1]
    grouped = [label for label, count in missing.items() if count > 1]
    why_more = (
        "because of their images' other labels" if is_multi_label(source) else "because of their groups"
    )
    for found, why in ((single, "having one image each"), (grouped, why_more)):
        if found:
            names = listed([_class_name(source, label) for label in found], MOST_NAMES)
            warnings.warn(f"only in training, {why}: {names}", stacklevel=3)


def _class_name(source: Source, label: int) -> str:
    return f"class {shown(source.classes[label]) if source.classes else label}"


# ---- what is written


def _checked_name(source: Source, index: int) -> str:
    name = source.name(index)
    if "\n" in name or any("\udc80" <= character <= "\udcff" for character in name):
        raise DataError(
            f"{shown(source.location(index))}: no list file can hold this name, which has a line end or is not UTF-8; "
            "rename it"
        )
    return name


def _written_label(label: Label, written: Mapping[int, Any]) -> str:
    if not isinstance(label, tuple):
        return str(written[label])
    return ",".join(str(written[number]) for number in label) or NO_LABEL


def _written_labels(source: Source, split: Split, classes: Sequence[str] | None) -> Mapping[int, Any]:
    """Class → what a line says of it."""
    numbers = {label: label for label in split.counts}
    if classes is None or list(classes) == [str(index) for index in range(len(classes))]:
        return numbers
    if not any(map(str.isdigit, classes)):
        return numbers
    for name in classes:
        if len(name.split()) != 1:
            raise DataError(
                f"the class names {shown(next(filter(str.isdigit, classes)))} and {shown(name)} cannot be told apart "
                "in a list file: one is a number, and the other has a space; rename one"
            )
    return {label: classes[label] for label in split.counts}
