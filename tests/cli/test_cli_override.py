"""`--override key=value`: wherever a variant is named, another architecture of it can be."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import main

GREY = ["--override", "in_chans=1", "--override", "embed_dims=[8, 8, 12, 12]"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network of three classes whose file says nothing of itself."""
    folder = tmp_path_factory.mktemp("weights")
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=3, in_chans=1, embed_dims=[8, 8, 12, 12])
    paddle.save(model.state_dict(), str(folder / "bare.pdparams"))
    for name in "abc":
        (folder / "images" / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.random.default_rng(i).integers(0, 256, (40, 40)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{i}.png")
    return folder


def model(weights):
    return ["--model", "cyclemlp_nano", "--weights", str(weights / "bare.pdparams"), *GREY]


def test_info(capsys):
    assert main(["info", "cyclemlp_b1", *GREY, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["architecture"]["in_chans"] == 1
    assert facts["preprocessing"]["mean"] == [0.5]
    assert facts["parameters"] < 100_000


@pytest.mark.heavy
def test_predict_eval_export_and_explain(weights, tmp_path, capsys):
    images = weights / "images"
    assert main(["predict", *model(weights), str(images / "a" / "0.png"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"][0]["classes"]) == 3
    assert main(["eval", *model(weights), "--data", str(images), "--json"]) == 0
    capsys.readouterr()
    assert main(["export", *model(weights), "--output", str(tmp_path / "e")]) == 0
    assert cyclemlp.load_exported(tmp_path / "e").metadata.preprocessing.channels == 1
    words = ["explain", "network", "cyclemlp_nano", *GREY, "--figure", str(tmp_path / "n.png")]
    assert main(words) == 0, capsys.readouterr().err


def test_train_keeps_it_in_the_recipe(tmp_path, weights, capsys):
    from cyclemlp.training import Recipe

    images = str(weights / "images")
    words = [
        "train",
        "--model",
        "cyclemlp_nano",
        *GREY,
        "--data",
        images,
        "--val-data",
        images,
        "--epochs",
        "1",
    ]
    words += ["--batch-size", "2", "--workers", "0", "--no-progress", "--output", str(tmp_path / "run")]
    few = [
        "augment.repeats=1",
        "augment.mixup=0",
        "augment.cutmix=0",
        "schedule.warmup_epochs=0",
        "amp.dtype=null",
    ]
    words += [word for text in (*few, "data.preprocessing.input_size=32") for word in ("--set", text)]
    assert main(words) == 0, capsys.readouterr().err
    assert Recipe.load(tmp_path / "run" / "recipe.yaml").model.overrides == {
        "in_chans": 1,
        "embed_dims": [8, 8, 12, 12],
    }
    assert cyclemlp.load_model(tmp_path / "run").config.in_chans == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["info", "cyclemlp_b1", "--override", "in_chan=1"], "did you mean in_chans"),
        (["info", "cyclemlp_b1", "--override", "in_chans"], "--override 'in_chans': write key=value"),
        (["info", "cyclemlp_b1", "--override", "depths=[1"], "not YAML"),
        (["info", "cyclemlp_b1", "--override", "depths=3"], "depths"),
        (["info", "--override", "in_chans=1"], "goes with a variant's name"),
    ],
)
def test_mistakes(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_knows_its_architecture_takes_none(tmp_path, capsys):
    cyclemlp.save_model(cyclemlp.create_model("cyclemlp_nano"), tmp_path / "m.safetensors")
    for words in (
        ["predict", str(tmp_path / "m.safetensors"), "x.png", *GREY],
        ["predict", "--model", "cyclemlp_nano", "--weights", str(tmp_path / "m.safetensors"), "x.png", *GREY],
    ):
        assert main(words) == 2
        assert "--override" in capsys.readouterr().err


def test_info_lists_every_tensor_that_does_not_fit(tmp_path, capsys):
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=3)
    cyclemlp.save_model(model, tmp_path / "m.safetensors")
    words = ["info", str(tmp_path / "m.safetensors"), "--against"]
    assert main([*words, "cyclemlp_nano", "--override", "num_classes=3"]) == 0
    assert "tensors loaded" in capsys.readouterr().out
    assert main([*words, "cyclemlp_micro", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["fits"]
    assert len(found["mismatches"]) > 40
    assert main(["info", "cyclemlp_nano", "--against", "cyclemlp_micro"]) == 2
