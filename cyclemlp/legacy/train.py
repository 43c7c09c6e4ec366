"""`train.py`: Paddle-CycleMLP's flags as a recipe, and the files that Paddle-CycleMLP left of a run."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclemlp.cli.main import answer
from cyclemlp.cli.train import run_recipe
from cyclemlp.errors import ConfigError
from cyclemlp.legacy.flags import (
    check_exists,
    legacy_figures,
    preprocessing,
    spelling,
    training_parser,
    warn,
)
from cyclemlp.text import counted, printable_output
from cyclemlp.training import Recipe

#: What a training run of Paddle-CycleMLP or of ours leaves in its folder.
RUN_FILES = re.compile(
    r"checkpoint_\d+|checkpoints|train_log\.txt|recipe\.yaml|log\.jsonl|README\.md|curves\.png|"
    r"best(_ema)?\.(safetensors|json)|tensorboard|visualdl"
)
PURPOSE = {"train": "training", "val": "validation"}


@printable_output()
def main(argv: Sequence[str] | None = None) -> int:
    """`python train.py …`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = training_parser().parse_args(words)
    return answer("train.py", lambda: _train(args, shlex.join(["python", "train.py", *words])))


def _train(args: argparse.Namespace, typed: str) -> int:
    check_training(args)
    recipe = training_recipe(args)  # refuses what is impossible before an earlier run is moved
    output = Path(args.output_dir)
    first = os.environ.get("PADDLE_TRAINER_ID") in (None, "0")  # the process that writes
    previous = _set_aside(output) if first else None
    try:
        return run_recipe(recipe, output, command=typed, force=True, on_epoch=LegacyFiles(output).write)
    finally:
        if previous is not None and not (output / "recipe.yaml").exists():  # no run began
            for path in previous.iterdir():
                path.rename(output / path.name)
            previous.rmdir()
            warn(f"no run began; the earlier one is in {output} again")


def training_recipe(args: argparse.Namespace) -> Recipe:
    """`train.py`'s flags as a recipe.

    Raises:
        ConfigError: a value is impossible.
    """
    values = {
        "data.train": args.train_data_dir,
        "data.train_list": args.train_txt_path,
        "data.val": args.val_data_dir,
        "data.val_list": args.val_txt_path,
        "data.batch_size": args.batch_size,
        "data.workers": args.num_workers,
        "model.name": args.model,
        "model.weights": args.finetune or args.model_pretrained or None,
        "model.drop_path_rate": args.drop_path,
        "model.overrides": {"drop_rate": args.drop},
        "data.num_classes": args.num_classes,
        "data.preprocessing": preprocessing(args),
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
    return Recipe().updated(values, where="train.py")


def check_training(args: argparse.Namespace) -> None:
    """Refuse or warn about what Paddle-CycleMLP passed over in silence."""
    for flag in ("model_pretrained", "finetune", "teacher_pretrained", "train_txt_path", "val_txt_path"):
        check_exists(args, flag)
    for part in ("train", "val"):
        if getattr(args, f"{part}_data_mode") == "test":
            raise ConfigError(
                f"--{part}-data-mode is test: such a list has no labels, and {PURPOSE[part]} needs them"
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
    processes = int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)
    if processes > 1 and not args.is_distributed:
        raise ConfigError(
            f"paddle.distributed.launch started {counted(processes, 'process')}; give --is_distributed True, or they "
            "would train one model each"
        )
    if args.is_distributed and processes == 1:
        warn(
            "--is_distributed True: this is the only process; start several by python -m paddle.distributed.launch"
        )
    for flag, why in {
        "color_jitter": args.aa is not None and f"beside --aa {args.aa}; give --aa none",
        "init_loss_scaling": not args.is_amp and "without --is_amp True",
        "teacher_pretrained": args.distillation_type == "none" and "with --distillation-type none",
        "distillation_tau": args.distillation_type == "hard" and "with --distillation-type hard",
    }.items():
        if why and getattr(args, flag) != training_parser().get_default(flag):
            warn(f"{spelling(flag)} {getattr(args, flag)} has no effect {why}")


class LegacyFiles:
    """Writes what Paddle-CycleMLP left of a run, beside what `cyclemlp train` leaves.

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
        figures |= legacy_figures(record["val_loss"], record["val_top1"], record["val_top5"])
        count = sum(parameter.size for parameter in model.parameters())
        line = json.dumps({**figures, "epoch": epoch, "n_parameters": str(count)})
        with (self._folder / "train_log.txt").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _set_aside(output: Path) -> Path | None:
    """Move an earlier run's files to `previous-1`, -2, … and return that; Paddle-CycleMLP wrote over them."""
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
    warn(f"{output} held an earlier run; it is now in {previous}")
    return previous
