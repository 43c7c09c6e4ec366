"""What cannot be opened or run is said in words."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import paddle
import pytest
from onnx import TensorProto, helper
from paddle import nn

import cyclemlp
from cyclemlp.deploy import ExportError, ExportMetadata, Output, export_layer, is_exported, load_exported
from cyclemlp.deploy.onnx_files import check_onnx, paddle_to_onnx
from cyclemlp.errors import ConfigError, MissingDependencyError, ModelError


def write_onnx(path, node, opset=17, domain=""):
    """An ONNX file of one node from x to y, both [2]."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(node, ["x"], ["y"], domain=domain)], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """onnx/ and paddle/: a convolution that calls its output logits."""
    root = tmp_path_factory.mktemp("runtimes")
    layer = nn.Sequential(nn.Conv2D(3, 2, 1), nn.AdaptiveAvgPool2D(1), nn.Flatten())
    for form in ("onnx", "paddle"):
        described = ExportMetadata(
            "small", num_classes=2, min_size=4, outputs=[Output("logits", "logits")], extra={"a": [1]}
        )
        export_layer(layer, root / form, form, metadata=described)
    return root


def test_what_is_no_exported_model(exported, tmp_path):
    with pytest.raises(ExportError, match="no such file or folder"):
        load_exported(tmp_path / "lost")
    with pytest.raises(ExportError, match="folder without an exported model"):
        load_exported(tmp_path)
    (tmp_path / "cat.jpg").write_bytes(b"x")
    with pytest.raises(ExportError, match="is no exported model"):
        load_exported(tmp_path / "cat.jpg")
    for runtime, name in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        (tmp_path / "broken.onnx").write_bytes(b"not a model")
        with pytest.raises(ExportError, match=rf"broken\.onnx: {name} cannot read it"):
            load_exported(tmp_path / "broken.onnx", runtime=runtime)


def test_somebody_elses_model(tmp_path):
    foreign = write_onnx(tmp_path / "foreign.onnx", "Relu")
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(ExportError, match="not written by `cyclemlp export`"):
            load_exported(foreign, runtime=runtime)
    model = onnx.load(foreign)
    helper.set_model_props(model, {"cyclemlp": '{"format": 1, "model": 3'})
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(ExportError, match="damaged metadata"):
        load_exported(tmp_path / "damaged.onnx")
    described = ExportMetadata(
        "m", outputs=[Output("logits", "logits")], num_classes=2, thresholds=[0.5, 0.5], task="classification"
    )
    helper.set_model_props(model, {"cyclemlp": described.to_json()})
    onnx.save(model, tmp_path / "other_task.onnx")  # a softmax would be taken
    with pytest.raises(ExportError, match="thresholds belong to the task 'multi-label classification'"):
        load_exported(tmp_path / "other_task.onnx")
    helper.set_model_props(model, {"cyclemlp": '{"format": 99}'})
    onnx.save(model, tmp_path / "later.onnx")
    with pytest.raises(ExportError, match="format 99"):
        load_exported(tmp_path / "later.onnx")


def test_wishes_that_do_not_fit(exported):
    for wish, complaint in [
        ({"runtime": "tensorrt"}, "unknown runtime 'tensorrt'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"threads": 0}, "threads is 0"),
        ({"runtime": "paddle"}, "is a model for onnxruntime and openvino"),
        ({"precision": "bfloat16"}, "onnxruntime does not compute in bfloat16"),
        ({"precision": "int8"}, "holds a model in float32"),
    ]:
        with pytest.raises(ConfigError, match=complaint):
            load_exported(exported / "onnx", **wish)


def test_a_runtime_that_is_not_installed(exported, monkeypatch):
    for runtime in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, runtime, None)
        with pytest.raises(MissingDependencyError, match=rf"{runtime} is not installed; `pip install"):
            load_exported(exported / "onnx", runtime=runtime)


def test_inputs_that_do_not_fit(exported):
    run = load_exported(exported / "onnx", threads=1)
    assert run.threads == 1
    good = np.zeros((1, 3, 4, 5), dtype=np.float32)
    assert run.logits(good).shape == (1, 2)
    for images, complaint in [
        (good.astype(np.float64), "float64 array; expected a float32 array"),
        ([[1.0]], "list; expected a float32 array"),
        (good[:, :2], r"\[batch, 3, height, width\]"),
        (good[0], r"\[batch, 3, height, width\]"),
        (good[:0], r"\[batch, 3, height, width\]"),
        (good[:, :, :3], "3×5 pixels"),
    ]:
        with pytest.raises(ModelError, match=complaint):
            run(images)
    assert run.logits(good[:, :, :, ::-1]).shape == (1, 2)  # not contiguous


def test_the_file_may_be_named_instead_of_its_folder(exported):
    images = np.ones((2, 3, 8, 8), dtype=np.float32)
    for file, folder in [
        ("onnx/model.onnx", "onnx"),
        ("paddle/model.json", "paddle"),
        ("paddle/model.pdiparams", "paddle"),
    ]:
        by_file, by_folder = load_exported(exported / file), load_exported(exported / folder)
        np.testing.assert_array_equal(by_file.logits(images), by_folder.logits(images))
        assert by_file.metadata == by_folder.metadata
        settings = {"paddle_inference": {"mkldnn": False}} if folder == "paddle" else {}
        assert by_file.metadata.extra == {"a": [1], **settings}


def test_what_looks_like_an_exported_model(exported, tmp_path):
    assert is_exported(exported / "onnx")
    assert is_exported(exported / "paddle" / "model.json")
    assert is_exported("x/model.xml")
    assert not is_exported(tmp_path)
    assert not is_exported("runs/best.safetensors")


def test_running_needs_no_paddle(exported):
    program = (
        "import sys; sys.modules['paddle'] = None; import cyclemlp, numpy; "
        f"run = cyclemlp.load_exported({str(exported / 'onnx')!r}); "
        "print(run.logits(numpy.zeros((1, 3, 4, 4), 'float32')).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 2)", done.stderr


def test_ctrl_c_after_two_models_of_openvino(exported):
    # Two plugins that went in the order they came in left signal handlers a stack that was gone: SIGSEGV.
    program = (
        "import cyclemlp, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        f"first, second = (cyclemlp.load_exported({str(exported / 'onnx')!r}, runtime='openvino') for _ in 'ab')\n"
        "first = None\n"
        "second = None\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_an_operator_without_translation(tmp_path):
    described = ExportMetadata("unknown", outputs=[Output("out", "out")])
    spec = [paddle.static.InputSpec([1, 8, 8, 4], "float32", "x")]
    layer = nn.Conv2D(4, 4, 3, groups=4, data_format="NHWC")  # paddle2onnx aborts its process
    with pytest.raises(ExportError, match=r"cannot translate .*NHWC"):
        export_layer(layer, tmp_path / "out", "onnx", metadata=described, input_spec=spec)
    with pytest.raises(ExportError, match="opset is 18; use 7 to 17"):
        paddle_to_onnx(tmp_path / "lost", tmp_path / "lost.onnx", opset=18)
    with pytest.raises(ExportError, match=r"there is no .*lost\.json"):
        paddle_to_onnx(tmp_path / "lost", tmp_path / "lost.onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_files_that_few_runtimes_take(tmp_path):
    check_onnx(write_onnx(tmp_path / "good.onnx", "Relu"))
    with pytest.raises(ExportError, match=r"com\.microsoft\.QuickGelu"):
        check_onnx(write_onnx(tmp_path / "own.onnx", "QuickGelu", domain="com.microsoft"))
    with pytest.raises(ExportError, match="operator set 18; 17 is the newest"):
        check_onnx(write_onnx(tmp_path / "new.onnx", "Relu", opset=18))
    (tmp_path / "broken.onnx").write_bytes(b"\x00\x01")
    with pytest.raises(ExportError, match="no valid ONNX model"):
        check_onnx(tmp_path / "broken.onnx")


def test_a_model_of_the_network_without_metadata(tmp_path):
    from cyclemlp.network import CycleMLP, CycleMLPConfig

    model = CycleMLP(CycleMLPConfig(embed_dims=(4, 4, 4, 4), depths=(1, 1, 1, 1), num_classes=2))
    with pytest.raises(ExportError, match="no metadata"):
        cyclemlp.export_model(model, tmp_path / "out")
