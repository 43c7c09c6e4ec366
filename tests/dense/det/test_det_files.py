"""Finding objects in files, and export."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from dense.det.small import BOXES, CONFIGS, MASKS, small_overrides
from PIL import Image
from pycocotools.coco import COCO

from cyclemlp.dense.det.configuration import Category, Configuration
from cyclemlp.dense.det.engine import build_model, engine
from cyclemlp.dense.det.export import ExportedDetector, export
from cyclemlp.dense.det.pictures import read_picture as read_image
from cyclemlp.dense.det.predict import (
    Detections,
    Detector,
    Preparation,
    predict_files,
    to_detections,
)
from cyclemlp.deploy import ExportError
from cyclemlp.errors import ConfigError, DataError


def read_picture(path: Path) -> np.ndarray:
    return np.asarray(read_image(path))


CATEGORIES = [Category(3, "red"), Category(7, "green"), Category(11, "blue")]


def untrained(tiny: Path, folder: Path, kind: str) -> tuple[Configuration, Path]:
    """A detector that finds something everywhere, as its threshold is low and its scores are spread."""
    if kind == "boxes":
        overrides: dict[str, Any] = BOXES | {
            "RetinaHead.nms.score_threshold": 0.01,
            "RetinaHead.nms.keep_top_k": 20,
        }
        config = Configuration.load(CONFIGS / "scenes.yaml", small_overrides(tiny) | overrides)
    else:
        overrides = MASKS | {
            "BBoxPostProcess.nms.score_threshold": 0.01,
            "BBoxPostProcess.nms.keep_top_k": 20,
        }
        config = Configuration.load(CONFIGS / "scenes_mask_rcnn.yaml", small_overrides(tiny) | overrides)
    config.activate()
    paddle.seed(1)
    model = build_model(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("retina_cls.weight", "bbox_score.weight", "mask_fcn_logits.weight")):
            parameter.set_value(parameter * 20)
    paddle.save(model.state_dict(), str(folder / "weights.pdparams"))
    return config, folder / "weights.pdparams"


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_exported_detector_finds_what_the_engine_finds(tiny: Path, tmp_path: Path, kind: str) -> None:
    config, weights = untrained(tiny, tmp_path, kind)
    folder = tmp_path / "exported"
    pictures = [read_picture(tiny / "images/0.png"), read_picture(tiny / "images/1.png")[:50]]
    with engine(lambda text: None):
        detector = Detector(config, weights)
        expected = [detector(picture) for picture in pictures]
        export(config, weights, CATEGORIES, folder)
        exported = ExportedDetector(folder, config)
        for picture, theirs in zip(pictures, expected, strict=True):
            ours = exported(picture)
            assert len(theirs.labels) >= 3
            np.testing.assert_array_equal(ours.labels, theirs.labels)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
            np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-4 * 96)  # of the picture's size
            if kind == "masks":
                assert ours.masks is not None
                assert theirs.masks is not None
                assert theirs.masks.any()
                assert (ours.masks != theirs.masks).mean() <= 1e-4
        with pytest.raises(ConfigError, match="not empty"):
            export(config, weights, CATEGORIES, folder)
        export(config, weights, CATEGORIES, folder, force=True)
    facts = json.loads((folder / "metadata.json").read_text())
    assert facts["inputs"][0]["shape"][0] == ("B" if kind == "boxes" else 1)
    assert [c["name"] for c in facts["categories"]] == ["red", "green", "blue"]
    assert (folder / "infer_cfg.yml").exists()


def test_force_replaces_an_exported_detector_and_nothing_else(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config, weights = untrained(tiny, run, "boxes")
    refused = pytest.raises(ExportError, match=r"holds other things.*weights\.pdparams")
    with engine(lambda text: None), refused:
        export(config, weights, CATEGORIES, run, force=True)
    assert weights.is_file()


def test_preparation_reads_rgb_in_the_weights_normalisation(tiny: Path) -> None:
    Configuration.load(CONFIGS / "scenes.yaml", small_overrides(tiny) | BOXES).activate()
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:] = (255, 51, 0)
    prepared = Preparation()(picture)
    expected = (np.array([1, 0.2, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(prepared["image"][0, :, 30, 40], expected, atol=1e-5)
    np.testing.assert_array_equal(prepared["scale_factor"], [[1, 1]])


def test_the_engine_s_own_reader_prepares_the_same(tiny: Path) -> None:
    from ppdet.core.workspace import create

    Configuration.load(CONFIGS / "scenes.yaml", small_overrides(tiny) | BOXES).activate()
    dataset = create("EvalDataset")()
    loader = create("EvalReader")(dataset, 0, paddle.io.BatchSampler(dataset, batch_size=1))
    theirs = next(iter(loader))
    ours = Preparation()(read_picture(tiny / "images/0.png"))
    np.testing.assert_allclose(ours["image"], theirs["image"].numpy(), atol=1e-6)
    np.testing.assert_array_equal(ours["scale_factor"], theirs["scale_factor"].numpy())


def test_outputs_become_objects_inside_the_picture() -> None:
    rows = [
        [1, 0.4, -5, 2, 20, 30],
        [0, 0.9, 1, 1, 9, 9],
        [-1, 0.8, 0, 0, 5, 5],
        [2, 0, 0, 0, 1, 1],
        [2, 0.7, 99, 1, 120, 9],
    ]
    found = to_detections(
        {"bbox": np.array(rows, np.float32), "mask": np.ones((5, 40, 50), np.int32)}, (40, 50)
    )
    np.testing.assert_array_equal(found.labels, [0, 1])
    np.testing.assert_array_equal(found.boxes, [[1, 1, 9, 9], [0, 2, 20, 30]])
    assert found.masks is not None
    assert found.masks.shape == (2, 40, 50)
    assert len(found.above(0.5).labels) == 1
    none = to_detections({"bbox": np.zeros((0, 6), np.float32)}, (40, 50))
    assert len(none.labels) == 0


def test_files_of_finds_read_back(tiny: Path, tmp_path: Path) -> None:
    mask = np.zeros((1, 64, 96), bool)
    mask[0, 10:20, 30:60] = True
    found = Detections(
        np.array([[30, 10, 60, 20]], np.float32), np.array([2]), np.array([0.75], np.float32), mask
    )
    (tmp_path / "a").mkdir()
    shutil.copy(tiny / "images/0.png", tmp_path / "a/0.png")
    output = tmp_path / "out"
    output.mkdir()
    paths = [tiny / "images/0.png", tmp_path / "a/0.png"]
    counts = predict_files(lambda picture: found, CATEGORIES, paths, output, threshold=0.5)
    assert counts == {"red": 0, "green": 0, "blue": 2}
    assert {p.name for p in output.iterdir()} == {"0.png", "0_2.png", "predictions.json", "predictions.csv"}
    coco = COCO(str(output / "predictions.json"))
    (entry,) = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert (entry["category_id"], entry["bbox"], entry["area"], entry["score"]) == (
        11,
        [30, 10, 30, 10],
        300,
        0.75,
    )
    np.testing.assert_array_equal(coco.annToMask(entry), mask[0])
    rows = list(csv.reader((output / "predictions.csv").open()))
    assert rows[1] == [str(paths[0]), "blue", "0.75", "30.0", "10.0", "30.0", "10.0"]
    assert Image.open(output / "0.png").size == (480, 320)  # enlarged, to be legible


def test_picture_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").shape == (40, 20, 3)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match=r"b\.jpg"):
        read_picture(tmp_path / "b.jpg")
