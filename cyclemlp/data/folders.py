"""Images found in folders: one folder a class, or any files and folders without labels."""

from __future__ import annotations

import contextlib
import os
import warnings
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cyclemlp.data.classes import PathLike
from cyclemlp.data.images import EXTENSIONS
from cyclemlp.data.sources import Files, Names, existing_folder, map_classes
from cyclemlp.errors import DataError
from cyclemlp.text import counted, part_of

#: What operating systems and archives leave beside images: passed over without a word.
NOT_CLASSES = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
NOT_IMAGES = ("Thumbs.db", "desktop.ini")
#: Names of the two parts of a data set, the likelier first.
TRAINING_FOLDERS = ("train", "training")
EVALUATION_FOLDERS = ("val", "validation", "valid", "eval", "dev", "test", "testing")


class ImageFolder(Files):
    """A folder with one folder of images a class; classes are numbered in sorted order of the folders' names.

    Images are found by their extension (`EXTENSIONS`, in any case), at any depth below the class's folder, and
    sorted. What starts with a dot is ignored.

    Args:
        root: the folder of folders.
        class_map: folder name → class, instead of the sorted order; every folder must be in it.
        allow_empty: a class folder without images is a class all the same; else it is an error.

    Raises:
        DataError: no such folder, no class folders in it, a class without images, or not in the map.

    Warns:
        UserWarning: once, if files are passed over because of their extension or place.
    """

    def __init__(
        self, root: PathLike, *, class_map: Mapping[str, int] | None = None, allow_empty: bool = False
    ) -> None:
        self.root = existing_folder(root)
        try:
            entries = sorted(entry for entry in self.root.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            raise DataError(f"{self.root}: cannot be read: {error.strerror}") from error
        entries = [entry for entry in entries if entry.name not in (*NOT_CLASSES, *NOT_IMAGES)]
        folders = [entry.name for entry in entries if entry.is_dir()]
        if not folders:
            raise DataError(
                f"{self.root}: holds no folders; expected one folder of images a class, e.g. "
                f"{self.root / 'cat' / '1.jpg'}. Images named in a list file need --list"
            )
        passed = Counter({"outside the class folders": len(entries) - len(folders)})
        indices, self.classes, self.num_classes = number_classes(self.root, folders, class_map)
        names: list[str] = []
        labels = array("q")
        for folder in folders:
            found = images_below(self.root / folder, passed, allow_empty=allow_empty)
            names += (f"{folder}/{name}" for name in found)
            labels.extend([indices[folder]] * len(found))
        self._names, self._labels = Names.of(names), np.asarray(labels, dtype=np.int64)
        warn_of_passed_over(self.root, passed)


def find_split(root: PathLike) -> tuple[Path, Path] | None:
    """The folders for training and for evaluation below `root`: `train/` and `val/`, `validation/`, `test/` …

    Names count in any case; where there are several for evaluation, the first in the order of `EVALUATION_FOLDERS`.

    Raises:
        DataError: it is not clear whether these are the parts of a data set or its classes.
    """
    root = Path(root)
    try:
        with os.scandir(root) as entries:
            folders = {
                e.name.lower(): root / e.name for e in entries if e.is_dir() and not e.name.startswith(".")
            }
    except OSError:
        return None  # whoever reads it says why
    training = [folders.pop(name) for name in TRAINING_FOLDERS if name in folders]
    evaluation = [folders.pop(name) for name in EVALUATION_FOLDERS if name in folders]
    if not training or not evaluation:
        if training and not folders and _holds_folders(training[0]):
            raise DataError(
                f"{root}: holds {training[0].name}/ and no folder to evaluate on ({', '.join(EVALUATION_FOLDERS)}); "
                f"give --data {training[0]} if there is none"
            )
        return None
    if len(training) > 1 or (folders and not all(map(_holds_folders, (training[0], evaluation[0])))):
        raise DataError(
            f"{root}: are {training[0].name}/ and {evaluation[0].name}/ classes, or the two parts of the data? For "
            f"parts give --data {training[0]} --val-data {evaluation[0]}; classes need other names"
        )
    return training[0], evaluation[0]


def _holds_folders(folder: Path) -> bool:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
    return False


class ImageFiles(Files):
    """Images without labels: files, and all images below folders.

    Args:
        paths: files, taken whatever their extension, and folders.

    Raises:
        DataError: a path does not exist, a folder holds no images, or nothing is given.

    Warns:
        UserWarning: for each folder in which files are passed over.
    """

    def __init__(self, paths: Sequence[PathLike]) -> None:
        self.root, self.classes, self.num_classes, self._labels = Path(), None, None, None
        names: list[str] = []
        for path in (os.fspath(path) for path in paths):
            if Path(path).is_dir():
                passed: Counter[str] = Counter()
                names += (str(Path(path, name)) for name in images_below(Path(path), passed))
                warn_of_passed_over(Path(path), passed)
            elif Path(path).is_file():
                names.append(path)
            elif Path(path).exists():
                raise DataError(f"{path}: is a FIFO or a device; expected an image or a folder of them")
            else:
                raise DataError(f"{path}: there is no such image or folder")
        if not names:
            raise DataError("no image is given")
        self._names = Names.of(names)


def images_below(folder: Path, passed: Counter[str], *, allow_empty: bool = False) -> list[str]:
    """Sorted paths, relative to `folder`, of the images below it; other files are counted in `passed`.

    Raises:
        DataError: there are none and `allow_empty` is not set, or a folder cannot be read.
    """
    try:
        found = sorted(_walk(str(folder), "", passed, frozenset({os.path.realpath(folder)})))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if not found and not allow_empty:
        raise DataError(f"{folder}: holds no images ({', '.join(sorted(EXTENSIONS))})")
    return found


def _walk(folder: str, prefix: str, passed: Counter[str], above: frozenset[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in above:  # a link to a folder above would go round for ever
                    yield from _walk(entry.path, f"{prefix}{entry.name}/", passed, above | {real})
                continue
            extension = Path(entry.name).suffix.lower()
            if not entry.is_file():
                passed["FIFOs, devices or links that lead nowhere"] += 1
            elif extension in EXTENSIONS:
                yield prefix + entry.name
            elif entry.name not in NOT_IMAGES:
                passed[extension or "without an extension"] += 1


def number_classes(
    root: Path, folders: Sequence[str], class_map: Mapping[str, int] | None
) -> tuple[dict[str, int], list[str] | None, int]:
    """What classes sorted folders are: folder → class, the classes' names if the map tells, and their number.

    Raises:
        DataError: a folder is not in the map, or its name is no text.
    """
    for folder in folders:
        if not folder.isprintable() and any("\ud800" <= character <= "\udfff" for character in folder):
            raise DataError(
                f"{root / folder}: the folder's name is not UTF-8, and cannot be kept as the name of a class; rename it"
            )
    if class_map is None:
        return {folder: index for index, folder in enumerate(folders)}, list(folders), len(folders)
    unknown = [folder for folder in folders if folder not in class_map]
    if unknown:
        raise DataError(
            f"{root}: {part_of(len(unknown), len(folders), 'folder', 'is', 'are')} not in the class map: "
            f"{', '.join(unknown[:5])}{' …' if len(unknown) > 5 else ''}"
        )
    return dict(class_map), map_classes(class_map), max(class_map.values()) + 1


def warn_of_passed_over(root: Path, passed: Counter[str]) -> None:
    """One warning, to who made the source, of how many files of which kind it does not take for images."""
    passed = +passed
    if passed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in passed.most_common())
        warnings.warn(
            f"{root}: passed over {counted(passed.total(), 'file that is no image', 'files that are no images')}: "
            f"{kinds}",
            stacklevel=3,
        )
