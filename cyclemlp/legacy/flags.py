"""Paddle-CycleMLP's flags and their defaults, each in both spellings, `--batch-size` and `--batch_size`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cyclemlp.cli.common import message
from cyclemlp.cli.main import Parser
from cyclemlp.cli.options import whole_number
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import INTERPOLATIONS

DOCS = "docs/migrating-from-paddle-cyclemlp.md lists what is different from Paddle-CycleMLP, and why."
LIST_MODES = ("train", "val", "test")

#: Paddle-CycleMLP resized validation images to 256/224 of the input's side and took the centre, except tiny ones.
CROP_PCT, TINY_PIXELS = 0.875, 32


def training_parser() -> argparse.ArgumentParser:
    """The flags of `train.py`, with Paddle-CycleMLP's defaults."""
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
    """The flags of `eval.py`, with Paddle-CycleMLP's defaults."""
    parser = _parser("eval.py", "Top-1, top-5 and loss of a CycleMLP. `cyclemlp eval` is the same with more.")
    return _add_using(parser, "val")


def prediction_parser() -> argparse.ArgumentParser:
    """The flags of `predict.py`, with Paddle-CycleMLP's defaults."""
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


def preprocessing(args: argparse.Namespace) -> dict[str, Any]:
    """How the flags have images prepared, as values of `Preprocessing`."""
    way = args.train_interpolation
    return {
        "input_size": args.input_size,
        "crop_pct": CROP_PCT if args.input_size > TINY_PIXELS else 1.0,
        "interpolation": "bicubic" if way == "random" else way,
    }


def legacy_figures(loss: float, top1: float, top5: float) -> dict[str, float]:
    """Paddle-CycleMLP's names; its accuracies are shares, ours are in %."""
    return {"test_loss": loss, "test_acc1": top1 / 100, "test_acc5": top5 / 100}


def check_exists(args: argparse.Namespace, flag: str) -> None:
    """Raise ConfigError where a flag names a file that is not there."""
    value = getattr(args, flag)
    if value and not Path(value).exists():
        raise ConfigError(f"{spelling(flag)} {value}: there is no such file")


def spelling(flag: str) -> str:
    """The flag as Paddle-CycleMLP's help writes it."""
    return "--" + (flag if flag in ("init_loss_scaling",) else flag.replace("_", "-"))


def warn(text: str) -> None:
    """A warning, as a line on stderr."""
    message(f"warning: {text}")
