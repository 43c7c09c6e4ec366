"""The seed project's `train.py`, `eval.py` and `predict.py`: its flags and defaults, our commands.

Each command reads the seed's flags, says the same in the words of `cyclemlp train`, `eval` or `predict`, lets that do
the work, and writes the files that the seed wrote. docs/migrating-from-the-seed.md lists what is different and why.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cyclemlp.cli.common import message, whole_number, write_text
from cyclemlp.cli.main import Parser, answer, build_parser
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import INTERPOLATIONS
from cyclemlp.text import printable_output

DOCS = "docs/migrating-from-the-seed.md lists what is different from the seed, and why."
LIST_MODES = ("train", "val", "test")

#: The seed resized validation images to 256/224 of the input's side and took the centre, except tiny ones.
CROP_PCT, TINY_PIXELS = 0.875, 32

#: What a training run of the seed or of ours leaves in its folder.
RUN_FILES = re.compile(
    r"checkpoint_\d+(_step\d+)?|train_log\.txt|recipe\.yaml|log\.jsonl|README\.md|curves\.png|"
    r"best(_ema)?\.(safetensors|json)|tensorboard|visualdl"
)
#: Beyond it, the seed's `checkpoint_1000` (after 1001 epochs) would be our folder after 1000.
MOST_EPOCHS = 1000


@printable_output()
def train(argv: Sequence[str] | None = None) -> int:
    """`python train.py …`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = training_parser().parse_args(words)
    return answer("train.py", lambda: _train(args, shlex.join(["python", "train.py", *words])))


@printable_output()
def evaluate(argv: Sequence[str] | None = None) -> int:
    """`python eval.py …`; returns the exit code."""
    args = evaluation_parser().parse_args(argv)
    return answer("eval.py", lambda: _evaluate(args))


@printable_output()
def predict(argv: Sequence[str] | None = None) -> int:
    """`python predict.py …`; returns the exit code."""
    args = prediction_parser().parse_args(argv)
    return answer("predict.py", lambda: _predict(args))


# ---- the seed's flags


def training_parser() -> argparse.ArgumentParser:
    """The flags of `train.py`, with the seed's defaults."""
    parser = _parser("train.py", "Train a CycleMLP. `cyclemlp train` is the same with the paper's recipe.")
    group = _Group(parser, "training")
    group.add("--batch-size", 64, whole_number(1), "images a step, on each device")
    group.add("--epochs", 300, whole_number(1), "passes over the images")
    group.add("--start_epoch", 0, whole_number(0), "number of the first epoch; nothing is loaded by it")
    group.add("--output_dir", "./output", str, "folder of the results; a run in it goes to its previous-1")
    group.add("--is_distributed", False, truth, "one of several processes of paddle.distributed.launch")
    group.add("--is_amp", False, truth, "mixed precision: float16 on a GPU")
    group.add("--init_loss_scaling", 1024.0, float, "first loss scale of --is_amp")
    _add_model(parser)
    group = _Group(parser, "optimizer")
    group.add("--opt", "AdamW", _one_of("--opt", "AdamW"), "AdamW, the only one")
    group.add("--opt-eps", 1e-8, float, "AdamW's ε")
    group.add("--opt-beta1", None, float, "AdamW's β₁; 0.9 if not given")
    group.add("--opt-beta2", None, float, "AdamW's β₂; 0.999 if not given")
    group.add("--clip-grad", None, float, "largest norm of all gradients together; none if not given")
    group.add("--weight-decay", 0.05, float, "of weights; biases and norms have none")
    group.add(
        "--sched",
        "CosineAnnealingDecay",
        _one_of("--sched", "CosineAnnealingDecay", "cosine"),
        "CosineAnnealingDecay, the only one",
    )
    group.add("--lr", 5e-4, float, "learning rate for 512 images: times batch size · devices / 512")
    group.add("--t-max", 300, whole_number(1), "epoch at which the cosine arrives at --eta-min")
    group.add("--eta-min", 0.0, float, "lowest learning rate")
    group.add("--last-epoch", -1, whole_number(-1), "epoch of the cosine that was the last before this run")
    group = _Group(parser, "augmentation")
    group.add("--color-jitter", 0.4, float, "brightness, contrast, saturation; only with --aa none")
    group.add("--aa", "rand-m9-mstd0.5-inc1", _none_or_text, "RandAugment; original or v0; none")
    group.add("--smoothing", 0.1, float, "label smoothing")
    _add_interpolation(group)
    group.add("--reprob", 0.25, float, "probability of random erasing")
    group.add("--mixup", 0.8, float, "mixup's α; 0 is none")
    group.add("--cutmix", 1.0, float, "cutmix's α; 0 is none")
    group.add("--cutmix-minmax", None, float, "sides of cutmix's rectangle, instead of its α", nargs=2)
    group.add("--mixup-prob", 1.0, float, "probability of mixing at all")
    group.add("--mixup-switch-prob", 0.5, float, "probability of cutmix where both are on")
    group.add("--mixup-mode", "batch", str, "one draw a batch, pair or image", ("batch", "pair", "elem"))
    group = _Group(parser, "distillation and fine-tuning")
    group.add("--teacher-model", "RegNetX_4GF", str, "the teacher's name")
    group.add("--teacher-pretrained", None, str, "the teacher's weights")
    group.add("--distillation-type", "none", str, "what is learnt from it", ("none", "soft", "hard"))
    group.add("--distillation-alpha", 0.5, float, "its share of the loss")
    group.add("--distillation-tau", 1.0, float, "temperature of soft distillation")
    group.add("--finetune", "", str, "weights to begin with; a head of another size starts anew")
    group = _Group(parser, "images")
    _add_images(group, "train")
    _add_images(group, "val")
    _add_workers(group)
    return parser


def evaluation_parser() -> argparse.ArgumentParser:
    """The flags of `eval.py`, with the seed's defaults."""
    parser = _parser("eval.py", "Top-1, top-5 and loss of a CycleMLP. `cyclemlp eval` is the same with more.")
    return _add_using(parser, "val")


def prediction_parser() -> argparse.ArgumentParser:
    """The flags of `predict.py`, with the seed's defaults."""
    parser = _parser("predict.py", "Classify images. `cyclemlp predict` is the same with more.")
    return _add_using(parser, "test")


def truth(text: str) -> bool:
    """Type of a flag's value: True, False, 1, 0, yes or no, in any case."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r}: give True or False (or 1, 0, yes, no)")
    return known[text.lower()]


class _Group:
    """A group of flags, each in both spellings, `--batch-size` and `--batch_size`."""

    def __init__(self, parser: argparse.ArgumentParser, title: str) -> None:
        self._group = parser.add_argument_group(title)

    def add(
        self,
        flag: str,
        default: Any,
        kind: Callable[[str], Any],
        text: str,
        choices: Sequence[str] | None = None,
        nargs: int | None = None,
    ) -> None:
        words = flag.removeprefix("--")
        spellings = dict.fromkeys((flag, "--" + words.replace("_", "-"), "--" + words.replace("-", "_")))
        if default is not None and default != "":
            text += " (default: %(default)s)"
        self._group.add_argument(
            *spellings,
            dest=words.replace("-", "_"),
            default=default,
            type=kind,
            help=text,
            choices=choices,
            nargs=nargs,
            metavar=None if choices else ("LEAST", "MOST") if nargs else _metavar(words, kind),
        )


def _metavar(words: str, kind: Callable[[str], Any]) -> str:
    if kind is truth:
        return "True|False"
    if kind is float:
        return "X"
    if words.endswith("dir"):
        return "DIR"
    if words.endswith(("path", "pretrained", "finetune")):
        return "FILE"
    return "NAME" if kind in (str, _none_or_text) or words in ("opt", "sched") else "N"


def _parser(program: str, text: str) -> argparse.ArgumentParser:
    return Parser(prog=program, description=text, epilog=DOCS)


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = _Group(parser, "model")
    group.add("--model", "CycleMLP_B1", str, "a variant, see `cyclemlp info`")
    group.add("--input-size", 224, whole_number(1), "side of the image, in pixels")
    group.add("--drop", 0.0, float, "dropout before the head, in training")
    group.add("--drop-path", 0.1, float, "stochastic depth of the last block, in training")
    group.add("--num-classes", 1000, whole_number(1), "number of classes")
    group.add("--model-pretrained", "", str, "the model's weights: .pdparams, .pth, .safetensors")


def _add_using(parser: argparse.ArgumentParser, part: str) -> argparse.ArgumentParser:
    """What `eval.py` and `predict.py` share."""
    _add_model(parser)
    group = _Group(parser, "images")
    _add_images(group, part)
    _add_workers(group)
    _add_interpolation(group)
    group.add("--batch-size", 64, whole_number(1), "images in one step")
    group.add("--output_dir", "./output", str, "folder of the results; '' for none")
    return parser


def _add_images(group: _Group, part: str) -> None:
    group.add(f"--{part}-data-dir", "./", str, "folder of the images")
    group.add(
        f"--{part}-txt-path", f"./{part}.txt", str, "list: a line `name label` an image, or just `name`"
    )
    group.add(f"--{part}-data-mode", part, str, "whether its lines have labels: test has none", LIST_MODES)


def _add_workers(group: _Group) -> None:
    group.add("--num_workers", None, whole_number(0), "processes that read images; chosen if not given")


def _add_interpolation(group: _Group) -> None:
    ways = (*INTERPOLATIONS, "random")
    group.add("--train-interpolation", "bicubic", str, "how images are resized", ways)


def _one_of(flag: str, *names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in [name.lower() for name in names]:
            raise argparse.ArgumentTypeError(f"{text!r}: {flag} can only be {' or '.join(names)}")
        return text

    return parse


def _none_or_text(text: str) -> str | None:
    return None if text.lower() in ("", "none") else text


# ---- train.py


def _train(args: argparse.Namespace, typed: str) -> int:
    from cyclemlp.cli import train as command

    _check_training(args)
    given = build_parser("train").parse_args(["train", *training_words(args)])
    command.resolve_recipe(given)  # refuses what is impossible before an earlier run is moved
    output = Path(args.output_dir)
    first = os.environ.get("PADDLE_TRAINER_ID") in (None, "0")  # the process that writes
    previous = _set_aside(output) if first else None
    try:
        return command.run(given, on_epoch=SeedFiles(output).write, command=typed)
    finally:
        if previous is not None and not (output / "recipe.yaml").exists():  # no run began
            for path in previous.iterdir():
                path.rename(output / path.name)
            previous.rmdir()
            _warn(f"no run began; the earlier one is in {output} again")


def training_words(args: argparse.Namespace) -> list[str]:
    """`train.py`'s flags as words of `cyclemlp train`."""
    keys = {
        "model.name": args.model,
        "model.weights": args.finetune or args.model_pretrained or None,
        "model.drop_path_rate": args.drop_path,
        "model.overrides": {"drop_rate": args.drop},
        "data.num_classes": args.num_classes,
        "data.preprocessing": _preprocessing(args),
        "augment.interpolation": args.train_interpolation,
        "augment.auto_augment": args.aa,
        "augment.color_jitter": args.color_jitter,
        "augment.erasing_prob": args.reprob,
        "augment.mixup": args.mixup,
        "augment.cutmix": args.cutmix,
        "augment.cutmix_minmax": args.cutmix_minmax,
        "augment.mixup_prob": args.mixup_prob,
        "augment.mixup_switch_prob": args.mixup_switch_prob,
        "augment.mixup_mode": args.mixup_mode,
        "augment.repeats": 1,
        "optimizer.lr": args.lr,
        "optimizer.lr_for_batch": 512,
        "optimizer.weight_decay": args.weight_decay,
        "optimizer.beta1": 0.9 if args.opt_beta1 is None else args.opt_beta1,
        "optimizer.beta2": 0.999 if args.opt_beta2 is None else args.opt_beta2,
        "optimizer.eps": args.opt_eps,
        "optimizer.clip_norm": args.clip_grad,
        "schedule.by": "epoch",
        "schedule.warmup_epochs": 0,
        "schedule.min_lr": args.eta_min,
        "schedule.cosine_epochs": args.t_max,
        # The first epoch has the rate of the one after --last-epoch; ours lags an epoch behind, as the authors' does.
        "schedule.shift_epochs": args.last_epoch + 1 - args.start_epoch + 1,
        "loss.label_smoothing": args.smoothing,
        "distillation.kind": args.distillation_type,
        "distillation.teacher": args.teacher_model,
        "distillation.weights": args.teacher_pretrained,
        "distillation.alpha": args.distillation_alpha,
        "distillation.tau": args.distillation_tau,
        "ema.decay": None,
        "amp.dtype": "float16" if args.is_amp else None,
        "amp.init_loss_scaling": args.init_loss_scaling,
        "run.epochs": args.epochs,
        "run.start_epoch": args.start_epoch,
    }
    words = ["--data", args.train_data_dir, "--list", args.train_txt_path]
    words += ["--val-data", args.val_data_dir, "--val-list", args.val_txt_path]
    words += ["--batch-size", str(args.batch_size), "--output", args.output_dir, "--force"]
    words += [] if args.num_workers is None else ["--workers", str(args.num_workers)]
    return words + [word for key, value in keys.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def _check_training(args: argparse.Namespace) -> None:
    """What the seed passed over in silence."""
    for flag in ("model_pretrained", "finetune", "teacher_pretrained", "train_txt_path", "val_txt_path"):
        _check_exists(args, flag)
    for part in ("train", "val"):
        if getattr(args, f"{part}_data_mode") == "test":
            raise ConfigError(
                f"--{part}-data-mode is test: such a list has no labels, and {_PURPOSE[part]} needs them"
            )
    if args.finetune and args.model_pretrained:
        raise ConfigError("--finetune and --model-pretrained both say where the weights begin; give one")
    if args.distillation_type != "none" and not args.teacher_pretrained:
        raise ConfigError(
            f"--distillation-type {args.distillation_type} needs --teacher-pretrained FILE: a random teacher "
            "teaches nothing"
        )
    if not args.output_dir:
        raise ConfigError("--output_dir is empty; a run needs a folder for its checkpoints")
    if args.epochs > MOST_EPOCHS:
        raise ConfigError(
            f"--epochs is {args.epochs}; the seed's checkpoint_N folders are kept for {MOST_EPOCHS} epochs at most. "
            "`cyclemlp train` has no such limit"
        )
    processes = int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)
    if processes > 1 and not args.is_distributed:
        raise ConfigError(
            f"paddle.distributed.launch started {processes} processes; give --is_distributed True, or they would "
            "train one model each"
        )
    if args.is_distributed and processes == 1:
        _warn(
            "--is_distributed True: this is the only process; start several by python -m paddle.distributed.launch"
        )
    for flag, why in {
        "color_jitter": args.aa is not None and f"beside --aa {args.aa}; give --aa none",
        "init_loss_scaling": not args.is_amp and "without --is_amp True",
        "teacher_pretrained": args.distillation_type == "none" and "with --distillation-type none",
        "distillation_tau": args.distillation_type == "hard" and "with --distillation-type hard",
    }.items():
        if why and getattr(args, flag) != training_parser().get_default(flag):
            _warn(f"{_spelling(flag)} {getattr(args, flag)} has no effect {why}")


class SeedFiles:
    """Writes what the seed left of a run, beside what `cyclemlp train` leaves.

    `train_log.txt`: a line an epoch, JSON with train_lr, train_loss, test_loss, test_acc1, test_acc5 (shares, 0 to 1),
    epoch (from 0), n_parameters. `checkpoint_N/params.pdparams`: the weights after epoch N, from 0.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: dict[str, Any], model: Any) -> None:
        """Take an epoch's line of `log.jsonl`, and the model."""
        from cyclemlp.models import save_model

        epoch = record["epoch"] - 1
        weights = self._folder / f"checkpoint_{epoch}" / "params.pdparams"
        weights.parent.mkdir(exist_ok=True)
        save_model(model, weights, extra={"epoch": record["epoch"]})
        figures = {"train_lr": record["lr"], "train_loss": record["train_loss"]}
        figures |= _seed_figures(record["val_loss"], record["val_top1"], record["val_top5"])
        count = sum(parameter.size for parameter in model.parameters())
        line = json.dumps({**figures, "epoch": epoch, "n_parameters": str(count)})
        with (self._folder / "train_log.txt").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _set_aside(output: Path) -> Path | None:
    """Move an earlier run's files to `previous-1`, -2, … and return that; the seed wrote over them."""
    found = [path for path in output.iterdir() if RUN_FILES.fullmatch(path.name)] if output.is_dir() else []
    if not found:
        return None
    number = 1
    while (previous := output / f"previous-{number}").exists():
        number += 1
    try:
        previous.mkdir()
        for path in found:
            path.rename(previous / path.name)
    except OSError as error:
        raise ConfigError(
            f"{output} holds an earlier run, which cannot be moved to {previous}: {error}"
        ) from None
    _warn(f"{output} held an earlier run; it is now in {previous}")
    return previous


# ---- eval.py and predict.py


def _evaluate(args: argparse.Namespace) -> int:
    from cyclemlp.cli import eval as command

    if args.val_data_mode == "test":
        raise ConfigError("--val-data-mode is test: such a list has no labels, and accuracy needs them")
    code = command.run(build_parser("eval").parse_args(["eval", *using_words(args, "val")]))
    if code == 0 and args.output_dir:
        figures = json.loads((Path(args.output_dir) / "eval.json").read_text(encoding="utf-8"))
        line = json.dumps(_seed_figures(figures["loss"], figures["top1"], figures["top5"]))
        write_text(Path(args.output_dir) / f"{args.model}_eval_log.txt", line + "\n")
    return code


def _predict(args: argparse.Namespace) -> int:
    from cyclemlp.cli import predict as command

    mode = "test" if args.test_data_mode == "test" else "val"
    words = [*using_words(args, "test"), "--list-mode", mode]
    code = command.run(build_parser("predict").parse_args(["predict", *words]))
    if code == 0 and args.output_dir:
        content = json.loads((Path(args.output_dir) / "predictions.json").read_text(encoding="utf-8"))
        best = [entry["classes"][0]["index"] for entry in content["predictions"]]
        write_text(Path(args.output_dir) / "results.txt", "".join(f"{index}\n" for index in best))
    return code


def using_words(args: argparse.Namespace, part: str) -> list[str]:
    """`eval.py`'s ("val") or `predict.py`'s ("test") flags as words of `cyclemlp eval` or `predict`.

    Raises:
        ConfigError: no weights, a file that does not exist, weights with another number of classes.
    """
    from cyclemlp.weights import read_weights

    if not args.model_pretrained:
        raise ConfigError("no weights: give --model-pretrained FILE; a random model can answer nothing")
    for flag in ("model_pretrained", f"{part}_txt_path"):
        _check_exists(args, flag)
    head = read_weights(args.model_pretrained).tensors.get("head.bias")
    if head is not None and len(head) != args.num_classes:
        raise ConfigError(
            f"--num-classes is {args.num_classes}, and {args.model_pretrained} has {len(head)} classes; give "
            f"--num-classes {len(head)}"
        )
    ready = _preprocessing(args)
    data, names = getattr(args, f"{part}_data_dir"), getattr(args, f"{part}_txt_path")
    words = ["--model", args.model, "--weights", args.model_pretrained, "--data", data, "--list", names]
    words += ["--input-size", str(ready["input_size"]), "--crop-pct", str(ready["crop_pct"])]
    words += ["--interpolation", ready["interpolation"], "--batch-size", str(args.batch_size)]
    words += [] if args.num_workers is None else ["--workers", str(args.num_workers)]
    return words + (["--output", args.output_dir] if args.output_dir else [])


# ---- shared

_PURPOSE = {"train": "training", "val": "validation"}


def _preprocessing(args: argparse.Namespace) -> dict[str, Any]:
    way = args.train_interpolation
    return {
        "input_size": args.input_size,
        "crop_pct": CROP_PCT if args.input_size > TINY_PIXELS else 1.0,
        "interpolation": "bicubic" if way == "random" else way,
    }


def _seed_figures(loss: float, top1: float, top5: float) -> dict[str, float]:
    """The seed's names; its accuracies are shares, ours are in %."""
    return {"test_loss": loss, "test_acc1": top1 / 100, "test_acc5": top5 / 100}


def _check_exists(args: argparse.Namespace, flag: str) -> None:
    value = getattr(args, flag)
    if value and not Path(value).exists():
        raise ConfigError(f"{_spelling(flag)} {value}: there is no such file")


def _spelling(flag: str) -> str:
    return "--" + (flag if flag in ("init_loss_scaling",) else flag.replace("_", "-"))


def _warn(text: str) -> None:
    message(f"warning: {text}")
