"""`cyclemlp eval` from end to end, with a small network and small real files."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import build_parser, main
from cyclemlp.data import (
    Digits,
    ImageFiles,
    ImageFolder,
    build_loader,
    evaluation_transform,
    imagenet_classes,
)
from cyclemlp.evaluation import (
    TTA,
    EvaluationResult,
    analyse,
    as_callable,
    choose_views,
    evaluate,
    wilson_interval,
    write_report,
)
from cyclemlp.preprocessing import Preprocessing
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
def images(tmp_path_factory):
    """Noise in cat/, dog/, emu/, three each, and a list of them in list.txt."""
    folder = tmp_path_factory.mktemp("images")
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


def test_folder_list_and_bare_weights_agree(run, models, images, tmp_path):
    figures = []
    for words in (
        [models / "rgb.safetensors", "--data", images],
        [models / "rgb.safetensors", "--data", images, "--list", images / "list.txt", "--workers", 2],
        ["--model", "cyclemlp_nano", "--weights", models / "bare.pdparams", "--data", images],
        ["CycleMLP_nano", "--weights", models / "bare.pdparams", "--data", images, "--batch-size", 2],
    ):
        code, out, _ = run(*words, "--json")
        assert code == 0
        found = json.loads(out)
        figures.append((found["top1"], found["images"], round(found["loss"], 4)))
    assert len(set(figures)) == 1


def test_figures_for_people_progress_and_files(run, models, images, tmp_path):
    code, out, err = run(
        models / "rgb.safetensors", "--data", images, "--output", tmp_path / "new" / "r", "--predictions"
    )
    assert code == 0
    report = json.loads((tmp_path / "new" / "r" / "eval.json").read_text())
    for line in (f"top-1     {report['top1']:.3f} %", f"loss      {report['loss']:.4f}", "images    9 of"):
        assert line in out
    assert "images/s" in out
    assert "note      top-5 says nothing here" in out
    assert "9/9" in err
    with (tmp_path / "new" / "r" / "eval.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [name for name in CLASSES for _ in range(3)]
    assert sum(row["label"] == row["predicted"] for row in rows) == round(report["top1"] * 9 / 100)
    assert sum(row["rank"] == "1" for row in rows) == round(report["top1"] * 9 / 100)
    assert np.mean([float(row["loss"]) for row in rows]) == pytest.approx(report["loss"], rel=1e-5)


def test_any_k_is_told_with_its_interval(run, models):
    words = [models / "digits.safetensors", "--data", "digits", "--topk", 3, 10]
    found = json.loads(run(*words, "--json")[1])
    assert found["top1"] <= found["top3"] <= found["top5"] <= found["top10"] == 100
    assert found["top3_interval"] == list(wilson_interval(round(found["top3"] * 3.59), 359))
    low, high = found["top3_interval"]
    assert f"top-3     {found['top3']:.3f} %   (95 % interval {low:.2f} to {high:.2f})" in run(*words)[1]


@pytest.fixture(scope="module")
def report(models, tmp_path_factory):
    """What `--report` writes of the digits, and prints."""
    folder = tmp_path_factory.mktemp("report")
    words = ["--data", "digits", "--output", folder, "--report", "--bins", 10, "--json"]
    with redirect_stdout(io.StringIO()) as out:
        assert main(["eval", *map(str, [models / "digits.safetensors", *words])]) == 0
    return folder, json.loads(out.getvalue())


def test_a_report_has_tables_images_and_a_page_of_the_same_figures(report):
    folder, printed = report
    assert json.loads((folder / "eval.json").read_text()) == printed
    rows = {
        name: list(csv.DictReader((folder / f"{name}.csv").open(newline="")))
        for name in ("eval", "classes", "confusion", "confusions")
    }
    right = sum(row["rank"] == "1" for row in rows["eval"])
    wrong = [row for row in rows["eval"] if row["rank"] != "1"]
    assert len(rows["eval"]) == 359
    assert right == round(printed["top1"] * 3.59) == sum(int(row["right"]) for row in rows["classes"])
    accuracies = [float(row["accuracy_percent"]) for row in rows["classes"]]
    assert accuracies == sorted(accuracies)
    assert np.mean(accuracies) == pytest.approx(printed["analysis"]["mean_class_accuracy"], abs=1e-4)
    assert sum(int(row[digit]) for row in rows["confusion"] for digit in "0123456789") == 359
    assert right == sum(int(row[digit]) for row, digit in zip(rows["confusion"], "0123456789", strict=True))
    assert sum(int(row["images"]) for row in rows["confusions"]) == len(wrong)
    most = Counter(row["predicted"] for row in wrong if row["label"] == rows["classes"][0]["class"])
    assert int(rows["classes"][0]["most_taken_for_images"]) == most.most_common(1)[0][1]

    calibration = printed["analysis"]["calibration"]
    assert len(calibration["bins"]) == 10
    assert calibration["nll"] == pytest.approx(printed["loss"])
    page = (folder / "report.md").read_text()
    assert f"| top-1 | {printed['top1']:.2f} % | " in page
    assert f"| expected calibration error, 0 to 1 | {calibration['ece']:.4f} | " in page
    worst = max(wrong, key=lambda row: float(row["probability"]))
    assert f"| {worst['image']} | {worst['predicted']} | {100 * float(worst['probability']):.1f} % | " in page
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (folder / link).is_file()
    for name in ("calibration", "classes", "confusion", "mistakes"):
        assert Image.open(folder / f"{name}.png").width > 500


def test_a_report_without_mistakes_keeps_no_older_image_of_them(run, models, images, tmp_path):
    model = cyclemlp.load_model(models / "rgb.safetensors")
    model.head.bias.set_value(paddle.to_tensor([0.0, 1e4, 0.0]))
    cyclemlp.save_model(model, tmp_path / "dogs.safetensors")
    (tmp_path / "dogs.txt").write_text("dog/0.png 1\ndog/1.png 1\n")
    (tmp_path / "mistakes.png").write_text("of an earlier report")
    code, out, _ = run(
        *[tmp_path / "dogs.safetensors", "--data", images, "--list", tmp_path / "dogs.txt"],
        *["--output", tmp_path, "--report"],
    )
    assert code == 0
    assert not (tmp_path / "mistakes.png").exists()
    assert "mistakes.png" not in out
    page = (tmp_path / "report.md").read_text()
    assert "None: every answer is right." in page
    assert "2 classes have no image and count nowhere." in page
    rows = list(csv.DictReader((tmp_path / "classes.csv").open(newline="")))
    assert [(row["class"], row["accuracy_percent"]) for row in rows] == [
        ("dog", "100"),
        ("cat", ""),
        ("emu", ""),
    ]


@pytest.mark.heavy
def test_the_report_of_a_thousand_classes_names_the_most_frequent_confusions(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 2)
    logits = rng.normal(size=(2000, 1000)).astype(np.float32) + 4 * np.eye(1000, dtype=np.float32)[labels]
    logits[0:2, 7] = 99
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    source = ImageFiles([tmp_path / "x.png"] * 2000)
    top1 = 100 * float((logits.argmax(axis=1) == labels).mean())
    result = EvaluationResult({1: top1}, 1.0, 2000, 1000, 1.0, (), logits, labels, np.arange(2000))
    facts = {"model": "m", "weights": "w", "data": "d", "preprocessing": Preprocessing().to_dict()}
    names = imagenet_classes()
    written = write_report(tmp_path, result, analyse(result), source, names, facts)
    assert {path.name for path in written} >= {"confusion.png", "classes.png", "report.md"}
    assert f"| {names[0]} | {names[7]} | 2 | 100.0 % |" in (tmp_path / "report.md").read_text()
    header = next(csv.reader((tmp_path / "confusion.csv").open(newline="")))
    assert len(set(header)) == 1002  # two pairs of classes share a name: their numbers tell them apart
    assert Image.open(tmp_path / "confusion.png").height > 700


def test_preprocessing_can_be_overridden(run, models, images):
    plain = json.loads(run(models / "rgb.safetensors", "--data", images, "--json")[1])
    words = ["--input-size", 40, "--crop-pct", 0.8, "--interpolation", "bilinear"]
    other = json.loads(run(models / "rgb.safetensors", "--data", images, "--json", *words)[1])
    assert other["preprocessing"]["input_size"] == 40
    assert other["preprocessing"]["crop_pct"] == 0.8
    assert other["preprocessing"]["interpolation"] == "bilinear"
    assert other["preprocessing"]["mean"] == plain["preprocessing"]["mean"]
    assert other["loss"] != plain["loss"]


@pytest.mark.parametrize(("tta", "passes"), [("flip", 2), ("crops", 10)])
def test_views_are_averaged_and_told(run, models, images, tmp_path, tta, passes):
    words = [models / "rgb.safetensors", "--data", images, "--input-size", "24x40", "--tta", tta]
    code, out, _ = run(*words, "--output", tmp_path, "--report")
    assert code == 0
    report = json.loads((tmp_path / "eval.json").read_text())
    assert report["tta"]["name"] == tta
    assert report["tta"]["forward_passes"] == len(report["tta"]["views"]) == passes
    assert f"views     {passes} views, " in out
    assert f"the mean over {passes} views: centre; centre, mirrored" in (tmp_path / "report.md").read_text()
    model = cyclemlp.load_model(models / "rgb.safetensors")
    views = choose_views(tta)
    transform = views.transform(replace(model.metadata.preprocessing, input_size=(24, 40)))
    loader = build_loader(ImageFolder(images), transform, batch_size=4)
    expected = evaluate(views.classifier(as_callable(model)), loader, progress=False)
    assert report["loss"] == pytest.approx(expected.loss, abs=1e-5)
    assert report["analysis"]["calibration"]["nll"] == pytest.approx(expected.loss, abs=1e-5)
    plain = json.loads(run(*words[:-2], "--json")[1])
    choices = build_parser("eval").parse_args  # the words of the option are those of the library
    assert [choices(["eval", "m", "--tta", name]).tta for name in TTA] == list(TTA)
    assert plain["tta"]["forward_passes"] == 1
    assert plain["loss"] != pytest.approx(report["loss"], abs=1e-6)


def test_folders_are_matched_by_the_models_class_names(run, models, images, tmp_path):
    for name in ("dog", "emu"):  # without cat, dog would be class 0 by order
        (tmp_path / name).symlink_to(images / name)
    code, _, err = run(models / "rgb.safetensors", "--data", tmp_path, "--output", tmp_path, "--predictions")
    assert code == 0
    assert "have none of 1 of the 3 classes: cat" in err
    with (tmp_path / "eval.csv").open(newline="") as file:
        assert {(row["image"][:3], row["label_index"]) for row in csv.DictReader(file)} == {
            ("dog", "1"),
            ("emu", "2"),
        }


def test_folders_with_other_names_need_a_class_map(run, models, images, tmp_path):
    for name, other in zip(CLASSES, "cab", strict=True):
        (tmp_path / other).symlink_to(images / name)
    code, _, err = run(models / "rgb.safetensors", "--data", tmp_path)
    assert code == 2
    assert "3 of 3 classes are none that the model knows: a, b, c; it has 3: cat, dog, emu" in err
    (tmp_path / "map.txt").write_text("c 0\na 1\nb 2\n")
    plain = json.loads(run(models / "rgb.safetensors", "--data", images, "--json")[1])
    words = ["--data", tmp_path, "--class-map", tmp_path / "map.txt", "--json"]
    assert json.loads(run(models / "rgb.safetensors", *words)[1])["loss"] == pytest.approx(plain["loss"])


def test_class_map_for_words_in_a_list(run, models, images, tmp_path):
    (tmp_path / "map.txt").write_text("n3 0\nn1 1\nn2 2\n")
    words = [line.rsplit(None, 1) for line in (images / "list.txt").read_text().splitlines()]
    ids = {"0": "n3", "1": "n1", "2": "n2"}
    (tmp_path / "list.txt").write_text("".join(f"{name} {ids[label]}\n" for name, label in words))
    plain = json.loads(run(models / "rgb.safetensors", "--data", images, "--json")[1])
    mapped = json.loads(
        run(
            *[models / "rgb.safetensors", "--data", images, "--list", tmp_path / "list.txt"],
            *["--class-map", tmp_path / "map.txt", "--json"],
        )[1]
    )
    assert (mapped["top1"], mapped["loss"]) == (plain["top1"], plain["loss"])


def test_fewer_classes_in_a_list_are_a_warning(run, models, images, tmp_path):
    (tmp_path / "list.txt").write_text("cat/0.png 0\ndog/0.png 1\n")
    code, _, err = run(models / "rgb.safetensors", "--data", images, "--list", tmp_path / "list.txt")
    assert code == 0
    assert "the labels go up to 1 only, and the model has 3 classes" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["{m}/digits.safetensors", "--data", "{p}"],
            "are none that the model knows: cat, dog, emu; it has 10: 0, 1, 2",
        ),
        (
            ["{m}/rgb.safetensors", "--data", "digits"],
            r"10 of 10 classes are none that the model knows: 0, 1, 2, 3, 4",
        ),
        (
            ["{m}/rgb.safetensors", "--data", "{p}", "--list", "{t}/four.txt"],
            r"four.txt:1: the label 3 is out of range",
        ),
        (["{m}/rgb.safetensors", "--data", "{p}", "--list", "{t}/none.txt"], "none.txt: cannot be read"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--list", "{t}/lost.txt"], "lost.txt:2: the image"),
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
        (["{m}/rgb.safetensors", "--data", "{p}", "--report"], "--report needs --output"),
        (
            ["{m}/rgb.safetensors", "--data", "{p}", "--bins", "9"],
            "--bins is for the calibration in the --report",
        ),
        (["{m}/rgb.safetensors", "--data", "{p}", "--classes", "{t}/four.txt"], "it has no effect"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--output", "{t}/four.txt"], "cannot be made"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--device", "tpu"], "use cpu, gpu or gpu:N"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--crop-pct", "1.5"], "crop_pct is 1.5"),
        (["{m}/rgb.safetensors", "--data", "{p}", "--input-size", "8"], "8"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(run, models, images, tmp_path, words, message):
    (tmp_path / "four.txt").write_text("cat/0.png 3\n")
    (tmp_path / "lost.txt").write_text("cat/0.png 0\ncat/9.png 2\n")
    code, out, err = run(*(word.format(m=models, p=images, t=tmp_path) for word in words))
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert [
        line for line in err.splitlines() if line.startswith("cyclemlp eval: error: ") and message in line
    ]


def test_numbers_that_are_not_finite_exit_with_1(run, models, images, tmp_path):
    model = cyclemlp.load_model(models / "rgb.safetensors")
    model.head.bias.set_value(paddle.to_tensor([0.0, float("nan"), 0.0]))
    cyclemlp.save_model(model, tmp_path / "nan.safetensors")
    code, _, err = run(tmp_path / "nan.safetensors", "--data", images)
    assert code == 1
    assert "the model gives NaN or infinity for 'cat/0.png'" in err


def test_help_ends_with_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["eval", "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    for words in ("--data digits ", "--list FILE", "cyclemlp eval runs/digits --data digits", "Exit code"):
        assert words in out


@pytest.mark.heavy  # two processes that start Paddle each
def test_two_processes_share_the_images_and_count_each_once(models, images, tmp_path, capsys):
    command = ["eval", str(models / "rgb.safetensors"), "--data", str(images), "--report", "--output"]
    assert main([*command, str(tmp_path / "alone")]) == 0
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    program = [
        *launcher,
        "--log_dir",
        str(tmp_path / "log"),
        "-m",
        "cyclemlp",
        *command,
        str(tmp_path / "two"),
    ]
    done = subprocess.run(program, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    alone, two = (json.loads((tmp_path / name / "eval.json").read_text()) for name in ("alone", "two"))
    for key in ("top1", "top5", "images", "classes"):
        assert two[key] == alone[key]
    assert two["loss"] == pytest.approx(alone["loss"], rel=1e-6)  # float32 by batches of other sizes
    for column in ("image", "label_index", "predicted_index"):
        rows = [csv.DictReader((tmp_path / name / "eval.csv").open(newline="")) for name in ("alone", "two")]
        assert [row[column] for row in rows[0]] == [row[column] for row in rows[1]]
    logs = [path.read_text() for path in sorted((tmp_path / "log").glob("workerlog.*"))]
    assert ["top-1" in log for log in logs] == [True, False]


def test_other_commands_run_in_one_process(monkeypatch, capsys):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    for words in (["predict", "x", "y.png"], ["seg", "eval", "x"]):
        assert main(words) == 2
        assert "runs in one process; start it without paddle.distributed.launch" in capsys.readouterr().err
