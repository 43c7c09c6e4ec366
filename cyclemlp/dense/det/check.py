"""Looks through a data set in COCO's form before anyone trains on it: what the engine would pass over or fail on."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclemlp.dense.det.configuration import CocoFiles, Configuration, read_categories, read_coco
from cyclemlp.dense.det.pictures import read_picture
from cyclemlp.errors import DataError

#: Boxes may reach so far outside of their picture, in pixels: annotation programs round.
SLACK_PIXELS = 1.0


@dataclass
class Report:
    """What was found in one file.

    Attributes:
        key: of the configuration, such as "TrainDataset".
        path: the COCO file.
        pictures, empty_pictures: how many there are, and without an object.
        objects: class name → objects that can be trained on.
        crowds: objects marked `iscrowd`, which are not trained on.
        errors: what must be mended, and remarks: what should be known; each a sentence with file and entry.
    """

    key: str
    path: Path
    pictures: int = 0
    empty_pictures: int = 0
    crowds: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check(config: Configuration, *, on_picture: Callable[[], object] = lambda: None) -> list[Report]:
    """Look through the training and the evaluation set of a configuration.

    Args:
        config: which names them.
        on_picture: called after each picture.

    Raises:
        ConfigError, DataError: a file or folder that the configuration names is not there, or not JSON.
    """
    keys = [key for key in ("TrainDataset", "EvalDataset") if key in config.values]
    reports = [_check_file(config, config.data(key), on_picture) for key in keys]
    orders = [[(c.id, c.name) for c in read_categories(report.path)] for report in reports]
    if len(reports) == 2 and orders[0] != orders[1]:
        reports[1].errors.append(
            f"{reports[1].path}: its categories are not those of {reports[0].path} in the same order, by which "
            f"PaddleDetection numbers the classes: {orders[1]} and {orders[0]}"
        )
    return reports


def count_pictures(config: Configuration) -> int:
    """How many pictures `check` will look at."""
    keys = [key for key in ("TrainDataset", "EvalDataset") if key in config.values]
    return sum(len(read_coco(config.data(key).annotations).get("images", [])) for key in keys)


def _check_file(config: Configuration, files: CocoFiles, on_picture: Callable[[], object]) -> Report:
    report = Report(files.key, files.annotations)
    content = read_coco(files.annotations)
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            report.errors.append(f"{files.annotations}: it has no list {part!r}, as COCO files have")
    if report.errors:
        return report
    names = _check_categories(config, content["categories"], report)
    sizes = _check_images(files, content["images"], report, on_picture)
    objects = _check_annotations(config, content["annotations"], sizes, names, report)
    report.pictures = len(sizes)
    report.empty_pictures = sum(1 for image in sizes if not objects[image])
    if report.empty_pictures:
        report.remarks.append(
            f"{files.annotations}: {report.empty_pictures} of {report.pictures} pictures have no object; they are "
            + ("trained on" if config.option(files.key, "allow_empty") else "left out")
            + f" ({files.key}.allow_empty)"
        )
    report.remarks += [
        f"{files.annotations}: class {name!r} has no object"
        for name in names.values()
        if not report.objects[name]
    ]
    return report


def _check_categories(config: Configuration, entries: list[Any], report: Report) -> dict[int, str]:
    names: dict[int, str] = {}
    for place, entry in _entries(entries, "categories", ("id", "name"), report):
        if entry["id"] in names:
            report.errors.append(f"{place}: id {entry['id']} was {names[entry['id']]!r} already")
        elif entry["name"] in names.values():
            report.errors.append(f"{place}: the name {entry['name']!r} is there twice")
        names[entry["id"]] = str(entry["name"])
    if len(names) != config.num_classes:
        report.errors.append(
            f"{report.path}: it has {len(names)} categories, and num_classes of {config.path} is {config.num_classes}"
        )
    return names


def _check_images(
    files: CocoFiles, entries: list[Any], report: Report, on_picture: Callable[[], object]
) -> dict[Hashable, tuple[int, int]]:
    """Width and height of each picture by its id, as the JSON has them."""
    sizes: dict[Hashable, tuple[int, int]] = {}
    seen: dict[str, Any] = {}
    for place, entry in _entries(entries, "images", ("id", "file_name", "width", "height"), report):
        on_picture()
        name, stated = str(entry["file_name"]), (entry["width"], entry["height"])
        if entry["id"] in sizes:
            report.errors.append(f"{place}: another picture has the id {entry['id']} too")
        if name in seen:
            report.errors.append(f"{place}: the file {name} is picture {seen[name]} already")
        seen[name], sizes[entry["id"]] = entry["id"], stated
        try:
            found = read_picture(files.pictures / name).size
        except DataError as error:
            report.errors.append(f"{place}: {error}")
            continue
        if found != stated:
            turned = " (turned as its EXIF data say)" if found == stated[::-1] else ""
            report.errors.append(
                f"{place}: {files.pictures / name} is {found[0]}×{found[1]} pixels{turned}, and the file says "
                f"{stated[0]}×{stated[1]}"
            )
    return sizes


def _check_annotations(
    config: Configuration,
    entries: list[Any],
    sizes: Mapping[Hashable, tuple[int, int]],
    names: Mapping[int, str],
    report: Report,
) -> Counter[Hashable]:
    """Objects of each picture that can be trained on."""
    objects: Counter[Hashable] = Counter()
    ids: set[Hashable] = set()
    needed = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    for place, entry in _entries(entries, "annotations", needed, report):
        faults = [f"the id {entry['id']} is there twice"] if entry["id"] in ids else []
        ids.add(entry["id"])
        if entry["image_id"] not in sizes:
            faults.append(f"there is no picture {entry['image_id']}")
        if entry["category_id"] not in names:
            faults.append(f"there is no category {entry['category_id']}; the file has {sorted(names)}")
        if not entry["iscrowd"]:
            faults += _faults_of_box(entry, sizes.get(entry["image_id"]))
            if config.has_masks():
                faults += _faults_of_mask(entry.get("segmentation"), sizes.get(entry["image_id"]))
        report.errors += [
            f"{place} (id {entry['id']}, image {entry['image_id']}): {fault}" for fault in faults
        ]
        if entry["iscrowd"]:
            report.crowds += 1
        elif not faults:
            objects[entry["image_id"]] += 1
            report.objects[names[entry["category_id"]]] += 1
    return objects


def _faults_of_box(entry: Mapping[str, Any], size: tuple[int, int] | None) -> Iterator[str]:
    box = entry["bbox"]
    if not (isinstance(box, list) and len(box) == 4 and all(_number(v) for v in box)):
        yield f"its bbox is {box}; COCO has [x, y, width, height] in pixels"
        return
    x, y, width, height = box
    if width <= 0 or height <= 0:
        yield f"its bbox {box} has no area, and is left out in training"
    elif size and (
        min(x, y) < -SLACK_PIXELS or x + width > size[0] + SLACK_PIXELS or y + height > size[1] + SLACK_PIXELS
    ):
        outside = x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0
        yield (
            f"its bbox {box} lies {'outside' if outside else 'partly outside'} of the picture, {size[0]}×{size[1]}; "
            "COCO has [x, y, width, height] in pixels, not corners"
        )
    if not _number(entry["area"]) or entry["area"] <= 0:
        yield f"its area is {entry['area']}, and it is left out in training"


def _faults_of_mask(mask: Any, size: tuple[int, int] | None) -> Iterator[str]:
    if isinstance(mask, list) and mask:
        for polygon in mask:
            if not (isinstance(polygon, list) and all(_number(v) for v in polygon)):
                yield "its segmentation is no list of polygons, each a list of numbers x, y, x, y, …"
                return
            if len(polygon) < 6 or len(polygon) % 2:
                yield f"a polygon of its segmentation has {len(polygon)} numbers; three points are 6"
                return
    elif isinstance(mask, Mapping):
        yield from _faults_of_runs(mask, size)
    else:
        yield f"it has no segmentation ({json.dumps(mask)[:40]}), which an architecture with masks needs"


def _faults_of_runs(mask: Mapping[str, Any], size: tuple[int, int] | None) -> Iterator[str]:
    counts, shape = mask.get("counts"), mask.get("size")
    if size and shape != [size[1], size[0]]:
        yield f"its segmentation's size is {shape}; [height, width] of the picture is {[size[1], size[0]]}"
    elif isinstance(counts, list):
        if not all(isinstance(c, int) and c >= 0 for c in counts) or (
            size and sum(counts) != size[0] * size[1]
        ):
            yield "the run lengths of its segmentation do not add up to the picture's pixels"
    elif not isinstance(counts, str):
        yield f"its segmentation has no run lengths: counts is {type(counts).__name__}"


def _entries(
    entries: list[Any], part: str, needed: tuple[str, ...], report: Report
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each entry that has all it needs, with its place for messages."""
    for index, entry in enumerate(entries):
        place = f"{report.path}: {part}[{index}]"
        missing = [key for key in needed if not isinstance(entry, Mapping) or key not in entry]
        if missing:
            report.errors.append(f"{place} has no {', '.join(missing)}")
        else:
            yield place, entry


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
