"""The folder of a classification run: curves for viewers, and what is missing is said before anything is replaced."""

from __future__ import annotations

import pytest
from tiny_run import tiny_recipe, tiny_train

from cyclemlp.errors import ConfigError, MissingDependencyError


def test_a_run_writes_its_curves_for_a_viewer_too(tmp_path):
    result = tiny_train(tmp_path / "run", tiny_recipe(run__epochs=2), writer="tensorboard")
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    content = events.read_bytes()
    for name in ("train_loss", "val_top1", "ema_top1", "lr"):
        assert content.count(name.encode()) == 2, name
    assert b"seconds" in content
    assert len(result.epochs) == 2


def test_a_viewer_that_is_not_there_is_refused_before_anything_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "recipe.yaml").write_text("")
    (tmp_path / "best.safetensors").write_text("mine")
    with pytest.raises(ConfigError, match="unknown kind of log 'wandb'"):
        tiny_train(tmp_path, writer="wandb", force=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"paddle-cyclemlp\[visualdl\]"):
        tiny_train(tmp_path, writer="visualdl", force=True)
    assert (tmp_path / "best.safetensors").read_text() == "mine"
