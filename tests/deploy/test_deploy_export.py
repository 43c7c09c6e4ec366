"""What is exported gives, in every runtime, what the network gives."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import paddle
import pytest
from paddle import nn
from PIL import Image
from sklearn.datasets import load_sample_images

import cyclemlp
from cyclemlp.data import evaluation_transform
from cyclemlp.deploy import ExportError, ExportMetadata, Output, export_layer, feature_form
from cyclemlp.errors import ModelError
from cyclemlp.kernels import export_form
from cyclemlp.preprocessing import Preprocessing

SMALL = {"embed_dims": (8, 12, 16, 20), "depths": (1, 1, 1, 1)}
CLASSES = ["cat", "dog, small", "émeu"]
WAYS = [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino"), ("paddle", "paddle")]
#: Batch, height, width; the least size of a nano is 16.
SIZES = [(1, 32, 32), (2, 45, 71), (8, 33, 17), (3, 16, 64), (1, 96, 50)]


def trained(model):
    """Parameters as training leaves them: none of them zero, one or tiny."""
    paddle.seed(1)
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.2 * paddle.randn(parameter.shape))
    model.eval()
    return model


def photographs(batch, height, width, preprocessing=None):
    """float32 [batch, 3, height, width]: scikit-learn's two photographs, by turns, cut at other places."""
    images = []
    for i in range(batch):
        photograph = Image.fromarray(load_sample_images().images[i % 2])
        left, top = 20 * i, 10 * i
        scale = min(3, (photograph.width - left) / width, (photograph.height - top) / height)
        box = (left, top, left + scale * width, top + scale * height)
        pixels = np.asarray(photograph.resize((width, height), box=box), dtype=np.float32) / 255
        p = preprocessing or Preprocessing()
        images.append(((pixels - p.mean) / p.std).transpose(2, 0, 1))
    return np.stack(images).astype(np.float32)


def outputs_of(model, images):
    with paddle.no_grad():
        outputs = model(paddle.to_tensor(images))
    return [output.numpy() for output in (outputs if isinstance(outputs, list | tuple) else [outputs])]


@pytest.fixture(scope="module")
def model():
    model = trained(cyclemlp.create_model("cyclemlp_nano", num_classes=3, **SMALL))
    model.metadata.classes = CLASSES
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """Folder of a format → the classifier with class maps in it."""
    root = tmp_path_factory.mktemp("exported")
    for form in ("onnx", "openvino", "paddle"):
        cyclemlp.export_model(model, root / form, form, with_maps=True)
    return root


@pytest.mark.parametrize(("form", "runtime"), WAYS)
def test_every_runtime_gives_what_the_network_gives(model, exported, form, runtime):
    run = cyclemlp.load_exported(exported / form, runtime=runtime)
    assert (run.runtime, run.precision) == (runtime, "float32")
    for size in SIZES:
        images = photographs(*size)
        (expected,) = outputs_of(model, images)
        outputs = run(images)
        assert list(outputs) == ["logits", "class_maps"]
        np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4)
        np.testing.assert_array_equal(run.logits(images), outputs["logits"])
        # What makes them Grad-CAM: their mean over positions, and the bias, is the logits.
        mean = outputs["class_maps"].mean(axis=(2, 3)) + model.head.bias.numpy()
        np.testing.assert_allclose(mean, expected, atol=1e-4)
        assert outputs["class_maps"].shape == (size[0], 3, -(-size[1] // 16), -(-size[2] // 16))
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(("form", "runtime"), WAYS)
def test_metadata_travel_along(model, exported, form, runtime):
    metadata = cyclemlp.load_exported(exported / form, runtime=runtime).metadata
    assert (metadata.model, metadata.classes, metadata.num_classes) == ("cyclemlp_nano", CLASSES, 3)
    assert metadata.preprocessing == model.metadata.preprocessing
    assert (metadata.task, metadata.min_size) == ("classification", 16)
    assert metadata.outputs == [Output("logits", "logits"), Output("class_maps", "class maps", 16)]
    assert (metadata.precision, metadata.version) == ("float32", cyclemlp.__version__)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "paddle"])
def test_several_threads_may_call(exported, runtime):
    run = cyclemlp.load_exported(exported / ("paddle" if runtime == "paddle" else "onnx"), runtime=runtime)
    batches = [photographs(1 + i % 3, 32 + i, 40) for i in range(8)]
    alone = [run.logits(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for result, expected in zip(pool.map(run.logits, batches), alone, strict=True):
                np.testing.assert_allclose(result, expected, atol=1e-5)


def test_onnx_is_standard_and_free_in_its_sizes(exported):
    file = onnx.load(exported / "onnx" / "model.onnx")
    assert {entry.domain: entry.version for entry in file.opset_import} == {"": 17}
    assert {node.domain for node in file.graph.node} == {""}
    sizes = [size.dim_value for size in file.graph.input[0].type.tensor_type.shape.dim]
    assert [size > 0 for size in sizes] == [False, True, False, False]
    assert [output.name for output in file.graph.output] == ["logits", "class_maps"]


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize(
    "overrides",
    [
        {"step_size": 5, "num_classes": 4},
        {"step_size": ((3, 3), (2, 1)), "num_classes": 4},
        {"branches": ("h", "c"), "num_classes": 4},
        {"branches": ("w",), "num_classes": 0},
        {"features_only": True, "out_indices": (1, 2)},
        {"gate": False, "num_classes": 4},
        {"downsample": "merge", "features_only": True},
        {"patch_size": 4, "patch_stride": 4, "patch_norm": True, "num_classes": 4},
        {"patch_size": 7, "patch_stride": 4, "in_chans": 1, "mlp_ratios": (2, 4, 3, 4), "num_classes": 4},
    ],
)
def test_the_form_for_export_is_the_network(overrides, channels_first):
    model = trained(cyclemlp.create_model("cyclemlp_nano", **SMALL, **overrides))
    images = photographs(2, 45, 71)[:, : model.config.in_chans]
    form = export_form(model, channels_first=channels_first)
    for found, expected in zip(outputs_of(form, images), outputs_of(model, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize(("form", "runtime"), WAYS)
def test_an_inferred_variant_in_every_runtime(form, runtime, tmp_path):
    """Its patches and merged neighbours are filled up at sizes that the graph does not know."""
    model = trained(cyclemlp.create_model("cyclemlp_t_inferred", num_classes=3, **SMALL))
    cyclemlp.export_model(model, tmp_path, form)
    run = cyclemlp.load_exported(tmp_path, runtime=runtime)
    for size in [(1, 32, 32), (2, 45, 71), (3, 33, 64)]:
        images = photographs(*size)
        (expected,) = outputs_of(model, images)
        np.testing.assert_allclose(run.logits(images), expected, atol=1e-4)
    assert np.ptp(expected) > 0.1


def test_the_model_itself_is_left_as_it_is(model):
    holder = nn.Sequential(model, nn.Softmax())
    holder.train()
    before = {name: tensor.numpy().copy() for name, tensor in holder.state_dict().items()}
    form = export_form(holder)
    assert all(layer.training for layer in holder.sublayers(include_self=True))
    assert not any(layer.training for layer in form.sublayers(include_self=True))
    assert list(holder.state_dict()) == list(before)
    for name, tensor in holder.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])
    model.eval()


@pytest.mark.heavy
def test_feature_maps_of_a_classifier(model, tmp_path):
    features = feature_form(model)
    metadata = cyclemlp.export_model(features, tmp_path / "maps", "onnx")
    assert [(o.name, o.kind, o.stride) for o in metadata.outputs] == [
        (f"stage{i + 1}", "features", 2 * 2**i) for i in range(4)
    ]
    images = photographs(2, 45, 71)
    run = cyclemlp.load_exported(tmp_path / "maps")
    maps = run(images)
    for found, expected in zip(maps.values(), outputs_of(features, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    last = model.forward_features(paddle.to_tensor(images)).numpy()
    np.testing.assert_allclose(maps["stage4"], last, atol=1e-4)
    with pytest.raises(ModelError, match="no logits"):
        run.logits(images)


def test_any_layer_with_its_own_input(tmp_path):
    layer = nn.Linear(5, 2)
    spec = [paddle.static.InputSpec([None, 5], "float32", "numbers")]
    described = ExportMetadata("numbers", task="regression", outputs=[Output("sums", "sums")])
    export_layer(layer, tmp_path / "out", "onnx", metadata=described, input_spec=spec)
    file = onnx.load(tmp_path / "out" / "model.onnx")
    assert [entry.name for entry in file.graph.input] == ["numbers"]
    (kept,) = file.metadata_props
    assert json.loads(kept.value)["task"] == "regression"


def test_an_exported_model_is_replaced_only_when_asked(tmp_path):
    place = tmp_path / "out"

    def export(width, force=False):
        described = ExportMetadata("layer", outputs=[Output("out", "out")])
        export_layer(nn.Conv2D(3, width, 1), place, "paddle", metadata=described, force=force)
        return (place / "model.pdiparams").stat().st_size

    small = export(4)
    with pytest.raises(ExportError, match="force"):
        export(400)
    assert (place / "model.pdiparams").stat().st_size == small
    assert export(400, force=True) > small
    (place / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"notes\.txt"):
        export(4, force=True)
    assert (place / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Untraceable(nn.Layer):
    def forward(self, x):
        raise RuntimeError("no way through here")


def test_what_fails_leaves_nothing(tmp_path):
    described = ExportMetadata("broken", outputs=[Output("logits", "logits")])
    with pytest.raises(ExportError, match=r"(?s)Untraceable cannot be traced.*no way"):
        export_layer(Untraceable(), tmp_path / "out", "paddle", metadata=described)
    two = ExportMetadata("two", outputs=[Output("a", "a"), Output("b", "b")])
    with pytest.raises(ExportError, match="gives 1 output, and 2 are named"):
        export_layer(nn.Conv2D(3, 4, 1), tmp_path / "out", "onnx", metadata=two)
    assert not list(tmp_path.iterdir())


def test_impossible_wishes(model, tmp_path):
    with pytest.raises(ExportError, match="unknown format 'tflite'"):
        cyclemlp.export_model(model, tmp_path / "out", "tflite")
    with pytest.raises(ModelError, match="class maps need"):
        cyclemlp.export_model(feature_form(model), tmp_path / "out", with_maps=True)
    with pytest.raises(ExportError, match="int8 is made for"):
        cyclemlp.export_model(model, tmp_path / "out", "paddle", calibration=[photographs(1, 32, 32)])
    assert not list(tmp_path.iterdir())


@pytest.mark.heavy
def test_int8(model, tmp_path):
    calibration = [photographs(8, 32, 32) for _ in range(2)]
    metadata = cyclemlp.export_model(model, tmp_path / "int8", calibration=calibration)
    assert (metadata.precision, metadata.extra["calibration_images"]) == ("int8", 16)
    file = onnx.load(tmp_path / "int8" / "model.onnx")
    weights = {entry.name: entry.data_type for entry in file.graph.initializer}
    convolutions = [node for node in file.graph.node if node.op_type == "Conv"]
    assert convolutions
    made_by = {name: node for node in file.graph.node for name in node.output}
    for node in convolutions:  # each one's weights are kept as int8
        assert weights[made_by[node.input[1]].input[0]] == onnx.TensorProto.INT8
    images = photographs(4, 32, 32)
    (expected,) = outputs_of(model, images)
    for runtime in ("onnxruntime", "openvino"):
        run = cyclemlp.load_exported(tmp_path / "int8", runtime=runtime)
        assert run.precision == "int8"
        assert 1e-5 < np.abs(run.logits(images) - expected).max() < 0.2 * np.ptp(expected)
    with pytest.raises(ExportError, match="no calibration images"):
        cyclemlp.export_model(model, tmp_path / "none", calibration=[])


@pytest.mark.heavy
def test_b1_on_photographs(tmp_path):
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_b1")
    model.eval()
    for form in ("onnx", "openvino", "paddle"):
        cyclemlp.export_model(model, tmp_path / form, form)
    prepare = evaluation_transform(model.metadata.preprocessing)
    batches = [np.stack([prepare(Image.fromarray(image)) for image in load_sample_images().images])]
    batches += [
        photographs(*size)
        for size in [(1, 224, 224), (8, 224, 224), (3, 255, 193), (1, 384, 97), (2, 32, 512)]
    ]
    for images in batches:
        (expected,) = outputs_of(model, images)
        for form, runtime in WAYS:
            run = cyclemlp.load_exported(tmp_path / form, runtime=runtime)
            np.testing.assert_allclose(run.logits(images), expected, atol=1e-4)
