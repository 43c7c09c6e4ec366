"""The program that puts a run's weights into the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclemlp import load_model
from cyclemlp.cli.main import main
from cyclemlp.weights import read_weights

ROOT = Path(__file__).parents[1]


@pytest.mark.heavy
@pytest.mark.parametrize("validated", [True, False])
def test_the_file_has_the_average_and_states_what_it_reaches(tmp_path, validated):
    run, folder = tmp_path / "run", tmp_path / "weights"
    words = [
        "train",
        "--config",
        str(ROOT / "configs" / "cifar10" / "cyclemlp_nano.yaml"),
        "--output",
        str(run),
    ]
    values = ["data.train=cifar10-sample", "data.train_list=null", "data.val_list=null", "data.classes=null"]
    values += [f"data.val={'cifar10-sample' if validated else 'null'}", "run.epochs=2", "ema.decay=0.5"]
    assert main([*words, *(word for value in values for word in ("--set", value))]) == 0
    done = subprocess.run(
        [sys.executable, "benchmarks/bundle_weights.py", str(run), "--tag", "sample", "--recipe", "a.yaml",
         "--test", "cifar10-sample", "--folder", str(folder)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    assert path.name == "cyclemlp_nano.sample.safetensors"
    file = read_weights(path)
    facts = file.metadata["training"]
    assert (facts["recipe"], facts["epochs"], facts["test"]["images"]) == ("a.yaml", 2, 200)
    assert facts.get("validation") == (facts["test"] if validated else None)  # here the same images
    average = load_model(run / "best_ema.safetensors").state_dict()
    for name, tensor in file.tensors.items():
        assert np.array_equal(tensor, average[name].numpy().astype(np.float16))
