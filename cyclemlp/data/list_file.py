"""Pictures named in a text file, as the seed project names them."""

from __future__ import annotations

import io
import warnings
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from cyclemlp.data.classes import PathLike, read_text
from cyclemlp.data.sources import Files, Names, Sample, existing_folder, map_classes
from cyclemlp.errors import ConfigError, DataError

MODES = ("train", "val", "test")


class ListFile(Files):
    """Pictures named in a text file, one a line: `name label`, or in test mode just the name.

    Names may contain spaces; the label is the last word. In test mode the whole line, spaces included, is the
    name: the mode decides, never a guess. Names are relative to `root`; an absolute name, and one that leaves
    `root` by `..`, mean what they say, for the list is as trusted as the command that names it. Blank lines, a
    byte order mark and Windows line ends are passed over. No picture is looked at before it is asked for.

    Args:
        root: folder that the names are relative to.
        list_path: the UTF-8 text file.
        mode: "train" and "val" lines have a label, "test" lines have none.
        num_classes: labels from this number on are errors; None takes the class map's, else the highest label
            plus 1.
        class_map: word → class, for labels that are WordNet ids; every label must then be in it.

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
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"the list's mode is {mode!r}; use one of {', '.join(MODES)}")
        self.root, self.list_path, self.mode = self._open_root(root), Path(list_path), mode
        data = read_text(self.list_path)
        labelled = mode != "test"
        words = {word.encode(): index for word, index in class_map.items()} if class_map is not None else None
        starts, lengths, lines, labels, hashes = array("q"), array("i"), array("i"), array("q"), array("q")
        position = 0
        for number, line in enumerate(io.BytesIO(data), 1):
            name = line.rstrip(b"\r\n")
            if not name.isspace() and name:
                if labelled:
                    name, label = self._split(name, number, words)
                    labels.append(label)
                starts.append(position)
                lengths.append(len(name))
                lines.append(number)
                hashes.append(hash(name))
            position += len(line)
        self._names = Names(data, starts, lengths)
        self._lines = np.asarray(lines, dtype=np.int32)
        self._labels = np.asarray(labels, dtype=np.int64) if labelled else None
        self._check_range(num_classes, class_map)
        self.classes = map_classes(class_map) if class_map is not None else None
        self._warn_of_duplicates(np.asarray(hashes, dtype=np.int64))

    def _open_root(self, root: PathLike) -> Path:
        return existing_folder(root)

    def _split(self, line: bytes, number: int, words: Mapping[bytes, int] | None) -> tuple[bytes, int]:
        parts = line.rsplit(None, 1)
        if len(parts) != 2:
            raise DataError(
                f"{self.list_path}:{number}: {line.decode()!r} is one word; a line of a {self.mode} list is "
                "`name label`. Names alone make a test list (mode test)"
            )
        name, label = parts
        if words is not None:
            if label not in words:
                raise DataError(
                    f"{self.list_path}:{number}: the label {label.decode()!r} is not in the class map, which has "
                    f"{len(words)} words such as {next(iter(words), b'').decode()!r}"
                )
            return name, words[label]
        if not label.isdigit() or len(label) > 9:
            raise DataError(
                f"{self.list_path}:{number}: the label {label.decode()!r} is not a class number (0, 1, 2 …); a list "
                "whose labels are WordNet ids needs a class map, one without labels is a test list (mode test)"
            )
        return name, int(label)

    def _check_range(self, num_classes: int | None, class_map: Mapping[str, int] | None) -> None:
        if self._labels is None:
            self.num_classes = num_classes
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
            f"in all {len(pairs)} lines repeat a name and count as pictures of their own"
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
