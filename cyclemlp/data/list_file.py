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
from cyclemlp.data.label_sets import (
    NO_LABEL,
    WAY_OUT,
    ClassColumns,
    holds_several,
    label_set,
    numbered,
    require_separable,
)
from cyclemlp.data.pairing import unique_numbers
from cyclemlp.data.sources import Files, Label, Names, Sample, existing_folder, map_classes
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.text import counted, part_of, shown

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

    With `multi_label` an image has any number of labels: `name dog,outdoor` (or `;` or `|` between them, in a CSV file
    in quotes if by commas), and `-` for none. A CSV file without a label column has a 0/1 column a class instead.

    Args:
        root: folder that the names are relative to.
        list_path: the UTF-8 text file.
        mode: "train" and "val" lines have a label, "test" lines have none.
        num_classes: labels from this number on are errors; None takes the class map's, else the highest label
            plus 1.
        class_map: word → class, for labels that are WordNet ids; every label must then be in it.
        names: class names in class order: labels that are names, numeric ones too, are these classes.
        multi_label: an image has any number of labels; `label` gives a tuple. Else several are an error.

    Raises:
        DataError: with file and line: no label, not a number, out of range, not UTF-8; the file is empty or
            missing; `root` is no folder.

    Warns:
        UserWarning: once, if names occur more than once; with `multi_label`, if no image has more than one label.
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
        multi_label: bool = False,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"the list's mode is {mode!r}; use one of {', '.join(MODES)}")
        self.root, self.list_path, self.mode = self._open_root(root), Path(list_path), mode
        data = read_text(self.list_path)
        labelled = mode != "test"
        self._words: dict[bytes, int] = {}  # each label as it is written → its place among them
        self._multi_label, self._class_names = multi_label and labelled, names
        self._sets: list[tuple[int, ...]] | None = None  # of several labels an image: the sets that occur
        self._class_columns: ClassColumns | None = None
        is_csv = _is_csv(self.list_path, data)
        read = self._read_csv if is_csv else self._read_lines
        self._names, lines, words = read(data, labelled)
        if not len(self._names):
            raise DataError(f"{self.list_path}: names no image")
        self._lines = np.asarray(lines, dtype=np.int32)
        self.classes, self._labels = None, None
        if labelled:
            self._labels = self._read_labels(np.asarray(words, dtype=np.int64), class_map, names, is_csv)
        self._check_range(num_classes, class_map)
        if class_map is not None:
            self.classes = map_classes(class_map)
        hashes = np.fromiter(map(hash, self._names.raws()), dtype=np.int64, count=len(self))
        self._check_duplicates(hashes)

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
            expected = (
                f"`name label,label`, or `name {NO_LABEL}` without labels"
                if self._multi_label
                else "`name label`"
            )
            raise DataError(
                f"{self.list_path}:{number}: {shown(line.decode())} is one word; a line of a {self.mode} list is "
                f"{expected}. Names alone make a test list (mode test)"
            )
        return parts[0], parts[1]

    def _read_csv(self, data: bytes, labelled: bool) -> tuple[Names, array[int], array[int]]:
        lines, words = array("i"), array("q")
        names = []
        text = data.decode("utf-8")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
        columns: tuple[int, int | None] | None = None
        width = 0
        try:
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if columns is None:
                    columns, is_head = self._columns(row, reader.line_num, labelled)
                    width = len(row)
                    if is_head:
                        continue
                image, label = columns
                flags = self._class_columns
                needed = max(image, label or 0, *(flags.columns if flags else ())) + 1
                if len(row) < needed:
                    raise DataError(
                        f"{self.list_path}:{reader.line_num}: has {counted(len(row), 'column')}; expected at least "
                        f"{needed}"
                    )
                if any(cell.strip() for cell in row[width:]):
                    raise DataError(
                        f"{self.list_path}:{reader.line_num}: has {counted(len(row), 'column')}, and the first row "
                        f"{width}; put a "
                        'cell that holds the separator in quotes: "dog,outdoor"'
                    )
                name = row[image].strip().encode()
                if not name:
                    raise DataError(f"{self.list_path}:{reader.line_num}: names no image")
                self._check_length(name, reader.line_num)
                if labelled:
                    place = f"{self.list_path}:{reader.line_num}"
                    word = row[label].strip().encode() if label is not None else b""
                    if flags is not None:
                        word = flags.word(row, place)
                    elif not word and not self._multi_label:
                        raise DataError(f"{place}: has no label. Images without labels, and {WAY_OUT}")
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
            if labelled and label is None and self._multi_label:
                self._class_columns = ClassColumns(
                    row, image, self._class_names, f"{self.list_path}:{number}"
                )
            elif labelled and label is None:
                raise DataError(
                    f"{self.list_path}:{number}: no column is called {', '.join(LABEL_COLUMNS)}; the head has "
                    f"{shown(', '.join(row))}. If it has a 0/1 column a class: {WAY_OUT}"
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

    def _read_labels(
        self,
        words: np.ndarray,
        class_map: Mapping[str, int] | None,
        names: Sequence[str] | None,
        is_csv: bool,
    ) -> np.ndarray:
        """Of each line the class, or the place of its classes in `_sets`, int64; sets `classes` where they are names.

        Args:
            words: of each line the place of its label in `_words`.
        """
        written = [word.decode() for word in self._words]
        if not self._multi_label:
            numbers = self._number_words(
                dict(zip(written, self._first_lines(words), strict=True)), class_map, names, is_csv
            )
            return np.asarray([numbers[word] for word in written], dtype=np.int64)[words]
        if self._class_columns is not None:
            if class_map is not None:
                raise ConfigError(
                    f"{self.list_path} has a column a class, and needs no class map; leave it out"
                )
            self.classes = self._class_columns.classes
            self._sets = [ClassColumns.numbers(word) for word in written]
            return words
        require_separable(names or ())
        lines = self._first_lines(words)
        sets = [
            label_set(word, f"{self.list_path}:{line}") for word, line in zip(written, lines, strict=True)
        ]
        first: dict[str, int] = {}  # each label → the line that has it first
        for labels, line in zip(sets, lines, strict=True):
            for label in labels:
                first.setdefault(label, line)
        if not first:
            raise DataError(f"{self.list_path}: no image has a label")
        numbers = self._number_words(first, class_map, names, is_csv)
        self._sets = [numbered(labels, numbers) for labels in sets]
        if max(map(len, self._sets)) <= 1:
            warnings.warn(
                f"{self.list_path}: no image has more than one label. Labels are separated by , ; or |, not by spaces",
                stacklevel=4,
            )
        return words

    def _first_lines(self, words: np.ndarray) -> list[int]:
        """The line in which each label of `_words` stands first."""
        return [int(line) for line in self._lines[np.unique(words, return_index=True)[1]]]

    def _number_words(
        self,
        written: Mapping[str, int],
        class_map: Mapping[str, int] | None,
        names: Sequence[str] | None,
        is_csv: bool,
    ) -> Mapping[str, int]:
        """The class of each label as it is written; sets `classes` where they are names.

        Args:
            written: label → the line that has it first.
        """
        if class_map is not None:
            self._refuse_unknown(
                written,
                class_map,
                f"is not in the class map, which has {counted(len(class_map), 'word')} such as "
                f"{shown(next(iter(class_map), ''))}",
            )
            return class_map
        named = names is not None and list(names) != [str(place) for place in range(len(names))]
        table = unique_numbers(names) if names is not None and named else {}
        if table and all(word in table for word in written):
            self.classes = list(names or [])
            return table
        numeric = {
            word: int(word) for word in written if word.isascii() and word.isdigit() and len(word) <= 9
        }
        if len(numeric) == len(written) and not any(map(str.isdigit, table)):
            return numeric
        if table:
            self._refuse_unknown(
                written,
                table,
                f"is none of the {counted(len(names or []), 'class name')}, {shown(next(iter(table)))} …",
            )
        if not is_csv:
            self._refuse_unknown(
                written,
                numeric,
                "is not a class number (0, 1, 2 …); a list whose labels are names needs --classes FILE (or a CSV file "
                "with a head `image,label`), one whose labels are WordNet ids a class map, one without labels is a "
                "test list (mode test)",
            )
        if several := next(filter(holds_several, written), None):
            raise DataError(
                f"{self.list_path}:{written[several]}: the label {shown(several)} looks like several: {WAY_OUT}. If it "
                "is the name of one class, give the names by --classes FILE"
            )
        self.classes = sorted(written)
        return {name: index for index, name in enumerate(self.classes)}

    def _refuse_unknown(self, written: Mapping[str, int], known: Container[str], why: str) -> None:
        for word, line in written.items():
            if word not in known:
                several = holds_several(word) or word == NO_LABEL
                hint = f". It looks like several, or none: {WAY_OUT}" if several else ""
                raise DataError(f"{self.list_path}:{line}: the label {shown(word)} {why}{hint}")

    def _check_range(self, num_classes: int | None, class_map: Mapping[str, int] | None) -> None:
        if self._labels is None:
            self.num_classes = num_classes
            return
        if self.classes is not None and class_map is None:
            self.num_classes = len(self.classes)
            return
        highest = self._highest()
        if num_classes is None:
            num_classes = int(max(class_map.values()) if class_map else highest.max()) + 1
        self.num_classes = num_classes
        outside = np.flatnonzero(highest >= num_classes)
        if len(outside):
            first = int(outside[0])
            raise DataError(
                f"{self.location(first)}: the label {highest[first]} is out of range: there are {num_classes} "
                f"classes, 0 to {num_classes - 1} "
                f"({part_of(len(outside), len(self), 'line', 'has', 'have')} such a label)"
            )

    def _check_duplicates(self, hashes: np.ndarray) -> None:
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
            "in all "
            + counted(
                len(pairs),
                "line repeats a name and counts as an image of its own",
                "lines repeat a name and count as images of their own",
            )
        )
        others = [(a, b) for a, b in pairs if self.label(a) != self.label(b)]
        if others and self._multi_label:
            first, second = min(others, key=lambda pair: pair[1])
            raise DataError(
                f"{self.location(second)}: {self.name(second)!r} was already named in line {self._lines[first]}, with "
                f"other labels ({counted(len(others), 'such line')} in all). Write all labels of an image in one line: "
                "`name label,label`, or in a CSV file `name,label|label`"
            )
        other = len(others)
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
        return -1 if self._labels is None else int(self._highest().max())

    def _highest(self) -> np.ndarray:
        """Of each line the highest label, int64; −1 of one without labels."""
        assert self._labels is not None
        if self._sets is None:
            return self._labels
        return np.asarray([max(labels, default=-1) for labels in self._sets])[self._labels]

    def label(self, index: int) -> Label | None:
        """The image's class, or with `multi_label` its classes, rising; None in test mode."""
        if self._sets is None or self._labels is None:
            return super().label(index)
        return self._sets[int(self._labels[index])]

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
