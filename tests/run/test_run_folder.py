"""A run's folder, of any task: never overwritten by mistake, and what it says of its run."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from cyclemlp.errors import ConfigError
from cyclemlp.report import read_json_lines
from cyclemlp.run import RunFolder, list_checkpoints

OURS = (
    *("recipe.yaml", "log.jsonl", "curves.png", "README.md", "best.safetensors", "best_ema.safetensors"),
    *("best.pdparams", "categories.json", "bbox.json", "mask.json"),
)
FOLDERS = ("checkpoints/checkpoint_0003", "checkpoints/checkpoint_0003_step000012", "tensorboard", "visualdl")
RESTS = ("checkpoints/.checkpoint_0004.0a1b2c3d.partial", "checkpoints/.checkpoint_0001.removed")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(folder: RunFolder, name: str, **state: Any) -> Path:
    return folder.save_checkpoint(name, lambda path: (path / "model.bin").write_bytes(b"x"), state, keep=2)


def begin(path: Path, *checkpoints: str, recipe: str = "run: {epochs: 1}\n") -> Path:
    """A run that has these checkpoints."""
    with RunFolder(path) as folder:
        folder.prepare()
        folder.save_recipe(recipe)
        for name in checkpoints:
            save(folder, name)
    return path


# ---- what is there stays


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for resume in (None, "auto"):
        with pytest.raises(ConfigError, match=r"is not empty.*another --output, or start anew by --force"):
            RunFolder(tmp_path, resume=resume)
    assert names(tmp_path) == ["thesis.txt"]
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "thesis.txt")


def test_a_run_is_refused_and_the_way_to_go_on_is_told(tmp_path):
    begin(tmp_path)
    with pytest.raises(ConfigError, match=r"go on with that run by --resume, or start anew by --force"):
        RunFolder(tmp_path)


def test_force_removes_the_run_and_nothing_else(tmp_path):
    for name in (*FOLDERS, *RESTS, "predictions", "checkpoints/checkpoint_mine"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("thesis.txt", *OURS):
        (tmp_path / name).write_text("x")
    with RunFolder(tmp_path, force=True) as folder:
        assert (tmp_path / "best.safetensors").exists()  # the new run may still turn out to be impossible
        folder.prepare()
    assert names(tmp_path) == ["checkpoints", "thesis.txt"]
    assert names(tmp_path / "checkpoints") == ["checkpoint_mine"]


def test_a_folder_into_which_nothing_came_is_removed(tmp_path):
    with RunFolder(tmp_path / "a" / "run"):
        assert names(tmp_path / "a" / "run") == [".lock"]
    assert names(tmp_path) == []
    (tmp_path / "mine").mkdir()
    with RunFolder(tmp_path / "mine"):
        pass
    assert names(tmp_path / "mine") == []


# ---- going on


def test_resume_without_a_checkpoint_begins(tmp_path):
    with RunFolder(tmp_path / "new", resume="auto") as folder:
        assert folder.checkpoint is None
        folder.prepare()
        folder.save_recipe("run: {}\n")  # stopped in the first epoch
        folder.open_log().event("start")
    with RunFolder(tmp_path / "new", resume="auto") as folder:
        assert (folder.checkpoint, folder.continues) == (None, False)
        folder.prepare()
    assert names(tmp_path / "new") == []  # the old log goes with its run


def test_killed_while_it_wrote_the_recipe(tmp_path):
    for name in (".lock", ".recipe.0a1b2c3d.partial.yaml"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path) as folder:
        folder.prepare()
        assert names(tmp_path) == [".lock"]


def test_going_on_keeps_all_but_the_rests_of_a_kill(tmp_path):
    run = begin(tmp_path / "run", "checkpoint_0001")
    rests = [".best.0a1b2c3d.partial.safetensors", ".curves.0a1b2c3d.partial.png"]
    for name in ("best.safetensors", "log.jsonl", "notes.txt", ".mine", *rests):
        (run / name).touch()
    before = set(names(run))
    with RunFolder(run, resume="auto") as folder:
        assert folder.continues
        folder.prepare()
    assert before - set(names(run)) == set(rests)


def test_a_run_may_branch_off_another(tmp_path):
    run = begin(tmp_path / "run", "checkpoint_0001", "checkpoint_0002")
    first = run / "checkpoints/checkpoint_0001"
    with RunFolder(tmp_path / "other", resume=first) as folder:
        folder.prepare()
        assert (folder.checkpoint, folder.continues) == (first, False)
        assert folder.recipe_before() == run / "recipe.yaml"
    begin(tmp_path / "full")
    with pytest.raises(ConfigError, match="is not empty"):
        RunFolder(tmp_path / "full", resume=first)
    with pytest.raises(ConfigError, match="there is no such folder"):
        RunFolder(tmp_path / "absent", resume=tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    with RunFolder(tmp_path / "full", resume=first, force=True) as folder:
        folder.prepare()
    assert names(tmp_path / "full") == []
    assert len(list_checkpoints(run)) == 2


def test_a_recipe_that_changed_is_told(tmp_path):
    run = begin(tmp_path / "run", "checkpoint_0001", recipe="a: {b: 1, c: [x: {d: 2}, 5]}\n")
    with RunFolder(run, resume="auto") as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            folder.save_recipe("a: {c: [{x: {d: 2}}, 5], b: 1}\n")  # in other words
        with pytest.warns(UserWarning, match=r"differs .*: a\.c\.0\.x\.d 2 → 4, a\.b 1 → 7, new None → 3$"):
            folder.save_recipe("a: {b: 7, c: [x: {d: 4}, 5]}\nnew: 3\n")
        assert (run / "recipe.yaml").read_text().startswith("a: {b: 7")
        with pytest.warns(UserWarning, match="cannot be compared"):
            folder.save_recipe("a: !object {b: 1}\n")


class Second:
    """The second of two processes, which gets what the first has found."""

    is_first = False

    def __init__(self, checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint

    def from_first(self, value: Any) -> Any:
        assert value is None
        return self.checkpoint


def test_other_processes_write_nothing(tmp_path):
    with pytest.raises(ConfigError, match="all machines must share the run's folder"):
        RunFolder(tmp_path, world=Second(tmp_path / "checkpoints/checkpoint_0001"))
    with RunFolder(tmp_path / "run", world=Second(None)) as folder:
        folder.prepare()
        folder.save_recipe("run: {}\n")
        with folder.open_log() as log:
            log.event("start")
        assert save(folder, "checkpoint_0001") == tmp_path / "run/checkpoints/checkpoint_0001"
        folder.open_writer("tensorboard").scalars({"loss": 1.0}, step=1)
        folder.write_readme()
        assert folder.draw_curves() is None
    assert list(tmp_path.iterdir()) == []


# ---- what it says of its run


def test_every_record_has_its_event_and_time(tmp_path):
    with RunFolder(tmp_path) as folder, folder.open_log() as log:
        log.start({"images": 5}, command="cyclemlp seg train", checkpoint=None, packages=["pytest"])
        log.event("step", step=1, loss=0.5)
    start, step = read_json_lines(tmp_path / "log.jsonl")
    assert (start["command"], start["from"], start["images"]) == ("cyclemlp seg train", None, 5)
    assert start["versions"]["pytest"] == pytest.__version__
    assert (step["event"], step["step"], step["loss"]) == ("step", 1, 0.5)
    assert step["time"].endswith("+00:00")


def test_an_epoch_that_was_run_twice_counts_once(tmp_path):
    with RunFolder(tmp_path / "run") as folder, folder.open_log() as log:
        for epoch, loss in ((1, 3.0), (2, 2.0), (2, 2.5)):
            log.event("epoch", epoch=epoch, train_loss=loss)
        log.event("start")
        assert [(r["epoch"], r["train_loss"]) for r in folder.epochs()] == [(1, 3.0), (2, 2.5)]


def log_evaluations(folder: RunFolder) -> None:
    with folder.open_log() as log:
        log.start({"model": "a small one"}, command="cyclemlp seg train --set x=1", checkpoint=None)
        log.event("step", step=2, seconds=1.0, loss=0.9, lr=0.1)
        log.event("evaluation", step=2, seconds=1.0, mean_iou=0.5, best=True)
        log.event("evaluation", step=4, seconds=62.0, mean_iou=0.25, best=False)


def test_the_best_goes_on_with_its_run_only(tmp_path):
    run = begin(tmp_path / "run", "checkpoint_000004")
    with RunFolder(run, resume="auto") as folder:
        log_evaluations(folder)
        best = folder.best()
        assert best is not None
        assert (best["step"], best["mean_iou"]) == (2, 0.5)
    with RunFolder(tmp_path / "other", resume=run) as folder:
        assert folder.best() is None


def test_readme_and_curves_come_from_the_log(tmp_path):
    with RunFolder(tmp_path / "run one", program="cyclemlp seg") as folder:
        assert folder.draw_curves() is None  # nothing to draw yet
        folder.write_readme()
        log_evaluations(folder)
        assert folder.draw_curves() == tmp_path / "run one/curves.png"
        folder.write_readme()
    lines = (tmp_path / "run one/README.md").read_text().splitlines()
    for line in (
        "cyclemlp seg train --set x=1",
        "| model | a small one |",
        "4 steps, 1 min 02 s of training.",
        "| step | mean IoU (%) |",
        "| 2 (best) | 50 |",
        "| 4 (last) | 25 |",
        f"cyclemlp seg train --resume '{tmp_path}/run one'   # go on",
    ):
        assert line in lines


def test_without_matplotlib_it_is_said_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with RunFolder(tmp_path) as folder:
        log_evaluations(folder)
        with pytest.warns(UserWarning, match=r"curves.png was not drawn: .*paddle-cyclemlp\[plot\]"):
            assert folder.draw_curves() is None


def test_checkpoints_of_a_folder_are_those_of_the_run(tmp_path):
    with RunFolder(tmp_path) as folder:
        for step in (5, 10, 15):
            path = save(folder, f"checkpoint_{step:06d}", step=step)
        assert [p.name for p in list_checkpoints(tmp_path)] == ["checkpoint_000010", "checkpoint_000015"]
        assert json.loads((path / "state.json").read_text())["state"] == {"step": 15}
