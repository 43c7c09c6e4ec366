"""`cyclemlp robustness` from end to end, with models of known answers on small stand-ins of the published sets."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest
from PIL import Image
from robustness_fixtures import SIDE, write_set

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.cli.robustness import corruptions_named
from cyclemlp.data import imagenet_class_map
from cyclemlp.evaluation import robustness as data

IDS = list(imagenet_class_map())
#: What the model of 1000 classes prefers, best first: a class of neither subset, ImageNet-A's first, ImageNet-R's.
FAVOURITES = (0, 6, 1)


def constant(folder, name, favourites, **overrides):
    """A model whose logits do not depend on the image: the favourite classes, best first, before all others."""
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", **overrides)
    bias = np.zeros(model.config.num_classes, np.float32)
    bias[list(favourites)] = np.arange(len(favourites), 0, -1)
    model.head.weight.set_value(paddle.zeros_like(model.head.weight))
    model.head.bias.set_value(paddle.to_tensor(bias))
    cyclemlp.save_model(model, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    constant(folder, "imagenet.safetensors", FAVOURITES, num_classes=1000)
    constant(folder, "digits.safetensors", [4], num_classes=10, in_chans=1)
    return folder


@pytest.fixture
def run(capsys):
    def run(*words):
        code = main(["robustness", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def by_title(found):
    return {result["title"]: result for result in found["sets"]}


def test_known_answers_on_each_set(run, models, tmp_path):
    write_set(tmp_path / "v2" / "imagenetv2-matched-frequency-format-val", {"0": 3, "1": 1, "10": 1, "2": 3})
    write_set(tmp_path / "a", {IDS[6]: 2, IDS[11]: 6})
    write_set(tmp_path / "r", {IDS[1]: 3, IDS[6]: 2})
    write_set(tmp_path / "sketch" / "sketch", {IDS[0]: 1, IDS[999]: 3})
    words = [models / "imagenet.safetensors", "--input-size", SIDE, "--partial", "--json"]
    for name in ("v2", "a", "r", "sketch"):
        words += [f"--imagenet-{name}", tmp_path / name]
    code, out, _ = run(*words)
    assert code == 0
    found = by_title(json.loads(out))
    assert {
        title: (result["images"], result["classes"], result["top1"]) for title, result in found.items()
    } == {
        "ImageNet-V2, matched-frequency": (8, 1000, 37.5),
        "ImageNet-A": (8, 200, 25.0),  # class 6 is the best of the 200, though class 0 is that of all
        "ImageNet-R": (5, 200, 40.0),  # class 6 is in both sets, and before class 1
        "ImageNet-Sketch": (4, 1000, 25.0),
    }
    assert "ImageNet-A is incomplete: 8 images instead of 7,500" in found["ImageNet-A"]["notes"]


@pytest.fixture(scope="module")
def imagenet_c(tmp_path_factory):
    """In severity s one image of class 0 and s others: an error of s / (s + 1)."""
    folder = tmp_path_factory.mktemp("imagenet-c")
    for name in (*data.COUNTED, "saturate"):
        for severity in data.SEVERITIES:
            write_set(folder / name / str(severity), {IDS[0]: 1, IDS[5]: severity})
    return folder


@pytest.mark.heavy
def test_imagenet_c_and_its_files(run, models, imagenet_c, tmp_path):
    words = [models / "imagenet.safetensors", "--input-size", SIDE, "--imagenet-c", imagenet_c]
    code, _, err = run(*words)
    assert code == 2
    assert "ImageNet-C, gaussian_noise 1 is not complete: 2 of 1,000 class folders" in err
    code, out, err = run(*words, "--partial", "--output", tmp_path)
    assert code == 0
    report = json.loads((tmp_path / "robustness.json").read_text())
    (found,) = report["corruptions"]
    shares = [1 / 2, 2 / 3, 3 / 4, 4 / 5, 5 / 6]
    assert list(found["errors"]["fog"]["by_severity"].values()) == pytest.approx([100 * s for s in shares])
    assert found["errors"]["fog"]["corruption_error"] == pytest.approx(100 * 71 / 81.9324)
    assert found["errors"]["saturate"]["corruption_error"] is None
    assert found["mean_error"] == pytest.approx(71)
    assert report["complete"] is True
    assert f"normalised by AlexNet's: {found['mean_corruption_error']:.2f} %" in out
    assert "2 of 1,000 class folders" in out
    assert "the central 32×32 of 224" in out
    text = (tmp_path / "robustness.md").read_text()
    assert "| gaussian_noise | noise | 50 | 66.67 | 75 | 80 | 83.33 | 71 | 80.1 |" in text
    assert "- ImageNet-C is incomplete: " in text
    with Image.open(tmp_path / "robustness_imagenet_c.png") as image:
        assert min(image.size) > 300
    assert "320/320" in err  # 16 corruptions of 2 to 6 images


def test_imagenet_cs_images_are_not_enlarged(run, models, imagenet_c):
    words = ["--imagenet-c", imagenet_c, "--partial", "--input-size", 64]
    code, _, err = run(models / "imagenet.safetensors", *words)
    assert code == 2
    assert "the image is 32×32, and the model takes 64×64" in err


def test_real_and_the_own_labels_in_one_pass(run, models, tmp_path):
    lines = []
    for i, label in enumerate((0, 5, 0, 7), 1):
        name = f"ILSVRC2012_val_{i:08d}.JPEG"
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / name)
        lines.append(f"{name} {label}\n")
    (tmp_path / "val.txt").write_text("".join(reversed(lines)))
    (tmp_path / "real.json").write_text("[[0], [0, 5], [], [7]]")
    words = ["--data", tmp_path, "--list", tmp_path / "val.txt", "--real", tmp_path / "real.json"]
    words += ["--input-size", SIDE, "--json"]
    code, _, err = run(models / "imagenet.safetensors", *words)
    assert code == 2
    assert "has 4 entries; ReaL's real.json has one for each of the 50,000" in err
    code, out, _ = run(models / "imagenet.safetensors", *words, "--partial")
    assert code == 0
    found = by_title(json.loads(out))
    assert (found["clean"]["images"], found["clean"]["top1"]) == (4, 50.0)
    assert (found["ReaL"]["images"], found["ReaL"]["top1"]) == (3, pytest.approx(200 / 3))


def test_corruptions_made_here(run, models, tmp_path):
    words = [models / "digits.safetensors", "--data", "digits", "--input-size", 16, "--corrupt", "fog"]
    code, out, err = run(*words, "--severity", 5, 1, "--seed", 3, "--output", tmp_path)
    assert code == 0
    report = json.loads((tmp_path / "robustness.json").read_text())
    assert (report["seed"], report["partial"]) == (3, False)
    (clean,) = report["sets"]
    # The model says 4, whatever the image.
    assert (clean["title"], clean["images"], clean["top1"]) == ("clean", 359, pytest.approx(100 * 36 / 359))
    (found,) = report["corruptions"]
    assert found["errors"]["fog"]["by_severity"] == pytest.approx(
        {"1": 100 - clean["top1"], "5": 100 - clean["top1"]}
    )
    assert found["mean_corruption_error"] is None
    assert "AlexNet" not in out
    assert "severities are meant for 224 pixels a side, and the model takes 16" in out
    assert (tmp_path / "robustness.png").stat().st_size > 10_000
    assert "1077/1077" in err


def test_groups_of_corruptions_by_name():
    assert corruptions_named(["fog", "noise", "fog"]) == [
        "fog",
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
    ]
    assert corruptions_named(["all"]) == list(data.COUNTED)
    assert corruptions_named(["extra"]) == list(data.EXTRA)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing is asked for"),
        (["--data", "digits"], "nothing is asked for"),
        (["--corrupt", "fog"], "--corrupt needs --data"),
        (["--real", "{t}/real.json"], "--real needs --data"),
        (["--imagenet-a", "{t}", "--class-map", "imagenet"], "--class-map needs --data"),
        (["--imagenet-a", "{t}", "--severity", "1"], "--severity is of the corruptions"),
        (["--imagenet-a", "{t}", "--seed", "1"], "--seed is of the corruptions"),
        (["--data", "digits", "--corrupt", "fog", "--partial"], "--partial is for published sets"),
        (["--data", "digits", "--corrupt", "rain"], "--corrupt 'rain' is unknown; use gaussian_noise, "),
        (["--imagenet-a", "{t}"], "is for models of ImageNet's 1000 classes, and this one has 10"),
        (["--data", "digits", "--real", "{t}/real.json"], "--real is for models of ImageNet's 1000 classes"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(run, models, tmp_path, words, message):
    code, out, err = run(models / "digits.safetensors", *(word.format(t=tmp_path) for word in words))
    assert (code, out) == (2, "")
    assert [
        line
        for line in err.splitlines()
        if line.startswith("cyclemlp robustness: error: ") and message in line
    ]


def test_numbers_that_are_not_finite_exit_with_1(run, models, tmp_path):
    model = cyclemlp.load_model(models / "digits.safetensors")
    model.head.bias.set_value(paddle.full_like(model.head.bias, float("nan")))
    cyclemlp.save_model(model, tmp_path / "nan.safetensors")
    code, _, err = run(
        tmp_path / "nan.safetensors", "--data", "digits", "--corrupt", "fog", "--input-size", 16
    )
    assert code == 1
    assert "cyclemlp robustness: error: " in err
    assert "NaN or infinity" in err


def test_another_order_of_classes_is_a_warning(run, models, tmp_path):
    model = cyclemlp.load_model(models / "imagenet.safetensors")
    model.metadata.classes = [f"class {i}" for i in range(1000)]
    cyclemlp.save_model(model, tmp_path / "named.safetensors")
    write_set(tmp_path / "r", {IDS[1]: 1})
    words = ["--imagenet-r", tmp_path / "r", "--partial", "--input-size", SIDE]
    code, _, err = run(tmp_path / "named.safetensors", *words)
    assert code == 0
    assert "warning: the model's class names (class 0, class 1, class 2 …) are not ImageNet's" in err
