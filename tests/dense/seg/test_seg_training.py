"""Training by PaddleSeg's loop: what it learns, writes, resumes, and how it stops."""

from __future__ import annotations

import importlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from seg_fixtures import CLASSES, config_values, write_config, write_data

from cyclemlp.dense.seg.config import open_config
from cyclemlp.dense.seg.training import SegResult, train
from cyclemlp.errors import ConfigError, DataError, WeightsError
from cyclemlp.report import read_json_lines
from cyclemlp.run import list_checkpoints, newest_checkpoint, read_state
from cyclemlp.training import TrainingFailedError, TrainingStoppedError
from cyclemlp.training.distributed import ALONE


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seg")
    return write_config(folder / "tiny.yaml", config_values(write_data(folder / "data")))


def run(config_path: Path, output: Path, overrides: dict[str, Any], **options: Any) -> SegResult:
    """Train as the command does."""
    config = open_config(config_path, overrides)
    return train(config, output, ALONE, **{"show_progress": False, "say": [].append, **options})


def events(output: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in read_json_lines(output / "log.jsonl") if r["event"] == kind]


def weights(path: Path) -> dict[str, np.ndarray]:
    path = path / "model.pdparams" if path.is_dir() else path
    return {k: v.numpy() for k, v in paddle.load(str(path)).items()}


@pytest.fixture(scope="module")
def finished(config_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SegResult]:
    output = tmp_path_factory.mktemp("runs") / "finished"
    return output, run(config_path, output, {}, command="cyclemlp seg train …")


def test_it_learns(finished: tuple[Path, SegResult]) -> None:
    output, result = finished
    losses = [r["loss"] for r in events(output, "step")]
    assert losses[-1] < losses[0] / 2
    assert result.mean_iou is not None
    assert result.mean_iou > 0.4  # all background: 0.27
    assert (result.step, result.reason) == (30, "finished")


def test_the_log_tells_of_every_step_and_evaluation(finished: tuple[Path, SegResult]) -> None:
    output, result = finished
    steps = events(output, "step")
    assert [r["step"] for r in steps] == [5, 10, 15, 20, 25, 30]
    schedule = [0.01 * (1 - (step - 1) / 30) ** 0.9 for step in (5, 10, 15, 20, 25, 30)]
    np.testing.assert_allclose([r["lr"] for r in steps], schedule, rtol=1e-6)
    evaluations = events(output, "evaluation")
    assert [r["step"] for r in evaluations] == [15, 30]
    for record in evaluations:
        assert record["mean_iou"] == pytest.approx(np.mean(record["class_iou"]))
        assert 0 < record["pixel_accuracy"] <= 1
    assert max(r["mean_iou"] for r in evaluations) == result.mean_iou
    (start,), (end,) = events(output, "start"), events(output, "end")
    assert start["command"] == "cyclemlp seg train …"
    assert start["versions"]["paddleseg"].startswith("2.8")
    assert (end["reason"], end["step"]) == ("finished", 30)
    seconds = [r["seconds"] for r in (*steps, *evaluations)]
    assert 0 < min(seconds) <= max(seconds) == end["seconds"] == result.seconds


def test_the_folder_holds_what_it_says(finished: tuple[Path, SegResult]) -> None:
    output, result = finished
    content = {"recipe.yaml", "log.jsonl", "curves.png", "README.md", "best.pdparams", "checkpoints"}
    assert {p.name for p in output.iterdir()} == content
    assert [p.name for p in list_checkpoints(output)] == ["checkpoint_000015", "checkpoint_000030"]
    best = weights(output / "best.pdparams")
    for name, value in weights(output / f"checkpoints/checkpoint_{result.best_step:06d}").items():
        np.testing.assert_array_equal(best[name], value)
    assert read_state(output / "checkpoints/checkpoint_000015")["classes"] == CLASSES
    readme = (output / "README.md").read_text()
    for words in ("SemanticFPN, ", "| paddleseg | 2.8", "| mean IoU (%) | pixel accuracy (%) |", "30 (last)"):
        assert words in readme


def test_paddleseg_is_left_as_it_was(finished: tuple[Path, SegResult]) -> None:
    engine = importlib.import_module("paddleseg.core.train")
    assert engine.evaluate is importlib.import_module("paddleseg.core.val").evaluate
    assert engine.loss_computation.__module__ == "cyclemlp.dense.compat"
    assert paddle.flops.__module__.startswith("paddle")


def test_a_resumed_run_ends_as_one_that_was_not_stopped(config_path: Path, tmp_path: Path) -> None:
    # Every step sees all four images, so that their order, which begins anew, changes rounding only.
    settings = {"iters": 6, "run.save_interval": 3, "optimizer.epsilon": 1e-3}
    run(config_path, tmp_path / "whole", settings, evaluate=False)
    parts = tmp_path / "parts"
    run(config_path, parts, {**settings, "run.save_interval": 100}, evaluate=False, max_minutes=1e-9)
    assert newest_checkpoint(parts) == parts / "checkpoints/checkpoint_000001"
    with pytest.warns(UserWarning, match=r"the recipe differs .*run.save_interval 100 → 3"):
        result = run(config_path, parts, settings, evaluate=False, resume="auto")
    assert (result.step, result.mean_iou) == (6, None)
    whole = weights(tmp_path / "whole/checkpoints/checkpoint_000006")
    for name, value in weights(parts / "checkpoints/checkpoint_000006").items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-3, atol=1e-4, err_msg=name)
    times = [r["seconds"] for r in read_json_lines(parts / "log.jsonl") if r["event"] in ("step", "end")]
    assert times == sorted(times)
    assert not (parts / "best.pdparams").exists()


def test_another_model_or_other_classes_are_not_resumed(config_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(config_path, output, {"iters": 1}, evaluate=False)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with pytest.raises(WeightsError, match=r"head\."):
        run(config_path, output, {"iters": 2, "model.channels": 8}, resume=output)
    with pytest.raises(DataError, match="they differ in 'bar', 'pole'"):
        run(config_path, output, {"iters": 2, "classes": [*CLASSES[:2], "pole"]}, resume=output)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


@pytest.mark.heavy
def test_a_resumed_run_keeps_a_better_model_of_before(config_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(config_path, output, {"iters": 2, "run.save_interval": 1, "run.log_iters": 1})
    records = read_json_lines(output / "log.jsonl")
    for record in records:
        if record["event"] == "evaluation":
            record["mean_iou"] = 0.99  # better than what comes
    (output / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    before = (output / "best.pdparams").read_bytes()
    settings = {"iters": 4, "run.save_interval": 1, "run.log_iters": 1}
    result = run(config_path, output, settings, resume=output)
    assert result.mean_iou == 0.99
    assert (output / "best.pdparams").read_bytes() == before
    assert [r["best"] for r in events(output, "evaluation")][2:] == [False, False]
    # Another folder has no best model yet.
    run(config_path, tmp_path / "other", settings, resume=output / "checkpoints/checkpoint_000003")
    assert (tmp_path / "other/best.pdparams").exists()


def test_a_time_limit_ends_in_evaluation_and_a_checkpoint(config_path: Path, tmp_path: Path) -> None:
    result = run(config_path, tmp_path / "run", {"run.save_interval": 1000}, max_minutes=1e-9)
    assert (result.step, result.reason, result.best_step) == (1, "time", 1)
    assert [r["step"] for r in events(tmp_path / "run", "step")] == [1]
    assert [r["step"] for r in events(tmp_path / "run", "evaluation")] == [1]
    assert (tmp_path / "run/best.pdparams").is_file()
    assert newest_checkpoint(tmp_path / "run") == tmp_path / "run/checkpoints/checkpoint_000001"


def test_a_run_that_gets_no_better_ends_early(config_path: Path, tmp_path: Path) -> None:
    # At such a rate no weight changes, nor does a figure.
    settings = {"lr_scheduler.learning_rate": 1e-30, "run.save_interval": 2}
    said: list[str] = []
    result = run(config_path, tmp_path / "run", settings, patience=2, say=said.append)
    assert (result.step, result.reason, result.best_step) == (6, "early stopping", 2)
    assert "early stopping: no better mean IoU in the last 2 evaluations (--patience 2)" in said
    assert events(tmp_path / "run", "end")[0]["reason"] == "early stopping"
    # Evaluations of before count when it is resumed.
    again = run(config_path, tmp_path / "run", settings, patience=2, resume="auto", say=said.append)
    assert again.step == 6
    assert "a larger --patience, or none, gives it more" in said[-1]
    more = run(config_path, tmp_path / "run", settings, patience=3, resume="auto")
    assert (more.step, more.reason) == (8, "early stopping")
    with pytest.raises(ConfigError, match="--patience counts evaluations"):
        run(config_path, tmp_path / "other", settings, patience=2, evaluate=False)


def test_numbers_that_are_none_stop_the_run(config_path: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailedError, match=r"step \d+: .*not finite"):
        run(config_path, tmp_path / "run", {"lr_scheduler.learning_rate": 1e30, "run.log_iters": 1})
    assert not (tmp_path / "run/best.pdparams").exists()


def test_ctrl_c_saves(config_path: Path, tmp_path: Path) -> None:
    log = tmp_path / "run/log.jsonl"

    def interrupt() -> None:
        for _ in range(1000):
            if log.exists() and '"event": "step"' in log.read_text():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=interrupt)
    thread.start()
    settings = {"iters": 100_000, "run.save_interval": 100_000, "run.log_iters": 1}
    with pytest.raises(TrainingStoppedError) as stopped:
        run(config_path, tmp_path / "run", settings, evaluate=False)
    thread.join()
    assert stopped.value.signal == signal.SIGINT
    assert newest_checkpoint(tmp_path / "run") == stopped.value.checkpoint
    assert events(tmp_path / "run", "end")[0]["reason"] == "signal"


def test_too_few_images_for_a_step(config_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a step takes 5 images and there are 4: lower batch_size"):
        run(config_path, tmp_path / "run", {"batch_size": 5})
