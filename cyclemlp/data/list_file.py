"""Images named in a text file, as Paddle-CycleMLP names them."""

from __future__ import annotations

import csv
import io
import warnings
from array import array
from collections.abc import Container, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Literal

import numpy as np

from cyclemlp.data.classes import PathLike, read_text
from cyclemlp.data.images import EXTENSIONS
from cyclemlp.data.pairing import unique_numbers
from cyclemlp.data.sources import Files, Names, Sample, existing_folder, map_classes
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.text import shown

MODES = ("train", "val", "test")
#: Heads of a CSV file's columns, in any case.
IMAGE_COLUMNS = ("image", "filename", "file", "path", "filepath", "file_name", "image_path", "img", "name")
LABEL_COLUMNS = (
    "label",
    "class",
    "target",
    "category",
    "class_name",
    "label_name",
    "labels",
    "species",
    "breed",
)
#: Of a name, in bytes: PATH_MAX of Linux.
LONGEST_NAME = 4096


class ListFile(Files):
    """Images named in a text file, one a line: `name label`, or in test mode just the name; or in a CSV file.

    Names may contain spaces; the label is the last word. In test mode the whole line, spaces included, is the
    name: the mode decides, never a guess. Names are relative to `root`; an absolute name, and one that leaves
    `root` by `..`, mean what they say, for the list is as trusted as the command that names it. Blank lines, a
    byte order mark and Windows line ends are passed over. No image is looked at before it is asked for.

    A CSV file is one that ends in .csv or .tsv, or begins with a head such as `image,label`. Its columns are found by
    their head (`IMAGE_COLUMNS`, `LABEL_COLUMNS`; others are ignored), or without one are image and label. Labels may
    be class names; their order is the sorted one unless `names` gives another.

    Args:
        root: folder that the names are relative to.
        list_path: the UTF-8 text file.
        mode: "train" and "val" lines have a label, "test" lines have none.
        num_classes: labels from this number on are errors; None takes the class map's, else the highest label
            plus 1.
        class_map: word → class, for labels that are WordNet ids; every label must then be in it.
        names: class names in class order: labels that are names, numeric ones too, are these classes.

    Raises:
        DataError: with file and line: no label, not a number, out of range, not UTF-8; the file is empty or
            missing; `root` is no folder.

    Warns:
        UserWarning: once, if names occur more than once.
    """

    def __init__(
        self,
        root: PathLike,
        list_path: PathLike,
        *,
        mode: Literal["train", "val", "test"] | str = "train",
        num_classes: int | None = None,
        class_map: Mapping[str, int] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"the list's mode is {mode!r}; use one of {', '.join(MODES)}")
        self.root, self.list_path, self.mode = self._open_root(root), Path(list_path), mode
        data = read_text(self.list_path)
        labelled = mode != "test"
        self._words: dict[bytes, int] = {}  # each label as it is written → its place among them
        is_csv = _is_csv(self.list_path, data)
        read = self._read_csv if is_csv else self._read_lines
        self._names, lines, words = read(data, labelled)
        if not len(self._names):
            raise DataError(f"{self.list_path}: names no image")
        self._lines = np.asarray(lines, dtype=np.int32)
        self.classes, self._labels = None, None
        if labelled:
            numbers = self._number_words(words, class_map, names, is_csv)
            self._labels = np.asarray(numbers, dtype=np.int64)[np.asarray(words, dtype=np.int64)]
        self._check_range(num_classes, class_map)
        if class_map is not None:
            self.classes = map_classes(class_map)
        hashes = np.fromiter(map(hash, self._names.raws()), dtype=np.int64, count=len(self))
        self._warn_of_duplicates(hashes)

    def _open_root(self, root: PathLike) -> Path:
        return existing_folder(root)

    def _read_lines(self, data: bytes, labelled: bool) -> tuple[Names, array[int], array[int]]:
        """Names, line numbers, and for each line the place of its label in `_words`."""
        starts, lengths, lines, words = array("q"), array("i"), array("i"), array("q")
        position = 0
        for number, line in enumerate(io.BytesIO(data), 1):
            name = line.rstrip(b"\r\n")
            if not name.isspace() and name:
                if labelled:
                    name, word = self._split(name, number)
                    words.append(self._words.setdefault(word, len(self._words)))
                self._check_length(name, number)
                starts.append(position)
                lengths.append(len(name))
                lines.append(number)
            position += len(line)
        return Names(data, starts, lengths), lines, words

    def _split(self, line: bytes, number: int) -> tuple[bytes, bytes]:
        parts = line.rsplit(None, 1)
        if len(parts) != 2:
            raise DataError(
                f"{self.list_path}:{number}: {shown(line.decode())} is one word; a line of a {self.mode} list is "
                "`name label`. Names alone make a test list (mode test)"
            )
        return parts[0], parts[1]

    def _read_csv(self, data: bytes, labelled: bool) -> tuple[Names, array[int], array[int]]:
        lines, words = array("i"), array("q")
        names = []
        text = data.decode("utf-8")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
        columns: tuple[int, int | None] | None = None
        try:
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if columns is None:
                    columns, is_head = self._columns(row, reader.line_num, labelled)
                    if is_head:
                        continue
                image, label = columns
                needed = max(image, label or 0) + 1
                if len(row) < needed:
                    raise DataError(
                        f"{self.list_path}:{reader.line_num}: has {len(row)} columns; expected at least {needed}"
                    )
                name = row[image].strip().encode()
                if not name:
                    raise DataError(f"{self.list_path}:{reader.line_num}: names no image")
                self._check_length(name, reader.line_num)
                if label is not None:
                    word = row[label].strip().encode()
                    if not word:
                        raise DataError(f"{self.list_path}:{reader.line_num}: has no label")
                    words.append(self._words.setdefault(word, len(self._words)))
                names.append(name.decode())
                lines.append(reader.line_num)
        except csv.Error as error:
            raise DataError(f"{self.list_path}:{reader.line_num}: is no CSV: {error}") from error
        return Names.of(names), lines, words

    def _columns(
        self, row: Sequence[str], number: int, labelled: bool
    ) -> tuple[tuple[int, int | None], bool]:
        """Places of image and label, and whether the row is a head."""
        found = _head(row)
        if found is not None:
            cells = _cells(row)
            twice = [name for name in (*IMAGE_COLUMNS, *LABEL_COLUMNS) if cells.count(name) > 1]
            if twice:
                raise DataError(
                    f"{self.list_path}:{number}: the head names the column {twice[0]!r} more than once; which is meant?"
                )
            image, label = found
            if labelled and label is None:
                raise DataError(
                    f"{self.list_path}:{number}: no column is called {', '.join(LABEL_COLUMNS)}; the head has "
                    f"{shown(', '.join(row))}"
                )
            return (image, label if labelled else None), True
        if PurePath(row[0].strip()).suffix.lower() in EXTENSIONS and (len(row) == 2 or not labelled):
            return (0, 1 if labelled else None), False
        raise DataError(
            f"{self.list_path}:{number}: {shown(', '.join(row))} is no head of a CSV file of images; expected "
            f"`image,label` (or {', '.join(IMAGE_COLUMNS[1:])}; {', '.join(LABEL_COLUMNS[1:])})"
        )

    def _check_length(self, name: bytes, number: int) -> None:
        if len(name) > LONGEST_NAME:
            raise DataError(
                f"{self.list_path}:{number}: {shown(name[:100].decode(errors='replace'), 40)} has {len(name):,} bytes; "
                f"a file's name has {LONGEST_NAME:,} at most. Is it a list of a line an image?"
            )

    def _number_words(
        self,
        words: Sequence[int],
        class_map: Mapping[str, int] | None,
        names: Sequence[str] | None,
        is_csv: bool,
    ) -> list[int]:
        """The class of each label as it is written, in the order of `_words`; sets `classes` where they are names."""
        written = [word.decode() for word in self._words]
        if class_map is not None:
            self._refuse_unknown(
                written,
                words,
                class_map,
                f"is not in the class map, which has {len(class_map)} words such as {shown(next(iter(class_map), ''))}",
            )
            return [class_map[word] for word in written]
        named = names is not None and list(names) != [str(place) for place in range(len(names))]
        table = unique_numbers(names) if names is not None and named else {}
        if table and all(word in table for word in written):
            self.classes = list(names or [])
            return [table[word] for word in written]
        numeric = {
            word: int(word) for word in written if word.isascii() and word.isdigit() and len(word) <= 9
        }
        if len(numeric) == len(written) and not any(map(str.isdigit, table)):
            return [numeric[word] for word in written]
        if table:
            self._refuse_unknown(
                written,
                words,
                table,
                f"is none of the {len(names or [])} class names, {shown(next(iter(table)))} …",
            )
        if not is_csv:
            self._refuse_unknown(
                written,
                words,
                numeric,
                "is not a class number (0, 1, 2 …); a list whose labels are names needs --classes FILE (or a CSV file "
                "with a head `image,label`), one whose labels are WordNet ids a class map, one without labels is a "
                "test list (mode test)",
            )
        self.classes = sorted(written)
        table = {name: index for index, name in enumerate(self.classes)}
        return [table[word] for word in written]

    def _refuse_unknown(
        self, written: Sequence[str], words: Sequence[int], known: Container[str], why: str
    ) -> None:
        for place, word in enumerate(written):
            if word not in known:
                line = self._lines[int(np.flatnonzero(np.asarray(words) == place)[0])]
                raise DataError(f"{self.list_path}:{line}: the label {shown(word)} {why}")

    def _check_range(self, num_classes: int | None, class_map: Mapping[str, int] | None) -> None:
        if self._labels is None:
            self.num_classes = num_classes
            return
        if self.classes is not None and class_map is None:
            self.num_classes = len(self.classes)
            return
        if num_classes is None:
            highest = max(class_map.values()) if class_map else self._labels.max()
            num_classes = int(highest) + 1
        self.num_classes = num_classes
        outside = np.flatnonzero(self._labels >= num_classes)
        if len(outside):
            first = int(outside[0])
            raise DataError(
                f"{self.location(first)}: the label {self._labels[first]} is out of range: there are {num_classes} "
                f"classes, 0 to {num_classes - 1} ({len(outside)} of {len(self)} lines have such a label)"
            )

    def _warn_of_duplicates(self, hashes: np.ndarray) -> None:
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1])
        pairs = [(int(order[i]), int(order[i + 1])) for i in again]
        pairs = [
            (a, b) for a, b in pairs if self._names.raw(a) == self._names.raw(b)
        ]  # not only equal hashes
        if not pairs:
            return
        first, second = min(pairs, key=lambda pair: pair[1])
        text = (
            f"{self.location(second)}: {self.name(second)!r} was already named in line {self._lines[first]}; "
            f"in all {len(pairs)} lines repeat a name and count as images of their own"
        )
        other = sum(self.label(a) != self.label(b) for a, b in pairs)
        warnings.warn(text + (f"; {other} of them with another label" if other else ""), stacklevel=3)

    def __getitem__(self, index: int) -> Sample:
        try:
            return super().__getitem__(index)
        except DataError as error:
            name = self.name(index)
            if (
                self.mode == "test"
                and len(parts := name.rsplit(None, 1)) == 2
                and (self.root / parts[0]).is_file()
            ):
                raise DataError(
                    f"{error}. {parts[0]!r} does exist: in a test list the whole line is the name; a list with "
                    "labels needs mode val (`--list-mode val`)"
                ) from error
            raise

    def highest_label(self) -> int:
        """The highest label of all lines; −1 in test mode."""
        return -1 if self._labels is None else int(self._labels.max())

    def location(self, index: int) -> str:
        """The list's path and the line, e.g. "val.txt:12"."""
        return f"{self.list_path}:{self._lines[index]}"


def _is_csv(path: Path, data: bytes) -> bool:
    if path.suffix.lower() in (".csv", ".tsv"):
        return True
    first = data[: data.find(b"\n") if b"\n" in data else len(data)][:1000].decode(errors="replace")
    found = _head(first.strip().split(_delimiter(first)))
    return found is not None and found[1] is not None


def _delimiter(text: str) -> str:
    first = text.lstrip().partition("\n")[0]
    return max(",;\t", key=first.count)


def _cells(row: Sequence[str]) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in row]


def _head(row: Sequence[str]) -> tuple[int, int | None] | None:
    """Places of image and label in a head; None if it is no head."""
    cells = _cells(row)
    images = [cells.index(name) for name in IMAGE_COLUMNS if name in cells]
    labels = [cells.index(name) for name in LABEL_COLUMNS if name in cells]
    return (images[0], labels[0] if labels else None) if images else None
