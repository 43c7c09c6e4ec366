"""`cyclemlp predict` from end to end."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.data import imagenet_classes
from cyclemlp.weights import write_weights

CLASSES = ["cat", "dog, small", "emu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """rgb.safetensors; shots/0.png … 5.png and shots/more/x y.png; test.txt, val.txt and spoilt.txt name them."""
    folder = tmp_path_factory.mktemp("predict")
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=3)
    write_weights(
        folder / "bare.safetensors", {name: value.numpy() for name, value in model.state_dict().items()}
    )
    model.metadata.classes = CLASSES
    cyclemlp.save_model(model, folder / "rgb.safetensors")
    rng = np.random.default_rng(0)
    (folder / "shots" / "more").mkdir(parents=True)
    names = [f"{i}.png" for i in range(6)] + ["more/x y.png"]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / "shots" / name)
    (folder / "test.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "val.txt").write_text("".join(f"{name} {i % 3}\n" for i, name in enumerate(names)))
    (folder / "spoilt.txt").write_text("0.png\n1.png\nlost.png\n2.png\n../test.txt\n3.png\n")
    return folder


@pytest.fixture
def run(capsys):
    def run(*words):
        code = main(["predict", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture(scope="module")
def expected(folder):
    """name → probabilities, straight from the network."""
    from cyclemlp.data import ImageFiles, build_loader, evaluation_transform

    model = cyclemlp.load_model(folder / "rgb.safetensors")
    model.eval()
    source = ImageFiles([folder / "shots"])
    (batch,) = build_loader(source, evaluation_transform(model.metadata.preprocessing), batch_size=50)
    with paddle.no_grad():
        probabilities = paddle.nn.functional.softmax(model(paddle.to_tensor(batch.images))).numpy()
    names = [source.name(i).removeprefix(f"{folder}/shots/") for i in range(len(source))]
    return dict(zip(names, probabilities, strict=True))


def test_views_are_averaged_and_told(run, folder, tmp_path):
    words = [folder / "rgb.safetensors", "--data", folder / "shots", "--list", folder / "test.txt"]
    code, out, _ = run(*words, "--tta", "crops", "--output", tmp_path, "--json")
    assert code == 0
    found, plain = json.loads(out), json.loads(run(*words, "--json")[1])
    assert (found["tta"]["name"], found["tta"]["forward_passes"]) == ("crops", 10)
    assert json.loads((tmp_path / "predictions.json").read_text())["tta"] == found["tta"]
    assert (plain["tta"]["name"], plain["tta"]["forward_passes"]) == ("none", 1)
    predictor = cyclemlp.Predictor(folder / "rgb.safetensors", tta="crops")
    for entry, other in zip(found["predictions"], plain["predictions"], strict=True):
        best = predictor(folder / "shots" / entry["image"]).best
        assert entry["classes"][0]["index"] == best.index
        assert entry["classes"][0]["probability"] == pytest.approx(best.probability, abs=1e-5)
        assert entry["classes"][0]["probability"] != other["classes"][0]["probability"]


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_images_and_folders(run, folder, expected):
    code, out, err = run(folder / "rgb.safetensors", folder / "shots" / "3.png", folder / "shots" / "more")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["image", "predicted", "class", "probability"]
    best = expected["3.png"].argmax()
    assert lines[2].split() == [
        str(folder / "shots/3.png"),
        *CLASSES[best].split(),
        f"{expected['3.png'][best]:.2%}",
    ]
    assert len(lines) == 2 + 2 * 3  # top 5 of 3 classes is 3
    assert str(folder / "shots/more/x y.png") in lines[5]
    assert "2/2" in err


def test_list_csv_and_json_agree_with_the_network(run, folder, expected, tmp_path):
    code, out, _ = run(
        *[folder / "rgb.safetensors", "--data", folder / "shots", "--list", folder / "test.txt"],
        *["--output", tmp_path / "new", "--top", 2, "--batch-size", 3, "--workers", 2],
    )
    assert code == 0
    table, values = (
        rows(tmp_path / "new" / "predictions.csv"),
        json.loads((tmp_path / "new" / "predictions.json").read_text()),
    )
    assert [row["image"] for row in table] == [f"{i}.png" for i in range(6)] + ["more/x y.png"]
    assert values["complete"] is True
    for row, entry in zip(table, values["predictions"], strict=True):
        order = np.argsort(-expected[row["image"]])[:2]
        assert [int(row["index1"]), int(row["index2"])] == order.tolist()
        assert [row["class1"], row["class2"]] == [CLASSES[i] for i in order]
        assert float(row["probability1"]) == pytest.approx(expected[row["image"]][order[0]], abs=1e-5)
        assert [c["index"] for c in entry["classes"]] == order.tolist()
        assert entry["image"] == row["image"]
    assert "x y.png" in out


def test_json_on_stdout_only(run, folder):
    code, out, _ = run(folder / "rgb.safetensors", folder / "shots" / "0.png", "--json")
    values = json.loads(out)
    assert code == 0
    assert values["predictions"][0]["image"].endswith("0.png")
    assert values["preprocessing"]["input_size"] == 32


def test_list_with_labels_shows_them(run, folder, tmp_path):
    words = [
        folder / "rgb.safetensors",
        "--data",
        folder / "shots",
        "--list",
        folder / "val.txt",
        "--list-mode",
        "val",
    ]
    code, out, _ = run(*words, "--top", 1, "--output", tmp_path)
    assert code == 0
    assert out.splitlines()[0].split()[1:3] == ["true", "class"]
    assert [row["label"] for row in rows(tmp_path / "predictions.csv")] == [CLASSES[i % 3] for i in range(7)]
    code, _, err = run(*words[:-2])
    assert code == 2
    assert "'0.png' does exist" in err


def test_bad_image_stops_and_nothing_computed_is_lost(run, folder, tmp_path):
    words = [
        folder / "rgb.safetensors",
        "--data",
        folder / "shots",
        "--list",
        folder / "spoilt.txt",
        "--batch-size",
        2,
    ]
    code, out, err = run(*words, "--top", 1)
    assert code == 2
    assert "cyclemlp predict: error: " in err
    assert "spoilt.txt:3: the image" in err
    assert "Traceback" not in err
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["0.png", "1.png"]
    code, _, err = run(*words, "--output", tmp_path)
    assert code == 2
    assert "2 images written to" in err
    assert [row["image"] for row in rows(tmp_path / "predictions.partial.csv")] == ["0.png", "1.png"]
    assert json.loads((tmp_path / "predictions.partial.json").read_text())["complete"] is False
    assert not (tmp_path / "predictions.csv").exists()


def test_bad_images_are_skipped_reported_and_counted(run, folder, tmp_path):
    words = [
        folder / "rgb.safetensors",
        "--data",
        folder / "shots",
        "--list",
        folder / "spoilt.txt",
        "--batch-size",
        2,
    ]
    code, _, err = run(*words, "--skip-bad", "--output", tmp_path)
    assert code == 1
    assert "skipped" in err
    assert "spoilt.txt:3: the image" in err
    assert "spoilt.txt:5: " in err
    assert "2 of 6 images were skipped" in err
    assert [row["image"] for row in rows(tmp_path / "predictions.csv")] == [f"{i}.png" for i in range(4)]
    values = json.loads((tmp_path / "predictions.json").read_text())
    assert [failure["image"] for failure in values["failures"]] == ["lost.png", "../test.txt"]
    assert values["complete"] is True
    code, _, err = run(*words)
    assert code == 2
    assert "spoilt.txt:3: the image" in err
    assert "--skip-bad leaves out images" in err


def test_class_names_from_option_model_imagenet_or_numbers(run, folder, tmp_path):
    (tmp_path / "names.txt").write_text("0 Katze\n1 Hund\n2 Emu\n")
    shot = folder / "shots" / "0.png"
    bare = ["--model", "cyclemlp_nano", "--weights", folder / "bare.safetensors"]

    def names(*words):
        code, out, err = run(*words, "--json")
        assert code == 0, err
        return {c["name"]: c["index"] for c in json.loads(out)["predictions"][0]["classes"]}

    assert names(folder / "rgb.safetensors", shot) == {"cat": 0, "dog, small": 1, "emu": 2}
    assert names(folder / "rgb.safetensors", shot, "--classes", tmp_path / "names.txt") == {
        "Katze": 0,
        "Hund": 1,
        "Emu": 2,
    }
    assert names(*bare, shot) == {"0": 0, "1": 1, "2": 2}
    cyclemlp.save_model(cyclemlp.create_model("cyclemlp_nano"), tmp_path / "thousand.safetensors")
    for name, index in names(tmp_path / "thousand.safetensors", shot).items():
        assert imagenet_classes()[index] == name
    code, _, err = run(folder / "rgb.safetensors", shot, "--classes", "imagenet")
    assert code == 2
    assert "imagenet names 1,000 classes and the model has 3" in err


def test_with_output_a_long_table_is_cut(run, folder, tmp_path):
    (tmp_path / "many.txt").write_text("".join(f"{i % 6}.png\n" for i in range(25)))
    words = [
        folder / "rgb.safetensors",
        "--data",
        folder / "shots",
        "--list",
        tmp_path / "many.txt",
        "--top",
        1,
    ]
    code, out, err = run(*words, "--output", tmp_path)
    assert code == 0
    assert "19 lines repeat a name" in err
    assert len(out.splitlines()) == 2 + 20 + 1
    assert out.splitlines()[-1] == "… and 5 more images"
    assert len(rows(tmp_path / "predictions.csv")) == 25
    assert len(run(*words)[1].splitlines()) == 2 + 25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{f}/rgb.safetensors"], "no images are named"),
        (["{f}/rgb.safetensors", "{f}/none.png"], "none.png: there is no such image or folder"),
        (["{f}/rgb.safetensors", "{f}/shots/0.png", "--data", "digits"], "not both"),
        (["{f}/rgb.safetensors", "--data", "{f}/shots"], "needs --list FILE"),
        (["{f}/rgb.safetensors", "--data", "digits"], "10 of 10 classes are none that the model knows"),
        (["{f}/rgb.safetensors", "{f}/shots", "--class-map", "imagenet"], "--class-map has an effect on"),
        (["{f}/shots/0.png"], "no images are named"),
        (["{f}/shots/0.png", "{f}/shots/1.png"], "0.png"),
        (["--model", "cyclemlp_nano", "{f}/shots/0.png"], "give either --weights FILE or --pretrained"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(run, folder, words, message):
    code, out, err = run(*(word.format(f=folder) for word in words))
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert [
        line for line in err.splitlines() if line.startswith("cyclemlp predict: error: ") and message in line
    ]


def test_top_must_be_a_number(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(folder / "rgb.safetensors"), "x.png", "--top", "0"])
    assert stop.value.code == 2
    assert "argument --top: '0': give a whole number from 1" in capsys.readouterr().err


def test_options_may_stand_before_the_images(run, folder):
    code, out, _ = run(
        folder / "rgb.safetensors", "--top", 1, folder / "shots" / "0.png", folder / "shots" / "1.png"
    )
    assert code == 0
    assert len(out.splitlines()) == 4


def test_as_a_program(folder):
    """Exit code, stdout and stderr as a shell sees them, digits of a greyscale image model included."""
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=10, in_chans=1)
    cyclemlp.save_model(model, folder / "digits.safetensors")
    words = ["predict", folder / "digits.safetensors", "--data", "digits", "--json", "--top", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "cyclemlp", *map(str, words)], capture_output=True, text=True, check=True
    )
    values = json.loads(done.stdout)
    assert len(values["predictions"]) == 359
    assert values["predictions"][0]["image"] == "digits/0005"
    assert values["predictions"][0]["label"]["index"] == 5
    assert "Warning" not in done.stderr


def test_help_ends_with_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    for words in ("IMAGE|FOLDER", "--skip-bad", "cyclemlp predict runs/pets cat.jpg dog.png", "Exit code"):
        assert words in out
