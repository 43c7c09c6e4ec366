"""`cyclemlp compare` from end to end: two small networks, real evaluations."""

from __future__ import annotations

import csv
import json
import shutil

import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.data import Digits


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """a/ and b/: what two untrained networks say of the digits; few/: the first ones of few images."""
    folder = tmp_path_factory.mktemp("evaluations")
    for seed, name in enumerate("ab"):
        paddle.seed(seed)
        model = cyclemlp.create_model("cyclemlp_nano", num_classes=10, in_chans=1)
        cyclemlp.save_model(model, folder / f"{name}.safetensors")
        words = ["eval", folder / f"{name}.safetensors", "--data", "digits", "--input-size", 16]
        assert main([*map(str, words), "--output", str(folder / name), "--predictions"]) == 0
    return folder


@pytest.fixture
def run(capsys):
    def run(*words):
        code = main(["compare", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_files_and_sheets(run, evaluations, tmp_path):
    a, b = evaluations / "a", evaluations / "b"
    code, out, _ = run(a, b, "--output", tmp_path / "new", "--sheet")
    assert code == 0
    right = [{row["image"] for row in rows(side / "eval.csv") if row["rank"] == "1"} for side in (a, b)]
    report = json.loads((tmp_path / "new" / "compare.json").read_text())
    assert report["images"] == 359
    assert report["both_right"] == len(right[0] & right[1])
    assert report["only_a_right"] == len(right[0] - right[1]) > 0
    assert report["only_b_right"] == len(right[1] - right[0]) > 0
    assert report["top1_difference_points"] == pytest.approx(report["b"]["top1"] - report["a"]["top1"])
    assert report["loss_difference"] == pytest.approx(report["b"]["loss"] - report["a"]["loss"], abs=1e-5)
    assert f"p = {report['mcnemar_exact_p']:.4g}, exact" in out
    assert report["meaning"] in " ".join(out.split())

    differences = rows(tmp_path / "new" / "differences.csv")
    assert {row["image"] for row in differences if row["right"] == "A"} == right[0] - right[1]
    assert {row["image"] for row in differences if row["right"] == "B"} == right[1] - right[0]
    assert all(row["true"] == row[f"{row['right'].lower()}_predicted"] for row in differences)
    for name in ("only_a.png", "only_b.png"):
        assert Image.open(tmp_path / "new" / name).width > 600


def test_json_alone_on_stdout_and_an_evaluation_with_itself(run, evaluations):
    code, out, _ = run(evaluations / "a", evaluations / "a", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["mcnemar_exact_p"] == 1
    assert report["top1_difference_interval"] == [0, 0]
    assert report["only_a_right"] == report["only_b_right"] == 0


def test_images_for_the_sheet_can_lie_elsewhere(run, evaluations, tmp_path):
    for name in "ab":
        shutil.copytree(evaluations / name, tmp_path / name)
        report = json.loads((tmp_path / name / "eval.json").read_text())
        (tmp_path / name / "eval.json").write_text(json.dumps({**report, "data": f"gone-{name}"}))
    digits = Digits("val")
    names = [digits.name(i) for i in range(len(digits))]
    (tmp_path / "images" / "digits").mkdir(parents=True)
    for i, name in enumerate(names):
        digits[i].image.save(tmp_path / "images" / name, format="PNG")
    (tmp_path / "list.txt").write_text("".join(f"{name} {digits.label(i)}\n" for i, name in enumerate(names)))
    words = [tmp_path / "a", tmp_path / "b", "--output", tmp_path, "--sheet"]
    code, _, err = run(*words)
    assert (code, "gone-a: there is no such folder" in err) == (2, True)
    code, out, _ = run(*words, "--data", tmp_path / "images", "--list", tmp_path / "list.txt")
    assert code == 0
    assert "note        A's images are of gone-a, B's of gone-b" in out
    (tmp_path / "short.txt").write_text(f"{names[0]} {digits.label(0)}\n")
    code, _, err = run(*words, "--data", tmp_path / "images", "--list", tmp_path / "short.txt")
    assert (code, "name where it is with --data" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{e}/a", "{e}/none"], "eval.json: there is no such file"),
        (["{e}/a", "{e}/b", "--sheet"], "--sheet needs --output"),
        (["{e}/a", "{e}/b", "--data", "digits"], "--data says where the images for --sheet are"),
        (["{e}/a", "{e}/b", "--sheet", "--output", "{t}", "--class-map", "imagenet"], "goes with --data"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(run, evaluations, tmp_path, words, message):
    code, out, err = run(*(word.format(e=evaluations, t=tmp_path) for word in words))
    assert (code, out) == (2, "")
    assert [
        line for line in err.splitlines() if line.startswith("cyclemlp compare: error: ") and message in line
    ]
