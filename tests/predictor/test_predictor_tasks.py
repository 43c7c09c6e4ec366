"""What the service makes of models for segmentation and detection: small ONNX graphs with known results, really run."""

from __future__ import annotations

import base64
import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from cyclemlp.deploy import ExportMetadata, Output, load_exported
from cyclemlp.deploy.metadata import KEY
from cyclemlp.errors import CycleMLPError
from cyclemlp.predictor.detection import suppressed
from cyclemlp.predictor.tasks import Wishes, open_task
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.serve import Limits
from cyclemlp.serve.app import Answer
from cyclemlp.serve.decoder import open_upload

WISHES = Wishes(top=5, maps=False)


def save(folder, nodes, inputs, outputs, constants=(), metadata=None):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {KEY: metadata.to_json()})
    folder.mkdir(exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))


def halves(size, left, right):
    """An image of two colours, side by side."""
    image = Image.new("RGB", size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.save(file, "PNG")
    return open_upload(file.getvalue(), "halves.png", Limits())


def mask_of(answer):
    return Image.open(io.BytesIO(base64.b64decode(answer["mask"]["png"])))


def segmentation(folder, transforms, classes=("red", "green", "blue")):
    """Each pixel's class is its brightest channel."""
    metadata = ExportMetadata(
        model="Brightest",
        preprocessing=Preprocessing(crop_pct=1.0, mean=(0, 0, 0), std=(1, 1, 1)),
        classes=list(classes),
        task="segmentation",
        outputs=[Output("logits", "segmentation logits", 1)],
        min_size=4,
        extra={"transforms": transforms, "size": None},
    )
    shape = ["b", 3, "h", "w"]
    node = helper.make_node("Identity", ["image"], ["logits"])
    save(folder, [node], [("image", shape)], [("logits", shape)], metadata=metadata)
    return open_task(load_exported(folder, "onnxruntime", threads=1))


@pytest.mark.parametrize(
    ("transform", "size"),
    [
        ({"type": "Normalize"}, (60, 30)),
        ({"type": "ResizeByShort", "short_size": 15}, (30, 15)),
        ({"type": "ResizeByLong", "long_size": 120}, (120, 60)),
        ({"type": "Resize", "target_size": [64, 32]}, (64, 32)),
        ({"type": "Resize", "target_size": [16, 40], "keep_ratio": True}, (32, 16)),
    ],
)
def test_segmentation(tmp_path, transform, size):
    task = segmentation(tmp_path / "model", [transform])
    prepared = task.prepare(halves((60, 30), (255, 0, 0), (0, 0, 255)))
    assert prepared.pixels.shape[1::-1] == size
    answer = task.answer(task.run([prepared, prepared])[1], WISHES)
    assert {c["name"]: c["share"] for c in answer["classes"]} == pytest.approx(
        {"red": 0.5, "blue": 0.5}, abs=0.03
    )
    mask = mask_of(answer)
    assert mask.size == size
    assert set(np.unique(np.asarray(mask)[:, : size[0] // 2 - 2])) == {0}
    assert set(np.unique(np.asarray(mask)[:, size[0] // 2 + 2 :])) == {2}
    colours = {entry["index"]: entry["colour"] for entry in answer["classes"]}
    assert "#{:02x}{:02x}{:02x}".format(*mask.convert("RGB").getpixel((0, 0))) == colours[0]


def test_a_transform_that_is_unknown_is_refused(tmp_path):
    with pytest.raises(CycleMLPError, match="Padding, which is unknown"):
        segmentation(tmp_path / "model", [{"type": "Padding"}])


def detector(folder, *, masks, metadata=None):
    """Two objects and a row for none. The second's box is the resized image's lower half, in original pixels."""
    save(
        folder,
        [
            helper.make_node("Div", ["im_shape", "scale_factor"], ["original"]),  # H, W
            helper.make_node("Gather", ["original", "order"], ["sides"], axis=1),  # W, H, W, H
            helper.make_node("Mul", ["sides", "shares"], ["corners"]),
            helper.make_node("Concat", ["scores", "corners"], ["boxes"], axis=1),
            *([helper.make_node("Identity", ["shapes"], ["masks"])] if masks else []),
        ],
        [("image", [1, 3, "h", "w"]), ("im_shape", [1, 2]), ("scale_factor", [1, 2])],
        [("boxes", ["n", 6]), *([("masks", ["n", 6, 8])] if masks else [])],
        [
            ("order", np.array([1, 0, 1, 0])),
            ("shares", np.array([[0, 0, 1, 1], [0, 0.5, 1, 1], [0, 0, 0, 0]], np.float32)),
            ("scores", np.array([[1, 0.4], [0, 0.9], [-1, 0.95]], np.float32)),
            ("shapes", np.stack([np.ones((6, 8)), np.eye(6, 8), np.ones((6, 8))]).astype(np.float32)),
        ],
        metadata or detector_metadata(masks=masks),
    )
    return open_task(load_exported(folder, threads=1))


def detector_metadata(*, masks):
    return ExportMetadata(
        model="Two",
        preprocessing=Preprocessing(crop_pct=1.0, mean=(0.5,) * 3, std=(0.5,) * 3),
        classes=["cup", "table"],
        num_classes=2,
        task="instance segmentation" if masks else "detection",
        outputs=[Output("objects", "objects"), *([Output("masks", "object masks")] if masks else [])],
        extra={
            "largest_batch": 1,
            "preparation": {
                "sample_transforms": [
                    {"Decode": {}},
                    {"Resize": {"target_size": [40, 100], "keep_ratio": True}},
                    {"NormalizeImage": {"is_scale": True, "mean": [0.5] * 3, "std": [0.5] * 3}},
                    {"Permute": {}},
                ],
                "batch_transforms": [{"PadBatch": {"pad_to_stride": 32}}],
            },
        },
    )


@pytest.mark.parametrize("masks", [False, True])
def test_detection(tmp_path, masks):
    task = detector(tmp_path / "model", masks=masks)
    file = halves((80, 60), (255, 0, 0), (0, 0, 255))
    prepared = task.prepare(file)
    assert prepared.pixels.shape == (40, 53, 3)
    answer = task.answer(task.run([prepared])[0], WISHES)
    assert [(o["name"], round(o["score"], 2)) for o in answer["objects"]] == [("cup", 0.9), ("table", 0.4)]
    assert answer["objects"][0]["box"] == pytest.approx([0, 30, 80, 60], abs=0.1)
    assert ("mask" in answer) == masks
    if masks:
        mask = mask_of(answer)
        assert mask.convert("RGBA").getpixel((0, 0))[3] == 255
        np.testing.assert_array_equal(
            np.asarray(mask), 1 - np.eye(6, 8)
        )  # the cup, the surer, lies on the table
    Answer.model_validate(
        {
            **answer,
            "model": "Two",
            "task": "detection",
            "runtime": "onnxruntime",
            "precision": "float32",
            "image": {"width": 80, "height": 60, "bytes": 1, "seen": [0, 0, 80, 60], "upright": True},
            "batch": 1,
            "milliseconds": dict.fromkeys(("read", "decode", "wait", "network", "total"), 1.0),
        }
    )


def test_detectors_that_cannot_be_served(tmp_path):
    model = tmp_path / "model"
    for change, says in (
        (lambda p: p["sample_transforms"].append({"Pad": {}}), "unknown here"),
        (lambda p: p["sample_transforms"].pop(1), "says no size"),
        (lambda p: p.clear(), "says no size"),
    ):
        metadata = detector_metadata(masks=False)
        change(metadata.extra["preparation"])
        with pytest.raises(CycleMLPError, match=says):
            detector(model, masks=False, metadata=metadata)
    del metadata.extra["preparation"]
    with pytest.raises(CycleMLPError, match="nothing of how images are prepared"):
        detector(model, masks=False, metadata=metadata)
    detector(model, masks=False)
    with pytest.raises(CycleMLPError, match="3 class names are given"):
        open_task(load_exported(model), ["a", "b", "c"])
    assert open_task(load_exported(model), ["a", "b"]).class_names == ["a", "b"]


def test_a_detector_is_called_with_its_further_inputs(tmp_path):
    detector(tmp_path / "model", masks=False)
    model = load_exported(tmp_path / "model", threads=1)
    image = np.zeros((1, 3, 60, 80), np.float32)
    assert model(image)["objects"][1, 2:].tolist() == [0, 30, 80, 60]
    halved = model(image, scale_factor=np.full((1, 2), 0.5, np.float32))
    assert halved["objects"][1, 2:].tolist() == [0, 60, 160, 120]
    with pytest.raises(CycleMLPError, match="has no input 'scale'; it has images, im_shape, scale_factor"):
        model(image, scale=np.ones((1, 2), np.float32))
    with pytest.raises(CycleMLPError, match=r"scale_factor is .*expected a float32 array \[1, 2\]"):
        model(image, scale_factor=np.ones(2, np.float32))
    with pytest.raises(CycleMLPError, match="has 2 images; this model takes 1 at a time"):
        model(np.zeros((2, 3, 60, 80), np.float32))


def test_a_detector_sees_images_upright(tmp_path):
    task = detector(tmp_path / "model", masks=False)
    image, file = Image.new("RGB", (60, 80)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, "PNG", exif=exif)
    prepared = task.prepare(open_upload(file.getvalue(), "a.png", Limits()))
    assert prepared.pixels.shape == (40, 53, 3)
    assert prepared.seen == (0, 0, 80, 60)


def test_suppression():
    """The surer of two boxes that overlap by more than the threshold stays; each class by itself."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [20, 20, 20, 20]], np.float32)
    scores = np.array([[0.5, 0.9, 0.3, 0.0], [0.0, 0.05, 0.6, 0.7]], np.float32)
    options = {"score_threshold": 0.05, "nms_threshold": 0.5, "nms_top_k": -1, "keep_top_k": -1}
    found = suppressed(boxes, scores, **options)
    assert found[:, :2] == pytest.approx(np.array([[0, 0.9], [1, 0.7], [1, 0.6], [0, 0.3]]))
    np.testing.assert_array_equal(found[:, 2:], boxes[[1, 3, 2, 2]])
    assert len(suppressed(boxes, scores, **{**options, "nms_threshold": 0.4})) == 3
    assert len(suppressed(boxes, scores, **{**options, "nms_threshold": 0.75})) == 4
    assert len(suppressed(boxes, scores, **{**options, "nms_threshold": 0.85})) == 5
    assert found[:2].tolist() == suppressed(boxes, scores, **{**options, "keep_top_k": 2}).tolist()
    assert len(suppressed(boxes, scores, **{**options, "nms_top_k": 1})) == 2
    assert suppressed(boxes, scores, **{**options, "score_threshold": 1.0}).shape == (0, 6)
