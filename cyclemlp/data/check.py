"""What is wrong with a data set before hours of training: files that cannot be read, duplicates, leaks, imbalance."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from cyclemlp.data.sources import Source, class_counts, is_multi_label, label_text
from cyclemlp.errors import DataError
from cyclemlp.text import counted, part_of

#: From this ratio of the largest class to the smallest on, the classes count as imbalanced.
IMBALANCE = 10.0
#: Images with a side below this many pixels, or a ratio of sides above, are reported.
SMALL_SIDE, LONG_RATIO = 16, 8.0
#: Images that training looks at before it begins, of each part.
SAMPLE = 512
_CHUNK = 1024


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes:
        level: "error" for what should be corrected, "warning" for what one should know.
        kind: "unreadable", "duplicate", "leak", "empty_class", "full_class", "one_class", "imbalance", "unlabelled" or
            "size".
        message: what it is, for people.
        images: places of the images concerned.
    """

    level: Literal["error", "warning"]
    kind: str
    message: str
    images: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DataReport:
    """What a check found.

    Attributes:
        images: part ("train", "val") → number of images.
        checked: part → how many of them were decoded.
        classes: part → class name or number → number of images.
        sizes: part → smallest, median and largest width and height in pixels.
        findings: errors first.
        unreadable: part → indices of images that cannot be read.
    """

    images: dict[str, int]
    checked: dict[str, int]
    classes: dict[str, dict[str, int]]
    sizes: dict[str, dict[str, list[int]]]
    findings: list[Finding]
    unreadable: dict[str, list[int]] = field(repr=False)

    @property
    def errors(self) -> list[Finding]:
        """What should be corrected."""
        return [finding for finding in self.findings if finding.level == "error"]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"ok": not self.errors, **{k: v for k, v in asdict(self).items() if k != "unreadable"}}


class _Decoded(NamedTuple):
    """The result of decoding an image: its pixels' digest and its size, or what went wrong."""

    place: int
    digest: bytes | None
    size: tuple[int, int] | None
    error: str | None


def check_data(
    sources: Mapping[str, Source],
    *,
    sample: int | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> DataReport:
    """Decode the images of a data set's parts and compare them.

    Args:
        sources: "train", and "val" where there is one.
        sample: decode this many images of each part, evenly spread; None decodes all.
        on_image: called after each image, for a progress bar.

    Returns:
        The findings. Images are the same where all of their pixels are, whatever their files are called.
    """
    findings: list[Finding] = []
    counts, sizes, checked = {}, {}, {}
    unreadable: dict[str, list[int]] = {}
    seen: dict[bytes, tuple[str, int]] = {}
    for part, source in sources.items():
        counts[part] = _class_counts(source)
        findings += _check_classes(part, counts[part], multi_label=is_multi_label(source))
        if is_multi_label(source):
            findings += _check_label_sets(part, source, counts[part])
        shapes, unreadable[part] = [], []
        checked[part] = 0
        odd: list[str] = []
        for image in _decode(source, sample):
            on_image()
            checked[part] += 1
            if image.error is not None or image.digest is None or image.size is None:
                unreadable[part].append(image.place)
                findings.append(
                    Finding("error", "unreadable", image.error or "", [source.location(image.place)])
                )
                continue
            shapes.append(image.size)
            if min(image.size) < SMALL_SIDE or max(image.size) > LONG_RATIO * min(image.size):
                odd.append(f"{source.location(image.place)} ({image.size[0]}×{image.size[1]})")
            first = seen.setdefault(image.digest, (part, image.place))
            if first != (part, image.place):
                findings += _same(sources, first, (part, image.place))
        if odd:
            findings.append(
                Finding(
                    "warning",
                    "size",
                    f"{part}: {counted(len(odd), 'image has', 'images have')} a side below {SMALL_SIDE} pixels, or "
                    f"one more than {LONG_RATIO:g} times as long as the other",
                    odd,
                )
            )
        sizes[part] = _sizes(shapes)
    findings.sort(key=lambda finding: finding.level != "error")
    images = {part: len(source) for part, source in sources.items()}
    return DataReport(images, checked, counts, sizes, findings, unreadable)


def _class_counts(source: Source) -> dict[str, int]:
    if source.num_classes is None or any(source.label(index) is None for index in range(len(source))):
        return {}
    counted = class_counts(source, source.num_classes)
    names = source.classes or [str(index) for index in range(len(counted))]
    return {name: int(count) for name, count in zip(names, counted, strict=True)}


def _check_label_sets(part: str, source: Source, counts: Mapping[str, int]) -> Iterator[Finding]:
    """What only images with several labels can have: none at all, and classes that every image has."""
    places = [source.location(index) for index in range(len(source)) if source.label(index) == ()]
    if places:
        text = f"{part}: {part_of(len(places), len(source), 'image', 'has', 'have')} no label, such as {places[0]}"
        yield Finding("warning", "unlabelled", text, places)
    full = [repr(name) for name, count in counts.items() if count == len(source)]
    if full:
        text = f"{part}: every image has {', '.join(full)}: there is nothing to learn about it"
        yield Finding("warning", "full_class", text)


def _check_classes(part: str, counts: Mapping[str, int], *, multi_label: bool) -> Iterator[Finding]:
    if len(counts) == 1 and not multi_label:
        yield Finding("error", "one_class", f"{part}: there is one class only, {next(iter(counts))!r}")
    empty = [name for name, count in counts.items() if not count]
    if empty:
        # Of several labels an image a rare one may well be absent from the validation images.
        level: Literal["error", "warning"] = "warning" if multi_label and part == "val" else "error"
        yield Finding(level, "empty_class", f"{part}: classes without images: {', '.join(map(repr, empty))}")
    alike: dict[str, list[str]] = {}
    for name in counts:
        alike.setdefault(" ".join(name.replace("_", " ").casefold().split()), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            text = f"{part}: the classes {', '.join(map(repr, names))} differ in case or spaces only; are they one?"
            yield Finding("warning", "similar_classes", text)
    filled = {name: count for name, count in counts.items() if count}
    if filled:
        least, most = min(filled, key=filled.__getitem__), max(filled, key=filled.__getitem__)
        if filled[most] >= IMBALANCE * filled[least]:
            yield Finding(
                "warning",
                "imbalance",
                f"{part}: class {most!r} has {counted(filled[most], 'image')} and class {least!r} {filled[least]:,}, "
                f"{filled[most] / filled[least]:.0f} times as many",
            )


def _decode(source: Source, sample: int | None) -> Iterator[_Decoded]:
    def decode(index: int) -> _Decoded:
        try:
            image = source[index].image
            image.load()
        except DataError as error:
            return _Decoded(index, None, None, str(error))
        head = f"{image.mode} {image.size}".encode()
        digest = hashlib.blake2b(head, digest_size=16)
        digest.update(image.tobytes())
        return _Decoded(index, digest.digest(), image.size, None)

    count = len(source)
    spread = (
        range(count) if sample is None or sample >= count else np.linspace(0, count - 1, sample, dtype=int)
    )
    indices = [int(index) for index in spread]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for begin in range(0, len(indices), _CHUNK):  # a million futures at once would take a gigabyte
            yield from pool.map(decode, indices[begin : begin + _CHUNK])


def _same(
    sources: Mapping[str, Source], first: tuple[str, int], second: tuple[str, int]
) -> Iterator[Finding]:
    (part, index), (other_part, other) = first, second
    a, b = sources[part], sources[other_part]
    places = [a.location(index), b.location(other)]
    text = f"{places[1]} is the same image as {places[0]}"
    if part != other_part:
        yield Finding("error", "leak", f"{text}: one is in {part}, the other in {other_part}", places)
    name, other_name = (
        label_text(source.label(place), source.classes) for source, place in ((a, index), (b, other))
    )
    if name != other_name:
        message = f"{text}, with another class: {other_name} and {name}"
        yield Finding("error", "duplicate", message, places)
    elif part == other_part:
        yield Finding("warning", "duplicate", f"{text}, in the same class", places)


def _sizes(shapes: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    if not shapes:
        return {}
    found = np.asarray(shapes)
    return {
        "width": [int(f(found[:, 0])) for f in (np.min, np.median, np.max)],
        "height": [int(f(found[:, 1])) for f in (np.min, np.median, np.max)],
    }
