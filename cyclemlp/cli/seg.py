"""`cyclemlp seg ACTION`: semantic segmentation with PaddleSeg, from its own configurations."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import dense
from cyclemlp.cli.common import SKIP_BAD, choose_device, config_file, message, plain_warnings, print_json
from cyclemlp.cli.options import add, add_subcommands, whole_number
from cyclemlp.cli.training import result_or_exit_code, speaker, typed_command
from cyclemlp.config import parse_assignments
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.report import format_table
from cyclemlp.text import counted

if TYPE_CHECKING:
    import numpy as np

    from cyclemlp.dense.seg.check import PartReport
    from cyclemlp.dense.seg.config import SegConfig
    from cyclemlp.dense.seg.inference import Inference
    from cyclemlp.predictor import Predictor

EPILOG = """
a configuration is PaddleSeg's own YAML, with two keys of ours beside its own: `classes` (names) and `run` (how often
to save, to log, …); configs/seg/ has those of the paper and one to copy for your own data. --set overrides any key.

the output folder holds recipe.yaml (the resolved configuration), log.jsonl, checkpoints/ (to go on from),
best.pdparams, curves.png and a README.md.

examples:
  are the data as the configuration says?
    cyclemlp seg check --config configs/seg/own_data.yaml
  train, and go on after an interruption:
    cyclemlp seg train --config configs/seg/own_data.yaml --output runs/mine
    cyclemlp seg train --resume runs/mine
  how good is its best model, and what does it see?
    cyclemlp seg eval runs/mine
    cyclemlp seg predict runs/mine photos/ --output seen
  images much larger than in training, by a sliding window:
    cyclemlp seg predict runs/mine map.png --window 512
  for another program, with ONNX Runtime; what is exported is applied and measured too:
    cyclemlp seg export runs/mine --output exported/mine
    cyclemlp seg predict exported/mine photos/ --output seen
    cyclemlp seg eval exported/mine --config runs/mine/recipe.yaml
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
#: What writes exported models, for messages.
EXPORTER = "cyclemlp seg export"
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


def _add_train(parser: argparse.ArgumentParser) -> None:
    group = dense.add_train_arguments(parser)
    add(group, "--iters", "steps, and of the schedule")
    add(group, "--save-interval", "steps between evaluations with a checkpoint")
    add(group, "--log-iters", "steps between lines of the log")
    add(
        group,
        "--class-weights",
        "how much the pixels of each class count in the cross entropy: balanced, by the inverse of their number in the "
        "training masks, which are counted once; or a number for each class, such as 0.3,1,1",
        metavar="balanced|W,W,…",
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    dense.add_config_arguments(parser)
    add(parser, "--json")
    add(parser, "--no-progress")


def _add_inference(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inference (default: as the configuration's test_config says)")
    add(group, "--window", "slide a window of this side, or of this width and height, over the image")
    add(group, "--stride", "by how much it moves (default: two thirds of it)")
    add(group, "--scales", "look at the image at these scales")
    add(group, "--flip", "look at the mirrored image too")


def _add_eval(parser: argparse.ArgumentParser) -> None:
    dense.add_eval_arguments(parser, exporter=EXPORTER)
    _add_inference(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    dense.add_predict_arguments(parser, what="masks/ and overlays/", exporter=EXPORTER)
    _add_inference(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    dense.add_export_arguments(parser, formats=("onnx", "openvino", "paddle"), default="onnx")
    add(
        parser,
        "--result",
        "what it gives for each pixel: K logits, K probabilities, or the class (default: %(default)s)",
        choices=("logits", "softmax", "argmax"),
        default="logits",
    )
    add(
        parser,
        "--size",
        "for images of this size only (default: any size)",
        type=whole_number(1),
        metavar=("HEIGHT", "WIDTH"),
        nargs=2,
    )


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
    from cyclemlp.dense.seg.config import open_config
    from cyclemlp.dense.seg.training import train

    path, output = dense.training_places(args)
    overrides = {**dense.flags(args, _TRAIN_KEYS), **parse_assignments(args.set)}
    config, say = (
        open_config(path, overrides, data=args.data),
        speaker(args.json, is_first=world.is_first),
    )
    if args.class_weights is not None:
        from cyclemlp.dense.seg.weighting import parse_weights, set_weights

        if given := [key for key in parse_assignments(args.set) if key.endswith(".weight")]:
            raise ConfigError(f"both --class-weights and --set {given[0]}= are given; give one of them")
        set_weights(config, parse_weights(args.class_weights))
    words = (
        "config",
        "data",
        *_TRAIN_KEYS,
        "class_weights",
        "set",
        "max_minutes",
        "patience",
        "no_eval",
        "device",
        "output",
        "resume",
    )
    # What a backbone prints of its weights must not stand beside the JSON.
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
        result = result_or_exit_code(
            "cyclemlp seg train",
            lambda: train(
                config,
                output,
                world,
                resume=args.resume,
                force=args.force,
                max_minutes=args.max_minutes,
                patience=args.patience,
                evaluate=not args.no_eval,
                show_progress=not args.no_progress,
                command=typed_command(["cyclemlp", "seg", "train"], args, words),
                say=say,
            ),
            output,
        )
    if isinstance(result, int):
        return result
    if world.is_first and args.json:
        print_json({**vars(result), "output": str(output)})
    elif result.mean_iou is not None:
        say(
            f"best mean IoU: {100 * result.mean_iou:.2f} % at step {result.best_step}; everything is in {output}"
        )
    else:
        say(f"done; everything is in {output}")
    return 0


# ---- check


def _check(args: argparse.Namespace) -> int:
    from cyclemlp.dense.seg.check import check
    from cyclemlp.dense.seg.config import open_config

    config = open_config(config_file(args.config, args.command), parse_assignments(args.set), data=args.data)
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
        print(
            counted(len(errors), "error") if errors else "no errors: the data are as the configuration says"
        )
    return 1 if errors else 0


def _check_text(report: PartReport, classes: list[str]) -> str:
    facts = report.to_dict(classes)
    rows = [[row["name"], f"{100 * row['pixel_share']:.2f}", row["images"]] for row in facts["classes"]]
    widths, heights = [size[0] for size in report.sizes], [size[1] for size in report.sizes]
    sizes = f", {min(widths)}×{min(heights)} to {max(widths)}×{max(heights)} pixels" if widths else ""
    head = f"{report.name} ({report.source}): {counted(report.images, 'good pair')}{sizes}"
    rows.append(["(ignored)", f"{100 * facts['ignored_share']:.2f}", None])
    return f"{head}\n{format_table(['class', '% of pixels', 'images'], rows)}\n{_imbalance_text(report, classes)}"


def _imbalance_text(report: PartReport, classes: list[str]) -> str:
    from cyclemlp.data.check import IMBALANCE

    if report.imbalance is None:
        return ""
    ratio, most, least = report.imbalance
    hint = ""
    if ratio >= IMBALANCE and report.name == "train_dataset":
        hint = "; `cyclemlp seg train --class-weights balanced` weights the loss by it"
    return f"{classes[most]} has {ratio:,.1f} times as many pixels as {classes[least]}{hint}\n"


def _print_some(kind: str, findings: list[str]) -> None:
    for finding in findings[:MOST_SHOWN]:
        print(f"{kind}: {finding}")
    if len(findings) > MOST_SHOWN:
        print(f"… and {counted(len(findings) - MOST_SHOWN, f'more {kind}')} (--json prints all)")


# ---- eval and predict


def _open(args: argparse.Namespace) -> tuple[SegConfig, Inference]:
    """The configuration, typed or the run's own, and how images go through the model."""
    choose_device(args.device)
    from cyclemlp.dense.seg.inference import Inference

    config = _config(args)
    how = Inference.from_config(config)
    if args.window is not None or args.stride is not None:
        how = replace(how, window=_pair("--window", args.window), stride=_pair("--stride", args.stride))
    if args.scales is not None:
        how = replace(how, scales=tuple(args.scales))
    return config, replace(how, flip=how.flip or args.flip)


def _config(args: argparse.Namespace) -> SegConfig:
    from cyclemlp.dense.seg.config import open_config

    return open_config(dense.config_of_model(args), parse_assignments(args.set), data=args.data)


def _pair(option: str, values: list[int] | None) -> tuple[int, int] | None:
    if values is None:
        return None
    if len(values) > 2:
        raise ConfigError(
            f"{option} has {counted(len(values), 'number')}; give a side, or a width and a height"
        )
    return values[0], values[-1]


def _eval(args: argparse.Namespace) -> int:
    say, exported = speaker(args.json), dense.open_exported(args, predicts=False)
    facts: dict[str, Any]
    if exported is None:
        config, how = _open(args)
        from cyclemlp.dense.seg.inference import evaluate
        from cyclemlp.run import find_weights

        weights = find_weights(args.model)
        result = evaluate(
            config, weights, how, workers=args.workers or 0, show_progress=not args.no_progress, say=say
        )
        facts = {"inference": str(how), "weights": str(weights)}
    else:
        from cyclemlp.dense.seg.inference import Inference, evaluate_exported

        config, how = _config(args), Inference()
        dense.require_same_names(args, exported, config.class_names())
        say(dense.exported_words(args, exported))
        result = evaluate_exported(
            config, lambda path: _exported_mask(exported, path), show_progress=not args.no_progress
        )
        facts = {"inference": str(how), "weights": str(args.model)}
        facts |= {"runtime": exported.runtime, "precision": exported.precision}
    classes = config.class_names()
    figures = {**result.to_dict(classes), **facts}
    dense.write_figures(args, figures)
    if result.absent:
        present = result.class_iou[result.class_pixels > 0].mean()
        absent = ", ".join(classes[k] for k in result.absent)
        say(
            f"no label has {absent}; PaddleSeg counts them in the mean IoU, which without them is "
            f"{100 * present:.2f} %"
        )
    if args.json:
        print_json(figures)
        return 0
    rows = [
        [row["name"], *(f"{100 * row[key]:.2f}" for key in ("iou", "precision", "recall")), row["pixels"]]
        for row in figures["classes"]
    ]
    print(format_table(["class", "IoU %", "precision %", "recall %", "pixels in the labels"], rows))
    print(
        f"mean IoU {100 * result.mean_iou:.2f} %, pixel accuracy {100 * result.pixel_accuracy:.2f} %, "
        f"kappa {result.kappa:.4f}, of {counted(result.images, 'image')}; {how}"
    )
    return 0


def _predict(args: argparse.Namespace) -> int:
    say, exported = speaker(args.json), dense.open_exported(args, predicts=True)
    opened = _open(args) if exported is None else None
    from cyclemlp.data import ImageFiles
    from cyclemlp.report import progress

    output = dense.predictions_folder(args)
    files = ImageFiles(args.images)
    paths = [Path(files.name(index)) for index in range(len(files))]
    names = _output_names(paths, args.images)
    predict, classes = _segmenter(args, exported, opened, say)
    results, bad = [], 0
    for path, name in zip(
        progress(paths, desc="predict", unit="img", disable=args.no_progress), names, strict=True
    ):
        try:
            results.append(_predict_one(predict, classes, path, output, name))
        except DataError as error:
            if not args.skip_bad:
                raise DataError(f"{error}; {SKIP_BAD}") from error
            message(f"cyclemlp seg predict: skipped {error}")
            bad += 1
    if args.json:
        print_json({"classes": classes, "predictions": results})
    say(
        f"{counted(len(results), 'image')}: masks (a palette PNG whose values are the classes) and overlays in {output}"
    )
    return 1 if bad else 0


def _segmenter(
    args: argparse.Namespace,
    exported: Predictor | None,
    opened: tuple[SegConfig, Inference] | None,
    say: Callable[[str], None],
) -> tuple[Callable[[Path], np.ndarray], list[str]]:
    """What gives the class of each pixel of an image file, uint8 or uint16 [H, W]; the names of the classes."""
    if exported is not None:
        say(dense.exported_words(args, exported))
        return lambda path: _exported_mask(exported, path), exported.classes or []
    assert opened is not None
    from cyclemlp.dense.seg.inference import Predictor

    predict = Predictor(opened[0], args.model, opened[1], say=say)
    return predict, predict.classes


def _exported_mask(exported: Predictor, path: Path) -> np.ndarray:
    """The class of each pixel of an image file, uint8 [H, W]; an exported model has at most 256 classes here."""
    import numpy as np

    from cyclemlp.dense.images import read_image

    mask = exported(np.asarray(read_image(path))).mask
    assert mask is not None
    return mask.astype(np.uint8)


def _predict_one(
    predict: Callable[[Path], np.ndarray], classes: list[str], path: Path, output: Path, name: Path
) -> dict[str, Any]:
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
    overlay_masks(read_image(path), mask, classes, ignore=None).save(places["overlay"])
    counts = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
    shares = {label: float(share) for label, share in zip(classes, counts, strict=True) if share}
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
    dense.refuse_exported(args)
    from cyclemlp.dense.seg.export import export

    choose_device("cpu")  # where the results are compared
    say = speaker(args.json)
    difference = export(
        _config(args),
        args.model,
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
