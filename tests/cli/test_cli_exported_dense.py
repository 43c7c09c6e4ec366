"""`cyclemlp seg` and `cyclemlp det` with what their `export` wrote: small ONNX graphs with known results, run."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense.det.tiny_coco import IDS, make_tiny_coco
from onnx import helper
from PIL import Image
from predictor.test_predictor_tasks import detector, detector_metadata, save, segmentation
from pycocotools import mask as coco_mask
from seg_fixtures import CLASSES, config_values, write_config, write_data

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.deploy import Output
from cyclemlp.report import class_colour

Run = Callable[..., tuple[int, str, str]]
CONFIG = Path(__file__).parents[2] / "configs/det/scenes.yaml"
WORDS = ["--threads", "1", "--no-progress"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with an image of two colours, red and blue."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 200
    Image.fromarray(pixels).save(folder / "halves.png")
    return folder


def test_segmentation_writes_the_files_of_a_run(run: Run, images: Path, tmp_path: Path) -> None:
    segmentation(tmp_path / "model", [])
    (images / "bad.png").write_text("no image")
    words = ["seg", "predict", tmp_path / "model", images, "--output", tmp_path / "out", *WORDS]
    code, _, err = run(*words)
    assert (code, "--skip-bad leaves out images" in err) == (2, True)
    code, out, err = run(*words, "--skip-bad", "--json")
    assert code == 1
    assert f"model: Brightest in {tmp_path / 'model'}, onnxruntime in float32" in err
    found = json.loads(out)
    assert found["classes"] == ["red", "green", "blue"]
    (entry,) = found["predictions"]
    assert entry["shares"] == pytest.approx({"red": 1 / 3, "blue": 2 / 3})
    with Image.open(tmp_path / "out/masks/halves.png") as image:
        assert (image.mode, tuple(image.getpalette()[3:6])) == ("P", class_colour(1))
        np.testing.assert_array_equal(np.unique(np.asarray(image)[:, :20]), [0])
        np.testing.assert_array_equal(np.unique(np.asarray(image)[:, 20:]), [2])
    assert (tmp_path / "out/overlays/halves.png").is_file()


def test_the_predictions_of_an_exported_model_lie_in_the_working_folder(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation(tmp_path / "model", [])
    monkeypatch.chdir(tmp_path)
    assert run("seg", "predict", "model", "images", *WORDS)[0] == 0
    assert (tmp_path / "predictions/masks/halves.png").is_file()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("masks", [False, True])
def test_detection_writes_the_files_of_a_run(run: Run, tmp_path: Path, masks: bool) -> None:
    metadata = detector_metadata(masks=masks)
    metadata.extra["categories"] = [{"id": 7, "name": "cup"}, {"id": 3, "name": "table"}]
    detector(tmp_path / "model", masks=masks, metadata=metadata)
    Image.new("RGB", (8, 6)).save(tmp_path / "small.png")  # of the size of the graph's masks
    words = ["det", "predict", tmp_path / "model", tmp_path / "small.png", "--output", tmp_path / "out"]
    code, out, err = run(*words, "--json", *WORDS)
    assert code == 0
    assert json.loads(out)["objects"] == {"cup": 1, "table": 1}
    assert f"model: Two in {tmp_path / 'model'}, onnxruntime in float32" in err
    written = json.loads((tmp_path / "out/predictions.json").read_text())
    assert written["categories"] == [{"id": 7, "name": "cup"}, {"id": 3, "name": "table"}]
    cup, table = written["annotations"]
    assert (cup["category_id"], cup["score"], cup["bbox"]) == (7, 0.9, [0, 3, 8, 3])
    assert (table["category_id"], table["score"], table["bbox"]) == (3, 0.4, [0, 0, 8, 6])
    if masks:  # the second covers the whole image, the pixels of the first too
        np.testing.assert_array_equal(coco_mask.decode(cup["segmentation"]), np.eye(6, 8))
        assert coco_mask.decode(table["segmentation"]).all()
    assert len(list(csv.reader((tmp_path / "out/predictions.csv").open()))) == 3
    assert (tmp_path / "out/small.png").is_file()
    # In both directions: one of the two is less sure than 0.5, and none is less sure than 0.
    for threshold, expected in ((0.5, {"cup": 1, "table": 0}), (0, {"cup": 1, "table": 1})):
        code, out, _ = run(*words, "--threshold", threshold, "--no-images", "--json", *WORDS)
        assert (code, json.loads(out)["objects"]) == (0, expected)


def test_a_lower_threshold_than_the_default_one_has_an_effect(run: Run, tmp_path: Path) -> None:
    metadata = detector_metadata(masks=False)
    metadata.outputs[0] = Output("boxes", "candidate boxes")
    metadata.outputs.append(Output("scores", "candidate scores"))
    metadata.extra["nms"] = {
        "score_threshold": 0.05,
        "nms_threshold": 0.5,
        "nms_top_k": -1,
        "keep_top_k": -1,
    }
    save(
        tmp_path / "model",
        [helper.make_node("Identity", ["b"], ["boxes"]), helper.make_node("Identity", ["s"], ["scores"])],
        [("image", [1, 3, "h", "w"]), ("im_shape", [1, 2]), ("scale_factor", [1, 2])],
        [("boxes", [1, 2, 4]), ("scores", [1, 2, 2])],
        [
            ("b", np.array([[[0, 0, 4, 4], [5, 5, 9, 9]]], np.float32)),
            ("s", np.array([[[0.2, 0], [0, 0.9]]], np.float32)),
        ],
        metadata,
    )
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    words = ["det", "predict", tmp_path / "model", tmp_path / "a.png", "--output", tmp_path / "out", "--json"]
    for more, expected in (([], [0, 1]), (["--threshold", 0.1], [1, 1])):
        code, out, _ = run(*words, *more, *WORDS)
        assert (code, list(json.loads(out)["objects"].values())) == (0, expected)


def test_prediction_needs_no_engine(tmp_path: Path, images: Path) -> None:
    segmentation(tmp_path / "seg", [])
    detector(tmp_path / "det", masks=False)
    program = (
        "import sys; sys.modules['paddleseg'] = sys.modules['ppdet'] = None\n"
        "from cyclemlp.cli.main import main\n"
        "for kind in ('seg', 'det'):\n"
        f"    assert main([kind, 'predict', kind, {str(images)!r}, '--output', 'out', '--no-progress']) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/masks/halves.png").is_file()
    assert (tmp_path / "out/predictions.json").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seg", "predict", "seg", "x.png", "--window", "64"], "--window is not for .* the whole image once"),
        (["seg", "predict", "seg", "x.png", "--scales", "1", "2"], "--scales is not for an exported model"),
        (["seg", "predict", "seg", "x.png", "--flip"], "--flip is not for an exported model"),
        (
            ["seg", "predict", "seg", "x.png", "--device", "cpu"],
            "--device is not for .* runs on the processor",
        ),
        (["seg", "predict", "seg", "x.png", "--set", "iters=1"], "--set is not for .* holds its classes"),
        (["det", "predict", "det", "x.png", "--config", "a.yaml"], "--config is not for an exported model"),
        (["det", "predict", "det", "x.png", "--data", "d"], "--data is not for an exported model"),
        (["seg", "eval", "seg", "--config", "a.yaml", "--workers", "2"], "--workers is not for .* one after"),
        (["seg", "eval", "seg"], "does not hold the data to measure it on: give --config FILE"),
        (["det", "eval", "det"], "does not hold the data to measure it on: give --config FILE"),
        (["seg", "predict", "det", "x.png"], "exported model for detection, and .* use `cyclemlp det` with"),
        (["det", "predict", "seg", "x.png"], "exported model for segmentation, .* use `cyclemlp seg` with"),
        (["det", "predict", "classifier", "x.png"], "for classification, .* use `cyclemlp predict` and"),
        (["seg", "export", "seg", "--output", "out"], "is an exported model already"),
        (["det", "export", "det", "--output", "out"], "is an exported model already"),
        (["seg", "predict", "run", "x.png", "--threads", "1"], "--threads is for what `cyclemlp seg export`"),
        (
            ["det", "eval", "run", "--runtime", "openvino"],
            "--runtime is for what `cyclemlp det export` wrote",
        ),
    ],
)
def test_what_has_no_effect_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    segmentation(tmp_path / "seg", [])
    detector(tmp_path / "det", masks=False)
    if "classifier" in words:
        cyclemlp.export_model(cyclemlp.create_model("cyclemlp_nano", num_classes=2), tmp_path / "classifier")
    code, _, err = run(*words)
    assert code == 2
    assert re.search(says, err), err
    assert not (tmp_path / "predictions").exists()


def brightest(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all images, and the brightest channel of each pixel."""
    labels = np.stack([np.asarray(Image.open(path)) for path in sorted((data / "labels").iterdir())])
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted((data / "images").iterdir())])
    return labels, pixels.argmax(axis=-1)


def test_segmentation_is_measured_by_hand(run: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = write_config(tmp_path / "tiny.yaml", config_values(data))
    segmentation(tmp_path / "model", [], classes=CLASSES)
    words = ["seg", "eval", tmp_path / "model", "--config", config, "--output", tmp_path / "figures"]
    code, out, _ = run(*words, "--json", *WORDS)
    assert code == 0
    figures = json.loads(out)
    assert figures == json.loads((tmp_path / "figures/eval.json").read_text())
    labels, said = brightest(data)
    counted = labels != 255
    ious = [
        ((labels == k) & (said == k)).sum() / (((labels == k) | (said == k)) & counted).sum()
        for k in range(3)
    ]
    assert [row["iou"] for row in figures["classes"]] == pytest.approx(ious)
    assert figures["pixel_accuracy"] == pytest.approx((labels == said)[counted].mean())
    assert [row["pixels"] for row in figures["classes"]] == [(labels == k).sum() for k in range(3)]
    assert (figures["images"], figures["runtime"]) == (4, "onnxruntime")
    code, out, _ = run(*words, *WORDS)
    assert (code, f"mean IoU {100 * np.mean(ious):.2f} %" in out) == (0, True)
    segmentation(tmp_path / "other", [], classes=["a", "b", "c"])
    code, _, err = run("seg", "eval", tmp_path / "other", "--config", config, *WORDS)
    assert code == 2
    assert "has the classes a, b, c, and the data of" in err


def test_detection_is_measured_by_hand(run: Run, tmp_path: Path) -> None:
    """Every image has the same two finds, of which one is an object of the first image."""
    data = make_tiny_coco(tmp_path / "data")
    truth = json.loads((data / "annotations/val.json").read_text())
    names = [one["name"] for one in truth["categories"]]
    first = truth["annotations"][0]
    x, y, w, h = first["bbox"]
    label = list(IDS.values()).index(first["category_id"])
    metadata = detector_metadata(masks=False)
    metadata.classes, metadata.num_classes = names, 3
    save(
        tmp_path / "model",
        [helper.make_node("Identity", ["rows"], ["boxes"])],
        [("image", [1, 3, "h", "w"]), ("im_shape", [1, 2]), ("scale_factor", [1, 2])],
        [("boxes", ["n", 6])],
        [("rows", np.array([[label, 0.1, x, y, x + w, y + h], [-1, 0.9, 0, 0, 1, 1]], np.float32))],
        metadata,
    )
    settings: list[Any] = ["--data", data, "--set", "num_classes=3"]
    for key in ("Train", "Eval"):
        settings += ["--set", f"{key}Dataset.anno_path=annotations/val.json"]
    words = ["det", "eval", tmp_path / "model", "--config", CONFIG, *settings, "--output", tmp_path / "out"]
    code, out, err = run(*words, "--json", *WORDS)
    assert code == 0, err
    figures = json.loads(out)
    objects = figures["per_class"][names[label]]["objects"]
    # Equal scores: COCO takes them in the order of the images, so the first find is right, at recall 1 / objects.
    reached = int(np.floor(100 / objects + 1e-9)) + 1  # of the 101 levels of recall
    assert figures["per_class"][names[label]]["bbox_ap50"] == pytest.approx(reached / 101)
    assert figures["runtime"] == "onnxruntime"
    assert len(json.loads((tmp_path / "out/bbox.json").read_text())) == 6  # with a score below 0.3
    code, out, _ = run(*words, *WORDS)
    assert (code, "bbox ap50" in out) == (0, True)
    detector(tmp_path / "other", masks=False)
    code, _, err = run("det", "eval", tmp_path / "other", "--config", CONFIG, *settings, *WORDS)
    assert code == 2
    assert "has the classes cup, table, and the data of" in err
