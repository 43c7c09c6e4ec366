"""What `cyclemlp seg` and `cyclemlp det` have in common: their arguments, and the run that a path belongs to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli.common import config_file, output_folder
from cyclemlp.cli.options import add, add_run_arguments, add_runtime_arguments
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.run import PREDICTIONS, RECIPE, places_of_resume, run_folder
from cyclemlp.text import listed

if TYPE_CHECKING:
    from cyclemlp.predictor import Predictor

#: Class names that a message shows.
MOST_NAMES = 8

#: Command → the tasks of the models that it exports, and what they are called.
_TASKS = {
    "seg": (("segmentation",), "segmentation models"),
    "det": (("detection", "instance segmentation"), "detectors"),
}
_HELD = "an exported model holds its classes and its preparation of images"
_WHOLE = "an exported model takes the whole image once"
#: Options of a run that an exported model has no use for, with the reason.
_OF_A_RUN = {
    "window": _WHOLE,
    "stride": _WHOLE,
    "scales": _WHOLE,
    "flip": _WHOLE,
    "device": "an exported model runs on the processor, see --runtime, --precision and --threads",
}
_OF_ITS_PREDICTION = {"config": _HELD, "data": _HELD, "set": _HELD}
_OF_ITS_EVALUATION = {"workers": "the images for an exported model are read one after the other"}


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


def add_model_arguments(parser: argparse.ArgumentParser, *, exporter: str | None = None) -> None:
    """`model`, and the configuration where that is no run's.

    Args:
        exporter: the command whose exported models are taken too, with `--runtime`, `--precision` and `--threads`.
    """
    exported = f"; or what `{exporter}` wrote" if exporter else ""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a run's folder (its best model, else its newest checkpoint), a checkpoint_… in it, or a .pdparams file"
        + exported,
    )
    add_config_arguments(parser, default="the recipe of the run in which MODEL lies")
    if exporter is not None:
        add_runtime_arguments(parser, exporter=exporter)


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


def add_eval_arguments(parser: argparse.ArgumentParser, *, exporter: str) -> None:
    """Arguments of both evaluations, `--output` among them; `exporter` as for `add_model_arguments`."""
    add_model_arguments(parser, exporter=exporter)
    add(parser, "--output", "write the figures to DIR/eval.json")
    add(parser, "--workers", "processes that read images")
    add(parser, "--device")
    add(parser, "--json")
    add(parser, "--no-progress")


def add_predict_arguments(parser: argparse.ArgumentParser, *, what: str, exporter: str) -> None:
    """Arguments of both predictions; `what` goes into `--output`, `exporter` is as for `add_model_arguments`."""
    add_model_arguments(parser, exporter=exporter)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="image files of any size, and folders"
    )
    add(
        parser,
        "--output",
        f"where {what} go (default: {PREDICTIONS}/ in the run's folder, else in the current one)",
    )
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


def open_exported(
    args: argparse.Namespace, *, predicts: bool, threshold: float | None = None
) -> Predictor | None:
    """The exported model that `args.model` is; None for a run or weights.

    Args:
        predicts: for prediction, which needs no configuration; else for evaluation.
        threshold: of a detector, see `Predictor`.

    Raises:
        ConfigError: it is a model of another command; an option does not go with what `args.model` is.
        ExportError, MissingDependencyError: from opening it.
    """
    from cyclemlp.deploy import is_exported

    tasks, title = _TASKS[args.command]
    if not is_exported(args.model):
        for option in ("runtime", "precision", "threads"):
            if getattr(args, option) is not None:
                raise ConfigError(
                    f"--{option} is for what `cyclemlp {args.command} export` wrote; {args.model} runs in Paddle"
                )
        return None
    from cyclemlp.predictor import Predictor

    for option, reason in {**_OF_A_RUN, **(_OF_ITS_PREDICTION if predicts else _OF_ITS_EVALUATION)}.items():
        if getattr(args, option, None) not in (None, False, []):
            raise ConfigError(f"--{option} is not for an exported model such as {args.model}: {reason}")
    if not predicts and args.config is None:
        raise ConfigError(
            f"{args.model} is an exported model, which does not hold the data to measure it on: give --config FILE, "
            f"such as {RECIPE} in the folder of its run"
        )
    predictor = Predictor(args.model, runtime=args.runtime, precision=args.precision, threads=args.threads)
    if predictor.task not in tasks:
        raise ConfigError(
            f"{args.model} is an exported model for {predictor.task}, and `cyclemlp {args.command}` takes {title}; use "
            f"{_command_of(predictor.task)} with it"
        )
    if threshold is not None:
        predictor.threshold = threshold
    return predictor


def _command_of(task: str) -> str:
    """The command for models of a task."""
    own = [command for command, (tasks, _) in _TASKS.items() if task in tasks]
    return f"`cyclemlp {own[0]}`" if own else "`cyclemlp predict` and `cyclemlp eval`"


def exported_words(args: argparse.Namespace, predictor: Predictor) -> str:
    """What an exported model is, in a line."""
    return f"model: {predictor.metadata.model} in {args.model}, {predictor.runtime} in {predictor.precision}"


def require_same_names(args: argparse.Namespace, predictor: Predictor, names: Sequence[str]) -> None:
    """Raise ConfigError if an exported model's classes are not those of the data, in the same order."""
    own = predictor.classes or []
    if list(names) != own:
        raise ConfigError(
            f"{args.model} has the classes {listed(own, MOST_NAMES)}, and the data of {args.config} have "
            f"{listed(list(names), MOST_NAMES)}: give the configuration of its run, or data with these classes in this "
            "order"
        )


def refuse_exported(args: argparse.Namespace) -> None:
    """Raise ConfigError if `args.model` is exported already."""
    from cyclemlp.deploy import is_exported

    if is_exported(args.model):
        raise ConfigError(
            f"{args.model} is an exported model already; `cyclemlp {args.command} export` takes a run or its weights"
        )


def config_of_model(args: argparse.Namespace) -> Path:
    """`--config`, or the recipe of the run in which `args.model` lies."""
    path: Path = args.config or run_folder(args.model) / RECIPE
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
