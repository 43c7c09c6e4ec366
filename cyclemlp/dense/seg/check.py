"""The data that a configuration names, looked through before hours of training: every line, image and mask.

Shapes: K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.data.classes import read_text
from cyclemlp.dense.images import read_image
from cyclemlp.dense.seg.config import Builder, SegConfig, check_paths
from cyclemlp.dense.seg.masks import MaskError, check_labels, read_labels
from cyclemlp.dense.seg.weighting import check_weights
from cyclemlp.errors import DataError
from cyclemlp.report import Progress
from cyclemlp.text import counted, listed, shown, with_lines

#: Images that training looks at before it begins, and faults that it tells.
SAMPLE, MOST_TOLD = 200, 5
LONGEST_LINE = 8192  # two paths of Linux


@dataclass
class PartReport:
    """What was found in one dataset of a configuration.

    Attributes:
        name: "train_dataset" or "val_dataset".
        source: its list file or folder.
        errors: what breaks training or falsifies it, each with file and line.
        warnings: what may be meant.
        images: how many pairs were read.
        sizes: images by (width, height), in pixels.
        class_pixels, class_images: [K] int, pixels of each class, and images that hold it.
        ignored_pixels: pixels that count for nothing.
        paths: image files, for the comparison of two parts.
    """

    name: str
    source: str
    class_pixels: np.ndarray
    class_images: np.ndarray
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: int = 0
    ignored_pixels: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    paths: set[Path] = field(default_factory=set)

    @property
    def imbalance(self) -> tuple[float, int, int] | None:
        """How many times as many pixels the largest class has as the smallest with any, and the two; None for one."""
        present = np.flatnonzero(self.class_pixels)
        if len(present) < 2:
            return None
        most, least = (int(present[find(self.class_pixels[present])]) for find in (np.argmax, np.argmin))
        return float(self.class_pixels[most] / self.class_pixels[least]), most, least

    def to_dict(self, classes: list[str]) -> dict[str, Any]:
        """As JSON values."""
        total = max(int(self.class_pixels.sum()) + self.ignored_pixels, 1)
        rows = zip(classes, self.class_pixels, self.class_images, strict=True)
        return {
            "source": self.source,
            "images": self.images,
            "ignored_share": self.ignored_pixels / total,
            "imbalance": self.imbalance[0] if self.imbalance else None,
            "classes": [
                {"name": name, "pixel_share": int(pixels) / total, "images": int(images)}
                for name, pixels, images in rows
            ],
            "errors": self.errors,
            "warnings": self.warnings,
        }


def check(config: SegConfig, *, show_progress: bool = True) -> list[PartReport]:
    """Read every image and mask of the training and the evaluation data.

    Args:
        config: from `open_config`.
        show_progress: a progress bar on stderr.

    Returns:
        A report of each dataset; the data are good if none has `errors`.

    Raises:
        ConfigError: the weights of the classes in the loss are impossible.
        DataError: a list or folder itself is missing.
    """
    check_weights(config)
    keys = ["train_dataset", *(["val_dataset"] if config.val_dataset_cfg else [])]
    reports = [_check_part(config, key, show_progress) for key in keys]
    if len(reports) == 2 and (both := reports[0].paths & reports[1].paths):
        reports[1].warnings.append(
            f"{counted(len(both), 'image is', 'images are')} trained on too, such as {sorted(both)[0]}: the evaluation "
            "will flatter"
        )
    return reports


def count_pixels(config: SegConfig, *, show_progress: bool = True) -> tuple[np.ndarray, int]:
    """Pixels of each class in the training masks, as the files hold them, int64 [K]; and how many masks there are.

    Args:
        config: from `open_config`.
        show_progress: a progress bar on stderr.

    Raises:
        DataError: a mask is missing or cannot be read, or a label is no class.
    """
    key, classes, ignore = "train_dataset", config.num_classes, config.ignore_index
    check_paths(config, key)
    report = _empty_report(config, key)
    pairs = list(_pairs(config, key, report))
    bar: Progress[Any] = Progress(
        pairs, desc="count pixels", unit="mask", disable=not show_progress, leave=False
    )
    for where, _, mask in bar:
        try:
            if not mask.is_file():
                raise DataError(f"{mask} is no file")
            labels = read_labels(mask, config.dic[key]["type"])
            check_labels(labels, classes, ignore, mask)
        except DataError as error:
            report.errors.append(f"{where}: {error}")
            break
        report.class_pixels += np.bincount(labels[labels != ignore], minlength=classes)
    if report.errors:
        raise DataError(
            with_lines("the pixels of the training masks cannot be counted:", report.errors, MOST_TOLD)
        )
    return report.class_pixels, len(pairs)


def check_sample(config: SegConfig, most: int = SAMPLE) -> None:
    """Look at a sample of the training data, evenly spread, before hours of training.

    Raises:
        DataError: a file is missing or cannot be read, a label is no class, or only one class occurs.
    """
    report = _check_part(config, "train_dataset", show_progress=False, most=most)
    if report.errors:
        head = "the training data cannot be used; `cyclemlp seg check` looks at all:"
        raise DataError(with_lines(head, report.errors, MOST_TOLD))


def _only_class(report: PartReport, config: SegConfig) -> str | None:
    """What is wrong where no more than one class has pixels."""
    found = np.flatnonzero(report.class_images)
    if not report.images or len(found) > 1 or config.num_classes < 2:
        return None
    names = config.class_names()
    what = f"only class {found[0]} ({names[found[0]]}) has pixels" if len(found) else "no class has pixels"
    total = max(int(report.class_pixels.sum()) + report.ignored_pixels, 1)
    hint = ""
    if report.ignored_pixels:
        hint = (
            f"; {report.ignored_pixels / total:.0%} of the pixels are {config.ignore_index}, which means to ignore "
            "them. Are the masks of 0 and 255? Their numbers must be the classes, 0 and 1"
        )
    return f"{what}: there is nothing to tell apart{hint}"


def _check_part(config: SegConfig, key: str, show_progress: bool, most: int | None = None) -> PartReport:
    check_paths(config, key)
    report = _empty_report(config, key)
    source, pairs = report.source, list(_pairs(config, key, report))
    if most is not None and len(pairs) > most:
        pairs = [pairs[int(index)] for index in np.linspace(0, len(pairs) - 1, most)]
    bar: Progress[Any] = Progress(
        pairs, desc=f"check {key}", unit="img", disable=not show_progress, leave=False
    )
    for where, image, mask in bar:
        if image.resolve() in report.paths:
            report.warnings.append(f"{where}: {image} was named before")
        report.paths.add(image.resolve())
        _check_pair(config, key, where, image, mask, report)
    if not report.images and not report.errors:
        report.errors.append(f"{source}: holds no images")
    if (only := _only_class(report, config)) is not None:
        report.errors.append(f"{source}: {only}")
    names = config.class_names()
    absent = [names[k] for k in np.flatnonzero(report.class_images == 0)]
    if absent and report.images:
        report.warnings.append(f"{source}: no image has a pixel of {listed(absent, 10)}")
    return report


def _empty_report(config: SegConfig, key: str) -> PartReport:
    settings, classes = config.dic[key], config.num_classes
    source = str(settings.get(f"{settings.get('mode', 'train')}_path", settings.get("dataset_root")))
    return PartReport(key, source, np.zeros(classes, np.int64), np.zeros(classes, np.int64))


def _pairs(config: SegConfig, key: str, report: PartReport) -> Iterator[tuple[str, Path, Path]]:
    """(place for messages, image, mask) of each entry; what is malformed goes into the report."""
    settings = config.dic[key]
    if settings["type"] != "Dataset":  # one of PaddleSeg's own, which finds its files itself
        dataset = getattr(Builder(config), key)
        for number, (image, mask) in enumerate(dataset.file_list, 1):
            yield f"{report.source}, entry {number}", Path(image), Path(mask)
        return
    separator = settings.get("separator", " ")
    root = Path(settings["dataset_root"])
    try:
        content = read_text(report.source)
    except DataError as error:
        report.errors.append(str(error))
        return
    if Path(report.source).read_bytes()[:3] == b"\xef\xbb\xbf":
        report.errors.append(
            f"{report.source}: begins with a byte order mark, which PaddleSeg takes for a part of the first name; save "
            "it as UTF-8 without one"
        )
    for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
        where, parts = f"{report.source}:{number}", line.strip().split(separator)
        if len(line) > LONGEST_LINE:
            report.errors.append(
                f"{where}: has {counted(len(line), 'character')}; expected `image{separator}mask`"
            )
            continue
        if len(parts) == 2 and all(parts):
            yield where, root / parts[0], root / parts[1]
        elif not line.strip():
            report.errors.append(f"{where}: is blank, which PaddleSeg does not read; delete the line")
        else:
            hint = "; are there spaces in names? Choose another `separator`" if len(parts) > 2 else ""
            report.errors.append(
                f"{where}: {shown(line.strip())} has {counted(len(parts), 'part')}; expected "
                f"`image{separator}mask`{hint}"
            )


def _check_pair(config: SegConfig, key: str, where: str, image: Path, mask: Path, report: PartReport) -> None:
    """Read one image and its mask."""
    missing = [path for path in (image, mask) if not path.is_file()]
    for path in missing:
        found = (
            "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        )
        report.errors.append(f"{where}: {path} {found}")
    if missing:
        return
    size = None
    try:
        size = read_image(image, int(config.dic["train_dataset"].get("img_channels", 3))).size
    except DataError as error:
        report.errors.append(f"{where}: {error}")
    try:
        labels = read_labels(mask, config.dic[key]["type"])
    except MaskError as error:
        report.errors.append(f"{where}: {error}")
        return
    if size is None:
        return
    if size != (labels.shape[1], labels.shape[0]):
        report.errors.append(
            f"{where}: {image} is {size[0]}×{size[1]} pixels (width×height), its mask {mask} "
            f"{labels.shape[1]}×{labels.shape[0]}; they must be the same"
        )
        return
    ignore, classes = config.ignore_index, config.num_classes
    try:
        check_labels(labels, classes, ignore, mask)
    except MaskError as error:
        report.errors.append(f"{where}: {error}")
        return
    values, counts = np.unique(labels, return_counts=True)
    report.images += 1
    report.sizes[size] += 1
    for value, count in zip(values, counts, strict=True):
        if value == ignore:
            report.ignored_pixels += int(count)
        else:
            report.class_pixels[value] += count
            report.class_images[value] += 1
    if list(values) == [ignore]:
        report.warnings.append(f"{where}: {mask} has no pixel that counts")
