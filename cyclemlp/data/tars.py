"""Images in a tar, read from where they lie in it: nothing is unpacked.

A tar has no table of contents, so it is gone through once, from header to header; what was found is kept in the
cache folder and used again while the tar's size and time of change are the same. A tar of tars, as ImageNet's
training images come, is taken for a tar of folders: `n01440764.tar` in it is the folder `n01440764`.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import warnings
import zipfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from cyclemlp._cache import cache_folder
from cyclemlp.data.classes import PathLike
from cyclemlp.data.folders import number_classes, warn_of_passed_over
from cyclemlp.data.images import EXTENSIONS, EncodedImage
from cyclemlp.data.list_file import ListFile
from cyclemlp.data.sources import Files, Names
from cyclemlp.errors import DataError
from cyclemlp.files import replacing
from cyclemlp.report import Progress

BLOCK = 512  # bytes of a tar's header, and what everything in it is rounded up to
SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip")
INDEX_FORM = 1
#: Tars of more bytes show how far the first look into them is.
LARGE_BYTES = 2**30


def is_tar(path: PathLike) -> bool:
    """Whether a path is a file to be read as a tar. A compressed one is too: reading it says what to do."""
    path = Path(path)
    return path.name.lower().endswith((SUFFIX, *COMPRESSED)) and not path.is_dir()


class Tar:
    """The files in a tar, sorted by name, and how to read one. Cheap to copy to worker processes.

    Args:
        path: the tar, not compressed.

    Attributes:
        names: of the files, without a leading `./`; of those in a tar inside, `n01440764/1.JPEG` for `1.JPEG` in
            `n01440764.tar`.
        sizes: theirs in bytes, int64 [N].
        offsets: where their content begins, in bytes from the tar's beginning, int64 [N].

    Raises:
        DataError: no such file, compressed, no tar, cut off, damaged, or with a name twice; it names the entry.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        if self.path.name.lower().endswith(COMPRESSED):
            raise DataError(
                f"{self.path}: is compressed, so that no image can be read without all before it; unpack it, or "
                "make a plain .tar of it"
            )
        try:
            stamp = _Stamp.of(self.path)
            kept = cache_folder() / "tars" / f"{_digest(self.path)}.npz"
            index = _read_index(kept, stamp)
            if index is None:
                with self.path.open("rb") as file:
                    index = _look_through(file, self.path, stamp.size)
                _keep_index(kept, index, stamp)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        starts = np.cumsum(index.lengths, dtype=np.int64) - index.lengths
        self.names = Names(index.block.tobytes(), starts, index.lengths)
        self.offsets, self.sizes = index.offsets, index.sizes
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # each process opens its own

    def read(self, index: int) -> bytes:
        """A file's content. Several threads and forked processes may read: there is no shared position.

        Raises:
            DataError: the tar is gone, or has become shorter.
        """
        offset, size = int(self.offsets[index]), int(self.sizes[index])
        parts, left = [], size
        try:
            file = self._file
            if file is None:
                # Held by name: another thread may open it too, and what is replaced is closed.
                file = self._file = self.path.open("rb", buffering=0)
            while left:  # one call gives 2 GiB at most
                part = os.pread(file.fileno(), left, offset + size - left)
                if not part:
                    raise DataError(
                        f"{self.path}: ends inside {self.names[index]!r}; the file has changed since it was opened"
                    )
                parts.append(part)
                left -= len(part)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def images(self) -> tuple[np.ndarray, Counter[str]]:
        """Numbers of the files that are images by their extension, and how many others there are by theirs.

        Raises:
            DataError: there are none.
        """
        extensions = {os.fsencode(extension) for extension in EXTENSIONS}
        found, passed = array("q"), Counter[str]()
        for number, name in enumerate(self.names.raws()):
            if name.startswith(b".") or b"/." in name:
                continue
            dot = name.rfind(b".")
            extension = name[dot:].lower() if dot > name.rfind(b"/") else b""
            if extension in extensions:
                found.append(number)
            else:
                passed[os.fsdecode(extension) or "without an extension"] += 1
        if not found:
            raise DataError(f"{self.path}: holds no images ({', '.join(sorted(EXTENSIONS))})")
        return np.asarray(found, dtype=np.int64), passed


class TarFiles(Files):
    """What the sources in a tar share: those of `Files`, `_tar`, and `_members`, the images' numbers in it."""

    _tar: Tar
    _members: np.ndarray

    def file(self, index: int) -> EncodedImage:
        content = self._tar.read(int(self._members[index]))
        return EncodedImage(f"{self.root}/{self._names[index]}", self.location(index), content)

    def file_sizes(self) -> np.ndarray:
        return self._tar.sizes[self._members]

    def _choose(self, tar: Tar, members: np.ndarray, names: Names | None = None) -> None:
        """Take these files of the tar, under these names or their own."""
        self.root, self._tar, self._members = tar.path, tar, members
        self._names = tar.names.take(members) if names is None else names


class TarImages(TarFiles):
    """All images in a tar, sorted by name, without labels.

    Raises:
        DataError: from `Tar`; there are none.

    Warns:
        UserWarning: once, if files are passed over because of their extension.
    """

    def __init__(self, path: PathLike) -> None:
        tar = Tar(path)
        members, passed = tar.images()
        self._choose(tar, members)
        self.classes, self.num_classes, self._labels = None, None, None
        warn_of_passed_over(tar.path, passed)


class TarFolders(TarFiles):
    """`ImageFolder` of a tar: a folder a class, or a tar a class, in the same order and with the same names.

    Folders that hold everything, such as `photos` in `photos/cat/1.jpg`, are passed through.

    Args:
        path: the tar.
        class_map: folder name → class, instead of the sorted order; every folder must be in it.

    Raises:
        DataError: from `Tar`; no folders in it, or one that is not in the map.

    Warns:
        UserWarning: once, if files are passed over because of their extension or place.
    """

    def __init__(self, path: PathLike, *, class_map: Mapping[str, int] | None = None) -> None:
        tar = Tar(path)
        members, passed = tar.images()
        names = tar.names.take(members)
        depth = _depth_of_classes(names.raws())
        seen: dict[bytes, int] = {}  # folder → how many other folders came before it
        kept, folders = array("q"), array("q")
        for member, name in zip(members.tolist(), names.raws(), strict=True):
            parts = name.split(b"/", depth + 1)
            if len(parts) < depth + 2:
                passed["outside the class folders"] += 1
                continue
            kept.append(member)
            folders.append(seen.setdefault(parts[depth], len(seen)))
        if not kept:
            raise DataError(
                f"{path}: holds images but no folders; expected one folder, or one tar, of images a class, e.g. "
                "cat/1.jpg. Images named in a list file need --list"
            )
        classes = [os.fsdecode(name) for name in seen]
        indices, self.classes, self.num_classes = number_classes(tar.path, sorted(classes), class_map)
        # Folder by folder: among the tar's sorted names `a-b/1` comes before `a/1`.
        folder_of = np.asarray(folders, dtype=np.int64)
        rank = {name: place for place, name in enumerate(sorted(classes))}
        order = np.argsort(np.asarray([rank[name] for name in classes])[folder_of], kind="stable")
        self._choose(tar, np.asarray(kept, dtype=np.int64)[order])
        self._labels = np.asarray([indices[name] for name in classes], dtype=np.int64)[folder_of[order]]
        warn_of_passed_over(tar.path, passed)


class TarListFile(TarFiles, ListFile):
    """`ListFile` whose names are those of files in a tar, as `Tar.names` has them.

    Args:
        root: the tar.
        list_path, mode, num_classes, class_map: as for `ListFile`.

    Raises:
        DataError: as `ListFile` and `Tar`; with file and line, for a name that is not in the tar.
    """

    def _open_root(self, root: PathLike) -> Path:
        return Path(root)

    def __init__(self, root: PathLike, list_path: PathLike, **options: Any) -> None:
        super().__init__(root, list_path, **options)
        tar = Tar(root)
        numbers = {name: number for number, name in enumerate(tar.names.raws())}
        members = np.empty(len(self), dtype=np.int64)
        for index, name in enumerate(self._names.raws()):
            number = numbers.get(name.removeprefix(b"./"))
            if number is None:
                example = f", which has names such as {tar.names[0]!r}" if len(tar) else ""
                whole = "; in a test list the whole line is the name" if self.mode == "test" else ""
                raise DataError(
                    f"{self.location(index)}: {self.name(index)!r} is not in {tar.path}{example}{whole}"
                )
            members[index] = number
        self._choose(tar, members)


def _depth_of_classes(names: Iterable[bytes]) -> int:
    """In how many folders everything lies, one within the other; one fewer where that leaves no folder."""
    common: bytes | None = None  # with its last stroke
    deepest = 0
    for name in names:
        deepest = max(deepest, name.count(b"/"))
        if common is None:
            common = name[: name.rfind(b"/") + 1]
        while not name.startswith(common):
            common = common[: common.rfind(b"/", 0, -1) + 1]
    depth = (common or b"").count(b"/")
    return depth if deepest > depth else max(depth - 1, 0)


# ---- what lies where in a tar


class _Index(NamedTuple):
    """The files of a tar, sorted by name: names one after the other, their lengths, and places of the content."""

    block: np.ndarray  # uint8
    lengths: np.ndarray  # int32 [N], bytes
    offsets: np.ndarray  # int64 [N], bytes from the tar's beginning
    sizes: np.ndarray  # int64 [N], bytes


class _Stamp(NamedTuple):
    """By what a changed tar is known."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        state = path.stat()
        return cls(state.st_size, state.st_mtime_ns)


def _look_through(file: IO[bytes], path: Path, size: int) -> _Index:
    names: list[bytes] = []
    offsets, sizes = array("q"), array("q")

    def add(name: str, info: tarfile.TarInfo) -> None:
        names.append(os.fsencode(name))
        offsets.append(info.offset_data)
        sizes.append(info.size)

    bar: Progress[Any] = Progress(
        desc=f"look through {path.name}", total=size, unit="B", unit_scale=True, disable=size < LARGE_BYTES
    )
    with bar:
        position = 0
        for info in _files(file, str(path), 0, size):
            if info.name.lower().endswith(SUFFIX):
                begin = info.offset_data
                for inner in _files(file, f"{path}: {info.name}", begin, begin + info.size):
                    add(f"{info.name[: -len(SUFFIX)]}/{inner.name}", inner)
            else:
                add(info.name, info)
            bar.update(info.offset_data - position)
            position = info.offset_data
    order = sorted(range(len(names)), key=names.__getitem__)
    for first, second in pairwise(order):
        if names[first] == names[second]:
            raise DataError(
                f"{path}: holds {os.fsdecode(names[first])!r} twice, at bytes {offsets[first]} and {offsets[second]}; "
                "pack it again"
            )
    return _Index(
        np.frombuffer(b"".join(names[i] for i in order), dtype=np.uint8),
        np.asarray([len(names[i]) for i in order], dtype=np.int32),
        np.asarray(offsets, dtype=np.int64)[order],
        np.asarray(sizes, dtype=np.int64)[order],
    )


def _files(file: IO[bytes], place: str, begin: int, end: int) -> Iterator[tarfile.TarInfo]:
    """The files of the tar between two bytes, in its order; without a leading `./` in their names.

    Python's own reader takes a cut or damaged tar for one that ends there, so that is looked at here.
    """
    file.seek(begin)
    tar: tarfile.TarFile | None = None
    last = "its beginning"
    while True:
        try:
            if tar is None:
                tar = tarfile.TarFile(fileobj=file, encoding="utf-8")
            info = tar.next()
        except (tarfile.TarError, ValueError) as error:
            raise DataError(f"{place}: is no tar, or cut off or damaged after {last}: {error}") from error
        if info is None or info.offset >= end:
            break
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep a kilobyte a file
        last = repr(info.name)
        if info.offset_data + info.size > end:
            raise DataError(f"{place}: is cut off inside {last}; fetch it again")
        info.name = info.name.removeprefix("./")
        if info.issparse() or info.islnk() or info.issym():
            raise DataError(
                f"{place}: {last} is {'a sparse file' if info.issparse() else 'a link'}, whose content does not lie "
                "in its place; pack it again (GNU tar: --dereference --hard-dereference, without --sparse)"
            )
        if info.isfile():
            yield info
    file.seek(tar.offset)
    block = file.read(BLOCK) if tar.offset + BLOCK <= end else b""
    if not block:
        raise DataError(f"{place}: is cut off after {last}: a tar's end mark is missing; fetch it again")
    if block.strip(b"\0"):
        raise DataError(f"{place}: is damaged at byte {tar.offset}, after {last}; fetch it again")


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]


def _read_index(path: Path, stamp: _Stamp) -> _Index | None:
    """What was kept, unless it is of another state of the tar, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if kept["stamp"].tolist() != [INDEX_FORM, *stamp]:
                return None
            index = _Index(*(kept[name] for name in _Index._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    sound = (
        len(index.lengths) == len(index.offsets) == len(index.sizes)
        and index.lengths.sum() == len(index.block)
        and (index.offsets + index.sizes <= stamp.size).all()
    )
    return index if sound else None


def _keep_index(path: Path, index: _Index, stamp: _Stamp) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, stamp=np.asarray([INDEX_FORM, *stamp], dtype=np.int64), **index._asdict())
    except OSError as error:
        warnings.warn(
            f"{path.parent}: what lies where in the tar cannot be kept here ({error.strerror or error}), so it is "
            "looked through each time; set CYCLEMLP_HOME to a folder that can be written",
            stacklevel=3,
        )
