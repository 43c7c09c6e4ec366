"""The demos of dense prediction leave what they promise, and say honestly whether they went well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
RUN = ("recipe.yaml", "log.jsonl", "curves.png", "predictions.png")


def demo(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folders = ["--output", str(tmp_path / "run"), "--scenes", str(tmp_path / "scenes")]
    command = [sys.executable, "-W", "ignore", "examples/demo_dense.py", *folders, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "least", "figure", "best"),
    [
        pytest.param(
            *("seg", ("--iters", "2", "--workers", "0"), "mean IoU", "best.pdparams"), marks=pytest.mark.heavy
        ),
        pytest.param("det", ("--epochs", "1"), "mask AP50", "best.pdparams", marks=pytest.mark.heavy),
    ],
)
def test_a_few_steps_are_drawn_and_judged_too_little(tmp_path, name, least, figure, best):
    few = ("--train-scenes", "8", "--val-scenes", "2")
    done = demo(tmp_path, *few, name, "--", *least, "--no-progress")
    assert f"held-out scenes: {figure} " in done.stdout, done.stderr
    assert done.returncode == 1
    for file in (*RUN, best):
        assert (tmp_path / "run" / file).exists()
        assert file in done.stdout
    sheet = Image.open(tmp_path / "run" / "predictions.png")
    assert sheet.width > 4 * 320  # two scenes, each with its truth and what was found
    assert len(list((tmp_path / "scenes/images").iterdir())) == 10


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["seg", "det"])
def test_the_whole_demo_learns_what_it_is_expected_to(tmp_path, name):
    done = demo(tmp_path, name, "--", "--no-progress")
    assert done.returncode == 0, done.stdout + done.stderr
