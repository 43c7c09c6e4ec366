"""Runs of the engine's trainer: what they leave, resuming, stopping in time, numbers that are none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from dense.det.small import BOXES, CONFIGS, MASKS, small_overrides
from dense.det.tiny_coco import make_tiny_coco

from cyclemlp.dense.det.check import check
from cyclemlp.dense.det.configuration import Configuration
from cyclemlp.dense.det.engine import Evaluation, engine, load_start
from cyclemlp.dense.det.predict import Detector
from cyclemlp.dense.det.train import Result, train
from cyclemlp.dense.loading import ReaderError
from cyclemlp.errors import ConfigError, DataError, WeightsError
from cyclemlp.report import read_json_lines
from cyclemlp.run import find_weights, list_checkpoints, read_state
from cyclemlp.training import TrainingFailedError


def boxes_config(tiny: Path, **more: Any) -> Configuration:
    return Configuration.load(CONFIGS / "scenes.yaml", small_overrides(tiny) | BOXES | more)


def masks_config(tiny: Path, **more: Any) -> Configuration:
    return Configuration.load(CONFIGS / "scenes_mask_rcnn.yaml", small_overrides(tiny) | MASKS | more)


def start(config: Configuration, output: Path, said: list[str] | None = None, **options: Any) -> Result:
    with engine(lambda text: None):
        return train(
            config, output, show_progress=False, say=(said if said is not None else []).append, **options
        )


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs, each evaluated."""
    output = tmp_path_factory.mktemp("runs") / "boxes"
    start(boxes_config(tiny, epoch=2, snapshot_epoch=1, log_iter=1), output)
    return output


def weights_of(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in paddle.load(str(path)).items()}


def test_run_folder_holds_all_that_a_run_is(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        *("recipe.yaml", "log.jsonl", "README.md", "curves.png", "best.pdparams", "checkpoints"),
        *("categories.json", "bbox.json"),
    }
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint_0001", "checkpoint_0002"]
    state = read_state(run / "checkpoints/checkpoint_0002")
    assert (state["epoch"], state["classes"]) == (2, ["red", "green", "blue"])
    readme = (run / "README.md").read_text()
    for words in ("| model | RetinaNet, ", "| paddledet | 2.6", "| box AP (%) | box AP50 (%) |", "4 (last)"):
        assert words in readme
    records = read_json_lines(run / "log.jsonl")
    assert [r["event"] for r in records] == [
        "start",
        "step",
        "step",
        "evaluation",
        "step",
        "step",
        "evaluation",
        "end",
    ]
    assert [r["step"] for r in records[1:]] == [1, 2, 2, 3, 4, 4, 4]
    assert [r["epoch"] for r in records[1:]] == [0, 0, 1, 1, 1, 2, 2]
    assert {"loss", "loss_cls", "loss_reg", "lr", "seconds", "epoch"} <= set(records[1])
    assert 0 <= records[3]["bbox_ap"] <= records[3]["bbox_ap50"] <= 1
    assert set(records[3]["per_class"]) == {"red", "green", "blue"}
    assert records[-1]["reason"] == "finished"


def test_resumed_run_goes_on_as_if_it_had_not_stopped(tiny: Path, run: Path, tmp_path: Path) -> None:
    # Nothing random but the order of the images, which an epoch has of itself.
    config = boxes_config(tiny, epoch=2, snapshot_epoch=1, log_iter=1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    start(config, whole, evaluate=False)
    start(boxes_config(tiny, epoch=1, log_iter=1), parts, evaluate=False)
    said: list[str] = []
    with pytest.warns(UserWarning, match="the recipe differs .* epoch 1 → 2"):
        start(config, parts, said, evaluate=False, resume="auto")
    assert f"resuming from {parts / 'checkpoints/checkpoint_0001'}: 1 epoch done" in said
    last = "checkpoints/checkpoint_0002/model.pdparams"
    one, other = (weights_of(folder / last) for folder in (whole, parts))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-6, err_msg=name)
    rates = [
        [r["lr"] for r in read_json_lines(f / "log.jsonl") if r["event"] == "step"] for f in (whole, parts)
    ]
    assert rates[0] == rates[1]


def test_a_run_that_is_there_is_not_overwritten(tiny: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not empty.*--resume.*--force"):
        start(boxes_config(tiny), run)


def test_time_limit_ends_with_an_evaluation_and_a_checkpoint(tiny: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = start(boxes_config(tiny, epoch=500), tmp_path / "run", said, max_minutes=1e-4)
    records = read_json_lines(tmp_path / "run/log.jsonl")
    assert [r["event"] for r in records] == ["start", "step", "evaluation", "end"]
    assert records[-1]["reason"] == result.reason == "time"
    assert result.best is not None
    assert (tmp_path / "run/best.pdparams").exists()
    assert (tmp_path / "run/checkpoints/checkpoint_0000/model.pdopt").exists()
    assert any("of training are up" in text for text in said)


def test_a_run_that_gets_no_better_ends_early(tiny: Path, tmp_path: Path) -> None:
    config = boxes_config(tiny, epoch=500, snapshot_epoch=1, **{"LearningRate.base_lr": 1e-30})
    said: list[str] = []
    result = start(config, tmp_path / "run", said, patience=1)
    assert (result.epochs, result.reason) == (2, "early stopping")
    records = read_json_lines(tmp_path / "run/log.jsonl")
    assert [r["event"] for r in records if r["event"] != "step"] == [
        "start",
        "evaluation",
        "evaluation",
        "end",
    ]
    assert "early stopping: no better average precision in the last 1 evaluation (--patience 1)" in said
    again = start(config, tmp_path / "run", patience=1, resume="auto")
    assert (again.epochs, again.reason) == (2, "early stopping")
    more = start(config, tmp_path / "run", patience=2, resume="auto")
    assert (more.epochs, more.reason) == (3, "early stopping")
    with pytest.raises(ConfigError, match="--patience counts evaluations"):
        start(config, tmp_path / "other", patience=2, evaluate=False)


def test_a_run_with_an_average_stops_and_goes_on(tiny: Path, tmp_path: Path) -> None:
    config, output = boxes_config(tiny, epoch=500, use_ema=True), tmp_path / "run"
    start(config, output, max_minutes=1e-9, evaluate=False)  # after the first step
    files = {path.name for path in (output / "checkpoints/checkpoint_0000").iterdir()}
    assert files == {"model.pdparams", "model.pdema", "model.pdopt", "state.json"}
    result = start(config, output, resume="auto", max_minutes=1e-9, evaluate=False)
    assert result.reason == "time"
    assert result.seconds > read_json_lines(output / "log.jsonl")[2]["seconds"]


def test_loss_that_is_no_number_stops_with_its_tensor(tiny: Path, tmp_path: Path) -> None:
    config = boxes_config(tiny, **{"LearningRate.base_lr": float("inf"), "epoch": 3})
    with pytest.raises(TrainingFailedError, match=r"step 2: loss_cls is nan.*[Tt]he parameter"):
        start(config, tmp_path / "run", evaluate=False)


def test_masks_from_polygons_and_from_run_lengths_train_alike(tiny: Path, tmp_path: Path) -> None:
    runs = make_tiny_coco(tmp_path / "rle", rle=True)
    found = []
    for data in (tiny, runs):
        output = tmp_path / f"run_{data.name}"
        result = start(masks_config(data, epoch=1, log_iter=1), output)
        finds = [json.loads((output / f"{kind}.json").read_text()) for kind in ("bbox", "mask")]
        assert len(finds[0]) == len(finds[1])
        assert {"mask_ap", "mask_ap50", "bbox_ap"} <= set(result.best or {})
        found.append([r["loss"] for r in read_json_lines(output / "log.jsonl") if r["event"] == "step"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)


def test_weights_of_another_detector_start_what_fits(tiny: Path, run: Path, tmp_path: Path) -> None:
    config = boxes_config(tiny, pretrain_weights=str(run / "best.pdparams"), epoch=1)
    said: list[str] = []
    start(config, tmp_path / "run", said, evaluate=False)
    assert any(text.startswith(f"{len(weights_of(find_weights(run)))} of ") for text in said)
    with engine(lambda text: None):
        model = Detector(masks_config(tiny), _random_weights(masks_config(tiny), tmp_path)).trainer.model
        told = load_start(model, run / "best.pdparams")
    *_, missing, unused = told.splitlines()
    assert missing.startswith("  not in the file, left as initialised: ")
    assert "rpn_head." in missing
    assert unused.startswith("  not used: ")
    assert "head.retina_cls.weight" in unused


def _random_weights(config: Configuration, folder: Path) -> Path:
    from ppdet.core.workspace import create

    config.activate()
    paddle.save(create(config.architecture).state_dict(), str(folder / "random.pdparams"))
    return folder / "random.pdparams"


def test_weights_of_another_shape_are_refused(tiny: Path, run: Path) -> None:
    wider = boxes_config(tiny, **{"CycleMLP_Micro.embed_dims": [8, 12, 16, 32]})
    with engine(lambda text: None), pytest.raises(WeightsError, match=r"backbone\."):
        Detector(wider, find_weights(run))


def test_what_the_check_accepts_trains_and_is_measured(tiny: Path, tmp_path: Path) -> None:
    """Numbering from 0, a crowd, an object to ignore, sizes as floats, an absolute path."""
    data = Path(shutil.copytree(tiny, tmp_path / "data"))
    content = json.loads((data / "annotations/train.json").read_text())
    ids = {category["id"]: number for number, category in enumerate(content["categories"])}
    for category in content["categories"]:
        category["id"] = ids[category["id"]]
    for number, entry in enumerate(content["annotations"]):
        entry.update(id=number, category_id=ids[entry["category_id"]], image_id=entry["image_id"] - 10)
    for number, image in enumerate(content["images"]):
        image.update(id=number, width=96.0)
    content["images"][0]["file_name"] = str(data / "images/0.png")
    whole = {"size": [64, 96], "counts": [0, 64 * 96]}
    content["annotations"][2].update(iscrowd=1, segmentation=whole)
    content["annotations"][3].update(ignore=1)
    for part in ("train", "val"):
        (data / f"annotations/{part}.json").write_text(json.dumps(content))
    config = masks_config(data, epoch=1)
    assert [report.errors for report in check(config)] == [[], []]
    result = start(config, tmp_path / "run")
    assert set(result.best or {}) >= {"bbox_ap", "mask_ap"}


def test_an_object_of_id_0_is_found_too(tiny: Path, tmp_path: Path) -> None:
    from cyclemlp.dense.det.engine import CocoFigures

    data = Path(shutil.copytree(tiny, tmp_path / "data"))
    path = data / "annotations/val.json"
    content = json.loads(path.read_text())
    for number, entry in enumerate(content["annotations"]):
        entry["id"] = number
    path.write_text(json.dumps(content))
    metric = CocoFigures(path, boxes_config(data).categories("EvalDataset"), tmp_path, masks=False)
    keys = ("image_id", "category_id", "bbox")
    metric.results["bbox"] = [{"score": 0.9, **{k: a[k] for k in keys}} for a in content["annotations"]]
    metric.accumulate()
    assert metric.figures is not None
    assert metric.figures.values["bbox_ap"] == pytest.approx(1)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_ends_the_run_and_is_named(
    tiny: Path, tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(tiny, tmp_path / "data"))
    (data / "images/2.png").write_bytes((data / "images/2.png").read_bytes()[:100])
    begin = time.monotonic()
    with pytest.raises(ReaderError, match=r"images/2\.png' cannot be decoded"):
        start(boxes_config(data, worker_num=workers), tmp_path / "run", evaluate=False)
    assert time.monotonic() - begin < 30
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"LearningRate.base_lr": "hello"}, "cannot build its trainer: TypeError"),
        ({"LearningRate.schedulers": 5}, "cannot build its trainer: TypeError"),
        ({"TrainReader.sample_transforms": [{"Nonsense": {}}]}, "cannot build its trainer: .*Nonsense"),
        ({"EvalReader.sample_transforms": [{"Nonsense": {}}]}, "cannot build its EvalReader: .*Nonsense"),
        ({"RetinaNet.backbone": "CycleMLP_B9"}, "cannot build its RetinaNet: .*CycleMLP_B9"),
    ],
)
def test_what_the_engine_cannot_build_is_one_error(
    tiny: Path, tmp_path: Path, overrides: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        start(boxes_config(tiny, **overrides), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_fit_together_fail_in_a_line(tiny: Path, tmp_path: Path) -> None:
    config = boxes_config(tiny, **{"FPN.out_channel": 8})
    with pytest.raises(TrainingFailedError, match=r"step 1: PaddleDetection stopped: .*fit together"):
        start(config, tmp_path / "run", evaluate=False)


def test_a_run_is_not_resumed_as_another(tiny: Path, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    wider = {"CycleMLP_Micro.embed_dims": [8, 12, 16, 32], "epoch": 5}
    with pytest.raises(WeightsError, match=r"backbone\."):
        start(boxes_config(tiny, **wider), copy, resume="auto", evaluate=False)
    data = Path(shutil.copytree(tiny, tmp_path / "data"))
    for path in (data / "annotations").iterdir():
        path.write_text(path.read_text().replace('"red"', '"violet"'))
    with pytest.raises(DataError, match=r"checkpoint_0002 was trained on .*differ in 'red', 'violet'"):
        start(boxes_config(data, epoch=5), copy, resume="auto")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_bad_data_leave_nothing_behind(tiny: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny, tmp_path / "data"))
    (data / "images/2.png").unlink()
    with pytest.raises(DataError, match=r"train\.json: images\[2\]: .*2\.png does not exist"):
        start(boxes_config(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.heavy
def test_sigterm_to_the_group_saves_a_checkpoint(tiny: Path, tmp_path: Path) -> None:
    """As Paddle's launcher, `timeout` and a terminal's Ctrl-C send signals: to the reader's processes too."""
    path = tmp_path / "c.yaml"
    config = boxes_config(tiny, epoch=500, snapshot_epoch=500, worker_num=2, log_iter=1)
    path.write_text(config.to_yaml())
    output = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "cyclemlp",
        "det",
        "train",
        "--config",
        path,
        "--output",
        output,
        "--no-eval",
    ]
    with (tmp_path / "out.txt").open("w") as out:
        run = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=out, start_new_session=True, cwd=tmp_path
        )
    log = output / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and '"step": 3' in log.read_text()):
        assert run.poll() is None, (tmp_path / "out.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGTERM)
    assert run.wait(timeout=30) == 128 + signal.SIGTERM, (tmp_path / "out.txt").read_text()
    assert list(output.glob("checkpoints/checkpoint_*/model.pdopt"))
    assert "Traceback" not in (tmp_path / "out.txt").read_text()


def test_two_checkpoints_and_the_best_stay(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    start(boxes_config(tiny, epoch=4, snapshot_epoch=1), output, evaluate=False)
    assert [p.name for p in output.glob("*.pd*")] == ["best.pdparams"]
    assert [p.name for p in list_checkpoints(output)] == ["checkpoint_0003", "checkpoint_0004"]


def test_fewer_images_than_a_step_takes_is_an_error(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 5 images with objects, fewer than one step"):
        start(boxes_config(tiny, **{"TrainReader.batch_size": 9}), tmp_path / "run")


def test_perfect_finds_have_ap_one_and_half_of_them_half(tiny: Path, tmp_path: Path) -> None:
    """COCO's figures, from the truth itself as what was found."""
    from cyclemlp.dense.det.engine import CocoFigures

    config = masks_config(tiny)
    truth = json.loads((tiny / "annotations/val.json").read_text())
    metric = CocoFigures(tiny / "annotations/val.json", config.categories("EvalDataset"), tmp_path, True)
    from pycocotools import mask as coco_mask

    for kind in ("bbox", "mask"):
        for a in truth["annotations"]:
            find = {
                "image_id": a["image_id"],
                "category_id": a["category_id"],
                "score": 0.9,
                "bbox": a["bbox"],
            }
            if kind == "mask":
                runs = coco_mask.frPyObjects(a["segmentation"], 64, 96)[0]
                find["segmentation"] = {"size": runs["size"], "counts": runs["counts"].decode()}
            metric.results[kind].append(find)
    metric.accumulate()
    assert metric.figures is not None
    assert metric.figures.values["bbox_ap"] == pytest.approx(1)
    assert metric.figures.values["mask_ap"] == pytest.approx(1)
    assert metric.figures.values["bbox_ap_large"] is None
    assert metric.figures.objects == len(truth["annotations"])

    metric.results["bbox"] = [f for f in metric.results["bbox"] if f["category_id"] != 3]
    metric.accumulate()
    assert metric.figures.per_class["red"]["bbox_ap"] == 0
    assert metric.figures.per_class["blue"]["bbox_ap"] == pytest.approx(1)
    assert metric.figures.values["bbox_ap"] == pytest.approx(2 / 3)


def test_evaluation_of_the_best_model_gives_the_logged_figures(tiny: Path, run: Path, tmp_path: Path) -> None:
    config = Configuration.load(run / "recipe.yaml")
    with engine(lambda text: None):
        detector = Detector(config, find_weights(run))
        figures = Evaluation(config, tmp_path)(detector.trainer, on_batch=lambda: None)
    best = [r for r in read_json_lines(run / "log.jsonl") if r.get("best")][-1]
    assert figures.values["bbox_ap"] == pytest.approx(best["bbox_ap"], abs=1e-6)
    assert figures.images == 6
