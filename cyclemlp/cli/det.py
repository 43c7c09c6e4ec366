"""`cyclemlp det check|train|eval|predict|export`: detection and instance segmentation by PaddleDetection."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclemlp.cli.common import (
    add_subcommands,
    choose_device,
    finite_number,
    output_folder,
    plain_warnings,
    print_json,
    whole_number,
)
from cyclemlp.cli.training import result_or_exit_code, speaker
from cyclemlp.errors import ConfigError
from cyclemlp.report import Progress, format_table, progress
from cyclemlp.text import printable

#: Of the errors of one file, so many are shown unless all are asked for.
MOST_SHOWN = 20

EPILOG = """examples:
  cyclemlp det check   --config configs/det/bccd.yaml
  cyclemlp det train   --config configs/det/bccd.yaml --output runs/bccd
  cyclemlp det train   --config configs/det/bccd.yaml --output runs/bccd --resume
  cyclemlp det eval    --weights runs/bccd
  cyclemlp det predict --weights runs/bccd IMAGE_OR_FOLDER… --output runs/bccd/predictions
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
    summaries = {name: summary for name, (summary, _, _) in COMMANDS.items()}
    for name, sub in add_subcommands(parser, summaries, dest="det_command", metavar="COMMAND"):
        COMMANDS[name][1](sub)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says and return the exit code: 1 where the work failed or `check` found errors, 2 where
    what was asked is wrong."""
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


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder of the data set: dataset_dir of TrainDataset, EvalDataset and TestDataset",
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
    _add_data(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME OF THE CONFIG)"
    )
    parser.add_argument(
        "--epochs",
        type=whole_number(1),
        metavar="N",
        help="passes over the images; the learning-rate schedule is stretched to them",
    )
    parser.add_argument(
        "--max-minutes",
        type=finite_number,
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


def _add_eval(parser: argparse.ArgumentParser) -> None:
    _add_weights(parser)
    _add_data(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="for bbox.json, mask.json (default: beside the weights)"
    )
    _add_device(parser)
    _add_reporting(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE|FOLDER", help="image files of any size, and folders"
    )
    _add_weights(parser)
    parser.set_defaults(data=None)
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: predictions/ beside the weights")
    parser.add_argument(
        "--threshold",
        type=finite_number,
        default=0.3,
        metavar="SCORE",
        help="objects of a lower score are left out (default: %(default)s)",
    )
    parser.add_argument("--no-images", action="store_true", help="write predictions.json and .csv only")
    _add_device(parser)
    _add_reporting(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_config(parser, required=True)
    _add_data(parser)
    parser.add_argument("--all", action="store_true", help=f"show every error, not {MOST_SHOWN} of a file")
    parser.add_argument(
        "--quick", action="store_true", help="do not decode the images, see only whether they are there"
    )
    parser.add_argument(
        "--sample",
        type=whole_number(1),
        metavar="N",
        help="draw N images of each data set with their objects",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="for these (default: runs/NAME OF THE CONFIG_samples)"
    )
    _add_reporting(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_weights(parser)
    parser.set_defaults(data=None)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--format",
        choices=("paddle", "onnx"),
        default="paddle",
        help="for Paddle Inference, or for ONNX Runtime and others, of RetinaNet (default: %(default)s)",
    )
    parser.add_argument(
        "--no-nms",
        action="store_true",
        help="of onnx: all candidates with their scores, without non-maximum suppression",
    )
    parser.add_argument("--force", action="store_true", help="replace an exported detector that is there")


def _add_reporting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, all else on stderr")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


# ---- commands


def _train(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.engine import engine
    from cyclemlp.dense.det.train import Result, in_words, train
    from cyclemlp.run_lock import locked
    from cyclemlp.training.distributed import faults_told_apart, join

    if args.max_minutes is not None and not args.max_minutes > 0:
        raise ConfigError(f"--max-minutes is {args.max_minutes}; give a number above 0")
    config = _config(args, epochs=args.epochs)
    output = args.output or Path("runs") / args.config.stem
    world = join(args.device)
    device = choose_device(args.device)

    say = speaker(args.json, is_first=world.is_first)

    def work() -> Result:
        with faults_told_apart(), locked(output, world.is_first), engine(say):
            return train(
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

    result = result_or_exit_code(
        "cyclemlp det train", work, output, go_on="go on with the same command and --resume"
    )
    if isinstance(result, int):
        return result
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
        print_json(figures)
    elif result.best:
        say(f"best: {in_words(result.best)} after epoch {result.best_epoch}; everything is in {output}")
    else:
        say(f"done; everything is in {output}")
    return 0


def _eval(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.check import require_usable
    from cyclemlp.dense.det.engine import Evaluation, engine, find_weights
    from cyclemlp.dense.det.predict import Detector

    config, weights = _config(args), find_weights(args.weights)
    device = choose_device(args.device)
    require_usable(config, ["EvalDataset"], say=_say())
    output = output_folder(args.output or weights.parent)
    assert output is not None
    with engine(_say()):
        detector = Detector(config, weights, device=device)
        evaluation = Evaluation(config, output)
        with _bar(args, "evaluation", len(evaluation), "batch") as bar:
            figures = evaluation(detector.trainer, on_batch=lambda: bar.update(1))
    if args.json:
        content = {
            "weights": str(weights),
            "images": figures.images,
            **figures.values,
            "per_class": figures.per_class,
        }
        print_json(content)
        return 0
    kinds = [kind for kind in ("bbox", "mask") if f"{kind}_ap" in figures.values]
    columns = [f"{kind}_{name}" for kind in kinds for name in ("ap", "ap50")]
    rows = [[name, *(row[c] for c in ("objects", *columns))] for name, row in figures.per_class.items()]
    rows.append(["all", figures.objects, *(figures.values[c] for c in columns)])
    print(format_table(["class", "objects", *(c.replace("_", " ") for c in columns)], rows))
    others = [(k.replace("_", " "), v) for k, v in figures.values.items() if k not in columns]
    print("\n" + format_table(["figure", "value"], others))
    print(
        f"\n{figures.images} images; every find is in {output}/bbox.json"
        + (" and mask.json" if "mask" in kinds else "")
    )
    return 0


def _predict(args: argparse.Namespace) -> int:
    from cyclemlp.data import ImageFiles
    from cyclemlp.dense.det.engine import engine, find_categories, find_weights
    from cyclemlp.dense.det.predict import Detector, predict_files

    if not 0 <= args.threshold <= 1:
        raise ConfigError(f"--threshold is {args.threshold}; give a score from 0 to 1")
    config, weights = _config(args), find_weights(args.weights)
    categories = find_categories(config, weights)
    images = ImageFiles(args.images)
    device = choose_device(args.device)
    output = output_folder(args.output or weights.parent / "predictions")
    assert output is not None
    with engine(_say()):
        detector = Detector(config, weights, device=device)
        with _bar(args, "predict", len(images), "image") as bar:
            counts = predict_files(
                detector,
                categories,
                [images.path(i) for i in range(len(images))],
                output,
                threshold=args.threshold,
                draw=not args.no_images,
                on_file=lambda: bar.update(1),
            )
    if args.json:
        print_json({"output": str(output), "images": len(images), "objects": counts})
    else:
        print(format_table(["class", "objects"], list(counts.items())))
        print(f"\n{len(images)} images, {sum(counts.values())} objects; everything is in {output}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.check import check, count_images, draw_samples

    config = _config(args)
    with _bar(args, "check", count_images(config), "image") as bar:
        reports = check(config, pixels=not args.quick, on_image=lambda: bar.update(1))
    faults = [fault for report in reports for fault in report.faults]
    drawn, folder = [], None
    if args.sample and all(fault.tolerable for fault in faults):
        folder = output_folder(args.output or Path("runs") / f"{config.path.stem}_samples")
        assert folder is not None
        drawn = draw_samples(config, args.sample, folder)
    if args.json:
        found = [report.to_dict() for report in reports]
        print_json(found)
        return 1 if faults else 0
    for report in reports:
        counts = sum(report.objects.values())
        print(
            f"{report.key}: {report.file}: {report.images} images, {counts} objects, {report.crowds} crowds"
        )
        rows = [(printable(name, lines=False), count) for name, count in report.objects.most_common()]
        print(format_table(["class", "objects"], rows) + "\n")
        for warning in report.warnings:
            print(f"warning: {warning}")
        shown = report.errors if args.all else report.errors[:MOST_SHOWN]
        for error in shown:
            print(f"error: {error}", file=sys.stderr)
        if len(report.errors) > len(shown):
            print(f"error: … and {len(report.errors) - len(shown)} more; --all shows them", file=sys.stderr)
    if drawn:
        print(f"{len(drawn)} images with their objects drawn in: {folder}")
    if faults:
        print(f"cyclemlp det check: {len(faults)} errors", file=sys.stderr)
        if args.sample and not drawn:
            print("no sample was drawn: mend the errors first", file=sys.stderr)
        return 1
    print("no errors")
    return 0


def _export(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.engine import engine, find_categories, find_weights
    from cyclemlp.dense.det.export import export

    config, weights = _config(args), find_weights(args.weights)
    categories = find_categories(config, weights)
    with engine(_say()):
        export(config, weights, categories, args.output, args.format, nms=not args.no_nms, force=args.force)
    print(
        f"{config.architecture} in {args.output}: " + ", ".join(sorted(p.name for p in args.output.iterdir()))
    )
    return 0


def _bar(args: argparse.Namespace, what: str, total: int, unit: str) -> Progress[Any]:
    return progress(desc=what, total=total, unit=unit, disable=args.no_progress, leave=False)


def _say() -> Callable[[str], None]:
    """What is not the result: on stderr."""
    return lambda text: print(text, file=sys.stderr, flush=True)


def _config(args: argparse.Namespace, *, epochs: int | None = None) -> Any:
    """The configuration that was named, or that lies beside the weights, with `--set`."""
    from cyclemlp.config import parse_assignments
    from cyclemlp.dense.det.configuration import CONFIG, Configuration

    path = args.config
    if path is None:
        folder = args.weights if args.weights.is_dir() else args.weights.parent
        path = folder / CONFIG
        if not path.is_file():
            raise ConfigError(f"{args.weights} has no {CONFIG} beside it; say by --config what it is")
    overrides = parse_assignments(args.set)
    if args.data is not None:
        overrides = {f"{key}Dataset.dataset_dir": args.data for key in ("Train", "Eval", "Test")} | overrides
    return Configuration.load(path, overrides, epochs=epochs)


COMMANDS: dict[
    str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
] = {
    "check": ("look through a data set: files, sizes, boxes, masks, classes", _add_check, _check),
    "train": (
        "train a detector; the run's folder has checkpoints, a log, the best model, curves",
        _add_train,
        _train,
    ),
    "eval": ("measure COCO's average precision of a trained detector", _add_eval, _eval),
    "predict": ("find objects in images, and draw them", _add_predict, _predict),
    "export": ("write a trained detector for Paddle Inference or ONNX Runtime", _add_export, _export),
}
