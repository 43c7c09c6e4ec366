"""What `cyclemlp seg` and `cyclemlp det` have in common: their arguments, and the run that a path belongs to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclemlp.cli.common import finite_number, output_folder, whole_number
from cyclemlp.cli.training import add_run_arguments
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.run import PREDICTIONS, RECIPE, places_of_resume, run_folder


def add_config_arguments(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    """`--config`, `--data`, `--set`.

    Args:
        default: of the first, in words; without one it is required.
    """
    parser.add_argument(
        "--config",
        type=Path,
        required=default is None,
        metavar="FILE",
        help="configuration of the engine, a YAML file" + (f" (default: {default})" if default else ""),
    )
    parser.add_argument(
        "--data", metavar="DIR", help="the folder of the data, in place of the configuration's"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the configuration, dots between its parts, numbers for places in a list; repeatable",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """`model`, and the configuration where that is no run's."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a run's folder (its best model, else its newest checkpoint), a checkpoint_… in it, or a .pdparams file",
    )
    add_config_arguments(parser, default="the recipe of the run in which MODEL lies")


def add_train_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Arguments of both trainings; returns the group of what is trained, for more."""
    add_config_arguments(parser, default="the recipe of the run to resume")
    group = parser.add_argument_group("training")
    group.add_argument("--batch-size", type=whole_number(1), metavar="N", help="images a step on each device")
    group.add_argument("--lr", type=finite_number, metavar="RATE", help="highest learning rate")
    group.add_argument("--workers", type=whole_number(0), metavar="N", help="processes that read images")
    group.add_argument("--seed", type=whole_number(0), metavar="N", help="of everything random (default: 0)")
    group.add_argument(
        "--max-minutes",
        type=_minutes,
        metavar="M",
        help="stop after so many minutes of training, evaluation not counted; then evaluate and save",
    )
    group.add_argument("--no-eval", action="store_true", help="do not evaluate while it trains")
    add_device_argument(group)
    add_run_arguments(parser.add_argument_group("run"), default="runs/NAME OF THE CONFIGURATION")
    return group


def add_device_argument(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """`--device`."""
    group.add_argument(
        "--device",
        metavar="cpu|gpu|gpu:N",
        help="where to compute (default: the GPU if Paddle was built for one, else the CPU)",
    )


def add_report_arguments(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """`--json`, `--no-progress`."""
    group.add_argument("--json", action="store_true", help="print JSON on stdout, all else on stderr")
    group.add_argument("--no-progress", action="store_true", help="no progress bar")


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of both evaluations, `--output` among them."""
    add_model_arguments(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the figures to DIR/eval.json")
    parser.add_argument("--workers", type=whole_number(0), metavar="N", help="processes that read images")
    add_device_argument(parser)
    add_report_arguments(parser)


def add_predict_arguments(parser: argparse.ArgumentParser, *, what: str) -> None:
    """Arguments of both predictions; `what` goes into `--output`."""
    add_model_arguments(parser)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="image files of any size, and folders"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"where {what} go (default: {PREDICTIONS}/ in the run's folder)",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read")
    add_device_argument(parser)
    add_report_arguments(parser)


def add_export_arguments(parser: argparse.ArgumentParser, *, formats: tuple[str, ...], default: str) -> None:
    """Arguments of both exports."""
    add_model_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--format",
        choices=formats,
        default=default,
        help="for ONNX Runtime, OpenVINO or Paddle Inference (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace an exported model in DIR")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def flags(args: argparse.Namespace, keys: Mapping[str, str]) -> dict[str, Any]:
    """Key of the configuration → value, of those flags in `keys` that were given."""
    return {key: getattr(args, flag) for flag, key in keys.items() if getattr(args, flag) is not None}


def training_places(args: argparse.Namespace) -> tuple[Path, Path]:
    """Configuration and output folder: typed, or those of the run to resume."""
    recipe, output = places_of_resume(args.resume, args.output)
    config: Path | None = args.config or recipe
    if config is None:
        raise ConfigError("no configuration is named: give --config FILE, or --resume a run's folder")
    return config, output or Path("runs") / config.stem


def config_of_model(args: argparse.Namespace) -> Path:
    """`--config`, or the recipe of the run in which `args.model` lies."""
    path: Path = args.config or run_folder(args.model) / RECIPE
    if not path.is_file() and args.config is None:
        raise ConfigError(f"{args.model} does not lie in a run's folder: give --config FILE too")
    return path


def predictions_folder(args: argparse.Namespace) -> Path:
    """`--output`, made; by default in the run's folder, or of weights without a run in the current one."""
    run = run_folder(args.model)
    output = output_folder(args.output or (run if (run / RECIPE).is_file() else Path()) / PREDICTIONS)
    assert output is not None
    return output


def write_figures(args: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    """Write `eval.json` into `--output`, if that was given."""
    output = output_folder(args.output)
    if output is not None:
        write_text(output / "eval.json", json.dumps(figures, indent=2) + "\n")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of minutes above 0")
    return value
