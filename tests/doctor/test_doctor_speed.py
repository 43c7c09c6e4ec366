"""The table of speed is bounded in time, and a row that fails is a row."""

from __future__ import annotations

import time

import pytest

from cyclemlp.doctor import speed
from cyclemlp.doctor.speed import measure_speed


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(speed, "MODELS", (("cyclemlp_nano", 32, 2, 4),))
    monkeypatch.setattr(speed, "ROW_SECONDS", 0.05)


def test_rows_of_a_processor(small):
    rows = list(measure_speed("cpu"))
    assert [(r.work, r.batch, r.precision) for r in rows] == [
        ("one image", 1, "float32"),
        ("a batch", 2, "float32"),
        ("training step", 2, "float32"),
    ]
    for row in rows:
        assert row.images_per_second > 0
        assert row.milliseconds > 0
        assert row.note == ""


def test_after_the_time_no_row_is_begun(small):
    rows = list(measure_speed("cpu", seconds=0.0))
    assert {row.note for row in rows} == {"not measured: 0 s had passed"}
    assert {row.images_per_second for row in rows} == {None}


def test_a_row_that_fails_leaves_the_others(small, monkeypatch):
    prepare = speed._prepare

    def fails(name, size, work, dtype, batch):
        if work == "a batch":
            raise MemoryError
        return prepare(name, size, work, dtype, batch)

    monkeypatch.setattr(speed, "_prepare", fails)
    assert [row.note for row in measure_speed("cpu")] == ["", "failed: MemoryError", ""]


def test_a_gpu_has_larger_batches_and_float16_too(small, monkeypatch):
    monkeypatch.setattr(speed, "_prepare", lambda *row: lambda: None)
    rows = [(r.work, r.batch, r.precision) for r in measure_speed("gpu:0", seconds=60)]
    assert rows[1:] == [
        ("a batch", 4, "float32"),
        ("training step", 4, "float32"),
        ("a batch", 4, "float16"),
        ("training step", 4, "float16"),
    ]


def test_the_first_runs_do_not_count_unless_they_take_all_the_time():
    waits = iter([0.03, 0.03, *[0.001] * 1000])
    times = speed._times(lambda: time.sleep(next(waits)), 0.1)
    assert max(times) < 0.03
    assert len(speed._times(lambda: time.sleep(0.01), 0.0)) == 1
