"""What `cyclemlp seg` and `cyclemlp det` have in common: their arguments, and the run that a path belongs to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclemlp.cli.common import config_file, output_folder
from cyclemlp.cli.options import add, add_run_arguments
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.run import PREDICTIONS, RECIPE, places_of_resume, run_folder


def add_config_arguments(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    """`--config`, `--data`, `--set`.

    Args:
        default: of the first, in words; without one it is required.
    """
    add(
        parser,
        "--config",
        "configuration of the engine, a YAML file" + (f" (default: {default})" if default else ""),
        type=Path,
        required=default is None,
    )
    add(parser, "--data", "the folder of the data, in place of the configuration's", metavar="DIR")
    add(
        parser,
        "--set",
        "override a key of the configuration, dots between its parts, numbers for places in a list; repeatable",
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
    add(group, "--batch-size", "images a step on each device")
    add(group, "--lr", "highest learning rate")
    add(group, "--workers", "processes that read images")
    add(group, "--seed", "of everything random (default: 0)")
    add(
        group,
        "--max-minutes",
        "stop after so many minutes of training, evaluation not counted; then evaluate and save",
        metavar="M",
    )
    add(group, "--patience", "stop after so many evaluations in a row without a better one")
    add(group, "--no-eval", "do not evaluate while it trains")
    add(group, "--device")
    add_run_arguments(parser.add_argument_group("run"), default="runs/NAME OF THE CONFIGURATION")
    return group


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of both evaluations, `--output` among them."""
    add_model_arguments(parser)
    add(parser, "--output", "write the figures to DIR/eval.json")
    add(parser, "--workers", "processes that read images")
    add(parser, "--device")
    add(parser, "--json")
    add(parser, "--no-progress")


def add_predict_arguments(parser: argparse.ArgumentParser, *, what: str) -> None:
    """Arguments of both predictions; `what` goes into `--output`."""
    add_model_arguments(parser)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="image files of any size, and folders"
    )
    add(parser, "--output", f"where {what} go (default: {PREDICTIONS}/ in the run's folder)")
    add(parser, "--skip-bad")
    add(parser, "--device")
    add(parser, "--json")
    add(parser, "--no-progress")


def add_export_arguments(parser: argparse.ArgumentParser, *, formats: tuple[str, ...], default: str) -> None:
    """Arguments of both exports."""
    add_model_arguments(parser)
    add(parser, "--output", "folder to make", required=True)
    add(
        parser,
        "--format",
        "for ONNX Runtime, OpenVINO or Paddle Inference (default: %(default)s)",
        choices=formats,
        default=default,
    )
    add(parser, "--force", "replace an exported model in DIR")
    add(parser, "--json")


def flags(args: argparse.Namespace, keys: Mapping[str, str]) -> dict[str, Any]:
    """Key of the configuration → value, of those flags in `keys` that were given."""
    return {key: getattr(args, flag) for flag, key in keys.items() if getattr(args, flag) is not None}


def training_places(args: argparse.Namespace) -> tuple[Path, Path]:
    """Configuration and output folder: typed, or those of the run to resume."""
    recipe, output = places_of_resume(args.resume, args.output)
    config: Path | None = args.config or recipe
    if config is None:
        raise ConfigError("no configuration is named: give --config FILE, or --resume a run's folder")
    return config_file(config, args.command), output or Path("runs") / config.stem


def config_of_model(args: argparse.Namespace) -> Path:
    """`--config`, or the recipe of the run in which `args.model` lies."""
    from cyclemlp.deploy import is_exported

    path: Path = args.config or run_folder(args.model) / RECIPE
    if is_exported(args.model):
        raise ConfigError(
            f"{args.model} is an exported model, which cyclemlp.Predictor and `cyclemlp serve` open; "
            f"`cyclemlp {args.command}` takes a run or its weights"
        )
    if args.config is None and not path.is_file():
        raise ConfigError(f"{args.model} does not lie in a run's folder: give --config FILE too")
    return config_file(path, args.command)


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
