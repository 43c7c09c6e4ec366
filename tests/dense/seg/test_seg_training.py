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
from seg_fixtures import config_values, write_config, write_data

from cyclemlp.dense.seg import run_folder
from cyclemlp.dense.seg.config import open_config
from cyclemlp.dense.seg.training import SegResult, train
from cyclemlp.errors import ConfigError
from cyclemlp.report import read_json_lines
from cyclemlp.training import TrainingFailedError, TrainingStoppedError
from cyclemlp.training.distributed import ALONE


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seg")
    return write_config(folder / "tiny.yaml", config_values(write_data(folder / "data")))


def run(config_path: Path, output: Path, overrides: dict[str, Any], **options: Any) -> SegResult:
    """Train as the command does, into a folder that may hold a run to go on with."""
    config = open_config(config_path, overrides)
    checkpoint = options.pop("checkpoint", None)
    run_folder.prepare(output, resumes=checkpoint is not None)
    (output / run_folder.CONFIG).write_text(config.to_yaml())
    return train(config, output, ALONE, checkpoint=checkpoint, show_progress=False, say=[].append, **options)


def events(output: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in read_json_lines(output / run_folder.LOG) if r["event"] == kind]


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in paddle.load(str(folder / "model.pdparams")).items()}


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
        assert record["train_seconds"] < record["seconds"]
    assert max(r["mean_iou"] for r in evaluations) == result.mean_iou
    (start,), (end,) = events(output, "start"), events(output, "end")
    assert start["command"] == "cyclemlp seg train …"
    assert start["paddleseg"].startswith("2.8")
    assert (end["reason"], end["step"], end["best_mean_iou"]) == ("finished", 30, result.mean_iou)


def test_the_folder_holds_what_it_says(finished: tuple[Path, SegResult]) -> None:
    output, result = finished
    content = {"config.yaml", "log.jsonl", "curves.png", "best_model", "iter_15", "iter_30"}
    assert {p.name for p in output.iterdir()} == content
    best = weights(output / "best_model")
    for name, value in weights(output / f"iter_{result.best_step}").items():
        np.testing.assert_array_equal(best[name], value)
    assert run_folder.find_weights(output) == output / "best_model/model.pdparams"
    assert run_folder.run_of(output / "iter_15/model.pdparams") == output


def test_paddleseg_is_left_as_it_was(finished: tuple[Path, SegResult]) -> None:
    engine = importlib.import_module("paddleseg.core.train")
    assert engine.evaluate is importlib.import_module("paddleseg.core.val").evaluate
    assert engine.loss_computation.__module__ == "cyclemlp.dense.compat"
    assert paddle.flops.__module__.startswith("paddle")


def test_a_resumed_run_ends_as_one_that_was_not_stopped(config_path: Path, tmp_path: Path) -> None:
    # Every step sees all four images, so that their order, which begins anew, changes rounding only.
    settings = {"iters": 6, "run.save_interval": 3, "optimizer.epsilon": 1e-3}
    run(config_path, tmp_path / "whole", settings, evaluate=False)
    run(
        config_path,
        tmp_path / "parts",
        {**settings, "run.save_interval": 100},
        evaluate=False,
        max_minutes=1e-9,
    )
    checkpoint = run_folder.find_checkpoint("auto", tmp_path / "parts")
    assert checkpoint is not None
    assert checkpoint.name == "iter_1"
    result = run(config_path, tmp_path / "parts", settings, evaluate=False, checkpoint=checkpoint)
    assert (result.step, result.mean_iou) == (6, None)
    whole = weights(tmp_path / "whole/iter_6")
    for name, value in weights(tmp_path / "parts/iter_6").items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-3, atol=1e-4, err_msg=name)
    seconds = [r["seconds"] for r in read_json_lines(tmp_path / "parts/log.jsonl")]
    assert seconds == sorted(seconds)
    assert not (tmp_path / "parts/best_model").exists()


@pytest.mark.heavy
def test_a_resumed_run_keeps_a_better_model_of_before(config_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(config_path, output, {"iters": 2, "run.save_interval": 1, "run.log_iters": 1})
    records = read_json_lines(output / "log.jsonl")
    for record in records:
        if record["event"] == "evaluation":
            record["mean_iou"] = 0.99  # better than what comes
    (output / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    before = (output / "best_model/model.pdparams").read_bytes()
    settings = {"iters": 4, "run.save_interval": 1, "run.log_iters": 1}
    result = run(config_path, output, settings, checkpoint=output / "iter_2")
    assert result.mean_iou == 0.99
    assert (output / "best_model/model.pdparams").read_bytes() == before
    assert [r["best"] for r in events(output, "evaluation")][2:] == [False, False]


def test_a_time_limit_ends_in_evaluation_and_a_checkpoint(config_path: Path, tmp_path: Path) -> None:
    result = run(config_path, tmp_path / "run", {"run.save_interval": 1000}, max_minutes=1e-9)
    assert (result.step, result.reason, result.best_step) == (1, "time", 1)
    assert [r["step"] for r in events(tmp_path / "run", "step")] == [1]
    assert [r["step"] for r in events(tmp_path / "run", "evaluation")] == [1]
    assert (tmp_path / "run/best_model/model.pdparams").is_file()
    assert run_folder.find_checkpoint("auto", tmp_path / "run") == tmp_path / "run/iter_1"


def test_numbers_that_are_none_stop_the_run(config_path: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailedError, match=r"step \d+: .*not finite"):
        run(config_path, tmp_path / "run", {"lr_scheduler.learning_rate": 1e30, "run.log_iters": 1})
    assert not (tmp_path / "run/best_model").exists()


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
    assert run_folder.find_checkpoint("auto", tmp_path / "run") == stopped.value.checkpoint
    assert events(tmp_path / "run", "end")[0]["reason"] == "signal"


def test_too_few_images_for_a_step(config_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a step takes 5 images and there are 4: lower batch_size"):
        run(config_path, tmp_path / "run", {"batch_size": 5})


def test_checkpoints_that_are_not_whole_are_passed_over(tmp_path: Path) -> None:
    run_path = tmp_path / "run"
    for step in (5, 10, 100):
        paddle.save({"a": paddle.ones([3])}, str(run_path / f"iter_{step}/model.pdparams"))
        paddle.save({"a": paddle.ones([3])}, str(run_path / f"iter_{step}/model.pdopt"))
    half = run_path / "iter_100/model.pdopt"
    half.write_bytes(half.read_bytes()[:40])
    with pytest.warns(UserWarning, match="iter_100 is not whole"):
        assert run_folder.find_checkpoint(str(run_path), None) == run_path / "iter_10"
    with pytest.raises(ConfigError, match="not a whole checkpoint"):
        run_folder.find_checkpoint(str(run_path / "iter_100"), None)
    with pytest.raises(ConfigError, match="no such folder"):
        run_folder.find_checkpoint(str(tmp_path / "none"), None)
    assert run_folder.find_checkpoint("auto", tmp_path / "none") is None


def test_a_folder_with_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not empty. Choose another --output, or start anew by --force"):
        run_folder.require_free(tmp_path, resumes=False, auto=True, force=False)
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "iter_3").mkdir()
    with pytest.raises(ConfigError, match="go on with that run by --resume"):
        run_folder.require_free(tmp_path, resumes=False, auto=False, force=False)
    run_folder.require_free(tmp_path, resumes=False, auto=False, force=True)
    run_folder.prepare(tmp_path, resumes=False)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
