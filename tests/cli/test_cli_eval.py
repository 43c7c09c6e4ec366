"""`cyclemlp eval` from end to end, with a small network and small real files."""

from __future__ import annotations

import csv
import json

import numpy as np
import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.data import Digits, build_loader, evaluation_transform
from cyclemlp.evaluation import as_callable, evaluate
from cyclemlp.weights import write_weights

CLASSES = ["cat", "dog", "emu"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder with rgb.safetensors (classes cat, dog, emu), digits.safetensors, and bare weights of rgb."""
    folder = tmp_path_factory.mktemp("models")
    paddle.seed(0)
    rgb = cyclemlp.create_model("cyclemlp_nano", num_classes=3)
    write_weights(folder / "bare.pdparams", {name: value.numpy() for name, value in rgb.state_dict().items()})
    rgb.metadata.classes = CLASSES
    cyclemlp.save_model(rgb, folder / "rgb.safetensors")
    digits = cyclemlp.create_model("cyclemlp_nano", num_classes=10, in_chans=1)
    digits.metadata.classes = list("0123456789")
    cyclemlp.save_model(digits, folder / "digits.safetensors")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Noise in cat/, dog/, emu/, three each, and a list of them in list.txt."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    lines = []
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
                folder / name / f"{i}.png"
            )
            lines.append(f"{name}/{i}.png {label}\n")
    (folder / "list.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def run(capsys):
    def run(*words):
        code = main(["eval", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_digits_as_the_library_evaluates_them(run, models):
    code, out, _ = run(models / "digits.safetensors", "--data", "digits", "--json")
    assert code == 0
    found = json.loads(out)
    model = cyclemlp.load_model(models / "digits.safetensors")
    loader = build_loader(Digits("val"), evaluation_transform(model.metadata.preprocessing), batch_size=50)
    expected = evaluate(as_callable(model), loader, progress=False)
    assert found["images"] == 359
    assert found["top1"] == expected.top1
    assert found["top5"] == expected.top5
    assert found["loss"] == pytest.approx(expected.loss, abs=1e-5)
    assert found["model"] == "cyclemlp_nano"
    assert found["preprocessing"] == model.metadata.preprocessing.to_dict()


def test_folder_list_and_bare_weights_agree(run, models, pictures, tmp_path):
    figures = []
    for words in (
        [models / "rgb.safetensors", "--data", pictures],
        [models / "rgb.safetensors", "--data", pictures, "--list", pictures / "list.txt", "--workers", 2],
        ["--model", "cyclemlp_nano", "--weights", models / "bare.pdparams", "--data", pictures],
        ["CycleMLP_nano", "--weights", models / "bare.pdparams", "--data", pictures, "--batch-size", 2],
    ):
        code, out, _ = run(*words, "--json")
        assert code == 0
        found = json.loads(out)
        figures.append((found["top1"], found["images"], round(found["loss"], 4)))
    assert len(set(figures)) == 1


def test_figures_for_people_progress_and_files(run, models, pictures, tmp_path):
    code, out, err = run(
        models / "rgb.safetensors", "--data", pictures, "--output", tmp_path / "new" / "r", "--predictions"
    )
    assert code == 0
    report = json.loads((tmp_path / "new" / "r" / "eval.json").read_text())
    for line in (f"top-1     {report['top1']:.3f} %", f"loss      {report['loss']:.4f}", "pictures  9 of"):
        assert line in out
    assert "pictures/s" in out
    assert "note      top-5 says nothing here" in out
    assert "9/9" in err
    with (tmp_path / "new" / "r" / "eval.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [name for name in CLASSES for _ in range(3)]
    assert sum(row["label"] == row["predicted"] for row in rows) == round(report["top1"] * 9 / 100)
    assert sum(row["rank"] == "1" for row in rows) == round(report["top1"] * 9 / 100)
    assert np.mean([float(row["loss"]) for row in rows]) == pytest.approx(report["loss"], rel=1e-5)


def test_preprocessing_can_be_overridden(run, models, pictures):
    plain = json.loads(run(models / "rgb.safetensors", "--data", pictures, "--json")[1])
    words = ["--input-size", 40, "--crop-pct", 0.8, "--interpolation", "bilinear"]
    other = json.loads(run(models / "rgb.safetensors", "--data", pictures, "--json", *words)[1])
    assert other["preprocessing"]["input_size"] == 40
    assert other["preprocessing"]["crop_pct"] == 0.8
    assert other["preprocessing"]["interpolation"] == "bilinear"
    assert other["preprocessing"]["mean"] == plain["preprocessing"]["mean"]
    assert other["loss"] != plain["loss"]


def test_folders_are_matched_by_the_models_class_names(run, models, pictures, tmp_path):
    for name in ("dog", "emu"):  # without cat, dog would be class 0 by order
        (tmp_path / name).symlink_to(pictures / name)
    code, _, err = run(models / "rgb.safetensors", "--data", tmp_path, "--output", tmp_path, "--predictions")
    assert code == 0
    assert "warning" not in err
    with (tmp_path / "eval.csv").open(newline="") as file:
        assert {(row["picture"][:3], row["label_index"]) for row in csv.DictReader(file)} == {
            ("dog", "1"),
            ("emu", "2"),
        }


def test_other_folder_names_are_taken_in_order_with_a_warning(run, models, pictures, tmp_path):
    for name, other in zip(CLASSES, "abc", strict=True):
        (tmp_path / other).symlink_to(pictures / name)
    code, _, err = run(models / "rgb.safetensors", "--data", tmp_path)
    assert code == 0
    assert "cyclemlp eval: warning: " in err
    assert "not the model's class names (cat, dog, emu …)" in err


def test_class_map_for_words_in_a_list(run, models, pictures, tmp_path):
    (tmp_path / "map.txt").write_text("n3 0\nn1 1\nn2 2\n")
    words = [line.rsplit(None, 1) for line in (pictures / "list.txt").read_text().splitlines()]
    ids = {"0": "n3", "1": "n1", "2": "n2"}
    (tmp_path / "list.txt").write_text("".join(f"{name} {ids[label]}\n" for name, label in words))
    plain = json.loads(run(models / "rgb.safetensors", "--data", pictures, "--json")[1])
    mapped = json.loads(
        run(
            *[models / "rgb.safetensors", "--data", pictures, "--list", tmp_path / "list.txt"],
            *["--class-map", tmp_path / "map.txt", "--json"],
        )[1]
    )
    assert (mapped["top1"], mapped["loss"]) == (plain["top1"], plain["loss"])


def test_fewer_classes_in_a_list_are_a_warning(run, models, pictures, tmp_path):
    (tmp_path / "list.txt").write_text("cat/0.png 0\ndog/0.png 1\n")
    code, _, err = run(models / "rgb.safetensors", "--data", pictures, "--list", tmp_path / "list.txt")
    assert code == 0
    assert "the labels go up to 1 only, and the model has 3 classes" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{m}/digits.safetensors", "--data", "{p}"], r"has 3 classes and the model has 10"),
        (["{m}/rgb.safetensors", "--data", "digits"], r"digits has 10 classes and the model has 3"),
        (
            ["{m}/rgb.safetensors", "--data", "{p}", "--list", "{t}/four.txt"],
            r"four.txt:1: the label 3 is out of range",
        ),
        (["{m}/rgb.safetensors", "--data", "{p}", "--list", "{t}/none.txt"], "none.txt: cannot be read"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--list", "{t}/lost.txt"], "lost.txt:2: the picture"),
        (["{m}/rgb.safetensors", "--data", "{t}/none"], "none: there is no such folder"),
        (["{m}/rgb.safetensors", "--data", "digits", "--list", "{t}/four.txt"], "--list does not go with"),
        (["{m}/none.safetensors", "--data", "{p}"], "none.safetensors"),
        (["--data", "{p}"], "no model is named"),
        (["--model", "cyclemlp_nano", "--data", "{p}"], "give either --weights FILE or --pretrained"),
        (["--model", "cyclemlp_b9", "--weights", "{m}/bare.pdparams", "--data", "{p}"], "unknown model"),
        (
            ["--model", "cyclemlp_b1", "--weights", "{m}/rgb.safetensors", "--data", "{p}"],
            "holds a cyclemlp_nano, not",
        ),
        (["{m}/rgb.safetensors", "--model", "cyclemlp_nano", "--data", "{p}"], "give one model"),
        (
            ["{m}/rgb.safetensors", "--weights", "{m}/bare.pdparams", "--data", "{p}"],
            "--weights goes with --model",
        ),
        (["{m}/rgb.safetensors", "--data", "{p}", "--predictions"], "--predictions needs --output"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--classes", "{t}/four.txt"], "it has no effect"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--output", "{t}/four.txt"], "cannot be made"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--device", "tpu"], "use cpu, gpu or gpu:N"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--crop-pct", "1.5"], "crop_pct is 1.5"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--input-size", "8"], "8"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(run, models, pictures, tmp_path, words, message):
    (tmp_path / "four.txt").write_text("cat/0.png 3\n")
    (tmp_path / "lost.txt").write_text("cat/0.png 0\ncat/9.png 2\n")
    code, out, err = run(*(word.format(m=models, p=pictures, t=tmp_path) for word in words))
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert [
        line for line in err.splitlines() if line.startswith("cyclemlp eval: error: ") and message in line
    ]


def test_numbers_that_are_not_finite_exit_with_1(run, models, pictures, tmp_path):
    model = cyclemlp.load_model(models / "rgb.safetensors")
    model.head.bias.set_value(paddle.to_tensor([0.0, float("nan"), 0.0]))
    cyclemlp.save_model(model, tmp_path / "nan.safetensors")
    code, _, err = run(tmp_path / "nan.safetensors", "--data", pictures)
    assert code == 1
    assert "the model gives NaN or infinity for 'cat/0.png'" in err


def test_help_ends_with_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["eval", "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    for words in ("--data digits ", "--list FILE", "cyclemlp eval runs/digits --data digits", "Exit code"):
        assert words in out
