"""`cyclemlp data scenes` from end to end."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from cyclemlp.cli.main import main

SMALL = ("--train", "3", "--val", "2", "--size", "64x96", "--max-size", "40", "--objects", "2-3")


@pytest.fixture
def scenes(capsys):
    """Run with some words; (exit code, stdout, stderr)."""

    def scenes(*words):
        try:
            code = main(["data", "scenes", *map(str, words)])
        except SystemExit as stop:  # argparse's
            code = stop.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return scenes


def test_it_says_what_is_there_and_what_to_do_next(scenes, tmp_path):
    folder = tmp_path / "few"
    words = ("--digits", "0,1,2", "--train-objects", "4-5", "--seed", 5, "--preview")
    code, out, err = scenes("--output", folder, *SMALL, *words)
    assert code == 0, err
    assert (
        f"in {folder}/: 3 scenes for training, 2 for validation, 96x64 pixels, each with 2 to 3 digits (4 to 5 in "
        "training) of 12 to 40 pixels" in out
    )
    annotations = [json.loads(p.read_text()) for p in sorted((folder / "annotations").iterdir())]
    train, val = (len(content["annotations"]) for content in annotations)
    assert re.search(rf"all +{train} +{val}\n", out)
    assert [c["name"] for c in annotations[0]["categories"]] == ["zero", "one", "two"]
    assert f"cyclemlp seg train --config configs/seg/scenes.yaml --data {folder}\n" in out
    assert f"cyclemlp det train --config configs/det/scenes.yaml --data {folder}\n" in out
    assert "next, with copies of these files in which the classes are 3 digits:\n" in out
    sheet = np.asarray(Image.open(folder / "preview.png"))
    assert sheet.shape[1] > 4 * 480
    assert sheet.std() > 20


def test_the_default_is_where_the_configs_look(scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = scenes(*SMALL)
    assert code == 0
    assert (tmp_path / "data" / "scenes" / "val.txt").exists()
    assert "\nnext:\n" in out
    code, _, err = scenes(*SMALL)
    assert code == 2
    assert "data/scenes is not empty" in err
    assert scenes(*SMALL, "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", "axb"), "--size: 'axb' is no size"),
        (("--objects", "5"), "--objects: '5': give two whole numbers as in 3-8"),
        (("--digits", "1,,2"), "--digits: '1,,2': give whole numbers as in 0,1,2"),
        (("--digits", "12"), "--digits: [12]; give some of 0 to 9"),
        (("--train", "0"), "--train: '0': give a whole number from 1"),
        (("--size", "64x64"), "--max-size 120: expected 8 <= smallest <= largest <= 64"),
    ],
)
def test_mistakes_are_messages(scenes, tmp_path, words, message):
    code, _, err = scenes("--output", tmp_path / "scenes", *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def photos(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for place, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.random.default_rng([count, place, index]).integers(
                    0, 256, (20, 30, 3), dtype=np.uint8
                )
                Image.fromarray(pixels).save(tmp_path / part / name / f"{index}.png")
    return tmp_path


def check(capsys, *words):
    code = main(["data", "check", "--no-progress", *map(str, words)])
    return code, capsys.readouterr()


def test_a_good_data_set_has_no_findings(photos, capsys):
    code, shown = check(capsys, photos)
    assert (code, shown.err) == (0, "")
    assert shown.out == (
        "train  6 images, 2 classes, 30×20 to 30×20\nval    4 images, 2 classes, 30×20 to 30×20\n"
        "0 errors, 0 warnings\n"
    )


def test_findings_are_told_and_counted(photos, capsys):
    (photos / "train" / "cat" / "9.png").write_bytes(b"no image")
    (photos / "train" / "empty").mkdir()
    (photos / "val" / "emu").mkdir()
    (photos / "val" / "emu" / "0.png").write_bytes((photos / "train" / "dog" / "0.png").read_bytes())
    code, shown = check(capsys, photos)
    assert code == 1
    for text in (
        "error: unreadable",
        "9.png",
        "error: empty_class: train",
        "error: leak",
        "not in train: 'emu'",
    ):
        assert text in shown.out
    code, shown = check(capsys, photos, "--json")
    found = json.loads(shown.out)
    assert (code, found["ok"], found["images"]) == (1, False, {"train": 7, "val": 5})
    kinds = [finding["kind"] for finding in found["findings"]]
    assert sorted(kinds) == [
        "duplicate",
        "empty_class",
        "leak",
        "unknown_class",
        "unreadable",
    ]


def test_lists_are_checked_too(photos, capsys):
    (photos / "list.csv").write_text(
        "image,label\ntrain/cat/0.png,cat\ntrain/dog/0.png,dog\ntrain/dog/x.png,dog\n"
    )
    code, shown = check(capsys, "--list", photos / "list.csv")
    assert code == 1
    assert "list.csv:4: the image" in shown.out
    code, shown = check(capsys)
    assert code == 2
    assert "no images are named" in shown.err
