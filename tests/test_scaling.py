"""The program that puts runs of several networks and seeds beside each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cyclemlp.cli.main import main
from cyclemlp.data import Digits

ROOT = Path(__file__).parents[1]
TINY = "model.overrides={in_chans: 1, embed_dims: [4, 4, 4, 4], depths: [1, 1, 1, 1]}"


@pytest.mark.heavy
def test_seeds_of_a_recipe_share_a_row_with_their_mean(tmp_path):
    """Two seeds and another length."""
    test = tmp_path / "test"
    for index, sample in zip(range(60), Digits("val"), strict=False):
        (test / str(sample.label)).mkdir(parents=True, exist_ok=True)
        sample.image.save(test / str(sample.label) / f"{index}.png")
    runs = {"a": (0, 2), "b": (1, 2), "c": (0, 1)}
    for name, (seed, epochs) in runs.items():
        words = [
            f"run.seed={seed}",
            f"run.epochs={epochs}",
            TINY,
            "data.preprocessing.input_size=16",
            "ema.decay=0.9",
        ]
        assert main(["train", "--config", str(ROOT / "configs" / "digits.yaml"), "--output", str(tmp_path / name),
                     *(word for value in words for word in ("--set", value))]) == 0  # fmt: skip
    command = [sys.executable, "benchmarks/scaling.py", *(str(tmp_path / name) for name in runs)]
    done = subprocess.run(
        [*command, "--test", str(test), "--output", str(tmp_path / "figure.png")],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two, one = (line.split(" | ") for line in done.stdout.splitlines() if "16×16" in line)
    assert "_nano, changed, 16×16" in one[0]
    assert (two[3:5], one[3:5]) == (["2", "2"], ["1", "1"])
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in "ab"]
    last = [[r for r in map(json.loads, log) if r["event"] == "epoch"][-1]["ema_top1"] for log in logs]
    assert two[6].startswith(f"{sum(last) / 2:.2f} ± ")
    assert ["±" in cell for cell in two[6:9]] == [True] * 3
    assert "±" not in "".join(one)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
