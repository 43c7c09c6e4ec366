"""Names and numbers of classes: Paddle-CycleMLP's class map, lists of names, ImageNet's own."""

from __future__ import annotations

import functools
import os
from importlib import resources
from pathlib import Path

from cyclemlp.errors import DataError
from cyclemlp.text import counted, shortened, shown

PathLike = str | os.PathLike[str]

#: Of a text file of names, in bytes: ImageNet's list has 50 MB.
MAX_TEXT = 2**30
_SHELL_FIFOS = (Path("/dev/fd"), Path("/proc/self/fd"))


def read_text(path: PathLike) -> bytes:
    """Bytes of a text file, known to be UTF-8, without the byte order mark.

    Raises:
        DataError: no such file, unreadable, empty, or not UTF-8 (with the line).
    """
    path = Path(path)
    try:
        # A FIFO or a device may never end; the shell's `<(…)` does.
        if path.exists() and not path.is_file() and path.parent not in _SHELL_FIFOS:
            raise DataError(
                f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}; expected a text file"
            )
        with path.open("rb") as file:
            data = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_TEXT:
        raise DataError(f"{path}: is larger than {MAX_TEXT // 2**20} MiB; expected a text file of names")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16; save it as UTF-8 (PowerShell: `| Out-File -Encoding utf8`)")
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: is not UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8"
        ) from error
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DataError(f"{path}:{line}: holds a zero byte; this is not a text file")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise DataError(f"{path}: is empty")
    return data


def text_lines(path: PathLike) -> list[tuple[int, str]]:
    """(line number from 1, stripped text) of each line that is not blank. Raises as `read_text`."""
    lines = enumerate(read_text(path).decode("utf-8").split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_class_map(path: PathLike) -> dict[str, int]:
    """A class map: a line `wordnet-id index` a class, as Paddle-CycleMLP's `map_to_1000.txt`.

    Any word without spaces will do as id. Indices start at 0; several ids may share one.

    Raises:
        DataError: names the file and the line that is not of this form, or repeats an id.
    """
    mapping: dict[str, int] = {}
    for number, line in text_lines(path):
        words = line.split()
        if len(words) != 2 or not (words[1].isascii() and words[1].isdigit()):
            raise DataError(f"{path}:{number}: {shown(line)} is not `wordnet-id index`, e.g. `n01440764 0`")
        if mapping.setdefault(words[0], int(words[1])) != int(words[1]):
            raise DataError(f"{path}:{number}: {shown(words[0])} was already given index {mapping[words[0]]}")
    return mapping


def read_class_names(path: PathLike) -> list[str]:
    """Names of the classes in class order.

    A line is `name`, or `index name` if every line starts with its index: 0, 1, 2 … in any order.

    Raises:
        DataError: indices repeat or leave gaps, or the file cannot be read.
    """
    lines = text_lines(path)
    parts = [line.split(None, 1) for _, line in lines]
    if not all(len(part) == 2 and part[0].isascii() and part[0].isdigit() for part in parts):
        return [line for _, line in lines]
    names: dict[int, str] = {}
    for (number, _), (index, name) in zip(lines, parts, strict=True):
        if int(index) >= len(lines) or int(index) in names:
            raise DataError(
                f"{path}:{number}: index {shortened(index)} is "
                + (
                    "given twice"
                    if int(index) in names
                    else f"too large for {counted(len(lines), 'class')} numbered from 0"
                )
            )
        names[int(index)] = name
    return [names[index] for index in range(len(lines))]


@functools.cache
def _imagenet() -> tuple[tuple[str, str], ...]:
    text = resources.files("cyclemlp.data").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines()]
    return tuple((wordnet_id, name.replace("_", " ")) for _, wordnet_id, name in rows)


def imagenet_classes() -> list[str]:
    """The 1000 names of ImageNet-1k in the standard order (sorted WordNet ids). Two names occur twice."""
    return [name for _, name in _imagenet()]


def imagenet_class_map() -> dict[str, int]:
    """WordNet id → index of ImageNet-1k's 1000 classes, in the standard order."""
    return {wordnet_id: index for index, (wordnet_id, _) in enumerate(_imagenet())}
