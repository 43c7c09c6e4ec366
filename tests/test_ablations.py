"""The program of the ablations: on few digits, broken off and taken up again."""

from __future__ import annotations

import importlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclemlp import model_info
from cyclemlp.errors import DataError
from cyclemlp.training import Recipe

ROOT = Path(__file__).parents[1]
ABLATIONS = ROOT / "configs" / "ablations"

#: Narrow and on few positions.
TINY = """
model:
  name: cyclemlp_nano
  overrides: {in_chans: 1, embed_dims: [4, 4, 4, 4], depths: [1, 1, 1, 1]}
data:
  batch_size: 10
  workers: 0
  preprocessing: {input_size: 16}
augment: {auto_augment: null, mixup: 0.0, cutmix: 0.0, repeats: 1}
ema: {decay: null}
amp: {dtype: null}
run: {epochs: 1}
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.yaml").write_text(TINY)
    command = [
        sys.executable,
        "benchmarks/ablations.py",
        "--config",
        folder / "tiny.yaml",
        "--output",
        folder / "out",
    ]
    fixed = ["--labelled", "1", "--steps", "1"]
    return subprocess.run(
        [*map(str, command), *fixed, *words], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.heavy
def test_what_is_missing_is_run_and_all_of_it_is_reported(tmp_path):
    first = run(tmp_path, "--seeds", "0")
    assert first.returncode == 0, first.stderr
    results = tmp_path / "out" / "results.jsonl"
    records = [json.loads(line) for line in results.read_text().splitlines()]
    three, seven = "Cycle FC 1×3, Cycle FC 3×1, channel FC", "Cycle FC 1×7, Cycle FC 7×1, channel FC"
    assert len(records) == len({record["variant"] for record in records}) == 7
    assert {three, seven, "Cycle FC 1×3, channel FC"} <= {record["variant"] for record in records}

    # As if it had been broken off after the third run, in the middle of a line.
    lines = results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:3]) + lines[3][:20])
    second = run(tmp_path, "--seeds", "0", "1")
    assert second.returncode == 0, second.stderr
    assert len(re.findall(r"^seed 0,", second.stdout, re.M)) == 4
    assert len(re.findall(r"^seed 1,", second.stdout, re.M)) == 7
    again = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(again) == 14
    # The same seed gives the same run.
    assert [r["top1_percent"] for r in again[:7]] == [r["top1_percent"] for r in records]

    tables = second.stdout.split("Branches, step size 3")[1]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and "FC" in line]
    assert len(rows) == 8
    mean = sum(r["top1_percent"] for r in again if r["variant"] == seven) / 2
    assert f"{mean:.2f} ±" in rows[-1]
    for row, branches in zip(rows[:4], (["h", "c"], ["w", "c"], ["h", "w"], ["h", "w", "c"]), strict=True):
        overrides = {
            "in_chans": 1,
            "embed_dims": [4] * 4,
            "depths": [1] * 4,
            "num_classes": 10,
            "branches": branches,
        }
        assert f"{model_info('cyclemlp_nano', **overrides)['parameters']:,}" in row
    assert (tmp_path / "out" / "ablations.png").read_bytes().startswith(b"\x89PNG")

    third = run(tmp_path, "--seeds", "0", "--panels", "gate", "training")
    assert third.returncode == 0, third.stderr
    assert len(re.findall(r"^seed 0,", third.stdout, re.M)) == 6  # the base is there
    for variant in ("no gate: the sum", "mixup", "cutmix", "RandAugment", "erasing", "EMA"):
        assert f"| {variant} |" in third.stdout

    other = run(tmp_path, "--seeds", "0", "--steps", "2")
    assert other.returncode == 2
    assert "results.jsonl:1: this run had other settings" in other.stderr


@pytest.mark.parametrize(
    ("name", "branches", "step"),
    [
        ("branches_hc", "hc", 3),
        ("branches_wc", "wc", 3),
        ("branches_hw", "hw", 3),
        ("all_branches", "hwc", 3),
        ("step_1", "hwc", 1),
        ("step_5", "hwc", 5),
        ("step_7", "hwc", 7),
    ],
)
def test_the_recipes_are_b2s_but_for_the_arm_and_the_length(name, branches, step):
    recipe = Recipe.load(ABLATIONS / f"{name}.yaml")
    b2 = Recipe.load(ROOT / "configs" / "imagenet" / "cyclemlp_b2.yaml")
    same = {"model.overrides": {}, "run.epochs": 300, "data.preprocessing": {}, "loss.label_smoothing": 0.1}
    assert recipe.label_smoothing == 0.1
    assert recipe.updated(same) == b2.updated(same)
    assert recipe.model.overrides == {"branches": list(branches), "step_size": step}
    assert recipe.run.epochs == 100
    published = {
        "branches_hc": "76.69",
        "branches_wc": "76.94",
        "branches_hw": "78.00",
        "all_branches": "78.60",
    }
    head = (ABLATIONS / f"{name}.yaml").read_text()
    assert (
        f"top-1 {published[name]} %, as published" in head
        if name in published
        else "no published figure" in head
    )


# ---- the figure


@pytest.fixture
def variants(monkeypatch):
    """The module beside the program."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("variants_figure")


def test_every_run_the_means_and_their_intervals(drawn, tmp_path, variants):
    panels = {
        "Branches": {
            "two": variants.Variant([80.0, 82.0, 84.0], 82.0, 5.0),
            "three": variants.Variant([90.0, 91.0, 92.0], 91.0, 2.5, marked=True),
        },
        "Steps": {"7": variants.Variant([70.0], 70.0, math.nan)},
    }
    path = variants.plot_variants(panels, tmp_path / "variants.png", title="5 images", label="top-1, %")
    assert path.read_bytes().startswith(b"\x89PNG")
    left, right = drawn[0].axes
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["Branches", "Steps"]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["two", "three"]
    assert left.get_ylabel() == "top-1, %"
    dots = [line.get_ydata().tolist() for line in left.lines if line.get_marker() == "."]
    assert dots == [[80.0, 82.0, 84.0], [90.0, 91.0, 92.0]]
    bars = [np.ptp(segment[:, 1]) for bar in left.containers for segment in bar[2][0].get_segments()]
    np.testing.assert_allclose(bars, [10.0, 5.0])
    colours = [bar[0].get_color() for bar in left.containers]
    assert colours[0] != colours[1]
    assert not right.containers[0][2]  # one run has no interval


def test_nothing_to_draw(tmp_path, variants):
    with pytest.raises(DataError, match="no variant to draw"):
        variants.plot_variants({"Branches": {}}, tmp_path / "variants.png", title="", label="")
