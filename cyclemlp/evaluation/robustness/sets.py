"""Sets of images that tell how robust a classifier of ImageNet is, in their published layouts.

| set | images | folders | classes | source |
|---|---|---|---|---|
| ImageNet-V2, three selections | 10,000 each | 0 … 999: class numbers | 1000 | Recht et al. 2019, arXiv 1902.10811 |
| ImageNet-A | 7,500 | WordNet ids | 200 | Hendrycks et al. 2021, arXiv 1907.07174 |
| ImageNet-R | 30,000 | WordNet ids | 200 | Hendrycks et al. 2021, arXiv 2006.16241 |
| ImageNet-Sketch | 50,889 | WordNet ids | 1000 | Wang et al. 2019, arXiv 1905.13549 |
| ImageNet-C: 15 + 4 corruptions, 5 severities | 50,000 each | WordNet ids | 1000 | Hendrycks 2019, arXiv 1903.12261 |
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from cyclemlp.data.classes import PathLike, imagenet_class_map
from cyclemlp.data.folders import ImageFolder
from cyclemlp.data.imagenet import IMAGES
from cyclemlp.data.resampling import as_array
from cyclemlp.data.sources import Source, existing_folder
from cyclemlp.data.tars import TarFolders, is_tar
from cyclemlp.data.transforms import Begun, EvaluationTransform, Left, center_crop, prepared
from cyclemlp.errors import DataError
from cyclemlp.evaluation.robustness.corruptions import CORRUPTIONS, COUNTED, EXTRA, SEVERITIES
from cyclemlp.text import counted, part_of

IMAGENET_CLASSES = 1000
VALIDATION_IMAGES = IMAGES["val"]
#: Name → title, images, and the letter of its classes in imagenet_subsets.txt where it has not all of ImageNet's.
SETS = {
    "v2": ("ImageNet-V2", 10_000, ""),
    "a": ("ImageNet-A", 7_500, "a"),
    "r": ("ImageNet-R", 30_000, "r"),
    "sketch": ("ImageNet-Sketch", 50_889, ""),
    "c": ("ImageNet-C", VALIDATION_IMAGES, ""),
}


@dataclass(frozen=True)
class PublishedSet:
    """A set of images whose layout and size are published.

    Attributes:
        title: its name.
        folders: names of the class folders, in the order of the labels that its source gives: 0, 1, 2 …
        classes: ImageNet's class, 0 to 999, of each folder. A model's logits are restricted to these.
        images: how many there are.
    """

    title: str
    folders: tuple[str, ...]
    classes: tuple[int, ...]
    images: int


@dataclass(frozen=True)
class Opened:
    """A set that lies on disk.

    Attributes:
        published: what it should be.
        source: its images; a label is a place in `published.classes`.
        title: its name, with the selection of ImageNet-V2 or ImageNet-C's corruption and severity.
        missing: what it lacks, in words; empty if it is complete.
    """

    published: PublishedSet
    source: Source
    title: str
    missing: tuple[str, ...] = ()


@functools.cache
def published_set(name: str) -> PublishedSet:
    """One of the sets above: "v2", "a", "r", "sketch" or "c" (one corruption in one severity)."""
    title, images, letter = SETS[name]
    ids = imagenet_class_map()
    if name == "v2":
        ids = {str(number): number for number in range(IMAGENET_CLASSES)}
    elif letter:
        text = resources.files(__package__).joinpath("imagenet_subsets.txt").read_text(encoding="utf-8")
        ids = {name: ids[name] for name, letters in map(str.split, text.splitlines()) if letter in letters}
    return PublishedSet(title, tuple(ids), tuple(ids.values()), images)


#: ImageNet-V2's selections, and what is in the names of their folders.
V2_SELECTIONS = {
    "matched-frequency": ("matched-frequency",),
    "threshold-0.7": ("threshold0.7", "threshold-0.7"),
    "top-images": ("top-images", "topimages"),
}


def open_published(
    published: PublishedSet, path: PathLike, *, title: str | None = None, partial: bool = False
) -> Opened:
    """A published set, checked: its class folders and the number of its images.

    Args:
        published: what is expected.
        path: the folder of class folders, or one that holds nothing but that folder, or a tar of either.
        title: what to call it; None: as `published` does.
        partial: take a set that lacks class folders or images; the classes that the logits are restricted to
            stay those published.

    Raises:
        DataError: no such folder or tar, no class folders, folders of other classes, or an incomplete set without
            `partial`.
    """
    title, path = title or published.title, Path(path)
    if not is_tar(path):
        path = _class_root(existing_folder(path), published)
    found = _folder_names(path)
    expected = set(published.folders)
    foreign = [name for name in found if name not in expected]
    if foreign:
        raise DataError(
            f"{path}: {part_of(len(foreign), len(found), 'folder', 'is', 'are')} not of {title}: {_some(foreign)}; its "
            f"{counted(len(expected), 'class folder')} are {_some(published.folders)}"
        )
    missing = []
    lacking = [name for name in published.folders if name not in set(found)]
    if lacking:
        missing.append(
            f"{len(found)} of {counted(len(expected), 'class folder')}; {_some(lacking)} "
            + ("is missing" if len(lacking) == 1 else "are missing")
        )
        _refuse(path, title, missing, partial)
    labels = {name: label for label, name in enumerate(published.folders)}
    source = (TarFolders if is_tar(path) else ImageFolder)(path, class_map=labels)
    if len(source) != published.images:
        missing.append(f"{counted(len(source), 'image')} instead of {published.images:,}")
        _refuse(path, title, missing, partial)
    return Opened(published, source, title, tuple(missing))


def open_imagenet_v2(path: PathLike, *, partial: bool = False) -> list[Opened]:
    """ImageNet-V2: one selection, or each that lies in the folder.

    Args:
        path: a folder (or tar) of the folders 0 to 999, or a folder that holds such folders, with names that say
            which selection they are (`imagenetv2-matched-frequency-format-val` …).
        partial: as for `open_published`.

    Raises:
        DataError: as `open_published`; neither is there.
    """
    path = Path(path)
    if is_tar(path) or _holds_classes(existing_folder(path), published_set("v2")):
        selections = {_v2_selection(path.name): path}
    else:
        found = [entry for entry in sorted(path.iterdir()) if is_tar(entry) or entry.is_dir()]
        found.sort(key=Path.is_dir)  # a folder rather than the tar that it was unpacked from
        selections = {name: entry for entry in found if (name := _v2_selection(entry.name))}
        if not selections:
            raise DataError(
                f"{path}: holds neither the class folders 0 to 999 nor folders such as "
                "imagenetv2-matched-frequency-format-val; unpack ImageNet-V2 there"
            )
    published = published_set("v2")
    order = [name for name in (*V2_SELECTIONS, None) if name in selections]
    return [
        open_published(
            published,
            selections[name],
            title=f"{published.title}, {name}" if name else None,
            partial=partial,
        )
        for name in order
    ]


def _v2_selection(name: str) -> str | None:
    return next((s for s, parts in V2_SELECTIONS.items() if any(part in name for part in parts)), None)


class ImageNetC:
    """ImageNet-C as published: `gaussian_noise/3/n01440764/ILSVRC2012_val_00000293.JPEG`, perhaps below its group
    (`noise/gaussian_noise/…`).

    Making one looks at every folder's names and counts nothing yet; `open` checks the images.

    Args:
        root: the folder.
        partial: take what is there of the 15 corruptions in 5 severities.

    Attributes:
        severities: corruption → the severities that are there; the counted ones first, then the extra ones.
        missing: what is lacking of the former, in words.

    Raises:
        DataError: no such folder, no corruption in it, or without `partial` one of the 15 or its severities is missing.
    """

    def __init__(self, root: PathLike, *, partial: bool = False) -> None:
        self.root, self.partial = existing_folder(root), partial
        self._folders: dict[str, Path] = {}
        self.severities: dict[str, tuple[int, ...]] = {}
        for group, names in {**CORRUPTIONS, "extra": EXTRA}.items():
            for name in names:
                places = (self.root / name, self.root / group / name)
                folder = next((place for place in places if place.is_dir()), None)
                severities = tuple(s for s in SEVERITIES if folder and (folder / str(s)).is_dir())
                if folder and severities:
                    self._folders[name], self.severities[name] = folder, severities
        if not self.severities:
            raise DataError(
                f"{root}: holds none of ImageNet-C's folders, such as {COUNTED[0]}/1/n01440764 or "
                f"noise/{COUNTED[0]}/1/n01440764; unpack its tars there"
            )
        lacking = [
            f"{name}/{severity}"
            for name in COUNTED
            for severity in SEVERITIES
            if severity not in self.severities.get(name, ())
        ]
        self.missing: tuple[str, ...] = ()
        if lacking:
            count = len(COUNTED) * len(SEVERITIES)
            self.missing = (
                f"{count - len(lacking)} of {counted(count, 'folder')}; {_some(lacking)} "
                + ("is missing" if len(lacking) == 1 else "are missing"),
            )
            _refuse(self.root, published_set("c").title, self.missing, partial)

    def open(self, corruption: str, severity: int) -> Opened:
        """The images of one corruption in one severity. Raises DataError as `open_published`."""
        folder = self._folders[corruption] / str(severity)
        title = f"ImageNet-C, {corruption} {severity}"
        return open_published(published_set("c"), folder, title=title, partial=self.partial)

    def source(self, corruption: str, severity: int) -> Source:
        """Its source. Raises DataError as `open_published`."""
        return self.open(corruption, severity).source


def _class_root(folder: Path, published: PublishedSet) -> Path:
    """`folder`, or the one folder in it if that one has the class folders, as `sketch/` of ImageNet-Sketch."""
    if not _holds_classes(folder, published):
        inner = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        if len(inner) == 1 and _holds_classes(inner[0], published):
            return inner[0]
    return folder


def _holds_classes(folder: Path, published: PublishedSet) -> bool:
    return not set(published.folders).isdisjoint(_folder_names(folder))


def _folder_names(path: Path) -> list[str]:
    if not is_tar(path):
        return sorted(e.name for e in path.iterdir() if e.is_dir() and not e.name.startswith("."))
    with warnings.catch_warnings():  # they are given when it is opened to be read
        warnings.simplefilter("ignore")
        return TarFolders(path).classes or []


def _refuse(path: Path, title: str, missing: Sequence[str], partial: bool) -> None:
    if not partial:
        raise DataError(
            f"{path}: {title} is not complete: {'; '.join(missing)}. Its figures would compare with no published "
            "ones; complete it, or give --partial to measure what is there"
        )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


class CentreCropTransform(EvaluationTransform):
    """Crops the centre and normalises, without resizing: ImageNet-C's images are 224×224 already."""

    def begin(self, image: Image.Image, rng: np.random.Generator | None = None) -> Begun:
        """Raises DataError for an image smaller than the crop."""
        p = self.preprocessing
        image = prepared(image, p)
        if image.width < p.input_width or image.height < p.input_height:
            raise DataError(
                f"the image is {image.width}×{image.height}, and the model takes {p.input_width}×{p.input_height}; "
                f"ImageNet-C's images are not resized: give --input-size {min(image.size)}"
            )
        image = center_crop(image, p.input_size)
        return Begun(as_array(image), Left())
