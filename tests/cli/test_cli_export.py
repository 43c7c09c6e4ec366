"""`cyclemlp export`, and `eval` and `predict` with what it wrote."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.data import Digits
from cyclemlp.preprocessing import Preprocessing

SMALL = {"embed_dims": (8, 12, 16, 20), "depths": (1, 1, 1, 1), "in_chans": 1, "num_classes": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """model.safetensors, exported/ (ONNX with class maps); digit.png."""
    folder = tmp_path_factory.mktemp("export")
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", **SMALL)
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.2 * paddle.randn(parameter.shape))
    model.metadata.classes = [f"digit {i}" for i in range(10)]
    model.metadata.preprocessing = Preprocessing(16, 1.0, "bilinear", (0.5,), (0.5,))
    cyclemlp.save_model(model, folder / "model.safetensors")
    Digits("val")[3].image.save(folder / "digit.png")
    words = ["export", str(folder / "model.safetensors"), "--output", str(folder / "exported"), "--with-maps"]
    assert main(words) == 0
    return folder


@pytest.fixture
def run(capsys):
    def run(*words):
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_eval_gives_the_same_figures(run, folder, runtime):
    figures = []
    for words in (
        [folder / "model.safetensors"],
        [folder / "exported", "--runtime", runtime, "--threads", 1],
    ):
        code, out, _ = run("eval", *words, "--data", "digits", "--json")
        assert code == 0
        figures.append(json.loads(out))
    ours, theirs = figures
    assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-4)
    assert (theirs["top1"], theirs["top5"]) == (ours["top1"], ours["top5"])
    assert theirs["preprocessing"] == ours["preprocessing"]
    assert theirs["device"] == f"{runtime} in float32"


def test_predict_gives_the_same_classes(run, folder):
    results = []
    for model in ("model.safetensors", "exported"):
        code, out, _ = run("predict", folder / model, folder / "digit.png", "--json", "--top", 10)
        assert code == 0
        (entry,) = json.loads(out)["predictions"]
        results.append(entry["classes"])
    ours, theirs = results
    assert [c["name"] for c in theirs] == [c["name"] for c in ours]
    np.testing.assert_allclose(
        [c["probability"] for c in theirs], [c["probability"] for c in ours], atol=1e-4
    )


@pytest.mark.heavy
def test_what_was_written_is_told(run, folder, tmp_path):
    words = ["export", folder / "model.safetensors", "--format", "paddle", "--features"]
    code, out, _ = run(*words, "--output", tmp_path / "maps")
    assert code == 0
    assert "output    stage2: features, a position every 4 pixels" in out
    assert f"written   {tmp_path / 'maps' / 'model.pdiparams'}" in out
    code, out, _ = run(*words, "--output", tmp_path / "maps", "--force", "--json")
    values = json.loads(out)
    assert [output["stride"] for output in values["outputs"]] == [2, 4, 8, 16]
    code, _, err = run("predict", tmp_path / "maps", folder / "digit.png")
    assert code == 2
    assert "without a classification head" in err
    assert "segmenters and detectors are for `cyclemlp seg` and `cyclemlp det`" in err


def test_int8_from_calibration_images(run, folder, tmp_path):
    code, out, _ = run(
        *["export", folder / "model.safetensors", "--int8", "--calibration", folder / "digit.png"],
        *["--output", tmp_path / "int8", "--json"],
    )
    assert code == 0
    values = json.loads(out)
    assert values["precision"] == "int8"
    assert values["extra"]["calibration_images"] == 1
    code, out, _ = run("predict", tmp_path / "int8", folder / "digit.png")
    assert code == 0
    assert "digit " in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["export", "MODEL", "--output", "exported"], "--force"),
        (["export", "MODEL", "--output", "new", "--int8"], "--int8 and --calibration"),
        (["export", "MODEL", "--output", "new", "--features", "--with-maps"], "--with-maps is of"),
        (["export", "MODEL", "--output", "new", "--opset", "18"], "opset is 18"),
        (["eval", "MODEL", "--data", "digits", "--runtime", "openvino"], "--runtime is for a model that"),
        (
            ["eval", "exported", "--data", "digits", "--device", "cpu"],
            "--device is not for an exported model",
        ),
        (["eval", "exported", "--data", "digits", "--runtime", "paddle"], "not for paddle"),
    ],
)
def test_mistakes_are_said(run, folder, monkeypatch, words, complaint):
    monkeypatch.chdir(folder)
    code, _, err = run(*["model.safetensors" if word == "MODEL" else word for word in words])
    assert code == 2
    assert complaint in err
    assert not (folder / "new").exists()


@pytest.mark.heavy
def test_reduced_precision_loses_half_a_percent_at_most_on_the_digits(run, tmp_path):
    trained = tmp_path / "digits"
    assert run("train", "--config", "configs/digits.yaml", "--output", trained, "--no-progress")[0] == 0
    top1 = {}
    assert run("export", trained, "--output", tmp_path / "float32")[0] == 0
    words = ["--int8", "--calibration", "digits", "--output", tmp_path / "int8"]
    assert run("export", trained, *words)[0] == 0
    for model, runtime in [("float32", "onnxruntime"), ("int8", "onnxruntime"), ("int8", "openvino")]:
        code, out, _ = run("eval", tmp_path / model, "--data", "digits", "--runtime", runtime, "--json")
        assert code == 0
        top1[model, runtime] = json.loads(out)["top1"]
    reference = top1["float32", "onnxruntime"]
    assert reference > 97
    assert all(value >= reference - 0.5 for value in top1.values()), top1
