"""A run's folder is never overwritten by mistake."""

from __future__ import annotations

import sys

import pytest
from tiny_run import Some, tiny_recipe, tiny_train

from cyclemlp.errors import ConfigError, MissingDependencyError
from cyclemlp.report import JsonLines
from cyclemlp.training.run_folder import RunFolder


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for resume in (None, "auto"):
        with pytest.raises(ConfigError, match=r"is not empty.*another --output.*--force"):
            RunFolder(tmp_path, resume=resume)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "thesis.txt")


def test_a_run_is_refused_and_the_way_to_go_on_is_told(tmp_path):
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(ConfigError, match="go on with that run by --resume auto"):
        RunFolder(tmp_path)


def test_force_removes_the_run_and_nothing_else(tmp_path):
    ours = ("recipe.yaml", "log.jsonl", "best.safetensors", "best_ema.safetensors", "curves.png", "README.md")
    for name in ("thesis.txt", *ours):
        (tmp_path / name).write_text("x")
    for name in (
        "checkpoint_0003",
        "checkpoint_0003_step000012",
        ".checkpoint_0004.partial",
        ".checkpoint_0001.removed",
        "tensorboard",
        "visualdl",
        "checkpoint_mine",
    ):
        (tmp_path / name).mkdir()
    folder = RunFolder(tmp_path, force=True)
    assert (tmp_path / "best.safetensors").exists()  # the new run may still turn out to be impossible
    folder.prepare()
    folder.release()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint_mine", "thesis.txt"]


def test_resume_auto_without_a_checkpoint_starts_anew(tmp_path):
    folder = RunFolder(tmp_path / "new", resume="auto")
    assert folder.checkpoint is None
    folder.prepare()
    folder.save_recipe(tiny_recipe())  # killed in the first epoch
    assert RunFolder(tmp_path / "new", resume="auto").checkpoint is None


def test_resume_from_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="there is no such folder"):
        RunFolder(tmp_path / "run", resume=tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no whole checkpoint"):
        RunFolder(tmp_path / "run", resume=tmp_path / "empty")


def test_an_epoch_that_was_run_twice_counts_once(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.prepare()
    with folder.open_log() as log:
        for epoch, loss in ((1, 3.0), (2, 2.0), (2, 2.5)):
            log.write({"event": "epoch", "epoch": epoch, "train_loss": loss})
        log.write({"event": "start"})
    assert [(r["epoch"], r["train_loss"]) for r in folder.epochs()] == [(1, 3.0), (2, 2.5)]


def test_without_matplotlib_the_run_ends_well_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.warns(UserWarning, match=r"curves.png was not drawn: .*paddle-cyclemlp\[plot\]"):
        result = tiny_train(tmp_path / "run", tiny_recipe(run__epochs=1), train_source=Some("train", 8))
    assert not (result.output / "curves.png").exists()


def test_no_curves_before_the_first_epoch(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.prepare()
    JsonLines(folder.path / "log.jsonl").close()
    assert folder.draw_curves() is None


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


def test_going_on_keeps_all_but_the_rests_of_a_kill(tmp_path):
    tiny_train(tmp_path / "run", tiny_recipe(run__epochs=1))
    for name in ("tensorboard", "visualdl", "notes", ".checkpoint_0001.partial", ".curves-x1"):
        (tmp_path / "run" / name).mkdir()
        (tmp_path / "run" / name / "file").touch()
    (tmp_path / "run" / ".best.safetensors.1f.part").touch()
    before = {path.name for path in (tmp_path / "run").iterdir()}
    folder = RunFolder(tmp_path / "run", resume="auto")
    folder.prepare()
    rests = {".checkpoint_0001.partial", ".curves-x1", ".best.safetensors.1f.part"}
    assert before - {path.name for path in folder.path.iterdir()} == rests
