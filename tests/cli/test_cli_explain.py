"""`cyclemlp explain` from end to end: the images, the figures as JSON, and what it says to wrong input."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml

import numpy as np
import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.network import VARIANTS, count_macs, parameter_count

SMALL = {"embed_dims": (8, 8, 12, 12), "depths": (1, 1, 1, 1)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network for digits at 32 pixels, as `cyclemlp train` leaves one."""
    path = tmp_path_factory.mktemp("model") / "digits.safetensors"
    paddle.seed(0)
    network = cyclemlp.create_model("cyclemlp_nano", num_classes=10, in_chans=1, **SMALL)
    network.metadata.classes = [f"digit {i}" for i in range(10)]
    cyclemlp.save_model(network, path)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "long.png"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def explain(capsys, tmp_path):
    """Runs it with `--output`; gives the exit code, what was printed on both, and the image's path."""

    def run(*words, suffix=".png"):
        output = tmp_path / f"drawn{suffix}"
        code = main(["explain", *map(str, words), "--figure", str(output)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err, output

    return run


def size_of(path):
    with Image.open(path) as image:
        image.load()
        assert np.asarray(image).std() > 1  # something is on it
        return image.size


def test_kernel(explain):
    code, out, _, output = explain("kernel", "--step", "3", "--blocks", "1", "2", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["offsets"]["h"][:3] == [[0, 0], [0, 1], [0, -1]]
    assert [len(facts["positions"][blocks]) for blocks in ("1", "2")] == [5, 13]
    assert min(size_of(output)) > 500
    code, out, _, _ = explain("kernel", "--step", "2x3", "1X5", "--branches", "w", "--channels", "10")
    assert code == 0
    assert "branch w: step 1×5" in out
    assert "branch h" not in out
    assert "start it at −1" in out


def test_field_beside_channel_fcs(explain, model):
    code, out, err, output = explain("field", model, "--images", "2", "--without-gate", "--json")
    assert (code, err) == (0, "")
    fields = json.loads(out)["fields"]
    assert [(f["model"], f["stage"]) for f in fields] == [
        (name, stage) for name in ("digits.safetensors", "channel FC only, random") for stage in (1, 2, 3, 4)
    ]
    # Patches of 3 at stride 2, a block of steps of 3, then 3×3 at stride 2.
    assert [f["any_gradient_pixels"] for f in fields[:2]] == ["7×7", "19×19"]
    assert [f["any_gradient_pixels"] for f in fields[4:]] == ["3×3", "7×7", "15×15", "31×31"]
    assert all(f["area"]["0.5"] <= f["area"]["0.95"] <= 1 for f in fields)
    assert size_of(output)[0] > 1000


def test_field_beside_others(explain, model):
    code, out, err, _ = explain(
        "field", model, "--images", "1", "--stage", "2", "--beside", "cyclemlp_nano", model
    )
    assert code == 0
    assert "RANDOM weights (seed 0)" in err
    assert "cyclemlp_nano, random" in out
    assert f"digits.safetensors ({model})" in out


def test_gradcam_of_chosen_classes(explain, model, image, tmp_path):
    code, out, _, output = explain(
        "gradcam", model, image, "--class", "digit 3", "7", "--stage", "3", "4", "--whole",
        "--overlays", tmp_path / "overlays", "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)["images"]
    assert [(entry["class"], entry["index"]) for entry in found] == [("digit 3", 3), ("digit 7", 7)]
    # The shorter side at 32 pixels: 32×53, and at strides 8 and 16 maps of 4×7 and 2×4.
    assert np.shape(found[0]["maps"]["3"]) == (4, 7)
    assert np.shape(found[0]["maps"]["4"]) == (2, 4)
    assert sum(entry["probability"] for entry in found) < 1
    names = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert names == [f"000_long_class{c}_stage{s}.png" for c in (3, 7) for s in (3, 4)]
    with Image.open(tmp_path / "overlays" / names[0]) as overlay:
        assert overlay.size == (53 * 7, 32 * 7)
    size_of(output)


def test_gradcam_of_digits(explain, model):
    code, out, _, output = explain("gradcam", model, "--images", "3")
    assert code == 0
    assert out.count("digits/") == 3
    assert "digit " in out
    size_of(output)


def test_with_model_and_weights_the_rest_are_images(explain, model, image):
    for count in (1, 2):
        code, out, _, _ = explain("gradcam", "--model", "cyclemlp_nano", "--weights", model, *count * [image])
        assert code == 0
        assert out.count("long.png") == count


def test_gates(explain, model):
    code, out, _, output = explain("gates", model, "--images", "5", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["images"] == 5
    for block in facts["blocks"]:
        assert sum(block["mean"].values()) == pytest.approx(1)
        channels = np.sum(list(block["channel_means"].values()), axis=0)
        np.testing.assert_allclose(channels, 1, atol=1e-4)
    size_of(output)


def test_features(explain, model, image):
    code, out, _, output = explain(
        "features", model, image, "--stage", "1", "3", "--channels", "5", "2", "--json"
    )
    assert code == 0
    stages = json.loads(out)["stages"]
    assert [(stage["stage"], stage["channels"]) for stage in stages] == [(1, [5, 2]), (3, [5, 2])]
    size_of(output)


@pytest.mark.parametrize("name", ["cyclemlp_b5", "cyclemlp_t_inferred"])
def test_network_by_name_makes_no_weights(explain, name):
    config = VARIANTS[name].config
    code, out, err, output = explain("network", name, "--size", "512x1024", "--json", suffix=".svg")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["parameters"] == parameter_count(config)
    assert facts["macs"] == count_macs(config, 512, 1024)
    root = xml.parse(output).getroot()
    assert root.tag.endswith("svg")
    assert len(list(root.iter())) > 100


def test_network_of_a_file(explain, model):
    code, out, _, output = explain("network", model)
    assert code == 0
    assert "cyclemlp_nano, digits.safetensors at 32×32" in out
    assert "downsampling 3–4" in out
    size_of(output)


def test_family(explain):
    code, out, _, output = explain("family", "--json")
    assert code == 0
    networks = json.loads(out)["networks"]
    names = [network["name"] for network in networks]
    assert len(set(names)) == len(names)
    assert {"CycleMLP-B1", "Mixer-B/16", "gMLP-S", "Hire-MLP-Base"} <= set(names)
    for network in networks:
        assert "arXiv" in network["source"]
        assert 5 <= network["parameters_millions"] <= 150
        assert network["macs_billions"] is None or 1 <= network["macs_billions"] <= 30
        assert 70 < network["top1_percent"] < 85
    size_of(output)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kernel", "--step", "3x"], "give one number as 3, or one or two sizes as 3x3 7x1"),
        (["kernel", "--step", "3", "3"], "give one number as 3"),
        (["network", "cyclemlp_b1", "--size", "16"], "at least 32 pixels"),
        (["network", "cyclemlp_b1", "--size", "big"], "is no size; give pixels"),
        (["network", "no_such"], "no_such"),
        (["gradcam", "{model}", "--class", "cat"], "'cat' is no class of this model"),
        (["gradcam", "{model}", "--stage", "5"], "this network has 1 to 4"),
        (["gradcam", "{model}", "{image}", "--data", "digits"], "not both"),
        (["gates", "{model}", "--list", "val.txt"], "needs --data DIR"),
        (["features", "{model}", "{image}", "{image}"], "a sheet is of one image, and 2 are given"),
        (["features", "{model}", "--channels", "12"], "it has 0 to 7"),
        (["features", "{model}", "missing.png"], "no such image"),
        (["field", "{model}", "--beside", "missing"], "missing"),
        (["gates"], "no model is named"),
    ],
)
def test_wrong_input(explain, model, image, words, message):
    code, out, err, output = explain(*(word.format(model=model, image=image) for word in words))
    assert (code, out) == (2, "")
    assert message in err
    assert not output.exists()


def test_output_says_its_form(explain):
    code, _, err, _ = explain("family", suffix=".txt")
    assert code == 2
    assert ".png, .svg, .pdf" in err


def test_broken_weights(explain, tmp_path):
    network = cyclemlp.create_model("cyclemlp_nano", num_classes=2, **SMALL)
    network.head.bias.set_value(np.full(2, np.nan, "float32"))
    cyclemlp.save_model(network, tmp_path / "broken.safetensors")
    code, out, err, _ = explain("gradcam", tmp_path / "broken.safetensors", "--images", "1")
    assert (code, out) == (1, "")
    assert "NaN" in err
