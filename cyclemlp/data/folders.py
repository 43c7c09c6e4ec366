"""Pictures found in folders: one folder a class, or any files and folders without labels."""

from __future__ import annotations

import os
import warnings
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cyclemlp.data.classes import PathLike
from cyclemlp.data.pictures import EXTENSIONS
from cyclemlp.data.sources import Files, Names, existing_folder, map_classes
from cyclemlp.errors import DataError


class ImageFolder(Files):
    """A folder with one folder of pictures a class; classes are numbered in sorted order of the folders' names.

    Pictures are found by their extension (`EXTENSIONS`, in any case), at any depth below the class's folder, and
    sorted. What starts with a dot is ignored.

    Args:
        root: the folder of folders.
        class_map: folder name → class, instead of the sorted order; every folder must be in it.

    Raises:
        DataError: no such folder, no class folders in it, a class without pictures, or not in the map.

    Warns:
        UserWarning: once, if files are passed over because of their extension or place.
    """

    def __init__(self, root: PathLike, *, class_map: Mapping[str, int] | None = None) -> None:
        self.root = existing_folder(root)
        try:
            entries = sorted(entry for entry in self.root.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            raise DataError(f"{self.root}: cannot be read: {error.strerror}") from error
        folders = [entry.name for entry in entries if entry.is_dir()]
        if not folders:
            raise DataError(
                f"{self.root}: holds no folders; expected one folder of pictures a class, e.g. "
                f"{self.root / 'cat' / '1.jpg'}. Pictures named in a list file need --list"
            )
        passed = Counter({"outside the class folders": len(entries) - len(folders)})
        indices, self.classes, self.num_classes = number_classes(self.root, folders, class_map)
        names: list[str] = []
        labels = array("q")
        for folder in folders:
            found = pictures_below(self.root / folder, passed)
            names += (f"{folder}/{name}" for name in found)
            labels.extend([indices[folder]] * len(found))
        self._names, self._labels = Names.of(names), np.asarray(labels, dtype=np.int64)
        warn_of_passed_over(self.root, passed)


class PictureFiles(Files):
    """Pictures without labels: files, and all pictures below folders.

    Args:
        paths: files, taken whatever their extension, and folders.

    Raises:
        DataError: a path does not exist, a folder holds no pictures, or nothing is given.

    Warns:
        UserWarning: for each folder in which files are passed over.
    """

    def __init__(self, paths: Sequence[PathLike]) -> None:
        self.root, self.classes, self.num_classes, self._labels = Path(), None, None, None
        names: list[str] = []
        for path in (os.fspath(path) for path in paths):
            if Path(path).is_dir():
                passed: Counter[str] = Counter()
                names += (str(Path(path, name)) for name in pictures_below(Path(path), passed))
                warn_of_passed_over(Path(path), passed)
            elif Path(path).exists():
                names.append(path)
            else:
                raise DataError(f"{path}: there is no such picture or folder")
        if not names:
            raise DataError("no picture is given")
        self._names = Names.of(names)


def pictures_below(folder: Path, passed: Counter[str]) -> list[str]:
    """Sorted paths, relative to `folder`, of the pictures below it; other files are counted in `passed`.

    Raises:
        DataError: there are none, or a folder cannot be read.
    """
    try:
        found = sorted(_walk(str(folder), "", passed, frozenset({os.path.realpath(folder)})))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if not found:
        raise DataError(f"{folder}: holds no pictures ({', '.join(sorted(EXTENSIONS))})")
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
            if extension in EXTENSIONS:
                yield prefix + entry.name
            else:
                passed[extension or "without an extension"] += 1


def number_classes(
    root: Path, folders: Sequence[str], class_map: Mapping[str, int] | None
) -> tuple[dict[str, int], list[str] | None, int]:
    """What classes sorted folders are: folder → class, the classes' names if the map tells, and their number.

    Raises:
        DataError: a folder is not in the map.
    """
    if class_map is None:
        return {folder: index for index, folder in enumerate(folders)}, list(folders), len(folders)
    unknown = [folder for folder in folders if folder not in class_map]
    if unknown:
        raise DataError(
            f"{root}: {len(unknown)} of {len(folders)} folders are not in the class map: "
            f"{', '.join(unknown[:5])}{' …' if len(unknown) > 5 else ''}"
        )
    return dict(class_map), map_classes(class_map), max(class_map.values()) + 1


def warn_of_passed_over(root: Path, passed: Counter[str]) -> None:
    """One warning, to who made the source, of how many files of which kind it does not take for pictures."""
    passed = +passed
    if passed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in passed.most_common())
        warnings.warn(
            f"{root}: passed over {passed.total()} files that are no pictures: {kinds}", stacklevel=3
        )
