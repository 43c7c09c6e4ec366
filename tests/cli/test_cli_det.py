"""`cyclemlp det …` from the data's check to predictions, as one types it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dense.det.tiny_coco import make_tiny_coco
from lock_fixtures import holder

from cyclemlp.cli.main import main
from cyclemlp.report import read_json_lines

CONFIG = Path(__file__).parents[2] / "configs/det/scenes.yaml"
SMALL = [
    "num_classes=3",
    "TrainDataset.anno_path=annotations/train.json",
    "EvalDataset.anno_path=annotations/val.json",
    "CycleMLP_Micro.embed_dims=[8, 12, 16, 24]",
    "CycleMLP_Micro.depths=[1, 1, 1, 1]",
    "FPN.out_channel=16",
    "RetinaHead.conv_feat.feat_in=16",
    "RetinaHead.conv_feat.feat_out=16",
    "TrainReader.batch_size=2",
    "TrainReader.sample_transforms.1.RandomResize.target_size=[[64, 96]]",
    "EvalReader.sample_transforms.1.Resize.target_size=[64, 96]",
    "TestReader.sample_transforms.1.Resize.target_size=[64, 96]",
]
SET = [word for text in SMALL for word in ("--set", text)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_coco(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch."""
    output = tmp_path_factory.mktemp("runs") / "run"
    words = ["det", "train", "--config", str(CONFIG), "--data", str(data), "--output", str(output), *SET]
    assert main([*words, "--epochs", "1", "--no-progress"]) == 0
    return output


def test_train_then_eval_and_predict_from_the_run_alone(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--json", "--no-progress", "--output", str(tmp_path / "figures")]
    assert main(["det", "eval", str(run), *words]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads((tmp_path / "figures/eval.json").read_text())
    assert (tmp_path / "figures/bbox.json").exists()
    logged = [r for r in read_json_lines(run / "log.jsonl") if r["event"] == "evaluation"]
    assert figures["bbox_ap50"] == pytest.approx(logged[-1]["bbox_ap50"], abs=1e-6)
    assert set(figures["per_class"]) == {"red", "green", "blue"}

    assert main(["det", "eval", str(run / "checkpoints/checkpoint_0001"), "--no-progress"]) == 0
    assert "bbox ap50" in capsys.readouterr().out

    output = tmp_path / "found"
    images = Path(shutil.copytree(data / "images", tmp_path / "images"))
    (images / "bad.png").write_text("no image")
    words = ["det", "predict", str(run), str(images), "--output", str(output), "--json"]
    assert main([*words, "--no-progress"]) == 2
    err = capsys.readouterr().err
    assert "bad.png' is not an image that can be read" in err
    assert "--skip-bad leaves out images" in err
    assert main([*words, "--threshold", "0", "--no-progress", "--skip-bad"]) == 1
    assert json.loads(capsys.readouterr().out)["images"] == 6
    assert len(list(output.glob("*.png"))) == 6
    assert len(json.loads((output / "predictions.json").read_text())["images"]) == 6


def test_check_says_what_is_wrong_and_exits_with_1(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["det", "check", "--config", str(CONFIG), *SET, "--no-progress"]
    assert main([*words, "--data", str(data)]) == 0
    assert "no errors" in capsys.readouterr().out
    broken = make_tiny_coco(tmp_path / "broken")
    (broken / "images/3.png").unlink()
    assert main([*words, "--data", str(broken)]) == 1
    assert f"images[3]: {broken / 'images/3.png'} does not exist" in capsys.readouterr().err


def test_mistakes_are_told_in_words(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = tmp_path / "none"
    for words, says in (
        (["det", "train", "--config", str(CONFIG), "--data", str(none)], "dataset_dir is"),
        (["det", "train"], "no configuration is named"),
        (["det", "eval", str(none)], "does not lie in a run's folder"),
        (["det", "predict", str(run), str(none)], "there is no such image or folder"),
        (["det", "predict", str(run), "x", "--threshold", "2"], "give a score from 0 to 1"),
    ):
        assert main(words) == 2
        assert says in capsys.readouterr().err


@pytest.mark.heavy
def test_two_processes_train_as_one_run(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "-m", "cyclemlp"]
    launcher = [
        *launcher[:-2],
        "--log_dir",
        str(tmp_path / "log"),
        str(Path(sys.executable).with_name("cyclemlp")),
    ]
    words = ["det", "train", "--config", str(CONFIG), "--data", str(data), "--output", str(output), *SET]
    done = subprocess.run(
        [
            *launcher,
            *words,
            "--set",
            "TrainReader.batch_size=1",
            "--epochs",
            "1",
            "--device",
            "cpu",
            "--no-progress",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    records = read_json_lines(output / "log.jsonl")
    assert [r["event"] for r in records].count("evaluation") == 1
    assert records[-1]["event"] == "end"
    assert records[-1]["step"] == 3  # 5 images with objects, 2 a step in total, the last ones filled up
    assert (output / "best.pdparams").exists()


def test_a_folder_that_is_trained_into_is_refused(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = holder(tmp_path)
    try:
        words = [
            "det",
            "train",
            "--config",
            str(CONFIG),
            "--data",
            str(data),
            "--output",
            str(tmp_path),
            *SET,
        ]
        assert main(words) == 2
        assert f"in use by process {first.pid}" in capsys.readouterr().err
    finally:
        first.kill()
        first.wait()
