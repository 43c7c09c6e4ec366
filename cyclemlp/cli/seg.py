"""`cyclemlp seg ACTION`: semantic segmentation with PaddleSeg, from its own configurations."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from cyclemlp.cli.common import choose_device, plain_warnings, whole_number, write_text
from cyclemlp.errors import ConfigError
from cyclemlp.training.recipe import parse_assignments

EPILOG = """
a configuration is PaddleSeg's own YAML, with two keys of ours beside its own: `classes` (names) and `run` (how often
to save, to log, …); configs/seg/ has those of the paper and one to copy for your own data. --set overrides any key.

the output folder holds config.yaml (resolved), log.jsonl, iter_…/ (checkpoints to go on from), best_model/ and
curves.png.

examples:
  are the data as the configuration says?
    cyclemlp seg check --config configs/seg/own_data.yaml
  train, and go on after an interruption:
    cyclemlp seg train --config configs/seg/own_data.yaml --output runs/mine
    cyclemlp seg train --resume runs/mine
  for at most 20 minutes, with other values:
    cyclemlp seg train --config configs/seg/own_data.yaml --max-minutes 20 --set lr_scheduler.learning_rate=5e-4
  on 8 GPUs:
    python -m paddle.distributed.launch "$(command -v cyclemlp)" seg train \\
        --config configs/seg/ade20k_semantic_fpn_b1.yaml --data ADEChallengeData2016
"""

ACTIONS = {
    "check": "look for mistakes in the data that a configuration names, and count its classes",
    "train": "train by PaddleSeg's own loop and leave a run's folder",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `cyclemlp seg`."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in ACTIONS.items():
        sub = actions.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _ARGUMENTS[name](sub)


def run(args: argparse.Namespace) -> int:
    """Do one action and return its exit code."""
    with plain_warnings(f"seg {args.action}"):
        return _RUN[args.action](args)


# ---- arguments


def _add_config(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        required=required,
        metavar="FILE",
        help="configuration of PaddleSeg, a YAML file",
    )
    parser.add_argument(
        "--data", metavar="DIR", help="the data's folder, in place of the configuration's dataset_root"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the configuration, dots between its parts: --set optimizer.weight_decay=0.01",
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_config(parser, required=False)
    group = parser.add_argument_group("training")
    group.add_argument("--iters", type=whole_number(1), metavar="N", help="steps, and of the schedule")
    group.add_argument(
        "--batch-size", type=whole_number(1), metavar="N", help="pictures a step on each device"
    )
    group.add_argument("--lr", type=float, metavar="RATE", help="highest learning rate")
    group.add_argument("--seed", type=whole_number(0), metavar="N", help="of everything random")
    group.add_argument("--workers", type=whole_number(0), metavar="N", help="processes that read pictures")
    group.add_argument(
        "--save-interval",
        type=whole_number(1),
        metavar="N",
        help="steps between evaluations with a checkpoint",
    )
    group.add_argument(
        "--log-iters", type=whole_number(1), metavar="N", help="steps between lines of the log"
    )
    group.add_argument(
        "--max-minutes",
        type=_minutes,
        metavar="M",
        help="stop after so many minutes of training, evaluation not counted; then evaluate and save",
    )
    group.add_argument("--no-eval", action="store_true", help="do not evaluate; no best model is kept then")
    group.add_argument("--device", metavar="cpu|gpu|gpu:N", help="where to compute")
    group = parser.add_argument_group("run")
    group.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="the run's folder (default: runs/ and the configuration's name)",
    )
    group.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="DIR",
        help="go on from the newest checkpoint in --output, or begin anew if there is none; with DIR, from that: a "
        "run's folder or an iter_… in it",
    )
    group.add_argument("--force", action="store_true", help="replace the run that is in --output")
    group.add_argument("--json", action="store_true", help="print the result as JSON, all else on stderr")
    group.add_argument("--no-progress", action="store_true", help="no progress bar")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of minutes above 0")
    return value


# ---- train

#: Flag → key of the configuration that it overrides.
_TRAIN_KEYS = {
    "iters": "iters",
    "batch_size": "batch_size",
    "lr": "lr_scheduler.learning_rate",
    "seed": "run.seed",
    "workers": "run.workers",
    "save_interval": "run.save_interval",
    "log_iters": "run.log_iters",
}


def _train(args: argparse.Namespace) -> int:
    from cyclemlp.training.distributed import join

    world = join(args.device)
    choose_device(args.device)
    from cyclemlp.dense.seg import run_folder
    from cyclemlp.dense.seg.config import open_config
    from cyclemlp.dense.seg.training import train
    from cyclemlp.training import TrainingFailedError, TrainingStoppedError

    config_path, output = _train_paths(args)
    flags = {key: getattr(args, flag) for flag, key in _TRAIN_KEYS.items() if getattr(args, flag) is not None}
    config = open_config(config_path, {**flags, **parse_assignments(args.set)}, data=args.data)

    def say(text: str) -> None:
        if world.is_first:
            print(text, file=sys.stderr if args.json else sys.stdout, flush=True)

    checkpoint = None
    if world.is_first:
        checkpoint = run_folder.find_checkpoint(args.resume, output) if args.resume else None
        here = checkpoint is not None and checkpoint.parent.resolve() == output.resolve()
        run_folder.prepare(output, resumes=here, auto=args.resume == "auto", force=args.force)
        write_text(output / run_folder.CONFIG, config.to_yaml())
    checkpoint = world.from_first(checkpoint)
    if checkpoint is not None:
        say(f"going on from {checkpoint}")
    try:
        result = train(
            config,
            output,
            world,
            checkpoint=checkpoint,
            max_minutes=args.max_minutes,
            evaluate=not args.no_eval,
            show_progress=world.is_first and not args.no_progress,
            command=_command(args),
            say=say,
        )
    except TrainingFailedError as error:
        print(f"cyclemlp seg train: failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        print(f"cyclemlp seg train: failed: {error}; checkpoints so far are kept", file=sys.stderr)
        return 1
    except TrainingStoppedError as stopped:
        go_on = f"cyclemlp seg train --resume {shlex.quote(str(output))}"
        print(f"cyclemlp seg train: {stopped}\ngo on with: {go_on}", file=sys.stderr)
        return 128 + stopped.signal
    if world.is_first and args.json:
        figures = {"step": result.step, "reason": result.reason, "train_seconds": result.train_seconds}
        best = {"mean_iou": result.mean_iou, "best_step": result.best_step}
        print(json.dumps({"output": str(output), **figures, **best}))
    elif result.mean_iou is not None:
        say(
            f"best mean IoU: {100 * result.mean_iou:.2f} % at step {result.best_step}; everything is in {output}"
        )
    else:
        say(f"done; everything is in {output}")
    return 0


def _train_paths(args: argparse.Namespace) -> tuple[Path, Path]:
    """Configuration and output folder: typed, or those of the run to go on with."""
    from cyclemlp.dense.seg import run_folder

    of_run = None
    if args.resume == "auto":
        of_run = args.output
    elif args.resume is not None:
        of_run = run_folder.run_of(Path(args.resume))
    config = args.config
    if config is None and of_run is not None and (of_run / run_folder.CONFIG).is_file():
        config = of_run / run_folder.CONFIG
    if config is None:
        raise ConfigError("no configuration is named: give --config FILE, or --resume a run's folder")
    output = args.output or (of_run if args.resume not in (None, "auto") else None)
    return config, output or Path("runs") / config.stem


def _command(args: argparse.Namespace) -> str:
    """The command as it was typed, as far as it matters for the result."""
    words = ["cyclemlp", "seg", args.action]
    for flag in (
        "config",
        "data",
        *_TRAIN_KEYS,
        "set",
        "max_minutes",
        "no_eval",
        "device",
        "output",
        "resume",
    ):
        value = getattr(args, flag)
        option = "--" + flag.replace("_", "-")
        if isinstance(value, list):
            words += [word for item in value for word in (option, str(item))]
        elif value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, str(value)]
    return shlex.join(words)


_ARGUMENTS = {"check": _add_config, "train": _add_train}
_RUN = {"train": _train}
