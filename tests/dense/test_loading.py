"""Faults while images are read, with Paddle's own loader underneath, with and without worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from PIL import Image

from cyclemlp.dense.loading import CheckedLoader, ReaderError, checked_loading


class Numbers(paddle.io.Dataset):
    """Items of one number; a text in their place is raised."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self._items = items
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self._items[index]
        if isinstance(item, str):
            raise KeyError(item)
        return {"x": np.full(item, index, np.float32), "note": "kept"}


def batches(dataset: Any, workers: int) -> list[Any]:
    return list(CheckedLoader(dataset, batch_size=2, num_workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_paddle_s_loader(workers: int) -> None:
    dataset = Numbers([1] * 5)
    ours = batches(dataset, workers)
    theirs = list(paddle.io.DataLoader(dataset, batch_size=2))
    assert [b["x"].numpy().tolist() for b in ours] == [b["x"].numpy().tolist() for b in theirs]
    assert ours[0]["note"] == theirs[0]["note"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_comes_where_its_batch_is_asked_for_and_names_the_file(workers: int, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "3.png")
    cut = tmp_path / "2.png"
    cut.write_bytes((tmp_path / "3.png").read_bytes()[:40])
    names = [str(tmp_path / f"{i}.png") for i in range(4)]
    for bad, file_list, says in (
        (2, [[name] for name in names], r"2\.png' is not an image"),  # the file itself is at fault
        (3, [[name] for name in names], r"3\.png cannot be used: KeyError: 'no colour'"),
        (0, [[name] for name in names], r"0\.png' does not exist"),
        (1, None, r"item 1 of the data cannot be used: KeyError: 'no colour'"),
    ):
        items: list[Any] = [1, 1, 1, 1]
        items[bad] = "no colour"
        dataset = Numbers(items, **({} if file_list is None else {"file_list": file_list}))
        reading = iter(CheckedLoader(dataset, batch_size=2, num_workers=workers))
        for _ in range(bad // 2):
            next(reading)
        with pytest.raises(ReaderError, match=says):
            next(reading)


@pytest.mark.parametrize("workers", [0, 2])
def test_items_that_make_no_batch_are_named(workers: int) -> None:
    records = [{"im_file": f"{i}.png"} for i in range(2)]
    with pytest.raises(ReaderError, match=r"a batch cannot be made of 0\.png, 1\.png: "):
        batches(Numbers([3, 4], roidbs=records), workers)


def test_control_characters_of_a_name_are_not_printed() -> None:
    with pytest.raises(ReaderError) as caught:
        batches(Numbers(["x"], file_list=[["a\x1b]0;b\nc.png"]]), 0)
    assert str(caught.value).isprintable()


def test_only_within_the_block_the_engines_read_so() -> None:
    before = paddle.io.DataLoader
    with checked_loading():
        assert paddle.io.DataLoader is CheckedLoader
    assert paddle.io.DataLoader is before


READS = """
import os, time, numpy as np, paddle, sys
from cyclemlp.dense.loading import CheckedLoader
from cyclemlp.training.interruption import Interruption
class Slow(paddle.io.Dataset):
    def __len__(self): return 10_000
    def __getitem__(self, index):
        if index == 40: print("go", flush=True)
        time.sleep(0.005)
        return np.zeros(1, np.float32)
with Interruption() as interruption:
    for n, batch in enumerate(CheckedLoader(Slow(), batch_size=4, num_workers=2)):
        if interruption.signal:
            for _ in range(5): pass
            break
    print("stopped by", interruption.signal, flush=True)
"""


def test_a_signal_to_the_group_leaves_the_workers_to_the_run() -> None:
    """As a terminal and Paddle's launcher send it; the run goes on reading until it has stopped by itself."""
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(READS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "go\n"
    os.killpg(run.pid, signal.SIGTERM)
    begin = time.monotonic()
    out, err = run.communicate(timeout=30)
    assert out == f"stopped by {int(signal.SIGTERM)}\n"
    assert run.returncode == 0, err
    assert "Traceback" not in err
    assert time.monotonic() - begin < 20
