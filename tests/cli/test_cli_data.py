"""`cyclemlp data scenes`, `check` and `split` from end to end."""

from __future__ import annotations

import json
import re
import shlex
import tarfile

import numpy as np
import pytest
from PIL import Image

from cyclemlp.cli.main import build_parser, main
from cyclemlp.cli.train import resolve_recipe
from cyclemlp.data import open_class_names
from cyclemlp.training.data import open_sources

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


@pytest.fixture
def animals(tmp_path):
    """cat/ and great dane/ with ten images each, and emu/ with one; a tar and a CSV file of the same."""
    folder = tmp_path / "animals"
    rows = ["image,label"]
    for name, count in (("cat", 10), ("emu", 1), ("great dane", 10)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng([len(name), index]).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"v{index // 2}_{index}.png")
            rows.append(f"{name}/v{index // 2}_{index}.png,{name}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    with tarfile.open(tmp_path / "animals.tar", "w") as tar:
        for name in ("cat", "emu", "great dane"):
            tar.add(folder / name, name)
    return folder


def split(capsys, *words):
    try:
        code = main(["data", "split", *map(str, words)])
    except SystemExit as stop:  # argparse's
        code = stop.code
    return code, capsys.readouterr()


def test_a_folder_is_split_and_said_how_to_go_on(animals, tmp_path, capsys):
    lists = tmp_path / "new" / "lists"
    code, shown = split(capsys, animals, "--output", lists)
    assert code == 0, shown.err
    assert shown.err == ("cyclemlp data: warning: only in training, having one image each: class 'emu'\n")
    assert re.search(
        r"class +train +val\n.*\ncat +8 +2\nemu +1 +0\ngreat dane +8 +2\nall +17 +4\n", shown.out
    )
    assert {path.name for path in lists.iterdir()} == {"train.txt", "val.txt", "classes.txt"}
    assert (lists / "classes.txt").read_text() == "0 cat\n1 emu\n2 great dane\n"
    lines = [line for part in ("train", "val") for line in (lists / f"{part}.txt").read_text().splitlines()]
    assert len(set(lines)) == 21
    assert "great dane/v0_0.png 2" in lines
    commands = [line for line in shown.out.split("next:\n")[1].splitlines() if line.split()[0] != "#"]
    check_command, train_command, better_command = commands
    assert shlex.split(check_command)[:4] == ["cyclemlp", "data", "check", str(animals)]
    shown = check(capsys, *shlex.split(check_command)[3:])[1]
    assert "train  17 images, 3 classes" in shown.out
    assert "val    4 images, 3 classes" in shown.out
    assert "leak" not in shown.out
    recipe = resolve_recipe(build_parser("train").parse_args(shlex.split(train_command)[1:]))
    assert (recipe.model.name, recipe.run.epochs, recipe.model.weights) == ("cyclemlp_micro", 20, None)
    better = resolve_recipe(build_parser("train").parse_args(shlex.split(better_command)[1:]))
    assert (better.model.name, better.run.epochs, better.model.weights) == ("cyclemlp_b1", 30, "published")
    assert better.data.train_list == recipe.data.train_list
    train, val = open_sources(recipe.data, open_class_names(recipe.data.classes))
    assert (len(train), len(val)) == (17, 4)
    assert train.location(0) == f"{lists}/train.txt:1"
    assert train[0].image.size == (20, 20)


def test_folder_tar_and_csv_give_the_same_lists(animals, tmp_path, capsys):
    found = []
    for words in (
        [animals],
        [f"{animals}.tar"],
        [tmp_path / "labels.csv", "--data", animals],
        [tmp_path / "labels.csv", "--data", f"{animals}.tar"],
    ):
        code, shown = split(
            capsys, *words, "--output", tmp_path / "lists", "--test", "0.2", "--json", "--force"
        )
        assert code == 0, shown.err
        said = json.loads(shown.out)
        assert said["images"] == {"train": 13, "val": 4, "test": 4}
        assert said["classes"][0] == {"class": "cat", "train": 6, "val": 2, "test": 2}
        assert f"--data {words[-1]} " in said["next"][1]
        assert [path.rsplit("/", 1)[1] for path in said["written"]] == [
            *("train.txt", "val.txt", "test.txt", "classes.txt")
        ]
        found.append([(tmp_path / "lists" / f"{part}.txt").read_text() for part in ("train", "val", "test")])
    assert found[0] == found[1] == found[2] == found[3]


def test_a_list_without_names_has_no_classes(tmp_path, capsys):
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(10)))
    code, shown = split(capsys, tmp_path / "list.txt", "--output", tmp_path / "lists", "--seed", 5)
    assert code == 0
    assert "--classes" not in shown.out
    assert {path.name for path in (tmp_path / "lists").iterdir()} == {"train.txt", "val.txt"}
    (tmp_path / "names.txt").write_text("even\nodd\n")
    words = [tmp_path / "list.txt", "--classes", tmp_path / "names.txt", "--output", tmp_path / "named"]
    assert split(capsys, *words)[0] == 0
    assert (tmp_path / "named" / "classes.txt").read_text() == "0 even\n1 odd\n"


def test_frames_of_a_video_are_in_one_part(animals, tmp_path, capsys):
    code, shown = split(capsys, animals, "--output", tmp_path / "lists", "--group-by-prefix", "_")
    assert code == 0, shown.err
    videos = [
        set(re.findall(r"(v\d)_", (tmp_path / "lists" / f"{part}.txt").read_text()))
        for part in ("train", "val")
    ]
    assert videos[0] | videos[1] == {f"v{i}" for i in range(5)}
    assert not videos[0] & videos[1]
    assert len(videos[1]) == 1


def test_existing_lists_need_force(animals, tmp_path, capsys):
    words = [animals, "--output", tmp_path]
    assert split(capsys, *words, "--test", "0.1")[0] == 0
    code, shown = split(capsys, *words)
    assert code == 2
    assert f"{tmp_path}/train.txt is there already; choose another --output, or --force" in shown.err
    assert split(capsys, *words, "--force")[0] == 0
    assert not (tmp_path / "test.txt").exists()  # of the former split: its images are in the others now


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{a}", "--val", "1"], "--val: '1': give a share from 0 to below 1"),
        (["{a}", "--val", "nan"], "--val: 'nan': give a share from 0 to below 1"),
        (["{a}", "--val", "0"], "--val is 0; give the share of the validation images"),
        (["{a}", "--val", "0.5", "--test", "0.5"], "--val 0.5 and --test 0.5 leave no training images"),
        (["{a}", "--group-by-prefix", "+"], "no file name holds '+'"),
        (["{a}", "--data", "{a}"], "--data goes with a list file; {a} is a folder"),
        (["{a}.tar", "--classes", "names.txt"], "names.txt: cannot be read"),
        (["{a}/cat"], "holds no folders"),
        (["{a}/none"], "{a}/none: cannot be read"),
        (["digits"], "the digits have parts of their own"),
        (["{p}"], "{p} has parts already, train/ and val/"),
        (["{o}"], "there is one class only, class 'cat'"),
        (["{a}", "--output", "{a}/lists"], "where it would be a class"),
    ],
)  # fmt: skip
def test_mistakes_in_a_split_are_messages(animals, tmp_path, capsys, words, message):
    for folder in ("parts/train", "parts/val", "one"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "cat").symlink_to(animals / "cat")
    places = {"a": animals, "p": tmp_path / "parts", "o": tmp_path / "one"}
    output = [] if "--output" in words else ["--output", tmp_path / "lists"]
    code, shown = split(capsys, *[word.format(**places) for word in words], *output)
    assert code == 2
    assert message.format(**places) in shown.err
    assert len(shown.err.splitlines()) == 1 or "usage:" in shown.err
    assert not (tmp_path / "lists").exists()
