"""Logs of one JSON object a line, which any program can read while the run is still writing."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cyclemlp.errors import DataError

T = TypeVar("T", bound="JsonLines")


class JsonLines:
    """Append records to a JSON-lines file, each flushed as it is written.

    A file that exists is continued. A last line that a crash left half-written is cut off first: it would
    otherwise run together with the next record.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.exists():
            _cut_half_line(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record. NumPy values become plain; NaN and infinities null, as JSON has none."""
        self._file.write(json.dumps(_plain(record), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All complete records of a JSON-lines file.

    A last line without its line end is a record that is being written, or that a crash cut: it is left out.

    Raises:
        DataError: any other line is not a JSON object; the message names file and line.
    """
    records = []
    lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:  # JSON and UTF-8 errors both
            raise DataError(f"{path}:{number}: not JSON ({error}); delete or correct the line") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: a {type(record).__name__}, expected an object {{…}}")
        records.append(record)
    return records


def in_order(records: Iterable[Mapping[str, Any]], event: str, key: str) -> list[dict[str, Any]]:
    """The records of a log whose `event` is this, in the order of `key`.

    Of an epoch or step that was run twice, as after a crash, the later record counts.
    """
    found = {record[key]: dict(record) for record in records if record.get("event") == event}
    return [found[place] for place in sorted(found)]


def _cut_half_line(path: Path) -> None:
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(path, complete)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy scalar or array
        return _plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
