"""Looks through a data set in COCO's form before anyone trains on it: what the engine would pass over or fail on.

Training and evaluation look through their JSON files in the same way first (`require_usable`), without the images'
pixels. What they do not start with is a part of what `check` finds: objects that the engine leaves out, for instance
those without area, of which COCO's own files have some, are errors here and a line of the log there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclemlp.data.images import EncodedImage
from cyclemlp.dense.det.configuration import CocoFiles, Configuration, read_coco
from cyclemlp.dense.det.shapes import MAX_ID, faults_of_box, faults_of_mask, is_number
from cyclemlp.dense.detections import Category
from cyclemlp.dense.images import read_image
from cyclemlp.errors import DataError
from cyclemlp.text import counted, part_of, printable, shortened, shown, with_lines

#: Characters of a file name that a message shows.
LONGEST_NAME = 200
#: Errors of one kind that are listed when training is refused.
MOST_TOLD = 5
#: Without decoding them, the headers of so many images are read, evenly spread.
MOST_HEADERS = 256


@dataclass(frozen=True)
class Fault:
    """Something wrong in a COCO file.

    Attributes:
        place: file and entry, such as "train.json: annotations[3] (id 7, image 12)".
        what: what was found, and what was expected.
        tolerable: whether a model can be trained all the same: the entry is left out, or counts as it is.
    """

    place: str
    what: str
    tolerable: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass
class Report:
    """What was found in one file.

    Attributes:
        key: of the configuration, such as "TrainDataset".
        path: the COCO file.
        images, empty_images: how many there are, and without an object.
        objects: class name → objects that can be trained on.
        crowds: objects marked `iscrowd`, which are not trained on.
        faults: what must be corrected.
        warnings: what should be known; each a sentence with its file.
        categories: in the file's order.
    """

    key: str
    path: Path
    images: int = 0
    empty_images: int = 0
    crowds: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    categories: list[Category] = field(default_factory=list)
    _files: set[Path] = field(default_factory=set)

    @property
    def errors(self) -> list[str]:
        """The faults as sentences."""
        return [str(fault) for fault in self.faults]

    @property
    def file(self) -> str:
        """The path as messages have it."""
        return _name(self.path)

    def add(self, place: str, what: str, *, tolerable: bool = False) -> None:
        """Note a fault at a place in the file, such as "images[3]"; "" for the whole file."""
        self.faults.append(Fault(f"{self.file}: {place}" if place else self.file, what, tolerable))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "key": self.key,
            "path": str(self.path),
            "images": self.images,
            "empty_images": self.empty_images,
            "crowds": self.crowds,
            "objects": dict(self.objects),
            "errors": self.errors,
            "warnings": self.warnings,
        }


def check(
    config: Configuration,
    keys: Sequence[str] = ("TrainDataset", "EvalDataset"),
    *,
    pixels: bool = True,
    on_image: Callable[[], object] = lambda: None,
) -> list[Report]:
    """Look through the data sets of a configuration.

    Args:
        config: which names them.
        keys: which of them; those that it lacks are passed over.
        pixels: decode every image; else see whether the files are there, and read the headers of `MOST_HEADERS`.
        on_image: called after each image.

    Returns:
        A report of each; the data are good if none has `faults`.

    Raises:
        ConfigError: a data set is not described in COCO's form.
    """
    reports = []
    for key in keys:
        if key in config.values:
            reports.append(_check_file(config, key, pixels, on_image))
    if len(reports) == 2 and all(report.categories for report in reports):
        _compare(*reports)
    return reports


def require_usable(
    config: Configuration, keys: Sequence[str], *, say: Callable[[str], None]
) -> dict[str, list[Category]]:
    """Look through the data sets that are to be used, without decoding images.

    Args:
        keys: such as "TrainDataset".
        say: takes a line on each kind of fault that can be lived with.

    Returns:
        Key → the classes in the order of the network's outputs.

    Raises:
        ConfigError: a data set is not described.
        DataError: the engine could not read it, or would learn or measure something else than it holds.
    """
    for key in keys:
        config.data(key)  # says what is not there, and how to name another
    reports = check(config, keys, pixels=False)
    fatal = [fault for report in reports for fault in report.faults if not fault.tolerable]
    if fatal:
        head = f"{_name(config.path)}: the data cannot be used, see `cyclemlp det check`:"
        raise DataError(with_lines(head, [str(fault) for fault in fatal], MOST_TOLD))
    for report in reports:
        if report.faults:
            say(
                f"{report.file}: {counted(len(report.faults), 'fault that is', 'faults that are')} lived with, such as "
                f"{report.faults[0]}; `cyclemlp det check` shows all"
            )
    return {report.key: report.categories for report in reports}


def count_images(config: Configuration) -> int:
    """How many images `check` will look at, as far as the files can be read."""
    total = 0
    for key in ("TrainDataset", "EvalDataset"):
        if key in config.values:
            try:
                images = read_coco(config.data(key).annotations).get("images")
            except DataError:
                continue
            total += len(images) if isinstance(images, list) else 0
    return total


# ---- one file


def _check_file(config: Configuration, key: str, pixels: bool, on_image: Callable[[], object]) -> Report:
    annotations = config.annotations(key)
    report = Report(key, annotations)
    try:
        files = config.data(key)
        content = read_coco(annotations)
    except DataError as error:
        report.faults.append(_of_error(error))
        return report
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            report.add("", f"it has no list {part!r}, as COCO files have")
    if report.faults:
        return report
    names = _check_categories(config, content["categories"], report)
    sizes = _check_images(files, content["images"], report, pixels, on_image)
    objects = _check_annotations(config, content["annotations"], sizes, names, report)
    report.images = len(sizes)
    report.empty_images = sum(1 for image in sizes if not objects[image])
    _remark(config, names, report)
    return report


def _remark(config: Configuration, names: Mapping[int, str], report: Report) -> None:
    """What is odd about the whole."""
    if not sum(report.objects.values()) and not report.faults:
        report.add("", f"none of its {counted(report.images, 'image')} has an object to train on")
    elif report.empty_images:
        fate = "trained on" if config.option(report.key, "allow_empty") else "left out"
        report.warnings.append(
            f"{report.file}: {part_of(report.empty_images, report.images, 'image', 'has', 'have')} no object; "
            f"{'it is' if report.empty_images == 1 else 'they are'} {fate} ({report.key}.allow_empty)"
        )
    for name in names.values():
        if not report.objects[name]:
            known = name.strip().lower() in ("background", "_background_", "__background__")
            hint = "; PaddleDetection needs no class for the background: remove it" if known else ""
            report.warnings.append(f"{report.file}: class {shown(name)} has no object{hint}")


def _check_categories(config: Configuration, entries: list[Any], report: Report) -> dict[int, str]:
    """Names by id; those of a wrong type are left out."""
    names: dict[int, str] = {}
    for place, entry in _entries(entries, "categories", ("id", "name"), report):
        if not (_is_id(entry["id"], place, "id", report)):
            continue
        if not isinstance(entry["name"], str) or not entry["name"].strip():
            report.add(place, f"its name is {shown(entry['name'])}; expected text")
        elif entry["id"] in names:
            report.add(place, f"id {entry['id']} was {shown(names[entry['id']])} already")
        elif entry["name"] in names.values():
            report.add(place, f"the name {shown(entry['name'])} is there twice")
        names[entry["id"]] = str(entry["name"])
    if len(entries) != config.num_classes:
        known = ", ".join(printable(name, lines=False) for name in list(names.values())[:8])
        report.add(
            "",
            f"it has {counted(len(entries), 'category')} ({known}{' …' if len(names) > 8 else ''}), and num_classes of "
            f"{_name(config.path)} is {config.num_classes}; give --set num_classes={len(entries)}",
        )
    report.categories = [Category(id_, name) for id_, name in names.items()]
    return names


def _check_images(
    files: CocoFiles, entries: list[Any], report: Report, pixels: bool, on_image: Callable[[], object]
) -> dict[int, tuple[float, float] | None]:
    """Width and height of each image by its id, as the JSON has them; None where it has none."""
    sizes: dict[int, tuple[float, float] | None] = {}
    seen: dict[str, Any] = {}
    step = -(-len(entries) // MOST_HEADERS)
    needed = ("id", "file_name", "width", "height")
    for index, (place, entry) in enumerate(_entries(entries, "images", needed, report)):
        on_image()
        if not _is_id(entry["id"], place, "id", report):
            continue
        if entry["id"] in sizes:
            report.add(place, f"another image has the id {entry['id']} too")
        name, stated = entry["file_name"], (entry["width"], entry["height"])
        good = all(is_number(v) and v > 0 and v == int(v) for v in stated)
        sizes[entry["id"]] = stated if good else None
        if not good:
            report.add(
                place, f"width and height are {shown(stated)}; expected the image's, whole numbers from 1"
            )
        if not isinstance(name, str) or not name or "\0" in name:
            report.add(place, f"file_name is {shown(name)}; expected a path in {_name(files.images)}")
            continue
        if name in seen:
            report.add(place, f"the file {_name(name)} is image {seen[name]} already", tolerable=True)
        seen[name] = entry["id"]
        path = files.images / name
        report._files.add(path)
        if not path.is_file():
            report.add(place, _missing(path))
        elif pixels:
            _check_pixels(path, stated if good else None, place, report)
        elif index % step == 0:
            _check_header(path, stated if good else None, place, report)
    return sizes


def _missing(path: Path) -> str:
    found = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
    hint = "; it has backslashes: write / between folders" if "\\" in path.name else ""
    return f"{_name(path)} {found}{hint}"


def _check_header(path: Path, stated: tuple[float, float] | None, place: str, report: Report) -> None:
    """What an image's header says of its size."""
    try:
        found = EncodedImage(path, place).upright_size
    except DataError as error:
        report.add(place, printable(str(error).removeprefix(f"{place}: "), lines=False))
        return
    _check_size(path, found, stated, place, report)


def _check_pixels(path: Path, stated: tuple[float, float] | None, place: str, report: Report) -> None:
    try:
        image = read_image(path)
    except DataError as error:
        report.add(place, printable(str(error), lines=False))
        return
    _check_size(path, image.size, stated, place, report)


def _check_size(
    path: Path, found: tuple[int, int], stated: tuple[float, float] | None, place: str, report: Report
) -> None:
    """The engine scales the boxes to the image that it finds, turned as its EXIF data say."""
    if stated is not None and found != stated:
        turned = " (turned as its EXIF data say)" if found == stated[::-1] else ""
        report.add(
            place,
            f"{_name(path)} is {found[0]}×{found[1]} pixels{turned}, and the file says {stated[0]}×{stated[1]}",
        )


def _check_annotations(
    config: Configuration,
    entries: list[Any],
    sizes: Mapping[int, tuple[float, float] | None],
    names: Mapping[int, str],
    report: Report,
) -> Counter[int]:
    """Objects of each image that can be trained on."""
    objects: Counter[int] = Counter()
    ids: set[int] = set()
    used: set[int] = set()
    largest = 0.0
    needed = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    for place, entry in _entries(entries, "annotations", needed, report):
        typed = [_is_id(entry[key], place, key, report) for key in ("id", "image_id", "category_id")]
        if not all(typed):
            continue
        where = f"{place} (id {entry['id']}, image {entry['image_id']})"
        before = len(report.faults)
        if entry["id"] in ids:
            report.add(where, f"the id {entry['id']} is there twice")
        ids.add(entry["id"])
        used.add(entry["category_id"])
        if entry["image_id"] not in sizes:
            report.add(where, f"there is no image {entry['image_id']}")
        if entry["category_id"] not in names:
            report.add(
                where, f"there is no category {entry['category_id']}; the file has {shown(sorted(names))}"
            )
        if not isinstance(entry["iscrowd"], int) or entry["iscrowd"] not in (0, 1):
            report.add(where, f"iscrowd is {shown(entry['iscrowd'])}; expected 0 or 1")
            continue
        size = sizes.get(entry["image_id"])
        for what, tolerable in faults_of_box(entry, size):
            # The engine reads no box of a crowd; COCO's program has its area and its mask only.
            if not entry["iscrowd"] or not tolerable:
                report.add(where, what, tolerable=tolerable)
        for what in faults_of_mask(entry.get("segmentation"), size, needed=config.has_masks()):
            report.add(where, what)
        if entry["iscrowd"]:
            report.crowds += 1
        elif len(report.faults) == before and not entry.get("ignore"):
            largest = max(largest, *entry["bbox"])
            objects[entry["image_id"]] += 1
            report.objects[names[entry["category_id"]]] += 1
    _check_numbering(used, names, report)
    if objects and largest <= 1:
        report.add(
            "",
            "no box is larger than one pixel: its coordinates look relative to the images' sizes; COCO has "
            "[x, y, width, height] in pixels",
        )
    return objects


def _check_numbering(used: set[int], names: Mapping[int, str], report: Report) -> None:
    """Annotations that count the categories from another number than the list does."""
    for shift in (-1, 1):
        if used and names and used - set(names) and used <= {id_ + shift for id_ in names}:
            report.add(
                "",
                f"the annotations' category_id go from {min(used)} to {max(used)}, the categories' id from "
                f"{min(names)} to {max(names)}: they seem to be counted from {'0' if shift < 0 else '1'} in the former "
                "only",
            )


def _compare(train: Report, evaluation: Report) -> None:
    """Two data sets of one configuration."""
    orders = [[(c.id, c.name) for c in report.categories] for report in (train, evaluation)]
    if orders[0] != orders[1]:
        what = "order" if sorted(orders[0]) == sorted(orders[1]) else "ids and names"
        i = next(
            (i for i, (one, other) in enumerate(zip(*orders, strict=False)) if one != other),
            min(map(len, orders)),
        )
        first = [shown(order[i]) if i < len(order) else "nothing" for order in orders]
        evaluation.add(
            f"categories[{i}]",
            f"its categories are not those of {train.file} in the same order, by which PaddleDetection numbers the "
            f"classes: they differ in {what}, first {first[1]} for {first[0]}",
        )
    both = train._files & evaluation._files
    if both:
        evaluation.warnings.append(
            f"{evaluation.file}: {counted(len(both), 'image is', 'images are')} trained on too, such as "
            f"{_name(min(both))}: the evaluation will flatter"
        )


# ---- values


def _entries(
    entries: list[Any], part: str, needed: tuple[str, ...], report: Report
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each entry that has all it needs, with its place for messages."""
    for index, entry in enumerate(entries):
        place = f"{part}[{index}]"
        if not isinstance(entry, Mapping):
            report.add(place, f"is {shown(entry, 40)}; expected an object with {', '.join(needed)}")
        elif missing := [key for key in needed if key not in entry]:
            hint = " (0 for an object, 1 for a crowd)" if missing == ["iscrowd"] else ""
            report.add(place, f"has no {', '.join(missing)}{hint}")
        else:
            yield place, entry


def _is_id(value: Any, place: str, key: str, report: Report) -> bool:
    """Whether a value can be an id; if not, it is a fault."""
    if type(value) is int and 0 <= value < MAX_ID:
        return True
    report.add(place, f"{key} is {shown(value)}; PaddleDetection needs a whole number from 0 on")
    return False


def _name(path: Path | str) -> str:
    return shortened(printable(str(path), lines=False), LONGEST_NAME)


def _of_error(error: DataError) -> Fault:
    """An error that begins with its file: the COCO file, or the configuration that names it."""
    place, _, what = str(error).partition(": ")
    return Fault(place, what)
