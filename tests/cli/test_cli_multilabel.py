"""The commands with several labels an image, from end to end, with a tiny network and real digits."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.cli.show_data import label_caption
from cyclemlp.data import Digits, ListFile
from cyclemlp.evaluation.multilabel.measures import sigmoid
from cyclemlp.metadata import MULTI_LABEL
from cyclemlp.weights import read_weights

NAMES = ["loop", "even", "seven"]
TINY = (
    *("--model", "cyclemlp_nano", "--override", "in_chans=1", "--override", "embed_dims=[8,8,12,12]"),
    *("--override", "depths=[1,1,1,1]", "--input-size", "16", "--epochs", "2", "--batch-size", "16"),
    *("--workers", "0", "--amp", "none", "--set", "augment.repeats=1", "--set", "run.seed=1"),
)


def labels_of(digit):
    return [
        name for name, of in zip(NAMES, ((0, 6, 8, 9), (0, 2, 4, 6, 8), (7,)), strict=True) if digit in of
    ]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Digits as files, with a list of each form: train.csv (columns), val.csv (labels), val.txt, bad.csv."""
    folder = tmp_path_factory.mktemp("photos")
    rows = {}
    for part, count in (("train", 48), ("val", 30)):
        digits, rows[part] = Digits(part), []
        for i in range(count):
            digits[i].image.save(folder / f"{part}{i}.png")
            rows[part].append((f"{part}{i}.png", labels_of(digits.label(i))))
    columns = "".join(
        f"{name},{','.join(str(int(n in found)) for n in NAMES)}\n" for name, found in rows["train"]
    )
    (folder / "train.csv").write_text(f"path,{','.join(NAMES)}\n{columns}")
    cells = "".join(f"{name},{'|'.join(found)}\n" for name, found in rows["val"])
    (folder / "val.csv").write_text(f"image,labels\n{cells}")
    lines = "".join(f"{name} {','.join(found) or '-'}\n" for name, found in rows["val"])
    (folder / "val.txt").write_text(lines)
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run's folder."""
    output = tmp_path_factory.mktemp("run") / "run"
    lists = ["--list", str(photos / "train.csv"), "--val-list", str(photos / "val.csv"), "--labels", "multi"]
    assert main(["train", *TINY, *lists, "--output", str(output), "--no-progress"]) == 0
    return output


@pytest.fixture
def run(capsys):
    def run(*words):
        capsys.readouterr()
        code = main(list(map(str, words)))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_training_says_and_keeps_what_it_is(trained):
    model = cyclemlp.load_model(trained)
    assert (model.metadata.task, model.metadata.classes) == (MULTI_LABEL, NAMES)
    assert len(model.metadata.thresholds) == 3
    text = (trained / "recipe.yaml").read_text()
    assert "labels: multi" in text
    assert "--labels multi" in (trained / "README.md").read_text()
    assert (trained / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["val.csv", "val.txt"])
def test_evaluation_writes_the_figures_of_each_class(trained, photos, tmp_path, run, name):
    words = ("eval", trained, "--list", photos / name, "--output", tmp_path, "--report", "--no-progress")
    code, out, err = run(*words)
    assert code == 0, err
    found = json.loads((tmp_path / "eval.json").read_text())
    assert f"mAP        {found['map']:.2f} %" in out
    assert found["thresholds"] == cyclemlp.load_model(trained).metadata.thresholds
    assert found["images"] == 30
    assert found["unlabelled_images"] == sum(not labels_of(Digits("val").label(i)) for i in range(30))
    with (tmp_path / "classes.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(NAMES)
    for i, class_name in enumerate(NAMES):
        row = rows[class_name]
        assert float(row["average_precision_percent"]) == pytest.approx(
            found["class_average_precision"][i], rel=1e-5
        )
        assert float(row["f1_percent"]) <= float(row["best_f1_percent"]) + 1e-9
    # The thresholds were chosen on these images.
    assert all(
        float(row["f1_percent"]) == pytest.approx(float(row["best_f1_percent"])) for row in rows.values()
    )
    page = (tmp_path / "report.md").read_text()
    assert "any number of them an image" in page
    assert all((tmp_path / figure).stat().st_size > 1000 for figure in ("curves.png", "classes.png"))
    again = ListFile(photos, tmp_path / "eval.csv", multi_label=True)  # the predicted labels as a list
    assert (again.name(0), len(again)) == ("val0.png", 30)


def test_classes_that_no_image_has_are_named(trained, photos, run):
    code, out, _ = run("eval", trained, "--list", photos / "val.csv", "--no-progress")
    assert "no image has" not in out
    (photos / "one.csv").write_text(f"image,labels\nval0.png,{NAMES[0]}\nval1.png,\n")
    code, out, err = run("eval", trained, "--list", photos / "one.csv", "--no-progress")
    assert code == 0, err
    assert f"no image has {NAMES[1]!r}, {NAMES[2]!r}: mAP and macro are of the other 1" in out


def test_a_threshold_for_all_classes(trained, photos, run):
    code, out, _ = run("eval", trained, "--list", photos / "val.csv", "--threshold", "0", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["macro_recall"] == 100
    assert found["thresholds"] == [0, 0, 0]
    code, out, _ = run("eval", trained, "--list", photos / "val.csv", "--threshold", "1")
    assert "micro      precision –, recall 0.00 %, F1 0.00 %" in out  # nothing was predicted
    code, _, err = run("eval", trained, "--list", photos / "val.csv", "--threshold", "1.5")
    assert code == 2
    assert "--threshold is 1.5; give a probability" in err


@pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
def test_thresholds_are_chosen_anew_on_other_images(trained, photos, tmp_path, run, suffix):
    """On the first ten images, of which one class is taken out: it keeps its threshold."""
    rows = [
        (f"val{i}.png", [n for n in labels_of(Digits("val").label(i)) if n != "seven"]) for i in range(10)
    ]
    cells = "".join(f"{name},{'|'.join(found)}\n" for name, found in rows)
    (photos / "few.csv").write_text(f"image,labels\n{cells}")
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    new = tmp_path / f"chosen{suffix}"
    words = ("eval", trained, "--list", photos / "few.csv", "--choose-thresholds", new)
    code, out, err = run(*words, "--output", tmp_path / "figures", "--no-progress")
    assert code == 0, err
    assert (
        f"written    {new}: the weights of {trained / 'best.safetensors'} with the chosen thresholds" in out
    )
    assert "no image has 'seven': mAP and macro are of the other 2; these keep their thresholds" in out
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before

    own, model = cyclemlp.load_model(trained), cyclemlp.load_model(new)
    thresholds = model.metadata.thresholds
    assert thresholds[2] == own.metadata.thresholds[2]
    assert thresholds[:2] != own.metadata.thresholds[:2]
    assert (model.metadata.task, model.metadata.classes) == (MULTI_LABEL, NAMES)
    for name, tensor in own.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), tensor.numpy())
    read, written = (read_weights(path).metadata for path in (trained, new))
    origin = written.pop("thresholds_chosen_on")
    assert (origin["list"], origin["images"]) == (str(photos / "few.csv"), 10)
    assert {**read, "thresholds": thresholds} == written  # its epoch and figures too

    # No other thresholds give a class a higher F1 on these images.
    figures = json.loads((tmp_path / "figures/eval.json").read_text())
    assert figures["chosen"]["thresholds"] == thresholds
    assert figures["thresholds"] == own.metadata.thresholds
    transform = cyclemlp.data.evaluation_transform(model.metadata.preprocessing)
    pixels = np.stack([transform(Digits("val")[i].image) for i in range(10)])
    probabilities = sigmoid(cyclemlp.evaluation.as_callable(model)(pixels))
    for k in range(2):
        true = np.array([NAMES[k] in found for _, found in rows])

        def f1(threshold, k=k, true=true):
            said = probabilities[:, k] >= threshold
            return 100 * 2 * (said & true).sum() / (said.sum() + true.sum())

        assert figures["chosen"]["class_f1"][k] == pytest.approx(max(map(f1, np.linspace(0, 0.999, 2000))))
        assert f1(thresholds[k]) == pytest.approx(figures["chosen"]["class_f1"][k])

    # The commands take it as they take a run.
    code, out, _ = run("eval", new, "--list", photos / "few.csv", "--json")
    assert json.loads(out)["macro_f1"] == pytest.approx(figures["chosen"]["macro_f1"])
    code, out, _ = run("predict", new, photos / "val0.png", "--json")
    assert json.loads(out)["thresholds"] == thresholds
    assert run("export", new, "--format", "paddle", "--output", tmp_path / "exported")[0] == 0
    assert cyclemlp.load_exported(tmp_path / "exported").metadata.thresholds == thresholds


def test_thresholds_are_not_chosen_where_that_has_no_effect(trained, photos, tmp_path, run):
    one = cyclemlp.create_model("cyclemlp_nano", num_classes=3, in_chans=1)
    cyclemlp.save_model(one, tmp_path / "one.safetensors")
    assert run("export", trained, "--format", "paddle", "--output", tmp_path / "exported")[0] == 0
    (tmp_path / "a.json").write_text("{}")
    new, best = tmp_path / "new.safetensors", trained / "best.safetensors"
    for model, file, more, says in (
        (trained, new, ("--threshold", "0.5"), "one threshold for all classes, and --choose-thresholds"),
        (trained, tmp_path / "new.pth", (), "give a file ending in .safetensors or .pdparams"),
        (trained, best, (), "best.safetensors is there already; give a new name"),
        (trained, tmp_path / "a.pdparams", (), "a.json is there already; give a new name"),
        (trained, tmp_path / "none/new.safetensors", (), "there is no folder"),
        (tmp_path / "one.safetensors", new, (), "is for models of several labels an image"),
        (tmp_path / "exported", new, (), "give the run or the weights that it was made of"),
    ):
        code, _, err = run("eval", model, "--list", photos / "val.csv", "--choose-thresholds", file, *more)
        assert (code, says in err) == (2, True), err
    assert not new.exists()


def test_prediction_gives_all_labels_of_an_image(trained, photos, tmp_path, run):
    images = [photos / f"val{i}.png" for i in range(3)]
    code, out, _ = run("predict", trained, *images, "--threshold", "0", "--output", tmp_path)
    assert code == 0
    for name in NAMES:
        assert out.count(f" {name} ") == 3
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert [len(one["classes"]) for one in found["predictions"]] == [3, 3, 3]
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    model = cyclemlp.load_model(trained)
    transform = cyclemlp.data.evaluation_transform(model.metadata.preprocessing)
    pixels = np.stack([transform(Digits("val")[i].image) for i in range(3)])
    expected = sigmoid(cyclemlp.evaluation.as_callable(model)(pixels))
    for row, probabilities in zip(rows, expected, strict=True):
        assert [float(row[name]) for name in NAMES] == pytest.approx(probabilities.tolist(), rel=1e-4)
        assert row["labels"].split("|") == [NAMES[i] for i in np.argsort(-probabilities)]
    code, out, _ = run("predict", trained, *images, "--threshold", "1")
    assert code == 0
    assert out.count("no label") == 3


def test_prediction_shows_the_true_labels_beside(trained, photos, run):
    words = (
        "predict",
        trained,
        "--list",
        photos / "val.csv",
        "--list-mode",
        "val",
        "--threshold",
        "0",
        "--top",
        "1",
    )
    code, out, _ = run(*words, "--json")
    assert code == 0
    for i, one in enumerate(json.loads(out)["predictions"]):
        assert [label["name"] for label in one["labels"]] == labels_of(Digits("val").label(i))
        assert len(one["classes"]) == 1


def test_an_exported_model_gives_the_same_figures(trained, photos, tmp_path, run):
    for form in ("onnx", "openvino", "paddle"):
        assert run("export", trained, "--format", form, "--output", tmp_path / form)[0] == 0
    figures = []
    for model in (trained, *(tmp_path / form for form in ("onnx", "openvino", "paddle"))):
        code, out, err = run("eval", model, "--list", photos / "val.csv", "--json")
        assert code == 0, err
        figures.append(json.loads(out))
    for found in figures[1:]:
        assert found["map"] == pytest.approx(figures[0]["map"])
        assert found["macro_f1"] == pytest.approx(figures[0]["macro_f1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweep", "MODEL", "--list", "LIST"), "sweep counts right classes, one an image"),
        (
            ("robustness", "MODEL", "--list", "LIST", "--corrupt", "gaussian_noise"),
            "robustness counts right classes",
        ),
        (("eval", "MODEL", "--list", "LIST", "--topk", "3"), "--topk is for models of one class an image"),
        (("train", *TINY, "--list", "LIST"), "several labels an image need --labels multi"),
        (("data", "check", "--list", "LIST"), "several labels an image need --labels multi"),
        (("data", "split", "LIST", "--output", "OUT"), "several labels an image need --labels multi"),
        (("data", "split", "DIR", "--labels", "multi", "--output", "OUT"), "--labels goes with a list file"),
    ],
)
def test_what_does_not_apply_is_refused_with_the_way_out(trained, photos, tmp_path, run, words, message):
    places = {"MODEL": trained, "LIST": photos / "val.csv", "OUT": tmp_path / "out", "DIR": tmp_path}
    code, _, err = run(*(places.get(word, word) for word in words))
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_evaluations_of_labels_are_not_compared(trained, photos, tmp_path, run):
    assert run("eval", trained, "--list", photos / "val.csv", "--predictions", "--output", tmp_path)[0] == 0
    code, _, err = run("compare", tmp_path, tmp_path)
    assert code == 2
    assert "of a model of several labels an image" in err


def test_a_model_of_one_class_has_no_threshold(photos, tmp_path, run):
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=10, in_chans=1)
    cyclemlp.save_model(model, tmp_path / "one.safetensors")
    code, _, err = run("predict", tmp_path / "one.safetensors", photos / "val0.png", "--threshold", "0.5")
    assert code == 2
    assert "--threshold is 0.5; it is for models of several labels an image" in err
    code, _, err = run("eval", tmp_path / "one.safetensors", "--list", photos / "val.csv")
    assert code == 2
    assert "in evaluation a model trained so" in err


def test_the_check_and_the_split_know_labels(photos, tmp_path, run):
    code, out, _ = run("data", "check", photos, "--list", photos / "train.csv", "--labels", "multi")
    assert code == 0
    assert "images have no label" in out
    assert f"even {sum(d % 2 == 0 for d in map(Digits('train').label, range(48)))}" in out
    words = ("--data", photos, "--labels", "multi", "--output", tmp_path, "--val", "0.25")
    code, out, _ = run("data", "split", photos / "train.csv", *words)
    assert code == 0
    assert "(no label)" in out
    check, train, better = (
        line.strip().split() for line in out.splitlines() if line.startswith("  cyclemlp")
    )
    assert train[-2:] == better[-2:] == ["--labels", "multi"]
    assert "configs/finetune/own_multilabel.yaml" in better
    assert run(*check[1:])[0] == 0


def test_the_figure_of_a_batch_names_the_labels(photos, tmp_path, run):
    words = ("--model", "cyclemlp_nano", "--set", "model.overrides.in_chans=1", "--batch-size", "16")
    lists = ("--list", photos / "train.csv", "--labels", "multi", "--figure", tmp_path / "batch.png")
    assert run("show-data", *words, *lists)[0] == 0
    assert (tmp_path / "batch.png").stat().st_size > 1000
    assert label_caption(np.array([0.05, 0.95, 0.5]), NAMES, 0.05) == "even 0.95\nseven 0.50"
    assert label_caption(np.zeros(3), NAMES, 0.0) == "no label"
    assert label_caption(np.ones(6), list("abcdef"), 0.0).endswith("d 1.00\n2 others")
