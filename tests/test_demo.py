"""The demo leaves what it promises, and says honestly whether it went well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import cyclemlp

ROOT = Path(__file__).parents[1]


def demo(output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "examples/demo.py", "--output", str(output), "--", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_one_epoch_is_drawn_and_judged_too_little(tmp_path):
    output = tmp_path / "demo"
    done = demo(output, "--epochs", "1", "--no-progress")
    assert "of 359 held-out digits recognised" in done.stdout, done.stderr
    assert done.returncode == 1  # an epoch does not reach 97 %
    assert "of 200 photographs of CIFAR-10 recognised" in done.stdout
    for name in ("curves.png", "confusion.png", "predictions.png", "photographs.png"):
        assert Image.open(output / name).width > 500
    for name in ("log.jsonl", "recipe.yaml", "README.md", "best.safetensors", "checkpoints"):
        assert (output / name).exists()
        assert name.split("_")[0] in done.stdout
    assert cyclemlp.load_model(output).metadata.classes == [str(i) for i in range(10)]


@pytest.mark.heavy
def test_it_replaces_its_own_folder(tmp_path):
    output = tmp_path / "demo"
    demo(output, "--epochs", "1", "--no-progress")
    again = demo(output, "--epochs", "1", "--no-progress")
    assert "of 359 held-out digits recognised" in again.stdout, again.stderr


@pytest.mark.heavy
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_whole_demo_reaches_97_percent(tmp_path, seed):
    done = demo(tmp_path / "demo", "--seed", str(seed), "--no-progress")
    assert done.returncode == 0, done.stdout + done.stderr
