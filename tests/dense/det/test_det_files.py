"""Finding objects in files, and export."""

from __future__ import annotations

import csv
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from dense.det.small import BOXES, CONFIGS, MASKS, small_overrides
from PIL import Image
from pycocotools.coco import COCO

from cyclemlp.dense.det.configuration import Configuration
from cyclemlp.dense.det.engine import build_model, engine
from cyclemlp.dense.det.export import export
from cyclemlp.dense.det.onnx_form import Nms, RetinaCandidates, add_nms
from cyclemlp.dense.det.predict import Detector, Preparation
from cyclemlp.dense.detections import (
    Category,
    Detections,
    ExportedDetector,
    exported_categories,
    predict_files,
    to_detections,
)
from cyclemlp.dense.images import read_image
from cyclemlp.deploy import ExportedModel, ExportError, load_exported
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.predictor import Predictor
from cyclemlp.predictor.detection import suppressed


def read_array(path: Path) -> np.ndarray:
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


def run_exported(model: ExportedModel, config: Configuration, image: np.ndarray) -> Detections:
    """As `Detector`, by the file."""
    config.activate()
    prepared = Preparation()(image)
    outputs = model(prepared.pop("image"), **prepared)
    named = {"bbox": outputs["objects"]}
    if "masks" in outputs:
        named["mask"] = outputs["masks"]
    return to_detections(named, image.shape[:2])


def assert_same(ours: Detections, theirs: Detections) -> None:
    assert len(theirs.labels) >= 3
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-4 * 96)  # of the image's size


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_exported_detector_finds_what_the_engine_finds(tiny: Path, tmp_path: Path, kind: str) -> None:
    config, weights = untrained(tiny, tmp_path, kind)
    folder = tmp_path / "exported"
    images = [read_array(tiny / "images/0.png"), read_array(tiny / "images/1.png")[:50]]
    with engine(lambda text: None):
        detector = Detector(config, weights)
        expected = [detector(image) for image in images]
        export(config, weights, CATEGORIES, folder)
        exported = load_exported(folder)
        for image, theirs in zip(images, expected, strict=True):
            ours = run_exported(exported, config, image)
            assert_same(ours, theirs)
            if kind == "masks":
                assert ours.masks is not None
                assert theirs.masks is not None
                assert theirs.masks.any()
                assert (ours.masks != theirs.masks).mean() <= 1e-4
        with pytest.raises(ConfigError, match="not empty"):
            export(config, weights, CATEGORIES, folder)
        export(config, weights, CATEGORIES, folder, force=True)
    facts = exported.metadata
    assert facts.extra.get("largest_batch") == (None if kind == "boxes" else 1)
    assert facts.extra["paddle_inference"] == {"mkldnn": False}
    assert facts.classes == ["red", "green", "blue"]
    assert (folder / "infer_cfg.yml").exists()
    predictor = Predictor(folder)
    assert predictor.task == ("detection" if kind == "boxes" else "instance segmentation")
    found, sure = predictor(tiny / "images/0.png"), expected[0].above(0.3)
    assert [one.index for one in found.objects] == sure.labels.tolist()
    np.testing.assert_allclose([one.box for one in found.objects] or sure.boxes, sure.boxes, atol=0.01)
    assert exported_categories(predictor) == CATEGORIES
    predictor.threshold = 0.0
    for image, theirs in zip(images, expected, strict=True):
        ours = ExportedDetector(predictor)(image)
        assert_same(ours, theirs)
        if kind == "masks":
            assert (ours.masks != theirs.masks).mean() <= 1e-4


def test_candidates_in_onnx_s_operators_become_the_engine_s_objects(tiny: Path, tmp_path: Path) -> None:
    config, weights = untrained(tiny, tmp_path, "boxes")
    draw = np.random.default_rng(0)
    with engine(lambda text: None), paddle.no_grad():
        model = Detector(config, weights).trainer.model
        layer = RetinaCandidates(model)
        # Of the larger image, more candidates than the engine takes of a level.
        for size in ((64, 96), (192, 256)):
            image, scale = draw.random((1, 3, *size), np.float32), np.array([[0.5, 0.7]], np.float32)
            batch = {"image": image, "scale_factor": scale, "im_shape": scale}
            rows = model({n: paddle.to_tensor(v) for n, v in batch.items()})["bbox"].numpy()
            boxes, scores = layer(paddle.to_tensor(image), paddle.to_tensor(scale))
            found = suppressed(boxes.numpy()[0], scores.numpy()[0], **asdict(layer.nms))
            best = rows[np.argsort(-rows[:, 1], kind="stable")]
            np.testing.assert_allclose(found, best, atol=1e-3, rtol=1e-5)


@pytest.mark.heavy
def test_retinanet_as_onnx_finds_what_the_engine_finds(tiny: Path, tmp_path: Path) -> None:
    config, weights = untrained(tiny, tmp_path, "boxes")
    folder = tmp_path / "exported"
    # Not of the size that the reader makes, one with fewer candidates than the best that are taken, one with more.
    images = [read_array(tiny / "images/0.png"), read_array(tiny / "images/1.png")[:50]]
    larger = np.random.default_rng(0).random((1, 3, 192, 256), np.float32)
    scale = np.array([[0.5, 0.7]], np.float32)
    with engine(lambda text: None):
        detector = Detector(config, weights)
        expected = [detector(image) for image in images]
        batch = {"image": larger, "scale_factor": scale, "im_shape": scale}
        with paddle.no_grad():
            rows = detector.trainer.model({n: paddle.to_tensor(v) for n, v in batch.items()})["bbox"].numpy()
        export(config, weights, CATEGORIES, folder, "onnx")
        export(config, weights, CATEGORIES, tmp_path / "raw", "onnx", nms=False)
    assert [p.name for p in folder.iterdir()] == ["model.onnx"]
    exported, raw = load_exported(folder), load_exported(tmp_path / "raw")
    for image, theirs in zip(images, expected, strict=True):
        assert_same(run_exported(exported, config, image), theirs)
    best = rows[np.argsort(-rows[:, 1], kind="stable")]
    found = exported(larger, scale_factor=scale)
    assert found["counts"].tolist() == [20]
    np.testing.assert_allclose(found["objects"], best, atol=1e-3, rtol=1e-5)
    candidates = raw(larger, scale_factor=scale)
    assert candidates["scores"].shape == (1, 3, candidates["boxes"].shape[1])
    again = suppressed(candidates["boxes"][0], candidates["scores"][0], **raw.metadata.extra["nms"])
    np.testing.assert_allclose(again, best, atol=1e-3, rtol=1e-5)
    # Nothing is sure enough for the predictor, with and without suppression in the file.
    for source in (folder, tmp_path / "raw"):
        assert Predictor(source)(tiny / "images/0.png").objects == ()


def test_onnx_without_an_object_is_empty(tiny: Path, tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("b", [1, 4, 4]), ("s", [1, 2, 4]))
    ]
    outputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("B", [1, 4, 4]), ("S", [1, 2, 4]))
    ]
    nodes = [helper.make_node("Identity", [one.lower()], [one]) for one in "BS"]
    graph = helper.make_graph(nodes, "graph", values, outputs)
    path = str(tmp_path / "m.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    add_nms(path, Nms(0.5, 0.5, -1, -1))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [0, 0, 1, 1]]], np.float32)
    scores = np.full((1, 2, 4), 0.4, np.float32)
    objects, count = session.run(None, {"b": boxes, "s": scores})
    assert (objects.shape, count.tolist()) == ((0, 6), [0])
    scores[0, 1, :3] = 0.6, 0.9, 0.7
    objects, count = session.run(None, {"b": boxes, "s": scores})
    assert objects[:, 0].tolist() == [1, 1]
    np.testing.assert_array_equal(objects[:, 2:], boxes[0, [1, 2]])


def test_what_cannot_be_exported_is_said(tiny: Path, tmp_path: Path) -> None:
    config, weights = untrained(tiny, tmp_path, "masks")
    with engine(lambda text: None):
        with pytest.raises(ExportError, match="ONNX is written for RetinaNet; this is MaskRCNN"):
            export(config, weights, CATEGORIES, tmp_path / "out", "onnx")
        with pytest.raises(ConfigError, match="onnx only"):
            export(config, weights, CATEGORIES, tmp_path / "out", nms=False)
        with pytest.raises(ConfigError, match="paddle or onnx"):
            export(config, weights, CATEGORIES, tmp_path / "out", "openvino")
    assert not (tmp_path / "out").exists()


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
    image = np.zeros((64, 96, 3), np.uint8)
    image[:] = (255, 51, 0)
    prepared = Preparation()(image)
    expected = (np.array([1, 0.2, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(prepared["image"][0, :, 30, 40], expected, atol=1e-5)
    np.testing.assert_array_equal(prepared["scale_factor"], [[1, 1]])


def test_the_engine_s_own_reader_prepares_the_same(tiny: Path) -> None:
    from ppdet.core.workspace import create

    Configuration.load(CONFIGS / "scenes.yaml", small_overrides(tiny) | BOXES).activate()
    dataset = create("EvalDataset")()
    loader = create("EvalReader")(dataset, 0, paddle.io.BatchSampler(dataset, batch_size=1))
    theirs = next(iter(loader))
    ours = Preparation()(read_array(tiny / "images/0.png"))
    np.testing.assert_allclose(ours["image"], theirs["image"].numpy(), atol=1e-6)
    np.testing.assert_array_equal(ours["scale_factor"], theirs["scale_factor"].numpy())


def test_outputs_become_objects_inside_the_image() -> None:
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
    counts = predict_files(lambda image: found, CATEGORIES, paths, output, threshold=0.5)
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


def test_image_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_array(tmp_path / "a.jpg").shape == (40, 20, 3)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match=r"b\.jpg"):
        read_array(tmp_path / "b.jpg")
