"""Checkpoints: whole or absent, recognised when they are neither, the same in every process."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.numpy

from cyclemlp import create_model
from cyclemlp.errors import WeightsError
from cyclemlp.training import checkpoint
from cyclemlp.training.checkpoint import (
    BrokenCheckpointError,
    TrainingState,
    check_checkpoint,
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
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
    assert path == tmp_path / "checkpoint_0003_step000120"
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
load_checkpoint(Path({str(tmp_path / "checkpoint_0001")!r}), model, optimizer)
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


def test_only_the_newest_are_kept(tmp_path):
    model, optimizer = trained()
    for epoch, steps in ((1, 0), (1, 5), (2, 0), (9, 0), (10, 0), (10000, 0)):
        save_checkpoint(tmp_path, model, optimizer, TrainingState(epoch, steps), keep=3)
    assert [p.name for p in list_checkpoints(tmp_path)] == [
        "checkpoint_0009",
        "checkpoint_0010",
        "checkpoint_10000",
    ]
    assert len(list(tmp_path.iterdir())) == 3


def test_the_same_state_may_be_saved_again(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path, model, optimizer, TrainingState(1, loss_sum=1.0), keep=3)
    save_checkpoint(tmp_path, model, optimizer, TrainingState(1, loss_sum=2.0), keep=3)
    assert check_checkpoint(tmp_path / "checkpoint_0001").loss_sum == 2.0
    assert len(list(tmp_path.iterdir())) == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda p: cut(p / "model.safetensors"),
            "model.safetensors was truncated or changed: .* bytes, written were",
        ),
        (lambda p: flip(p / "optimizer.safetensors"), "optimizer.safetensors was .*the content differs"),
        (lambda p: (p / "optimizer.safetensors").unlink(), "not a complete checkpoint"),
        (lambda p: (p / "state.json").unlink(), "not a complete checkpoint"),
        (lambda p: cut(p / "state.json"), "state.json is damaged"),
        (lambda p: change(p / "state.json", '"epoch": 2', '"epoch": 3'), "state.json was changed"),
        (lambda p: (p / "state.json").write_text("[]"), "state.json is damaged"),
        (lambda p: (p / "state.json").write_bytes(b"\xff"), "state.json is damaged"),
        (lambda p: (p / "state.json").write_text('{"state": {}, "files": {}}'), "state.json is damaged"),
        (lambda p: shutil.rmtree(p) or p.mkdir(), "not a complete checkpoint"),
    ],
)
def test_a_broken_one_is_recognised_and_the_one_before_it_taken(tmp_path, harm, message):
    model, optimizer = trained()
    for epoch in (1, 2):
        save_checkpoint(tmp_path, model, optimizer, TrainingState(epoch), keep=3)
    harm(tmp_path / "checkpoint_0002")
    with pytest.raises(BrokenCheckpointError, match=message):
        check_checkpoint(tmp_path / "checkpoint_0002")
    with pytest.warns(UserWarning, match=rf"{message}.*trying the checkpoint before it"):
        assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint_0001"


def test_one_of_a_later_format_is_refused(tmp_path):
    model, optimizer = trained()
    path = save_checkpoint(tmp_path, model, optimizer, TrainingState(1), keep=3) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(BrokenCheckpointError, match="another version"):
        check_checkpoint(path.parent)


def test_one_that_older_versions_wrote_is_taken(tmp_path):
    model, optimizer = trained()
    path = save_checkpoint(tmp_path, model, optimizer, TrainingState(1), keep=3) / "state.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert check_checkpoint(path.parent).epoch == 1


def test_a_full_disk_leaves_the_earlier_one_and_no_rest(tmp_path, monkeypatch):
    model, optimizer = trained()
    save_checkpoint(tmp_path, model, optimizer, TrainingState(1), keep=1)

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "_flush", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, model, optimizer, TrainingState(2), keep=1)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint_0001"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint_0001"]


def test_a_rest_of_a_killed_run_is_in_nobodys_way(tmp_path):
    model, optimizer = trained()
    rest = tmp_path / ".checkpoint_0001.partial"
    rest.mkdir()
    (rest / "model.safetensors").write_bytes(b"half")
    assert newest_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, model, optimizer, TrainingState(1), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint_0001"]


def test_one_of_another_model_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, *trained(), TrainingState(1), keep=1)
    with pytest.raises(WeightsError):
        load_checkpoint(path, *trained(embed_dims=(8, 8, 12, 16)))


@pytest.mark.parametrize("moment", ["before the new one is in place", "after it"])
def test_killed_while_one_is_replaced(tmp_path, moment):
    model, optimizer = trained()
    save_checkpoint(tmp_path, model, optimizer, TrainingState(1, loss_sum=1.0), keep=1)
    target, aside = tmp_path / "checkpoint_0001", tmp_path / ".checkpoint_0001.replaced"
    if moment == "after it":
        shutil.copytree(target, aside)
    else:
        target.rename(aside)
    assert newest_checkpoint(tmp_path) == target
    assert check_checkpoint(target).loss_sum == 1.0
    save_checkpoint(tmp_path, model, optimizer, TrainingState(1, loss_sum=2.0), keep=1)
    assert check_checkpoint(target).loss_sum == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_0001"]
