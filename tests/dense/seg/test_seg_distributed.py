"""Training by two processes, as the launcher starts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from seg_fixtures import config_values, write_config, write_data

from cyclemlp.dense.seg.config import open_config
from cyclemlp.dense.seg.inference import Inference, evaluate
from cyclemlp.report import read_json_lines

TRAIN = (str(Path(sys.executable).with_name("cyclemlp")), "seg", "train", "--device", "cpu", "--no-progress")


@pytest.mark.heavy
def test_two_processes_train_one_model_and_share_its_evaluation(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", config_values(write_data(tmp_path / "data")))
    launch = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    words = ["--config", str(config), "--output", str(tmp_path / "run"), "--iters", "4", "--batch-size", "2"]
    shape = ["--set", "run.save_interval=2", "--set", "run.log_iters=1"]
    done = subprocess.run(
        [*launch, "--log_dir", str(tmp_path / "log"), *TRAIN, *words, *shape],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 images to train on, 4 to evaluate on; 4 steps of 4" in done.stdout
    records = read_json_lines(tmp_path / "run/log.jsonl")
    assert [r["event"] for r in records] == [
        *("start", "step", "step", "evaluation", "step", "step", "evaluation", "end")
    ]
    best = max(r["mean_iou"] for r in records if r["event"] == "evaluation")
    alone = evaluate(open_config(config), tmp_path / "run", Inference(), show_progress=False, say=[].append)
    assert alone.mean_iou == pytest.approx(best)
