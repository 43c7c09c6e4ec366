"""ImageNet (ILSVRC 2012) as it is downloaded, unpacked or listed: found in a folder, read where it lies.

Four forms of a split are known, and looked for in this order:

- tar: `ILSVRC2012_img_train.tar`, a tar of 1000 tars, and `ILSVRC2012_img_val.tar`, whose labels are in the devkit;
- folders: `train/n01440764/…` and `val/n01440764/…`;
- list: `train_list.txt` and `val_list.txt`, a line `path label` an image, as Paddle-CycleMLP reads them;
- flat: `val/ILSVRC2012_val_00000001.JPEG` …, with labels as for the tar.

The devkit numbers the classes in an order of its own, 1 to 1000. Networks are trained on the sorted WordNet ids, 0 to
999; the devkit's `meta.mat` leads from one to the other, and without it its labels are refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from cyclemlp.data.classes import PathLike, imagenet_class_map
from cyclemlp.data.folders import ImageFolder, find_split, images_below, warn_of_passed_over
from cyclemlp.data.list_file import ListFile
from cyclemlp.data.sources import Files, Names, existing_folder, map_classes
from cyclemlp.data.tars import Tar, TarFiles, TarFolders, is_tar
from cyclemlp.errors import DataError, MissingDependencyError
from cyclemlp.text import counted

Form = Literal["tar", "folders", "list", "flat"]

CLASSES = 1000
#: Images of the whole sets.
IMAGES = {"train": 1_281_167, "val": 50_000}
TARS = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
#: Where the images of a split are unpacked to; the last are those of the copy on Kaggle.
FOLDERS = {
    "train": ("train", "ILSVRC2012_img_train", "Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/train"),
    "val": ("val", "ILSVRC2012_img_val", "Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val"),
}
LISTS = {"train": "train_list.txt", "val": "val_list.txt"}
DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
KAGGLE_TRUTH = "LOC_val_solution.csv"

WORDNET_ID = re.compile(r"n\d{8}")
VALIDATION_NAME = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.JPEG", re.IGNORECASE | re.DOTALL)


# ---- where it lies


@dataclass(frozen=True)
class Place:
    """Where a split lies, and in which form.

    Attributes:
        split: "train" or "val".
        form: of the four at the head of this module.
        path: the tar, or the folder that the images' names are relative to.
    """

    split: str
    form: Form
    path: Path

    def open(self, class_map: Mapping[str, int] | None = None, num_classes: int | None = None) -> Files:
        """The images.

        Args:
            class_map: WordNet id → class; None numbers folders in sorted order, which for all of ImageNet is the
                same, and the devkit's classes as `imagenet_class_map` does.
            num_classes: labels in a list from this number on are errors.

        Raises:
            DataError: something is missing, cut off or not as it should be; with file and entry.
            MissingDependencyError: SciPy is needed for `meta.mat`, and is not installed.
        """
        if self.form == "list":
            return ListFile(
                self.path,
                self.path / LISTS[self.split],
                mode=self.split,
                num_classes=num_classes,
                class_map=class_map,
            )
        if self.form == "folders":
            return ImageFolder(self.path, class_map=class_map)
        if self.form == "flat":
            return ValidationFolder(self.path, class_map=class_map)
        if _is_validation_tar(self.path):
            return ValidationTar(self.path, class_map=class_map)
        return TarFolders(self.path, class_map=class_map)

    def __str__(self) -> str:
        if self.form == "list":
            return f"{self.path / LISTS[self.split]}"
        words = {"folders": ", a folder a class", "flat": ", labelled by the devkit", "tar": ""}
        return f"{self.path}{words[self.form]}"


def find_imagenet(root: PathLike, split: str, *, lists: bool = True) -> Place | None:
    """In which form a split lies in a folder, if in any; or the split that a tar, or the folder itself, holds.

    Args:
        root: a folder, or a tar.
        split: "train" or "val".
        lists: whether one list makes it the list form; else there must be that of the other split too, so that a
            stray file does not make a folder of classes something else.
    """
    root = Path(root)
    if is_tar(root):
        return Place(split, "tar", root)
    if (root / TARS[split]).is_file():
        return Place(split, "tar", root / TARS[split])
    folders = {folder: _form(folder) for folder in (root, *(root / name for name in FOLDERS[split]))}
    own = folders.pop(root)
    for folder, form in folders.items():
        if form == "folders":
            return Place(split, form, folder)
    there = [(root / name).is_file() for name in LISTS.values()]
    if (root / LISTS[split]).is_file() and (lists or all(there)):
        return Place(split, "list", root)
    for folder, form in folders.items():
        if form == "flat":
            return Place(split, form, folder)
    return None if own is None else Place(split, own, root)


def _form(folder: Path) -> Literal["folders", "flat"] | None:
    if not folder.is_dir():
        return None
    with os.scandir(folder) as entries:
        for entry in entries:
            if WORDNET_ID.fullmatch(entry.name) and entry.is_dir():
                return "folders"
            if VALIDATION_NAME.fullmatch(entry.name):
                return "flat"
    return None


def open_images(
    root: PathLike, split: str, *, class_map: Mapping[str, int] | None = None, num_classes: int | None = None
) -> Files:
    """Labelled images in a folder of classes, in a tar, in a folder with ImageNet in any of its forms, or in a
    part of a folder with train/ and val/ (see `find_split`).

    Args:
        root: the folder or tar.
        split: "train" or "val": which of the parts.
        class_map, num_classes: as for `Place.open`.

    Raises:
        DataError, MissingDependencyError: as `Place.open`.
    """
    place = find_imagenet(root, split, lists=False)
    if place is None:
        parts = find_split(root)
        return ImageFolder(root if parts is None else parts[split != "train"], class_map=class_map)
    return place.open(class_map, num_classes)


def open_imagenet(root: PathLike, split: str) -> tuple[Place, Files]:
    """A split of ImageNet with its 1000 classes, numbered as the published networks number them.

    Returns:
        Where it was found, and its images.

    Raises:
        DataError: nothing is found, or it is not ImageNet: another number of classes, a folder that is none of the
            1000, no training image of a class, a label in a list that is not the class in the image's path.
        MissingDependencyError: as `Place.open`.
    """
    root = Path(root)
    if not is_tar(root):
        existing_folder(root)
    place = find_imagenet(root, split)
    if place is None:
        raise DataError(
            f"{root}: holds nothing that is ImageNet's {split} images; expected {TARS[split]}, a folder "
            f"{FOLDERS[split][0]}/ with a folder such as n01440764/ a class, or {LISTS[split]}"
            + (
                f", or val/ILSVRC2012_val_00000001.JPEG … with the devkit ({DEVKIT}.tar.gz)"
                if split == "val"
                else ""
            )
        )
    ids = imagenet_class_map()
    source = place.open(None if place.form == "list" else ids, CLASSES)
    _check_paths(source, ids)
    if split == "train":
        labels = {source.label(index) for index in range(len(source))}
        missing = [wordnet_id for wordnet_id, index in ids.items() if index not in labels]
        if missing:
            raise DataError(
                f"{place.path}: has no images of {len(missing)} of ImageNet's {CLASSES} classes: "
                f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
            )
    return place, source


def _check_paths(source: Files, ids: Mapping[str, int]) -> None:
    for index in range(len(source)):
        name, label = source.name(index), source.label(index)
        for part in name.split("/")[:-1]:
            if WORDNET_ID.fullmatch(part) and ids.get(part) != label:
                raise DataError(
                    f"{source.location(index)}: {name!r} is labelled {label}, and {part} is "
                    + (f"class {ids[part]}" if part in ids else f"none of ImageNet's {CLASSES} classes")
                )


def check_validation_labels(source: Files, folders: Sequence[Path]) -> int:
    """Compare the labels of images called `ILSVRC2012_val_00000001.JPEG` … with the ground truth.

    Args:
        source: the images; others among them are passed over.
        folders: where the ground truth is looked for.

    Returns:
        How many were compared; 0 if there is no ground truth.

    Raises:
        DataError: one differs; from reading the ground truth.
    """
    if not _find_truth(folders):
        return 0
    truth, ids, compared = read_ground_truth(folders), imagenet_class_map(), 0
    for index in range(len(source)):
        match = VALIDATION_NAME.fullmatch(source.name(index))
        number = int(match[1]) if match else 0
        if not 1 <= number <= len(truth.wordnet_ids):
            continue
        expected = truth.wordnet_ids[number - 1]
        if source.label(index) != ids[expected]:
            raise DataError(
                f"{source.location(index)}: {source.name(index)!r} is labelled {source.label(index)}, and by "
                f"{truth.place} it is a {expected}, class {ids[expected]}"
            )
        compared += 1
    return compared


def list_lines(place: Place, source: Files, root: Path) -> tuple[Path, Iterator[str]]:
    """A split as a list file: what its names are relative to, and its lines.

    Args:
        place, source: from `open_imagenet`.
        root: what that was given: names are relative to it, or to a tar.
    """
    folder = place.path if place.form == "tar" or is_tar(root) else root
    prefix = "" if place.path == folder else f"{place.path.relative_to(folder).as_posix()}/"
    lines = (f"{prefix}{source.name(index)} {source.label(index)}\n" for index in range(len(source)))
    return folder, lines


def fingerprint(source: Files) -> str:
    """SHA-256 of the images' names, labels and sizes in bytes, by which another set of images is known.

    Raises:
        DataError: an image's file cannot be found.
    """
    digest = hashlib.sha256()
    for index in range(len(source)):
        digest.update(os.fsencode(source.name(index)) + b"\0")
    labels = [-1 if (label := source.label(index)) is None else label for index in range(len(source))]
    digest.update(np.asarray(labels, dtype="<i8").tobytes())
    digest.update(source.file_sizes().astype("<i8").tobytes())
    return digest.hexdigest()


# ---- validation images whose labels are in the devkit


class ValidationFolder(Files):
    """`ILSVRC2012_val_00000001.JPEG` … in one folder, in their order, labelled by the devkit.

    The devkit is looked for beside the images and beside their folder: `ILSVRC2012_devkit_t12.tar.gz`, or its files.

    Args:
        root: the folder.
        class_map: WordNet id → class; None: `imagenet_class_map`.

    Raises:
        DataError: an image is missing, or there is one too many; from the ground truth.
    """

    def __init__(self, root: PathLike, *, class_map: Mapping[str, int] | None = None) -> None:
        self.root = existing_folder(root)
        passed: Counter[str] = Counter()
        names = Names.of(images_below(self.root, passed))
        truth = read_ground_truth(truth_folders(self.root))
        order, self._labels, self.classes = _label(names, truth, self.root, class_map)
        self.num_classes, self._names = len(self.classes or []) or None, names.take(order)
        warn_of_passed_over(self.root, passed)


class ValidationTar(TarFiles):
    """`ILSVRC2012_img_val.tar`, read in place, labelled by the devkit, which lies beside it; as `ValidationFolder`."""

    def __init__(self, path: PathLike, *, class_map: Mapping[str, int] | None = None) -> None:
        tar = Tar(path)
        members, passed = tar.images()
        truth = read_ground_truth(truth_folders(tar.path))
        order, self._labels, self.classes = _label(tar.names.take(members), truth, tar.path, class_map)
        self.num_classes = len(self.classes or []) or None
        self._choose(tar, members[order])
        warn_of_passed_over(tar.path, passed)


def _is_validation_tar(path: Path) -> bool:
    tar = Tar(path)
    return len(tar) > 0 and VALIDATION_NAME.fullmatch(tar.names[0]) is not None


def _label(
    names: Names, truth: GroundTruth, place: Path, class_map: Mapping[str, int] | None
) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
    """The order of the images by number, int64 [N]; their labels in this order, int64 [N]; the classes' names."""
    ids = imagenet_class_map() if class_map is None else class_map
    count = len(truth.wordnet_ids)
    where = np.full(count, -1, dtype=np.int64)
    for index in range(len(names)):
        match = VALIDATION_NAME.fullmatch(names[index])
        number = int(match[1]) if match else 0
        if not 1 <= number <= count or where[number - 1] >= 0:
            raise DataError(
                f"{place}: {names[index]!r} is not one of the {counted(count, 'image')} of {truth.place}, or there "
                f"twice; expected ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_{count:08d}.JPEG"
            )
        where[number - 1] = index
    missing = np.flatnonzero(where < 0)
    if len(missing):
        raise DataError(
            f"{place}: holds {counted(len(names), 'image')}, and {truth.place} has {counted(count, 'line')}; "
            f"ILSVRC2012_val_{missing[0] + 1:08d}.JPEG is missing"
            + (f", and {counted(len(missing) - 1, 'other')}" if len(missing) > 1 else "")
        )
    unknown = next((name for name in truth.wordnet_ids if name not in ids), None)
    if unknown is not None:
        raise DataError(f"{truth.place}: names {unknown}, which is not in the class map")
    return where, np.asarray([ids[name] for name in truth.wordnet_ids], dtype=np.int64), map_classes(ids)


# ---- ground truth


class GroundTruth(NamedTuple):
    """What the validation images show.

    Attributes:
        wordnet_ids: of image 1, 2, …
        place: the file, for messages.
    """

    wordnet_ids: list[str]
    place: str


def truth_folders(path: Path) -> list[Path]:
    """Where the ground truth of the images in a folder or tar is looked for: beside it, then, if it is a link, beside
    what that leads to."""
    if is_tar(path):
        return [path.absolute().parent, path.resolve().parent]
    # On Kaggle it lies above Data/CLS-LOC/val, or above all of ILSVRC/.
    return [path, *list(path.absolute().parents)[:4], *list(path.resolve().parents)[:4]]


class _Found(NamedTuple):
    place: str
    content: bytes


def read_ground_truth(folders: Sequence[Path]) -> GroundTruth:
    """Labels of the validation images: from the devkit, packed or unpacked, or from Kaggle's `LOC_val_solution.csv`.

    Args:
        folders: where they are looked for, in this order.

    Raises:
        DataError: there are none; there is a ground truth in the devkit's own numbers, and no `meta.mat`; with file
            and line, a number out of range or an unknown id.
        MissingDependencyError: SciPy is needed for `meta.mat`, and is not installed.
    """
    truth = _find_truth(folders)
    places = ", ".join(map(str, folders[:2]))
    if truth is None:
        raise DataError(
            f"no labels of the validation images are found beside them ({places}); expected {DEVKIT}.tar.gz, which "
            f"holds {GROUND_TRUTH} and {META}, or these files"
        )
    if truth.place.endswith(KAGGLE_TRUTH):
        return GroundTruth(_read_kaggle(truth), truth.place)
    meta = _find(folders, META)
    if meta is None:
        raise DataError(
            f"{truth.place}: its numbers are the devkit's own, not places in the sorted WordNet ids, and {META}, which "
            f"says what they mean, is not beside it; put {DEVKIT}.tar.gz, or its data/{META}, there"
        )
    ids = _read_meta(meta)
    wordnet_ids = []
    for number, line in enumerate(truth.content.decode("ascii", "replace").splitlines(), 1):
        word = line.strip()
        if not (word.isdigit() and int(word) in ids):
            raise DataError(f"{truth.place}:{number}: {word!r} is not a class of the devkit, 1 to {CLASSES}")
        wordnet_ids.append(ids[int(word)])
    if not wordnet_ids:
        raise DataError(f"{truth.place}: is empty")
    return GroundTruth(wordnet_ids, truth.place)


def _find_truth(folders: Sequence[Path]) -> _Found | None:
    return _find(folders, GROUND_TRUTH) or _find(folders, KAGGLE_TRUTH)


def _find(folders: Sequence[Path], name: str) -> _Found | None:
    for folder in folders:
        for part in ("", "data", f"{DEVKIT}/data", DEVKIT):
            path = folder / part / name
            if path.is_file():
                try:
                    return _Found(str(path), path.read_bytes())
                except OSError as error:
                    raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        archive = folder / f"{DEVKIT}.tar.gz"
        if archive.is_file() and name != KAGGLE_TRUTH:
            return _find_packed(archive, name)
    return None


def _find_packed(archive: Path, name: str) -> _Found:
    try:
        with tarfile.open(archive) as tar:
            for info in tar:
                if info.isfile() and info.name.rpartition("/")[2] == name:
                    content = tar.extractfile(info)
                    if content is not None:
                        return _Found(f"{archive}: {name}", content.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: is cut off or damaged, or cannot be read: {error}") from error
    raise DataError(f"{archive}: holds no {name}; it is not ImageNet's {DEVKIT}")


def _read_meta(meta: _Found) -> dict[int, str]:
    """The devkit's number → WordNet id, of the 1000 classes. (It numbers the nodes above them too, from 1001.)"""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingDependencyError(
            f"{meta.place} is a MATLAB file and needs SciPy: pip install 'paddle-cyclemlp[imagenet]'"
        ) from error
    try:
        synsets = loadmat(io.BytesIO(meta.content), squeeze_me=True, variable_names=["synsets"])["synsets"]
        rows = zip(np.atleast_1d(synsets["ILSVRC2012_ID"]), np.atleast_1d(synsets["WNID"]), strict=True)
        ids = {int(number): str(wordnet_id) for number, wordnet_id in rows if int(number) <= CLASSES}
    except Exception as error:  # SciPy and NumPy raise several kinds
        raise DataError(
            f"{meta.place}: cannot be read as the devkit's table of classes ({type(error).__name__}: {error})"
        ) from error
    known = imagenet_class_map()
    for number in range(1, CLASSES + 1):
        if ids.get(number) not in known:
            raise DataError(
                f"{meta.place}: the devkit's class {number} is {ids.get(number) or 'missing'}, which is none of "
                f"ImageNet's {CLASSES}"
            )
    if len(set(ids.values())) != CLASSES:
        twice = Counter(ids.values()).most_common(1)[0][0]
        raise DataError(f"{meta.place}: gives {twice} to several of the devkit's classes")
    return ids


def _read_kaggle(truth: _Found) -> list[str]:
    known, found = imagenet_class_map(), {}
    rows = csv.reader(io.StringIO(truth.content.decode("utf-8", "replace")))
    next(rows, None)  # ImageId,PredictionString
    for row in rows:
        words = row[1].split() if len(row) == 2 else []
        match = VALIDATION_NAME.fullmatch(f"{row[0]}.JPEG") if row else None
        if match is None or not words or words[0] not in known:
            raise DataError(
                f"{truth.place}:{rows.line_num}: {','.join(row)!r} is not `ILSVRC2012_val_00000001,n01440764 …`"
            )
        found[int(match[1])] = words[0]
    for number in range(1, len(found) + 1):
        if number not in found:
            raise DataError(
                f"{truth.place}: has {counted(len(found), 'image')}, but not ILSVRC2012_val_{number:08d}"
            )
    if not found:
        raise DataError(f"{truth.place}: is empty")
    return [found[number] for number in sorted(found)]
