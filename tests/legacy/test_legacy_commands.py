"""Paddle-CycleMLP's `train.py`, `eval.py` and `predict.py`: each flag's effect, its defaults, its files, and the
commands as its users typed them. What was broken in Paddle-CycleMLP has a test here where it lies in these commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image
from recipe_keys import differences

import cyclemlp
from cyclemlp.config import flatten
from cyclemlp.data import evaluation_transform
from cyclemlp.legacy import train, use
from cyclemlp.legacy.flags import training_parser
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report import read_json_lines
from cyclemlp.teachers.regnet import REGNETX, RegNet
from cyclemlp.training import Recipe
from cyclemlp.training.schedule import Schedule

ROOT = Path(__file__).parents[2]


def recipe_of(*flags: str) -> Recipe:
    return train.training_recipe(training_parser().parse_args(flags))


def run(
    program: str, *words: object, cwd: Path = ROOT, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess:
    command = [sys.executable, *launcher, ROOT / program, *words]
    return subprocess.run([str(w) for w in command], cwd=cwd, capture_output=True, text=True, timeout=300)


def passes(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return done.stdout + done.stderr


# ---- flags


# Flag and value → key of the recipe and what it then is. Every flag of Paddle-CycleMLP's train.py but those below.
EFFECTS = [
    ("--batch-size 32", "data.batch_size", 32),
    ("--epochs 7", "run.epochs", 7),
    ("--start_epoch 3", "run.start_epoch", 3),
    ("--is_amp True", "amp.dtype", "float16"),
    ("--is_amp False", "amp.dtype", None),
    ("--init_loss_scaling 512", "amp.init_loss_scaling", 512.0),
    ("--model CycleMLP_B3", "model.name", "CycleMLP_B3"),
    ("--input-size 256", "data.preprocessing.input_size", 256),
    ("--drop 0.2", "model.overrides.drop_rate", 0.2),
    ("--drop-path 0.3", "model.drop_path_rate", 0.3),
    ("--num-classes 10", "data.num_classes", 10),
    ("--model-pretrained a.pdparams", "model.weights", "a.pdparams"),
    ("--finetune a.pdparams", "model.weights", "a.pdparams"),
    ("--opt-eps 1e-6", "optimizer.eps", 1e-6),
    ("--opt-beta1 0.8", "optimizer.beta1", 0.8),
    ("--opt-beta2 0.95", "optimizer.beta2", 0.95),
    ("--clip-grad 5", "optimizer.clip_norm", 5.0),
    ("--weight-decay 0.1", "optimizer.weight_decay", 0.1),
    ("--lr 1e-8", "optimizer.lr", 1e-8),
    ("--t-max 100", "schedule.cosine_epochs", 100),
    ("--eta-min 1e-6", "schedule.min_lr", 1e-6),
    ("--last-epoch 4", "schedule.shift_epochs", 6),
    ("--color-jitter 0.2", "augment.color_jitter", 0.2),
    ("--aa original", "augment.auto_augment", "original"),
    ("--aa none", "augment.auto_augment", None),
    ("--smoothing 0", "loss.label_smoothing", 0.0),
    ("--train-interpolation bilinear", "augment.interpolation", "bilinear"),
    ("--train-interpolation bilinear", "data.preprocessing.interpolation", "bilinear"),
    ("--train-interpolation random", "augment.interpolation", "random"),
    ("--reprob 0", "augment.erasing_prob", 0.0),
    ("--mixup 0.2", "augment.mixup", 0.2),
    ("--cutmix 0", "augment.cutmix", 0.0),
    ("--cutmix-minmax 0.2 0.8", "augment.cutmix_minmax", [0.2, 0.8]),
    ("--mixup-prob 0.5", "augment.mixup_prob", 0.5),
    ("--mixup-switch-prob 0.1", "augment.mixup_switch_prob", 0.1),
    ("--mixup-mode pair", "augment.mixup_mode", "pair"),
    ("--mixup-mode elem", "augment.mixup_mode", "elem"),
    ("--teacher-model RegNetX_8GF", "distillation.teacher", "RegNetX_8GF"),
    ("--teacher-pretrained t.pdparams", "distillation.weights", "t.pdparams"),
    ("--distillation-type hard", "distillation.kind", "hard"),
    ("--distillation-alpha 0.9", "distillation.alpha", 0.9),
    ("--distillation-tau 3", "distillation.tau", 3.0),
    ("--train-data-dir D", "data.train", "D"),
    ("--train-txt-path t.txt", "data.train_list", "t.txt"),
    ("--val-data-dir V", "data.val", "V"),
    ("--val-txt-path v.txt", "data.val_list", "v.txt"),
    ("--num_workers 3", "data.workers", 3),
]
# They decide what is accepted, where results go, or have one possible value; each has a test of its own.
OTHER_FLAGS = {"opt", "sched", "output_dir", "is_distributed", "train_data_mode", "val_data_mode"}


@pytest.mark.parametrize(("flag", "key", "value"), EFFECTS)
def test_each_flag_has_its_effect_and_no_other(flag, key, value):
    plain = flatten(recipe_of().to_dict())
    for spelling in both_ways(flag):
        recipe = recipe_of(*spelling.split())
        assert flatten(recipe.to_dict())[key] == value
        changed = {name for name, *_ in differences(recipe_of(), recipe)}
        allowed = {k for f, k, _ in EFFECTS if f.split()[0] == flag.split()[0]}
        allowed |= (
            {"schedule.shift_epochs"} if key == "run.start_epoch" else set()
        )  # as Paddle's scheduler has it
        assert changed <= allowed, "it changes something else as well"
    assert plain[key] != value or key == "amp.dtype"


def both_ways(flag: str) -> list[str]:
    name, _, value = flag.partition(" ")
    return [f"--{name[2:].replace('_', '-')} {value}", f"--{name[2:].replace('-', '_')} {value}"]


def test_the_table_names_every_flag():
    known = {action.dest for action in training_parser()._actions} - {"help"}
    assert {flag.split()[0][2:].replace("-", "_") for flag, *_ in EFFECTS} | OTHER_FLAGS == known


def test_the_defaults_are_paddle_cyclemlps():
    """And not the paper's, which are `cyclemlp train`'s."""
    expected = {
        "model.name": "CycleMLP_B1",
        "model.weights": None,
        "model.drop_path_rate": 0.1,
        "model.overrides.drop_rate": 0.0,
        "data.train": "./",
        "data.train_list": "./train.txt",
        "data.val": "./",
        "data.val_list": "./val.txt",
        "data.num_classes": 1000,
        "data.batch_size": 64,
        "data.preprocessing.input_size": 224,
        "data.preprocessing.crop_pct": 0.875,
        "data.preprocessing.interpolation": "bicubic",
        "augment.auto_augment": "rand-m9-mstd0.5-inc1",
        "augment.color_jitter": 0.4,
        "augment.interpolation": "bicubic",
        "augment.erasing_prob": 0.25,
        "augment.mixup": 0.8,
        "augment.cutmix": 1.0,
        "augment.cutmix_minmax": None,
        "augment.mixup_prob": 1.0,
        "augment.mixup_switch_prob": 0.5,
        "augment.mixup_mode": "batch",
        "augment.repeats": 1,
        "optimizer.lr": 5e-4,
        "optimizer.lr_for_batch": 512,
        "optimizer.weight_decay": 0.05,
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.999,
        "optimizer.eps": 1e-8,
        "optimizer.clip_norm": None,
        "schedule.warmup_epochs": 0.0,
        "schedule.min_lr": 0.0,
        "schedule.cosine_epochs": 300,
        "loss.label_smoothing": 0.1,
        "distillation.kind": "none",
        "distillation.teacher": "RegNetX_4GF",
        "distillation.weights": None,
        "distillation.alpha": 0.5,
        "distillation.tau": 1.0,
        "ema.decay": None,
        "amp.dtype": None,
        "amp.init_loss_scaling": 1024.0,
        "run.epochs": 300,
        "run.start_epoch": 0,
    }
    found = flatten(recipe_of().to_dict())
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("text", ["True", "true", "1", "yes", "YES", "False", "false", "0", "no"])
def test_truth_values_mean_what_they_say(text):
    """`--is_amp False` turned mixed precision on in Paddle-CycleMLP."""
    expected = text.lower() in ("true", "1", "yes")
    args = training_parser().parse_args(["--is_amp", text, "--is_distributed", text])
    assert args.is_amp is expected
    assert args.is_distributed is expected


def test_a_truth_value_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        training_parser().parse_args(["--is_amp", "maybe"])
    assert "'maybe': give True or False (or 1, 0, yes, no)" in capsys.readouterr().err


def test_the_rates_are_those_that_paddle_cyclemlp_logged():
    """Its training log of B1, 256 images, --lr 1e-8, says 4.999999999999972e-09 and then 4.999862923413802e-09."""
    schedule = Schedule.from_recipe(recipe_of("--lr", "1e-8", "--batch-size", "256", "--epochs", "2"))
    assert schedule.lr(0, 0, 10) == pytest.approx(5e-9, rel=1e-12)
    assert schedule.lr(1, 9, 10) == pytest.approx(4.999862923413802e-09, rel=1e-9)


@pytest.mark.parametrize(
    ("flags", "first", "begin"),
    [((), 0, 0), (("--start_epoch", "10"), 10, 0), (("--start_epoch", "10", "--last-epoch", "9"), 10, 10)],
)
def test_the_rates_are_those_of_paddles_cosine(flags, first, begin):
    """Over --t-max epochs whatever --epochs is, times batch · devices / 512, no warm-up."""
    recipe = recipe_of("--batch-size", "128", "--t-max", "40", "--eta-min", "1e-5", "--epochs", "40", *flags)
    schedule = Schedule.from_recipe(recipe, devices=8)
    theirs = paddle.optimizer.lr.CosineAnnealingDecay(5e-4 * 128 * 8 / 512, T_max=40, eta_min=1e-5)
    for _ in range(begin):
        theirs.step()
    for epoch in range(first, first + 30):
        assert schedule.lr(epoch, 5, 10) == pytest.approx(theirs(), rel=1e-9)
        theirs.step()
    assert schedule.lr(first + 40, 0, 10) == schedule.lr(first + 50, 0, 10) == 1e-5  # theirs rises again


# ---- refusals


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """A working folder in which Paddle-CycleMLP's default names exist."""
    monkeypatch.chdir(tmp_path)
    for name in ("train.txt", "val.txt", "test.txt", "a.pdparams"):
        (tmp_path / name).write_text("x.jpg 0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model-pretrained nosuch.pdparams", "--model-pretrained nosuch.pdparams: there is no such file"),
        ("--finetune nosuch.pdparams", "--finetune nosuch.pdparams: there is no such file"),
        (
            "--distillation-type soft --teacher-pretrained nosuch.pdparams",
            "--teacher-pretrained nosuch.pdparams: there is no such file",
        ),
        ("--distillation-type soft", "needs --teacher-pretrained FILE"),
        ("--train-txt-path nosuch.txt", "--train-txt-path nosuch.txt: there is no such file"),
        ("--val-txt-path nosuch.txt", "--val-txt-path nosuch.txt: there is no such file"),
        ("--finetune a.pdparams --model-pretrained a.pdparams", "both say where the weights begin"),
        ("--train-data-mode test", "--train-data-mode is test: such a list has no labels"),
        ("--val-data-mode test", "--val-data-mode is test: such a list has no labels"),
        ("--epochs 5 --start_epoch 5", "run.start_epoch is 5"),
        ("--mixup-prob 2", "augment.mixup_prob is 2"),
        ("--aa rand-z9", "rand-z9"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_the_earlier_run_where_it_was(flags, message, lists, capsys):
    (lists / "output").mkdir()
    (lists / "output" / "train_log.txt").write_text("precious")
    assert train.main(flags.split()) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in (lists / "output").iterdir()] == ["train_log.txt"]


def test_an_empty_output_folder_name_is_refused(lists, capsys):
    assert train.main(["--output_dir", ""]) == 2
    assert "--output_dir is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--opt sgd", "--opt can only be AdamW"),
        ("--sched step", "--sched can only be CosineAnnealingDecay"),
        ("--distillation-type medium", "invalid choice: 'medium'"),
        ("--mixup-mode all", "invalid choice: 'all'"),
        ("--train-interpolation lanczos", "invalid choice: 'lanczos'"),
        ("--no-such-flag 1", "unrecognized arguments"),
    ],
)
def test_an_impossible_value_names_the_possible_ones(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(flags.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_several_processes_must_be_wanted(lists, monkeypatch, capsys):
    """Paddle-CycleMLP trained a model in each, all writing the same files."""
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    assert train.main([]) == 2
    assert "give --is_distributed True" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--color-jitter 0.3", "--color-jitter 0.3 has no effect beside --aa rand-m9-mstd0.5-inc1"),
        ("--init_loss_scaling 8", "--init_loss_scaling 8.0 has no effect without --is_amp True"),
        ("--teacher-pretrained a.pdparams", "has no effect with --distillation-type none"),
        ("--is_distributed True", "this is the only process"),
    ],
)
def test_a_flag_without_effect_is_told(flags, message, lists, capsys):
    train.check_training(training_parser().parse_args(flags.split()))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("program", "part"), [(use.evaluate, "val"), (use.predict, "test")])
def test_using_a_model_needs_its_weights_and_lists(program, part, lists, capsys):
    """Paddle-CycleMLP evaluated a random model where the file's name was wrong or not given."""
    for flags, message in (
        ([], "no weights: give --model-pretrained FILE"),
        (["--model-pretrained", "nosuch"], "--model-pretrained nosuch: there is no such file"),
        (
            ["--model-pretrained", "a.pdparams", f"--{part}-txt-path", "nosuch"],
            f"--{part}-txt-path nosuch: there is no such file",
        ),
    ):
        assert program(flags) == 2
        assert message in capsys.readouterr().err


# ---- runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images, lists and weight files of Paddle-CycleMLP's kinds, from a generator with a fixed seed."""
    folder = tmp_path_factory.mktemp("legacy")
    rng = np.random.default_rng(0)
    names = []
    for i in range(8):
        colour = np.array([200, 60, 30]) if i % 2 else np.array([20, 90, 220])
        pixels = np.clip(colour + rng.integers(-20, 20, (40, 48, 3)), 0, 255)
        names.append(f"image {i}.jpg")
        Image.fromarray(pixels.astype(np.uint8)).save(folder / names[-1])
    lines = [f"{name} {i % 2}\n" for i, name in enumerate(names)]
    (folder / "train00.txt").write_text("".join(lines))
    (folder / "val.txt").write_text("".join(lines[:5]))
    (folder / "test.txt").write_text("".join(f"{name}\n" for name in names[:5]))
    paddle.seed(0)
    paddle.save(
        cyclemlp.create_model("cyclemlp_b1").state_dict(), str(folder / "paddle_CycleMLP_B1.pdparams")
    )
    teacher = RegNet(REGNETX["regnetx_4gf"])
    paddle.save(teacher.state_dict(), str(folder / "RegNetX_4GF_pretrained.pdparams"))
    return folder


def images(place: Path, list_name: str = "train00.txt") -> list[object]:
    words = ["--train-data-dir", place, "--train-txt-path", place / list_name]
    return [*words, "--val-data-dir", place, "--val-txt-path", place / "val.txt"]


NANO = [
    "--model",
    "cyclemlp_nano",
    "--input-size",
    "32",
    "--num-classes",
    "2",
    "--batch-size",
    "4",
    "--epochs",
    "1",
]


@pytest.mark.heavy
def test_the_original_training_command_with_a_teacher(place, tmp_path):
    output = tmp_path / "output"
    words = [
        *images(place),
        "--epochs",
        "2",
        "--batch-size",
        "4",
        "--lr",
        "1e-8",
        "--distillation-type",
        "soft",
    ]
    words += ["--model-pretrained", place / "paddle_CycleMLP_B1.pdparams", "--input-size", "32"]
    words += ["--teacher-pretrained", place / "RegNetX_4GF_pretrained.pdparams", "--output_dir", output]
    said = passes(run("train.py", *words))
    assert "202 of 202 tensors loaded" in said
    assert "372 of 372 tensors loaded" in said

    lines = [json.loads(line) for line in (output / "train_log.txt").read_text().splitlines()]
    keys = ["train_lr", "train_loss", "test_loss", "test_acc1", "test_acc5", "epoch", "n_parameters"]
    assert [list(line) for line in lines] == [keys, keys]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert lines[0]["n_parameters"] == "15155400"
    assert lines[1]["train_lr"] == pytest.approx(1e-8 * 4 / 512 * (1 + np.cos(np.pi / 300)) / 2)
    ours = [line for line in read_json_lines(output / "log.jsonl") if line["event"] == "epoch"]
    for line, mine in zip(lines, ours, strict=True):
        assert line["test_loss"] == mine["val_loss"]
        assert line["test_acc1"] == mine["val_top1"] / 100
        assert line["test_acc5"] == mine["val_top5"] / 100
        assert line["train_loss"] == mine["train_loss"]
    # With Paddle-CycleMLP's lr of 1e-8 nothing moves far, but it moves: a checkpoint is not the file that was loaded.
    start = paddle.load(str(place / "paddle_CycleMLP_B1.pdparams"))
    end = paddle.load(str(output / "checkpoint_1" / "params.pdparams"))
    assert set(end) == {name for name in start if not name.endswith("offset")}
    moved = [np.abs(np.asarray(end[k]) - np.asarray(start[k])).max() for k in end]
    assert 0 < max(moved) < 1e-8
    assert "python train.py --train-data-dir" in (output / "README.md").read_text()
    assert {"recipe.yaml", "best.safetensors", "checkpoint_0", "checkpoints"} <= {
        p.name for p in output.iterdir()
    }
    assert Recipe.load(output / "recipe.yaml").distillation.kind == "soft"


@pytest.mark.heavy
def test_the_original_command_with_mixed_precision(place, tmp_path):
    """On a CPU Paddle has none: said, and trained in float32."""
    said = passes(run("train.py", *images(place), *NANO, "--is_amp", "True", "--output_dir", tmp_path / "o"))
    assert Recipe.load(tmp_path / "o" / "recipe.yaml").amp.dtype == "float16"
    assert "float32" in said


@pytest.mark.heavy
def test_the_original_command_by_the_launcher(place, tmp_path):
    launcher = (
        "-m",
        "paddle.distributed.launch",
        "--nproc_per_node",
        "2",
        "--log_dir",
        str(tmp_path / "log"),
    )
    words = [
        *images(place),
        *NANO,
        "--batch-size",
        "2",
        "--is_distributed",
        "True",
        "--output_dir",
        tmp_path / "o",
    ]
    said = passes(run("train.py", *words, launcher=launcher))
    assert "batch 2 on each of 2 devices" in said
    (line,) = [json.loads(line) for line in (tmp_path / "o" / "train_log.txt").read_text().splitlines()]
    assert line["train_lr"] == pytest.approx(5e-4 * 2 * 2 / 512)
    assert (tmp_path / "o" / "checkpoint_0" / "params.pdparams").exists()


def test_eval_measures_and_logs_what_the_model_answers(place, tmp_path):
    weights = place / "paddle_CycleMLP_B1.pdparams"
    words = [
        "--model",
        "CycleMLP_B1",
        "--batch-size",
        "3",
        "--model-pretrained",
        weights,
        "--input-size",
        "64",
    ]
    words += ["--val-data-dir", place, "--val-txt-path", place / "val.txt", "--output_dir", tmp_path]
    passes(run("eval.py", *words))
    (line,) = (tmp_path / "CycleMLP_B1_eval_log.txt").read_text().splitlines()
    logits, labels = answers(weights, place, 64), np.array([0, 1, 0, 1, 0])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    figures = json.loads(line)
    assert list(figures) == ["test_loss", "test_acc1", "test_acc5"]
    assert figures["test_loss"] == pytest.approx(-np.log(probabilities[range(5), labels]).mean(), abs=1e-5)
    assert figures["test_acc1"] == (logits.argmax(1) == labels).mean()
    assert json.loads((tmp_path / "eval.json").read_text())["loss"] == figures["test_loss"]


def answers(weights: Path, place: Path, size: int) -> np.ndarray:
    """The logits of the first five images."""
    model = cyclemlp.create_model("cyclemlp_b1", pretrained=weights)
    model.eval()
    ready = evaluation_transform(Preprocessing(input_size=size, crop_pct=0.875))
    batch = np.stack([ready(Image.open(place / f"image {i}.jpg"), None) for i in range(5)])
    with paddle.no_grad():
        return model(paddle.to_tensor(batch)).numpy()


@pytest.mark.heavy
def test_predict_writes_a_class_for_each_image(place, tmp_path):
    """Paddle-CycleMLP's crashed on its first batch; mended by hand, it took one class of a whole batch."""
    weights = place / "paddle_CycleMLP_B1.pdparams"
    words = ["--model", "CycleMLP_B1", "--model-pretrained", weights, "--test-data-dir", place]
    words += ["--test-txt-path", place / "test.txt", "--input-size", "64", "--batch-size", "2"]
    passes(run("predict.py", *words, cwd=tmp_path))
    best = answers(weights, place, 64).argmax(1)
    assert len(set(best)) > 1  # else a wrong answer could pass
    assert (tmp_path / "output" / "results.txt").read_text() == "".join(f"{index}\n" for index in best)


@pytest.mark.parametrize(
    ("mode", "list_name", "code"),
    [("val", "val.txt", 0), ("train", "val.txt", 0), ("test", "val.txt", 2), ("val", "test.txt", 2)],
)
def test_the_data_mode_says_whether_lines_have_labels(mode, list_name, code, nano, place, tmp_path, capsys):
    """Names hold spaces here: by mode, the last word is a label or part of the name; it is never guessed."""
    words = [
        "--model",
        "cyclemlp_nano",
        "--model-pretrained",
        nano,
        "--num-classes",
        "2",
        "--input-size",
        "32",
    ]
    words += ["--test-data-dir", place, "--test-txt-path", place / list_name, "--test-data-mode", mode]
    assert use.predict([str(w) for w in [*words, "--output_dir", tmp_path]]) == code
    assert (tmp_path / "results.txt").exists() == (code == 0)


@pytest.fixture(scope="module")
def nano(place, tmp_path_factory):
    """Weights of a run of two classes, by train.py."""
    output = tmp_path_factory.mktemp("nano") / "output"
    assert train.main([str(w) for w in [*images(place), *NANO, "--output_dir", output]]) == 0
    return output / "checkpoint_0" / "params.pdparams"


def test_another_number_of_classes_is_refused_where_the_model_is_used(nano, place, tmp_path, capsys):
    """Paddle-CycleMLP's default is 1000; its head then stayed random, and the accuracy meant nothing."""
    words = [
        "--model",
        "cyclemlp_nano",
        "--model-pretrained",
        nano,
        "--input-size",
        "32",
        "--output_dir",
        tmp_path,
    ]
    words += ["--val-data-dir", place, "--val-txt-path", place / "val.txt"]
    assert use.evaluate([str(w) for w in words]) == 2
    assert "give --num-classes 2" in capsys.readouterr().err
    assert use.evaluate([str(w) for w in [*words, "--num-classes", 2]]) == 0
    assert (tmp_path / "cyclemlp_nano_eval_log.txt").exists()


def test_finetuning_begins_with_the_file_and_a_new_head(nano, place, tmp_path, capsys):
    """Paddle-CycleMLP's test was inverted: a file that was there was not loaded, and a missing one was."""
    lines = [f"image {i}.jpg {i % 3}\n" for i in range(8)]
    (tmp_path / "three.txt").write_text("".join(lines))
    words = [*images(place, "val.txt"), *NANO, "--num-classes", "3", "--lr", "1e-12", "--finetune", nano]
    words += ["--train-txt-path", tmp_path / "three.txt", "--output_dir", tmp_path / "o"]
    assert train.main([str(w) for w in words]) == 0
    assert "head" in capsys.readouterr().out
    old, new = (paddle.load(str(p)) for p in (nano, tmp_path / "o" / "checkpoint_0" / "params.pdparams"))
    assert list(np.shape(new["head.bias"])) == [3]
    for name in set(new) - {"head.weight", "head.bias"}:
        np.testing.assert_allclose(np.asarray(new[name]), np.asarray(old[name]), atol=1e-9)


def test_an_earlier_run_is_kept_and_other_files_stay(place, tmp_path, capsys):
    """Paddle-CycleMLP's commands, one after the other, all write to ./output."""
    output = tmp_path / "output"
    words = [str(w) for w in [*images(place), *NANO, "--output_dir", output]]
    contents = []
    (output / "notes").mkdir(parents=True)
    (output / "results.txt").write_text("7\n")
    for _ in range(3):
        assert train.main(words) == 0
        contents.append((output / "log.jsonl").read_text())
    assert (output / "previous-1" / "log.jsonl").read_text() == contents[0]
    assert (output / "previous-2" / "log.jsonl").read_text() == contents[1]
    assert (output / "previous-1" / "checkpoint_0" / "params.pdparams").exists()
    assert len((output / "train_log.txt").read_text().splitlines()) == 1
    assert (output / "results.txt").read_text() == "7\n"
    assert (output / "notes").is_dir()
    assert f"{output} held an earlier run; it is now in {output / 'previous-2'}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "eval", "predict"])
def test_the_programs_at_the_root_only_hand_over(name):
    assert len((ROOT / f"{name}.py").read_text().splitlines()) < 10
    said = passes(run(f"{name}.py", "--help"))
    assert "--model-pretrained" in said
    assert "docs/migrating-from-paddle-cyclemlp.md" in said
    assert (ROOT / "docs" / "migrating-from-paddle-cyclemlp.md").exists()
