"""`cyclemlp sweep` from end to end."""

from __future__ import annotations

import csv
import json

import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.network import count_macs

PER_CLASS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A file of an untrained network for grey images of 32 pixels in two classes, on the images beside it."""
    folder = tmp_path_factory.mktemp("sweep")
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=2, in_chans=1, depths=(1, 1, 1, 1))
    cyclemlp.save_model(model, folder / "model.safetensors")
    for shade, name in enumerate(("black", "white")):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(PER_CLASS):
            Image.new("L", (48, 40), 255 * shade).save(folder / "images" / name / f"{i}.png")
    return model, folder


@pytest.fixture
def run(capsys):
    def run(*words):
        code = main(["sweep", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_size_a_row_as_eval_has_it_with_cost_and_speed(run, model, tmp_path, capsys):
    network, folder = model
    words = [folder / "model.safetensors", "--data", folder / "images"]
    code, out, err = run(
        *words, "--sizes", 32, 20, 32, "--seconds", 0.01, "--crop-pct", 0.8, "--output", tmp_path / "new"
    )
    assert code == 0
    report = json.loads((tmp_path / "new" / "sweep.json").read_text())
    assert report["complete"]
    assert [(row["size"], row["resize"]) for row in report["sizes"]] == [(20, 25), (32, 40)]
    assert "20 × 20 pixels, 1 of 2" in err
    for row in report["sizes"]:
        assert row["images"] == 2 * PER_CLASS
        assert row["macs"] == count_macs(network.config, row["size"], row["size"])
        assert row["images_per_second"] > 0
        main(
            [
                "eval",
                *map(str, words),
                "--json",
                "--crop-pct",
                "0.8",
                "--input-size",
                str(row["size"]),
            ]
        )
        alone = json.loads(capsys.readouterr().out)
        assert row["top1"] == alone["top1"]
        assert row["loss"] == pytest.approx(alone["loss"], abs=1e-6)
        assert row["top1_interval"] == alone["top1_interval"]
        assert f"{row['macs']:,}" in out
    with (tmp_path / "new" / "sweep.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["size"]) for row in table] == [20, 32]
    assert float(table[0]["top1_low"]) == report["sizes"][0]["top1_interval"][0]
    assert Image.open(tmp_path / "new" / "sweep.png").width > 1000


@pytest.mark.heavy
def test_an_exported_model_is_swept_in_its_runtime(run, model, tmp_path):
    network, folder = model
    cyclemlp.export_model(network, tmp_path / "exported", "onnx")
    words = [tmp_path / "exported", "--data", folder / "images", "--runtime", "onnxruntime"]
    code, out, _ = run(*words, "--sizes", 24, "--seconds", 0.01, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["device"] == "onnxruntime in float32"
    (row,) = report["sizes"]
    assert row["macs"] == count_macs(network.config, 24, 24)  # of its own depths
    assert (row["size"], row["images"]) == (24, 2 * PER_CLASS)
    code, out, _ = run(
        *[folder / "model.safetensors", "--data", folder / "images"],
        *["--sizes", 24, "--seconds", 0.01, "--json"],
    )
    assert json.loads(out)["sizes"][0]["loss"] == pytest.approx(row["loss"], abs=1e-4)


def test_numbers_that_are_not_finite_exit_with_1(run, model, tmp_path):
    _, folder = model
    broken = cyclemlp.load_model(folder / "model.safetensors")
    broken.head.bias.set_value(paddle.to_tensor([0.0, float("nan")]))
    cyclemlp.save_model(broken, tmp_path / "nan.safetensors")
    code, _, err = run(tmp_path / "nan.safetensors", "--data", folder / "images", "--sizes", 16)
    assert (code, "the model gives NaN or infinity" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "4"], "--sizes has 4; this model needs at least"),
        (["--seconds", "0"], "--seconds is 0; give a number above 0"),
        (["--crop-pct", "2"], "crop_pct is 2.0"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(run, model, words, message):
    _, folder = model
    code, out, err = run(folder / "model.safetensors", "--data", folder / "images", *words)
    assert (code, out) == (2, "")
    assert [
        line for line in err.splitlines() if line.startswith("cyclemlp sweep: error: ") and message in line
    ]
