"""`cyclemlp train`: from words to a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import build_parser, main
from cyclemlp.cli.train import resolve_recipe
from cyclemlp.config import parse_assignments
from cyclemlp.errors import ConfigError
from cyclemlp.report import read_json_lines
from cyclemlp.training import Recipe
from cyclemlp.training.data import PreprocessingConfig

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "configs" / "digits.yaml")
# A network of four narrow blocks, one epoch.
TINY = [
    "--set=model.overrides={in_chans: 1, embed_dims: [8, 8, 12, 12], depths: [1, 1, 1, 1]}",
    "--set=data.preprocessing={input_size: 16, crop_pct: 1.0}",
    "--epochs=1",
    "--no-progress",
]


def resolved(*words: str) -> Recipe:
    return resolve_recipe(build_parser("train").parse_args(["train", *words]))


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes, six images each, and lists of them."""
    rng = np.random.default_rng(0)
    lines = []
    for label, name in enumerate(("cat", "great dane")):
        for part in ("train", "val"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(6 if part == "train" else 2):
                pixels = rng.integers(0, 100, (20, 24, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / part / name / f"{i}.png")
                lines.append((part, f"{name}/{i}.png {label}"))
    for part in ("train", "val"):
        (tmp_path / f"{part}.txt").write_text("".join(f"{line}\n" for p, line in lines if p == part))
    (tmp_path / "names.txt").write_text("cat\ngreat dane\n")
    return tmp_path


def test_flags_override_the_file_and_set_overrides_flags():
    recipe = resolved(
        "--config", DIGITS, "--epochs", "3", "--lr", "1e-3", "--seed", "7", "--set", "run.epochs=4"
    )
    assert (recipe.run.epochs, recipe.optimizer.lr, recipe.run.seed) == (4, 1e-3, 7)
    assert recipe.model.overrides == {"in_chans": 1}  # of the file
    assert resolved("--pretrained").model.weights == "published"
    assert resolved("--model", "cyclemlp_b2", "--weights", "b2.pth", "--workers", "0").data.workers == 0


def test_the_flags_of_the_whole_recipe():
    words = ["--amp", "bfloat16", "--accumulate", "4", "--freeze", "2", "--input-size", "288"]
    recipe = resolved(*words)
    assert recipe.amp.dtype == "bfloat16"
    assert recipe.optimizer.accumulate == 4
    assert recipe.model.freeze_stages == 2
    assert recipe.data.preprocessing == PreprocessingConfig(input_size=288)
    assert resolved().amp.dtype == "float16"  # the paper's
    assert resolved("--amp", "none").amp.dtype is None
    assert resolved("--set", "amp.dtype=null").amp.dtype is None


def test_mixed_precision_on_a_processor_is_said_to_be_off(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    words = ["--data", "train", "--model", "cyclemlp_nano", "--batch-size", "4", "--amp", "float16", *TINY]
    assert main(["train", *words, "--set=model.overrides.in_chans=3", "--output", "run"]) == 0
    said = capsys.readouterr().err
    assert said.count("MIXED PRECISION IS OFF") == 1
    assert "Training goes on in float32" in said


def test_another_training_set_forgets_the_old_ones_lists():
    config = ["--config", DIGITS, "--set", "data.val_list=old.txt"]
    assert resolved(*config).data.val_list == "old.txt"
    recipe = resolved("--config", DIGITS, "--data", "photos", "--val-list", "new.txt")
    assert (recipe.data.train, recipe.data.val_list) == ("photos", "new.txt")


def test_show_recipe_prints_what_would_be_trained_and_does_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--config", DIGITS, "--lr", "0.5", "--show-recipe"]) == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    assert Recipe.load("shown.yaml") == resolved("--config", DIGITS, "--lr", "0.5")
    assert [p.name for p in tmp_path.iterdir()] == ["shown.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "absent"], "absent: there is no such folder"),
        ([], "no images are named: give --data"),
        (["--config", "absent.yaml"], "absent.yaml: there is no such file"),
        (
            ["--data", "digits", "--set", "optimizer.lrr=1"],
            "--set: unknown key optimizer.lrr; did you mean lr?",
        ),
        (["--data", "digits", "--lr", "-1"], "command line: optimizer.lr is -1.0; expected a number above 0"),
        (["--data", "digits", "--model", "cyclemlp_b7"], "unknown model 'cyclemlp_b7'"),
        (["--data", "digits", "--resume", "absent"], "--resume absent: there is no such folder"),
        (["--resume", "absent"], "--resume absent: there is no such folder"),
        (["--resume", "."], "--resume .: it holds no whole checkpoint"),
        (["--data", "digits", "--model", "cyclemlp_nano", "--weights", "absent.pth"], "absent.pth"),
        (
            ["--data", "digits", "--model", "cyclemlp_micro", "--pretrained"],
            "no published weights of cyclemlp_micro; published weights: cyclemlp_b1",
        ),
        (["--data", "digits", "--classes", "absent.txt"], "absent.txt"),
    ],
)
def test_what_is_wrong_is_said_and_exits_with_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cyclemlp train: error: ")
    assert message in said
    assert not list(tmp_path.iterdir())


def test_weights_and_pretrained_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--weights", "a.pth", "--pretrained"])
    assert stopped.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_folders_train_and_the_result_is_usable_by_the_other_commands(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    tiny = [*TINY, "--set=model.overrides.in_chans=3"]
    words = [
        "train",
        "--data",
        "train",
        "--val-data",
        "val",
        "--model",
        "cyclemlp_nano",
        "--batch-size",
        "4",
        *tiny,
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "12 training, 4 validation" in said
    assert "best top-1: " in said
    output = photos / "runs" / "cyclemlp_nano"
    assert (output / "curves.png").exists()
    assert "--val-data val --batch-size 4" in (output / "README.md").read_text()

    top1 = read_json_lines(output / "log.jsonl")[-2]["val_top1"]
    assert main(["eval", str(output), "--data", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == top1
    assert main(["predict", str(output), "val/cat/0.png"]) == 0
    assert "great dane" in capsys.readouterr().out


def test_lists_train_with_names_from_a_file(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    words = ["train", "--data", "train", "--list", "train.txt", "--val-data", "val", "--val-list", "val.txt"]
    words += ["--classes", "names.txt", "--model", "cyclemlp_nano", "--batch-size", "4", "--json", *TINY]
    assert main([*words, "--output", "run", "--set=model.overrides.in_chans=3"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)  # nothing but JSON on stdout
    assert result["epochs"][0]["val_top1"] == result["top1"]
    assert "epoch 1/1" in err
    import cyclemlp

    assert cyclemlp.load_model("run").metadata.classes == ["cat", "great dane"]


def test_a_label_that_has_no_class_names_file_and_line(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "val.txt").write_text("cat/0.png 0\ncat/1.png 2\n")
    words = ["train", "--data", "train", "--list", "train.txt", "--val-data", "val", "--val-list", "val.txt"]
    assert main([*words, *TINY]) == 2
    assert "val.txt:2: " in capsys.readouterr().err


def test_without_validation_images_it_says_so(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    words = ["train", "--data", "train", "--model", "cyclemlp_nano", "--batch-size", "4", *TINY]
    assert main([*words, "--set=model.overrides.in_chans=3"]) == 0
    said = capsys.readouterr().out
    assert "no validation images (--val-data, --val-list)" in said
    assert "done; everything is in runs/cyclemlp_nano" in said


TRAIN_PHOTOS = [
    *["train", "--data", "train", "--val-data", "val", "--model", "cyclemlp_nano", "--batch-size", "4"],
    *TINY,
    "--set=model.overrides.in_chans=3",
]


def test_an_input_that_is_not_square(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    words = [*TRAIN_PHOTOS, "--output", "run", "--input-size", "32x64"]
    assert main([word for word in words if "preprocessing" not in word]) == 0
    assert "--input-size 32x64" in Path("run/README.md").read_text()
    assert Recipe.load("run/recipe.yaml").data.preprocessing.input_size == (32, 64)
    assert cyclemlp.load_model("run").metadata.preprocessing.input_size == (32, 64)
    for words in (["eval", "run", "--data", "val"], ["predict", "run", "val"]):
        capsys.readouterr()
        assert main([*words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["preprocessing"]["input_size"] == [32, 64]
    assert main(["train", "--resume", "run", "--epochs", "2", "--no-progress"]) == 0


@pytest.mark.parametrize(
    "size", ["32x", "x32", "0", "-4", "32x64x3", "32,64", "9999", "1e3", "32.5", " ", "٣٢"]
)
@pytest.mark.parametrize("command", ["train", "eval", "predict", "sweep", "bench"])
def test_a_size_that_cannot_be(size, command, capsys):
    option = {"sweep": "--sizes", "bench": "--size"}.get(command, "--input-size")
    try:
        code = main([command, *([] if command == "train" else ["cyclemlp_nano"]), f"{option}={size}"])
    except SystemExit as end:  # argparse
        code = end.code
    assert code == 2
    assert f"{size!r} is no size; give pixels from 1 to 8192" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "expected"), [("[32, 64]", (32, 64)), ("32x64", (32, 64)), ("'48'", 48), ("[40, 40]", 40)]
)
def test_sizes_of_a_recipe(size, expected):
    recipe = Recipe().updated(parse_assignments([f"data.preprocessing.input_size={size}"]))
    assert recipe.data.preprocessing.input_size == expected


@pytest.mark.parametrize("size", ["32x", "[1, 2, 3]", "[32, 0]", "0", "-5", "true", "1.5", "{a: 1}", "99999"])
def test_sizes_that_no_recipe_holds(size):
    with pytest.raises(ConfigError, match=r"data\.preprocessing\.input_size"):
        Recipe().updated(parse_assignments([f"data.preprocessing.input_size={size}"]))


def test_a_run_is_not_overwritten_but_resumed_or_forced(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    words = [*TRAIN_PHOTOS, "--output", "run"]
    assert main(words) == 0
    before = Path("run/best.safetensors").read_bytes()
    assert main(words) == 2
    assert "run is not empty" in capsys.readouterr().err
    assert Path("run/best.safetensors").read_bytes() == before
    assert (
        main(["train", "--resume", "run", "--epochs", "2", "--no-progress"]) == 0
    )  # the recipe is the run's own
    said = capsys.readouterr()
    assert "epoch 2/2" in said.out
    assert "warning: the recipe differs from that of the run being resumed: run.epochs 1 → 2" in said.err
    assert main([*words, "--force"]) == 0
    assert [p.name for p in Path("run").glob("checkpoints/checkpoint_*")] == ["checkpoint_0001"]


def test_a_diverging_run_exits_with_1(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    words = [*TRAIN_PHOTOS, "--lr", "1e32", "--set=schedule.warmup_epochs=0"]
    assert main(words) == 1
    assert "cyclemlp train: failed: the loss is nan at epoch 1, step 2 of 3" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_exits_with_1(photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    words = [*TRAIN_PHOTOS, "--output", "names.txt/run"]
    assert main(words) == 1
    assert "cyclemlp train: failed: " in capsys.readouterr().err


@pytest.mark.heavy
@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_saves_exits_with_130_and_the_run_goes_on(tmp_path, workers):
    command = [sys.executable, "-W", "ignore", "-m", "cyclemlp", "train"]
    words = [
        "--config",
        DIGITS,
        *TINY,
        "--epochs",
        "200",
        "--output",
        str(tmp_path / "run"),
        "--workers",
        workers,
    ]
    process = subprocess.Popen(
        [*command, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch   1/200"):
            break
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: processes that read images get it too
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("stopping after this step") <= 1
    assert "Traceback" not in err
    assert f"go on with: cyclemlp train --resume {tmp_path / 'run'}" in err
    (newest,) = sorted((tmp_path / "run").glob("checkpoints/checkpoint_*"))[-1:]

    done = subprocess.run(
        [*command, "--resume", str(tmp_path / "run"), "--epochs", "3", "--no-progress"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"resuming from {newest}" in done.stdout


def test_an_unknown_setting_is_a_config_error():
    with pytest.raises(ConfigError, match="did you mean batch_size"):
        resolved("--set", "data.batchsize=3")


SMALL = [
    "--set=model.overrides={embed_dims: [8, 8, 12, 12], depths: [1, 1, 1, 1]}",
    *("--model=cyclemlp_nano", "--input-size=16", "--batch-size=4", "--workers=0", "--amp=none", *TINY[2:]),
]


def test_a_folder_with_train_and_val_is_that_split(photos, capsys):
    assert main(["train", *SMALL, f"--data={photos}", f"--output={photos / 'run'}"]) == 0
    out = capsys.readouterr().out
    assert "12 training, 4 validation" in out
    assert "top-1" in out


def test_one_class_is_refused(photos, capsys):
    shutil.rmtree(photos / "train" / "cat")
    assert main(["train", *SMALL, f"--data={photos / 'train'}", f"--output={photos / 'run'}"]) == 2
    assert "have one class only, 'great dane': there is nothing to tell apart" in capsys.readouterr().err


def test_classes_of_lists_and_folders_are_paired_by_name(photos, capsys):
    (photos / "names.txt").write_text("great dane\ncat\n")  # not the folders' order
    for name in ("train", "val"):
        lines = [line.rsplit(" ", 1) for line in (photos / f"{name}.txt").read_text().splitlines()]
        text = "".join(f"{path} {1 - int(label)}\n" for path, label in lines)
        (photos / f"{name}.txt").write_text(text)
    lists = [
        f"--data={photos / 'train'}",
        f"--list={photos / 'train.txt'}",
        f"--classes={photos / 'names.txt'}",
    ]
    figures = []
    for validation in (
        [f"--val-data={photos / 'val'}"],
        [f"--val-data={photos / 'val'}", f"--val-list={photos / 'val.txt'}"],
    ):
        words = [*SMALL, *lists, *validation, f"--output={photos / 'run'}", "--force"]
        assert main(["train", *words]) == 0, capsys.readouterr().err
        figures.append(read_json_lines(photos / "run" / "log.jsonl")[-2]["val_loss"])
    assert figures[0] == figures[1]


def test_images_are_looked_at_before_training(photos, capsys):
    (photos / "train" / "cat" / "bad\x1b.png").write_bytes(b"no image")
    (photos / "val" / "cat" / "leak.png").write_bytes((photos / "train" / "cat" / "0.png").read_bytes())
    words = [*SMALL, f"--data={photos}", f"--output={photos / 'run'}"]
    assert main(["train", *words]) == 2
    err = capsys.readouterr().err
    assert "1 of 18 images that were looked at cannot be read; --skip-bad trains without such images" in err
    assert "leak.png is the same image as" in err
    assert not (photos / "run").exists()
    assert main(["train", *words, "--skip-bad"]) == 0
    shown = capsys.readouterr()
    assert "1 of 18 images was skipped" in shown.err
    assert "12 training, 5 validation" in shown.out
    assert main(["train", *words, "--force", "--no-check", "--batch-size=13", "--set=augment.repeats=1"]) == 2
    assert "leak.png" not in capsys.readouterr().err


def test_an_unreadable_validation_image_loses_no_epoch(photos, capsys):
    (photos / "val" / "cat" / "0.png").write_bytes(b"no image")
    words = [*SMALL, f"--data={photos}", f"--output={photos / 'run'}"]
    assert main(["train", *words, "--no-check"]) == 2
    assert "what was trained is kept in" in capsys.readouterr().err
    assert main(["train", "--resume", str(photos / "run"), "--skip-bad", "--no-progress"]) == 0
    events = [r["event"] for r in read_json_lines(photos / "run" / "log.jsonl")]
    assert events == ["start", "start", "epoch", "end"]


def test_a_run_goes_on_with_its_classes_only(photos, capsys):
    words = [*SMALL, f"--data={photos}", f"--output={photos / 'run'}"]
    assert main(["train", *words]) == 0
    for part in ("train", "val"):
        (photos / part / "emu").mkdir()
        Image.new("RGB", (20, 20)).save(photos / part / "emu" / "0.png")
    assert main(["train", *words, "--resume", str(photos / "run"), "--epochs=2"]) == 2
    assert (
        "was trained on 2 classes, and the images now have 3; they differ in 'emu'" in capsys.readouterr().err
    )


def test_exif_is_of_the_recipe_and_kept_with_the_model(photos):
    assert resolved("--exif", "apply").data.preprocessing == PreprocessingConfig(exif="apply")
    for part in ("train", "val"):  # lying on their side, and upright by their EXIF data
        for path in (photos / part).rglob("*.png"):
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.open(path).save(path, exif=exif)
    words = [*SMALL, f"--data={photos}", f"--output={photos / 'run'}", "--exif=apply"]
    assert main(["train", *words]) == 0
    assert cyclemlp.load_model(photos / "run").metadata.preprocessing.exif == "apply"
