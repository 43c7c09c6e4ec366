"""JSON-lines logs: whole records only, whatever happened to the writer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cyclemlp.errors import DataError
from cyclemlp.report import JsonLines, read_json_lines


def test_records_come_back_and_are_on_disk_at_once(tmp_path):
    path = tmp_path / "log.jsonl"
    with JsonLines(path) as log:
        log.write({"epoch": 1, "name": "Bengal’s"})
        assert read_json_lines(path) == [{"epoch": 1, "name": "Bengal’s"}]
        log.write({"epoch": 2})
    assert [r["epoch"] for r in read_json_lines(path)] == [1, 2]


def test_an_existing_log_is_continued(tmp_path):
    path = tmp_path / "log.jsonl"
    for epoch in (1, 2, 3):
        with JsonLines(path) as log:
            log.write({"epoch": epoch})
    assert [r["epoch"] for r in read_json_lines(path)] == [1, 2, 3]


@pytest.mark.parametrize("half", ['{"epoch": 2, "lo', '{"epoch": 2}', "{", '{"name": "é'[:-1]])
def test_a_half_written_last_line_is_not_read_and_not_run_into(tmp_path, half):
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 1}\n' + half, encoding="utf-8")
    assert read_json_lines(path) == [{"epoch": 1}]
    with JsonLines(path) as log:
        log.write({"epoch": 3})
    assert [r["epoch"] for r in read_json_lines(path)] == [1, 3]


def test_a_line_cut_inside_a_character_is_a_half_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes('{"epoch": 1}\n{"name": "é'.encode()[:-1])
    assert read_json_lines(path) == [{"epoch": 1}]


def test_numpy_and_non_finite_values_become_strict_json(tmp_path):
    path = tmp_path / "log.jsonl"
    with JsonLines(path) as log:
        log.write(
            {
                "loss": np.float32(0.5),
                "n": np.int64(3),
                "best": float("nan"),
                "l": (1, np.arange(2)),
                "p": path,
            }
        )
    (line,) = path.read_text().splitlines()
    record = json.loads(line, parse_constant=lambda word: pytest.fail(f"not JSON: {word}"))
    assert record == {"loss": 0.5, "n": 3, "best": None, "l": [1, [0, 1]], "p": str(path)}


@pytest.mark.parametrize("line", ["{broken", "[1, 2]", "\udcff"])
def test_a_broken_line_inside_names_file_and_line(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"epoch": 1}\n' + line.encode("utf-8", "surrogateescape") + b'\n{"epoch": 2}\n')
    with pytest.raises(DataError, match=r"log\.jsonl:2: "):
        read_json_lines(path)
