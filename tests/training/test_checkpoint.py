"""What a classification run's checkpoint holds: all that the next step needs, the same in every process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.numpy

from cyclemlp import create_model
from cyclemlp.errors import WeightsError
from cyclemlp.run import BrokenCheckpointError, write_checkpoint
from cyclemlp.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from cyclemlp.training.optimizer import OptimizerConfig, build_optimizer

ROOT = Path(__file__).parents[2]
OVERRIDES = {"in_chans": 1, "num_classes": 3, "embed_dims": (8, 8, 12, 12), "depths": (1, 1, 1, 1)}


def trained(steps: int = 2, **overrides):
    """A tiny model and its optimizer after some steps."""
    paddle.seed(1)
    model = create_model("cyclemlp_nano", **{**OVERRIDES, **overrides})
    optimizer = build_optimizer(model, OptimizerConfig(), lr=1e-3)
    step(model, optimizer, steps)
    return model, optimizer


def step(model, optimizer, steps: int) -> None:
    for i in range(steps):
        images = np.random.default_rng(i).standard_normal((2, 1, 16, 16)).astype(np.float32)
        model(paddle.to_tensor(images)).square().sum().backward()
        optimizer.step()
        optimizer.clear_grad()


def parameters(model) -> dict[str, np.ndarray]:
    return {name: p.numpy() for name, p in model.named_parameters()}


def test_a_checkpoint_holds_all_that_the_next_step_needs(tmp_path):
    model, optimizer = trained()
    state = TrainingState(epoch=3, step=120, loss_sum=1.5, images=7, best=97.25, best_epoch=2)
    path = save_checkpoint(tmp_path, model, optimizer, state, keep=3)
    assert path == tmp_path / "checkpoints/checkpoint_0003_step000120"
    assert sorted(p.name for p in path.iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    step(model, optimizer, 2)

    other, its_optimizer = trained(steps=0)
    assert load_checkpoint(path, other, its_optimizer) == state
    step(other, its_optimizer, 2)
    for name, array in parameters(other).items():
        np.testing.assert_array_equal(array, parameters(model)[name], err_msg=name)


def test_the_optimizers_tensors_have_the_published_names(tmp_path):
    model, optimizer = trained()
    path = save_checkpoint(tmp_path, model, optimizer, TrainingState(1), keep=1)
    found = set(safetensors.numpy.load_file(path / "optimizer.safetensors"))
    kinds = ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
    assert found == {f"{name}:{kind}" for name, _ in model.named_parameters() for kind in kinds}


@pytest.mark.heavy
def test_another_process_goes_on_from_it(tmp_path):
    # There Paddle gives other names to the parameters: a layer was made before.
    model, optimizer = trained()
    save_checkpoint(tmp_path, model, optimizer, TrainingState(1), keep=1)
    step(model, optimizer, 2)
    code = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import paddle; paddle.nn.Linear(2, 2); paddle.nn.Conv2D(1, 1, 1)
from pathlib import Path
import numpy as np
from test_checkpoint import load_checkpoint, parameters, step, trained
model, optimizer = trained(steps=0)
load_checkpoint(Path({str(tmp_path / "checkpoints/checkpoint_0001")!r}), model, optimizer)
step(model, optimizer, 2)
np.savez({str(tmp_path / "there.npz")!r}, **parameters(model))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    with np.load(tmp_path / "there.npz") as there:
        for name, array in parameters(model).items():
            np.testing.assert_array_equal(there[name], array, err_msg=name)


def test_an_optimizer_that_has_not_stepped_is_kept_too(tmp_path):
    model, optimizer = trained(steps=0)
    path = save_checkpoint(tmp_path, model, optimizer, TrainingState(), keep=1)
    other, its_optimizer = trained(steps=0)
    assert load_checkpoint(path, other, its_optimizer) == TrainingState()
    step(other, its_optimizer, 1)


def test_one_of_another_model_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, *trained(), TrainingState(1), keep=1)
    with pytest.raises(WeightsError):
        load_checkpoint(path, *trained(embed_dims=(8, 8, 12, 16)))


def test_one_of_another_task_or_version_is_refused(tmp_path):
    path = write_checkpoint(tmp_path, "checkpoint_0200", lambda folder: None, {"step": 200}, keep=1)
    with pytest.raises(BrokenCheckpointError, match="another version of this program, or of another task"):
        load_checkpoint(path, trained()[0])
