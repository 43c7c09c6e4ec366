"""`cyclemlp det check|train|eval|predict|export`: detection and instance segmentation by PaddleDetection."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from cyclemlp.cli.common import choose_device, plain_warnings, whole_number
from cyclemlp.errors import ConfigError

EPILOG = """examples:
  cyclemlp det check   --config configs/det/bccd.yaml
  cyclemlp det train   --config configs/det/bccd.yaml --output runs/bccd
  cyclemlp det train   --config configs/det/bccd.yaml --output runs/bccd --resume
  cyclemlp det eval    --weights runs/bccd
  cyclemlp det predict --weights runs/bccd PICTURE_OR_FOLDER… --output runs/bccd/predictions
  cyclemlp det export  --weights runs/bccd --output exported/bccd
"""
TRAIN_EPILOG = """examples:
  cyclemlp det train --config configs/det/bccd.yaml --output runs/bccd
  cyclemlp det train --config configs/det/own_data.yaml --set num_classes=4 --set TrainReader.batch_size=2
  python -m paddle.distributed.launch --devices 0,1,2,3,4,5,6,7 "$(command -v cyclemlp)" det train \\
      --config configs/det/retinanet_cyclemlp_b2_1x_coco.yaml --output runs/retinanet_b2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `cyclemlp det`."""
    parser.epilog = EPILOG
    commands = parser.add_subparsers(dest="det_command", metavar="COMMAND", required=True)
    for name, (summary, add, _) in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add(sub)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says and return the exit code: 1 where the work failed, 2 where the data are wrong."""
    import cyclemlp.dense.det  # noqa: F401  says how to install the engine, before its first use below

    with plain_warnings(f"det {args.det_command}"):
        return int(COMMANDS[args.det_command][2](args))


# ---- arguments


def _add_config(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        required=required,
        metavar="FILE",
        help="configuration of PaddleDetection, such as configs/det/bccd.yaml"
        + ("" if required else " (default: config.yaml of the run folder in --weights)"),
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of it, such as TrainReader.batch_size=2; may be repeated",
    )


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="FILE|RUN",
        help="a .pdparams file, or a folder of `cyclemlp det train` (its best model)",
    )
    _add_config(parser, required=False)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        metavar="cpu|gpu|gpu:N",
        help="where to compute (default: the GPU if Paddle was built for one, else the CPU)",
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.epilog = TRAIN_EPILOG
    _add_config(parser, required=True)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME OF THE CONFIG)"
    )
    parser.add_argument(
        "--epochs",
        type=whole_number(1),
        metavar="N",
        help="passes over the pictures; the learning-rate schedule is stretched to them",
    )
    parser.add_argument(
        "--max-minutes",
        type=float,
        metavar="M",
        help="stop after so many minutes of training, evaluations apart; then evaluate and save",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint in --output; begin if there is none",
    )
    again.add_argument("--force", action="store_true", help="replace the run that is in --output")
    parser.add_argument(
        "--no-eval", action="store_true", help="do not evaluate; the last model is kept as the best"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="of everything random (default: 0)"
    )
    _add_device(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the final figures as JSON, all else on stderr"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


# ---- commands


def _train(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.engine import engine
    from cyclemlp.dense.det.train import train
    from cyclemlp.training import TrainingFailedError, TrainingStoppedError
    from cyclemlp.training.distributed import faults_told_apart, join

    if args.max_minutes is not None and not args.max_minutes > 0:
        raise ConfigError(f"--max-minutes is {args.max_minutes}; give a number above 0")
    config = _config(args, epochs=args.epochs)
    output = args.output or Path("runs") / args.config.stem
    world = join(args.device)
    device = choose_device(args.device)

    def say(text: str) -> None:
        if world.is_first:
            print(text, file=sys.stderr if args.json else sys.stdout, flush=True)

    try:
        with faults_told_apart(), engine(say):
            result = train(
                config,
                output,
                resume=args.resume,
                force=args.force,
                evaluate=not args.no_eval,
                max_minutes=args.max_minutes,
                device=device,
                seed=args.seed,
                show_progress=not args.no_progress,
                world=world,
                command=shlex.join(["cyclemlp", *sys.argv[1:]]),
                say=say,
            )
    except TrainingFailedError as error:
        print(f"cyclemlp det train: failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        print(f"cyclemlp det train: failed: {error}; checkpoints so far are kept", file=sys.stderr)
        return 1
    except TrainingStoppedError as stopped:
        print(f"cyclemlp det train: {stopped}\ngo on with the same command and --resume", file=sys.stderr)
        return 128 + stopped.signal
    if not world.is_first:
        return 0
    figures: dict[str, Any] = {
        "output": str(output),
        "epochs": result.epochs,
        "seconds": result.seconds,
        "best_epoch": result.best_epoch,
        **(result.best or {}),
    }
    if args.json:
        print(json.dumps(figures))
    elif result.best:
        main = ", ".join(
            f"{k.replace('_', ' ')} {v:.3f}" for k, v in result.best.items() if k.endswith(("ap", "ap50"))
        )
        say(f"best: {main} after epoch {result.best_epoch}; everything is in {output}")
    else:
        say(f"done; everything is in {output}")
    return 0


def _config(args: argparse.Namespace, *, epochs: int | None = None) -> Any:
    """The configuration that was named, or that lies beside the weights, with `--set`."""
    from cyclemlp.dense.det.configuration import CONFIG, Configuration
    from cyclemlp.training.recipe import parse_assignments

    path = args.config
    if path is None:
        folder = args.weights if args.weights.is_dir() else args.weights.parent
        path = folder / CONFIG
        if not path.is_file():
            raise ConfigError(f"{args.weights} has no {CONFIG} beside it; say by --config what it is")
    return Configuration.load(path, parse_assignments(args.set), epochs=epochs)


COMMANDS = {
    "train": (
        "train a detector; the run's folder has checkpoints, a log, the best model and curves",
        _add_train,
        _train,
    ),
}
