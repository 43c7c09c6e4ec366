"""`cyclemlp seg ACTION`: semantic segmentation with PaddleSeg, from its own configurations."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli.common import (
    add_subcommands,
    choose_device,
    finite_number,
    message,
    output_folder,
    plain_warnings,
    print_json,
    whole_number,
    write_text,
)
from cyclemlp.cli.training import result_or_exit_code, speaker, typed_command
from cyclemlp.config import parse_assignments
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.report import format_table

if TYPE_CHECKING:
    from cyclemlp.dense.seg.check import PartReport
    from cyclemlp.dense.seg.config import SegConfig
    from cyclemlp.dense.seg.inference import Inference, Predictor
    from cyclemlp.training.distributed import World

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
  how good is its best model, and what does it see?
    cyclemlp seg eval --weights runs/mine
    cyclemlp seg predict photos/ --weights runs/mine --output seen
  images much larger than in training, by a sliding window:
    cyclemlp seg predict map.png --weights runs/mine --window 512
  for another program, with ONNX Runtime:
    cyclemlp seg export --weights runs/mine --output exported/
  for at most 20 minutes, with other values:
    cyclemlp seg train --config configs/seg/own_data.yaml --max-minutes 20 --set lr_scheduler.learning_rate=5e-4
  on 8 GPUs:
    python -m paddle.distributed.launch "$(command -v cyclemlp)" seg train \\
        --config configs/seg/semantic_fpn_cyclemlp_b1_ade20k.yaml --data ADEChallengeData2016
"""

ACTIONS = {
    "check": "look for mistakes in the data that a configuration names, and count its classes",
    "train": "train by PaddleSeg's own loop and leave a run's folder",
    "eval": "measure mean IoU and the IoU of each class",
    "predict": "segment images of any size: masks, and overlays with a legend",
    "export": "write a trained model for ONNX Runtime, OpenVINO or Paddle Inference, and compare its results",
}
#: Errors and warnings of `check` beyond this many are counted only; --json has all.
MOST_SHOWN = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `cyclemlp seg`."""
    parser.epilog = EPILOG
    for name, sub in add_subcommands(parser, ACTIONS, dest="action", metavar="ACTION", epilog=EPILOG):
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
    group.add_argument("--batch-size", type=whole_number(1), metavar="N", help="images a step on each device")
    group.add_argument("--lr", type=finite_number, metavar="RATE", help="highest learning rate")
    group.add_argument("--seed", type=whole_number(0), metavar="N", help="of everything random")
    group.add_argument("--workers", type=whole_number(0), metavar="N", help="processes that read images")
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


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON, with every finding")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="RUN|FILE",
        help="a run's folder (its best model) or a .pdparams",
    )
    _add_config(parser, required=False)


def _add_inference(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inference (default: as the configuration's test_config says)")
    group.add_argument(
        "--window",
        type=whole_number(1),
        nargs="+",
        metavar="PIXELS",
        help="slide a window of this side, or of this width and height, over the image",
    )
    group.add_argument(
        "--stride",
        type=whole_number(1),
        nargs="+",
        metavar="PIXELS",
        help="by how much it moves (default: two thirds of it)",
    )
    group.add_argument(
        "--scales", type=finite_number, nargs="+", metavar="S", help="look at the image at these scales"
    )
    group.add_argument("--flip", action="store_true", help="look at the mirrored image too")
    group.add_argument("--device", metavar="cpu|gpu|gpu:N", help="where to compute")
    group.add_argument("--no-progress", action="store_true", help="no progress bar")


def _add_eval(parser: argparse.ArgumentParser) -> None:
    _add_weights(parser)
    _add_inference(parser)
    parser.add_argument("--workers", type=whole_number(0), default=0, metavar="N", help="processes that read")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, all else on stderr")


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="what to segment")
    _add_weights(parser)
    _add_inference(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where masks/ and overlays/ go (default: predictions in the run's folder)",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read")
    parser.add_argument(
        "--json", action="store_true", help="print each image's class shares as JSON, all else on stderr"
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_weights(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--format",
        choices=("onnx", "openvino", "paddle"),
        default="onnx",
        help="for ONNX Runtime, OpenVINO or Paddle Inference (default: %(default)s)",
    )
    parser.add_argument(
        "--result",
        choices=("logits", "softmax", "argmax"),
        default="logits",
        help="what it gives for each pixel: K logits, K probabilities, or the class (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=whole_number(1),
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="for images of this size only (default: any size)",
    )
    parser.add_argument("--force", action="store_true", help="replace an exported model that is there")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


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
    from cyclemlp.run_lock import locked
    from cyclemlp.training.distributed import join

    world = join(args.device)
    choose_device(args.device)
    from cyclemlp.dense.seg.config import open_config

    config_path, output = _train_paths(args)
    flags = {key: getattr(args, flag) for flag, key in _TRAIN_KEYS.items() if getattr(args, flag) is not None}
    config = open_config(config_path, {**flags, **parse_assignments(args.set)}, data=args.data)
    with locked(output, world.is_first):
        return _train_into(output, config, world, args)


def _train_into(output: Path, config: SegConfig, world: World, args: argparse.Namespace) -> int:
    from cyclemlp.dense.seg import run_folder
    from cyclemlp.dense.seg.training import train

    say = speaker(args.json, is_first=world.is_first)
    checkpoint, here = None, False
    if world.is_first:
        checkpoint = run_folder.find_checkpoint(args.resume, output) if args.resume else None
        here = checkpoint is not None and checkpoint.parent.resolve() == output.resolve()
        run_folder.require_free(output, resumes=here, auto=args.resume == "auto", force=args.force)

    def prepare() -> None:
        run_folder.prepare(output, resumes=here)
        write_text(output / run_folder.CONFIG, config.to_yaml())

    checkpoint = world.from_first(checkpoint)
    if checkpoint is not None:
        say(f"going on from {checkpoint}")
    # What a backbone prints of its weights must not stand beside the JSON.
    out = contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext()
    with out:
        result = result_or_exit_code(
            "cyclemlp seg train",
            lambda: train(
                config,
                output,
                world,
                prepare=prepare,
                checkpoint=checkpoint,
                max_minutes=args.max_minutes,
                evaluate=not args.no_eval,
                show_progress=world.is_first and not args.no_progress,
                command=_command(args),
                say=say,
            ),
            output,
            go_on=f"go on with: cyclemlp seg train --resume {shlex.quote(str(output))}",
        )
    if isinstance(result, int):
        return result
    if world.is_first and args.json:
        figures = {"step": result.step, "reason": result.reason, "train_seconds": result.train_seconds}
        best = {"mean_iou": result.mean_iou, "best_step": result.best_step}
        print_json({"output": str(output), **figures, **best})
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
    last = ("set", "max_minutes", "no_eval", "device", "output", "resume")
    return typed_command(["cyclemlp", "seg", args.action], args, ("config", "data", *_TRAIN_KEYS, *last))


# ---- check


def _check(args: argparse.Namespace) -> int:
    from cyclemlp.dense.seg.check import check
    from cyclemlp.dense.seg.config import open_config

    config = open_config(args.config, parse_assignments(args.set), data=args.data)
    classes = config.class_names()
    reports = check(config, show_progress=not args.no_progress)
    errors = [error for report in reports for error in report.errors]
    if args.json:
        print_json({report.name: report.to_dict(classes) for report in reports}, indent=1)
    else:
        for report in reports:
            print(_check_text(report, classes))
        _print_some("error", errors)
        _print_some("warning", [warning for report in reports for warning in report.warnings])
        print(f"{len(errors)} errors" if errors else "no errors: the data are as the configuration says")
    return 1 if errors else 0


def _check_text(report: PartReport, classes: list[str]) -> str:
    facts = report.to_dict(classes)
    rows = [[row["name"], f"{100 * row['pixel_share']:.2f}", row["images"]] for row in facts["classes"]]
    widths, heights = [size[0] for size in report.sizes], [size[1] for size in report.sizes]
    sizes = f", {min(widths)}×{min(heights)} to {max(widths)}×{max(heights)} pixels" if widths else ""
    head = f"{report.name} ({report.source}): {report.images} good pairs{sizes}"
    rows.append(["(ignored)", f"{100 * facts['ignored_share']:.2f}", None])
    return f"{head}\n{format_table(['class', '% of pixels', 'images'], rows)}\n"


def _print_some(kind: str, findings: list[str]) -> None:
    for finding in findings[:MOST_SHOWN]:
        print(f"{kind}: {finding}")
    if len(findings) > MOST_SHOWN:
        print(f"… and {len(findings) - MOST_SHOWN} more {kind}s (--json prints all)")


# ---- eval and predict


def _open(args: argparse.Namespace) -> tuple[SegConfig, Inference]:
    """The configuration, typed or the run's own, and how images go through the model."""
    choose_device(args.device)
    from cyclemlp.dense.seg.inference import Inference

    config = _config_of_weights(args)
    how = Inference.from_config(config)
    if args.window is not None or args.stride is not None:
        how = replace(how, window=_pair("--window", args.window), stride=_pair("--stride", args.stride))
    if args.scales is not None:
        how = replace(how, scales=tuple(args.scales))
    return config, replace(how, flip=how.flip or args.flip)


def _config_of_weights(args: argparse.Namespace) -> SegConfig:
    from cyclemlp.dense.seg import run_folder
    from cyclemlp.dense.seg.config import open_config

    path, run = args.config, run_folder.run_of(args.weights)
    if path is None:
        if run is None:
            raise ConfigError(f"{args.weights} does not lie in a run's folder: give --config FILE too")
        path = run / run_folder.CONFIG
    return open_config(path, parse_assignments(args.set), data=args.data)


def _pair(option: str, values: list[int] | None) -> tuple[int, int] | None:
    if values is None:
        return None
    if len(values) > 2:
        raise ConfigError(f"{option} has {len(values)} numbers; give a side, or a width and a height")
    return values[0], values[-1]


def _eval(args: argparse.Namespace) -> int:
    config, how = _open(args)
    from cyclemlp.dense.seg.inference import evaluate

    say = speaker(args.json)
    result = evaluate(
        config, args.weights, how, workers=args.workers, show_progress=not args.no_progress, say=say
    )
    classes = config.class_names()
    figures = result.to_dict(classes)
    if result.absent:
        present = result.class_iou[result.class_pixels > 0].mean()
        absent = ", ".join(classes[k] for k in result.absent)
        say(
            f"no label has {absent}; PaddleSeg counts them in the mean IoU, which without them is "
            f"{100 * present:.2f} %"
        )
    if args.json:
        print_json({**figures, "inference": str(how), "weights": str(args.weights)})
        return 0
    rows = [
        [row["name"], *(f"{100 * row[key]:.2f}" for key in ("iou", "precision", "recall")), row["pixels"]]
        for row in figures["classes"]
    ]
    print(format_table(["class", "IoU %", "precision %", "recall %", "pixels in the labels"], rows))
    print(
        f"mean IoU {100 * result.mean_iou:.2f} %, pixel accuracy {100 * result.pixel_accuracy:.2f} %, "
        f"kappa {result.kappa:.4f}, of {result.images} images; {how}"
    )
    return 0


def _predict(args: argparse.Namespace) -> int:
    config, how = _open(args)
    from cyclemlp.data import ImageFiles
    from cyclemlp.dense.seg import run_folder
    from cyclemlp.dense.seg.inference import Predictor
    from cyclemlp.report import progress

    say, run = speaker(args.json), run_folder.run_of(args.weights)
    output = output_folder(args.output or (run or Path()) / run_folder.PREDICTIONS)
    assert output is not None
    files = ImageFiles(args.images)
    paths = [Path(files.name(index)) for index in range(len(files))]
    names = _output_names(paths, args.images)
    predict = Predictor(config, args.weights, how, say=say)
    results, bad = [], 0
    for path, name in zip(
        progress(paths, desc="predict", unit="img", disable=args.no_progress), names, strict=True
    ):
        try:
            results.append(_predict_one(predict, path, output, name))
        except DataError as error:
            if not args.skip_bad:
                raise
            message(f"cyclemlp seg predict: skipped {error}")
            bad += 1
    if args.json:
        print_json({"classes": predict.classes, "predictions": results})
    say(f"{len(results)} images: masks (a palette PNG whose values are the classes) and overlays in {output}")
    return 1 if bad else 0


def _predict_one(predict: Predictor, path: Path, output: Path, name: Path) -> dict[str, Any]:
    """Write the mask and the overlay of an image; its class shares as JSON values."""
    import numpy as np
    from PIL import Image

    from cyclemlp.dense.images import read_image
    from cyclemlp.report import class_colour, overlay_masks

    mask = predict(path)
    places = {kind: output / f"{kind}s" / name for kind in ("mask", "overlay")}
    for place in places.values():
        place.parent.mkdir(parents=True, exist_ok=True)
    drawn = Image.fromarray(mask)
    if mask.dtype == np.uint8:
        drawn.putpalette([part for index in range(256) for part in class_colour(index)])
    drawn.save(places["mask"])
    overlay_masks(read_image(path), mask, predict.classes, ignore=None).save(places["overlay"])
    counts = np.bincount(mask.ravel(), minlength=len(predict.classes)) / mask.size
    shares = {label: float(share) for label, share in zip(predict.classes, counts, strict=True) if share}
    return {"image": str(path), **{kind: str(place) for kind, place in places.items()}, "shares": shares}


def _output_names(paths: list[Path], given: list[Path]) -> list[Path]:
    """A PNG's name for each image: as below the folder that was given, made different where two are the same."""
    folders = [folder for folder in given if folder.is_dir()]
    names: list[Path] = []
    for path in paths:
        folder = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
        name = path.relative_to(folder)
        stems = (name.with_suffix(".png"), name.with_name(f"{name.name}.png"))
        free = next((stem for stem in stems if stem not in names), None)
        if free is None:
            raise ConfigError(f"two images would get the name {stems[1]}: segment them in two commands")
        names.append(free)
    return names


# ---- export


def _export(args: argparse.Namespace) -> int:
    from cyclemlp.dense.seg.export import export

    choose_device("cpu")  # where the results are compared
    say = speaker(args.json)
    difference = export(
        _config_of_weights(args),
        args.weights,
        args.output,
        args.format,
        result=args.result,
        size=None if args.size is None else tuple(args.size),
        force=args.force,
        say=say,
    )
    if args.json:
        print_json({"output": str(args.output), "format": args.format, "difference": difference})
    what = "share of pixels of another class than" if args.result == "argmax" else "largest difference from"
    say(f"{args.output}: {what} PaddleSeg's own result: {difference:.2g}")
    return 0


_ARGUMENTS = {
    "check": _add_check,
    "train": _add_train,
    "eval": _add_eval,
    "predict": _add_predict,
    "export": _add_export,
}
_RUN = {"check": _check, "train": _train, "eval": _eval, "predict": _predict, "export": _export}
