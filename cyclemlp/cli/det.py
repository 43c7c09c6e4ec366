"""`cyclemlp det check|train|eval|predict|export`: detection and instance segmentation by PaddleDetection."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import dense
from cyclemlp.cli.common import (
    SKIP_BAD,
    choose_device,
    config_file,
    message,
    output_folder,
    plain_warnings,
    print_json,
)
from cyclemlp.cli.options import add, add_subcommands
from cyclemlp.cli.training import result_or_exit_code, speaker
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.report import Progress, format_table, progress
from cyclemlp.text import counted, printable

if TYPE_CHECKING:
    import numpy as np

    from cyclemlp.dense.det.configuration import Configuration
    from cyclemlp.dense.det.engine import Figures
    from cyclemlp.dense.det.train import Result
    from cyclemlp.dense.detections import Category, Detections
    from cyclemlp.predictor import Predictor

#: What writes exported detectors, for messages.
EXPORTER = "cyclemlp det export"
#: Of the errors of one file, so many are shown unless all are asked for.
MOST_SHOWN = 20

EPILOG = """examples:
  cyclemlp det check   --config configs/det/bccd.yaml
  cyclemlp det train   --config configs/det/bccd.yaml --output runs/bccd
  cyclemlp det train   --resume runs/bccd
  cyclemlp det eval    runs/bccd
  cyclemlp det predict runs/bccd IMAGE|FOLDER … --output found
  cyclemlp det export  runs/bccd --output exported/bccd
  cyclemlp det predict exported/bccd IMAGE|FOLDER … --output found
  cyclemlp det eval    exported/bccd --config runs/bccd/recipe.yaml
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
    from cyclemlp.deploy import is_exported

    if args.det_command != "predict" or not is_exported(args.model):  # exported detectors need no engine
        import cyclemlp.dense.det  # noqa: F401  says how to install the engine, before its first use below

    with plain_warnings(f"det {args.det_command}"):
        return int(COMMANDS[args.det_command][2](args))


# ---- arguments


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.epilog = TRAIN_EPILOG
    add(
        dense.add_train_arguments(parser),
        "--epochs",
        "passes over the images; the learning-rate schedule is stretched to them",
    )


def _add_predict(parser: argparse.ArgumentParser) -> None:
    dense.add_predict_arguments(
        parser, what="images with objects drawn in, predictions.json and predictions.csv", exporter=EXPORTER
    )
    add(parser, "--threshold", "objects of a lower score are left out (default: %(default)s)", default=0.3)
    add(parser, "--no-images", "write predictions.json and .csv only")


def _add_eval(parser: argparse.ArgumentParser) -> None:
    dense.add_eval_arguments(parser, exporter=EXPORTER)


def _add_check(parser: argparse.ArgumentParser) -> None:
    dense.add_config_arguments(parser)
    add(parser, "--all", f"show every error, not {MOST_SHOWN} of a file")
    add(parser, "--quick", "do not decode the images, see only whether they are there")
    add(parser, "--sample", "draw N images of each data set with their objects")
    add(parser, "--output", "for these (default: runs/NAME OF THE CONFIG_samples)")
    add(parser, "--json")
    add(parser, "--no-progress")


def _add_export(parser: argparse.ArgumentParser) -> None:
    # ONNX is written of RetinaNet only.
    dense.add_export_arguments(parser, formats=("paddle", "onnx"), default="paddle")
    add(parser, "--no-nms", "of onnx: all candidates with their scores, without non-maximum suppression")


# ---- commands

#: Flag → key of the configuration that it overrides.
_KEYS = {"batch_size": "TrainReader.batch_size", "lr": "LearningRate.base_lr", "workers": "worker_num"}


def _train(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.engine import engine
    from cyclemlp.dense.det.train import in_words, train
    from cyclemlp.training.distributed import join

    path, output = dense.training_places(args)
    config = _config(args, path, keys=_KEYS, epochs=args.epochs)
    world = join(args.device)
    device = choose_device(args.device)
    say = speaker(args.json, is_first=world.is_first)

    def work() -> Result:
        with engine(say):
            return train(
                config,
                output,
                resume=args.resume,
                force=args.force,
                evaluate=not args.no_eval,
                max_minutes=args.max_minutes,
                patience=args.patience,
                device=device,
                seed=args.seed or 0,
                show_progress=not args.no_progress,
                world=world,
                command=shlex.join(["cyclemlp", *sys.argv[1:]]),
                say=say,
            )

    result = result_or_exit_code("cyclemlp det train", work, output)
    if isinstance(result, int):
        return result
    best = result.best or {}
    if world.is_first and args.json:
        facts = {key: value for key, value in vars(result).items() if key != "best"}
        print_json({**facts, "output": str(output), **best})
    elif best:
        say(f"best: {in_words(best)} after epoch {result.best_epoch}; everything is in {output}")
    else:
        say(f"done; everything is in {output}")
    return 0


def _eval(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.check import require_usable
    from cyclemlp.dense.det.engine import Evaluation, engine
    from cyclemlp.dense.det.predict import Detector
    from cyclemlp.run import find_weights

    exported = dense.open_exported(args, predicts=False, threshold=0.0)
    config = _config(args, keys={"workers": "worker_num"})
    facts: dict[str, Any] = {"weights": str(args.model)}
    if exported is None:
        weights, device = find_weights(args.model), choose_device(args.device)
        facts = {"weights": str(weights)}
    else:
        facts |= {"runtime": exported.runtime, "precision": exported.precision}
        dense.require_same_names(args, exported, [one.name for one in config.categories("EvalDataset")])
        if config.has_masks() and exported.task == "detection":
            raise ConfigError(f"{args.config} measures masks, and {args.model} gives boxes only")
    output = output_folder(args.output)
    require_usable(config, ["EvalDataset"], say=_say())
    with engine(_say()), tempfile.TemporaryDirectory(prefix="cyclemlp_eval_") as scratch:
        if exported is None:
            detector = Detector(config, weights, device=device)
            evaluation = Evaluation(config, output or Path(scratch))
            with _bar(args, "evaluation", len(evaluation), "batch") as bar:
                found = evaluation(detector.trainer, on_batch=lambda: bar.update(1))
        else:
            _say()(dense.exported_words(args, exported))
            found = _evaluate_exported(args, exported, config, output or Path(scratch))
    figures = {
        **facts,
        "images": found.images,
        **found.values,
        "per_class": found.per_class,
    }
    dense.write_figures(args, figures)
    if args.json:
        print_json(figures)
        return 0
    kinds = [kind for kind in ("bbox", "mask") if f"{kind}_ap" in found.values]
    columns = [f"{kind}_{name}" for kind in kinds for name in ("ap", "ap50")]
    rows = [[name, *(row[c] for c in ("objects", *columns))] for name, row in found.per_class.items()]
    rows.append(["all", found.objects, *(found.values[c] for c in columns)])
    print(format_table(["class", "objects", *(c.replace("_", " ") for c in columns)], rows))
    others = [(k.replace("_", " "), v) for k, v in found.values.items() if k not in columns]
    print("\n" + format_table(["figure", "value"], others))
    print(f"\n{counted(found.images, 'image')}" + ("" if output is None else f"; every find is in {output}"))
    return 0


def _evaluate_exported(
    args: argparse.Namespace, exported: Predictor, config: Configuration, folder: Path
) -> Figures:
    from cyclemlp.dense.det.configuration import read_coco
    from cyclemlp.dense.det.engine import evaluate_exported
    from cyclemlp.dense.detections import ExportedDetector

    images = len(read_coco(config.data("EvalDataset").annotations)["images"])
    with _bar(args, "evaluation", images, "image") as bar:
        return evaluate_exported(config, ExportedDetector(exported), folder, on_image=lambda: bar.update(1))


def _predict(args: argparse.Namespace) -> int:
    from cyclemlp.data import ImageFiles
    from cyclemlp.dense.detections import predict_files

    if not 0 <= args.threshold <= 1:
        raise ConfigError(f"--threshold is {args.threshold}; give a score from 0 to 1")
    exported, bad = dense.open_exported(args, predicts=True, threshold=args.threshold), list[DataError]()
    source = exported or _TrainedDetector.of(args)
    images = ImageFiles(args.images)
    output = dense.predictions_folder(args)

    def skip(error: DataError) -> None:
        bad.append(error)
        message(f"cyclemlp det predict: skipped {error}")

    def stop(error: DataError) -> None:
        raise DataError(f"{error}; {SKIP_BAD}") from error

    with (
        _detector(args, source) as (detector, categories),
        _bar(args, "predict", len(images), "image") as bar,
    ):
        counts = predict_files(
            detector,
            categories,
            [images.path(i) for i in range(len(images))],
            output,
            threshold=args.threshold,
            draw=not args.no_images,
            on_file=lambda: bar.update(1),
            on_failure=skip if args.skip_bad else stop,
        )
    count = len(images) - len(bad)
    if args.json:
        print_json({"output": str(output), "images": count, "objects": counts})
    else:
        print(format_table(["class", "objects"], list(counts.items())))
        print(
            f"\n{counted(count, 'image')}, {counted(sum(counts.values()), 'object')}; everything is in {output}"
        )
    return 1 if bad else 0


@dataclass(frozen=True)
class _TrainedDetector:
    """A run or weights, looked at before anything is written."""

    config: Configuration
    categories: list[Category]
    device: str

    @classmethod
    def of(cls, args: argparse.Namespace) -> _TrainedDetector:
        from cyclemlp.dense.det.engine import find_categories

        config = _config(args)
        return cls(config, find_categories(config, args.model), choose_device(args.device))


@contextlib.contextmanager
def _detector(
    args: argparse.Namespace, source: Predictor | _TrainedDetector
) -> Iterator[tuple[Callable[[np.ndarray], Detections], list[Category]]]:
    """What finds the objects in an image, and its classes; within it the engine works, if it is not exported."""
    if not isinstance(source, _TrainedDetector):
        from cyclemlp.dense.detections import ExportedDetector, exported_categories

        _say()(dense.exported_words(args, source))
        yield ExportedDetector(source), exported_categories(source)
        return
    from cyclemlp.dense.det.engine import engine
    from cyclemlp.dense.det.predict import Detector

    with engine(_say()):
        yield Detector(source.config, args.model, device=source.device), source.categories


def _check(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.check import check, count_images
    from cyclemlp.dense.det.samples import draw_samples

    config = _config(args, config_file(args.config, args.command))
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
            f"{report.key}: {report.file}: {counted(report.images, 'image')}, {counted(counts, 'object')}, "
            f"{counted(report.crowds, 'crowd')}"
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
        print(f"{counted(len(drawn), 'image')} with objects drawn in: {folder}")
    if faults:
        print(f"cyclemlp det check: {counted(len(faults), 'error')}", file=sys.stderr)
        if args.sample and not drawn:
            print("no sample was drawn: correct the errors first", file=sys.stderr)
        return 1
    print("no errors")
    return 0


def _export(args: argparse.Namespace) -> int:
    from cyclemlp.dense.det.engine import engine, find_categories
    from cyclemlp.dense.det.export import export

    dense.refuse_exported(args)
    config, output = _config(args), args.output
    categories = find_categories(config, args.model)
    with engine(_say()):
        export(config, args.model, categories, output, args.format, nms=not args.no_nms, force=args.force)
    if args.json:
        print_json({"output": str(output), "format": args.format})
    else:
        print(f"{config.architecture} in {output}: " + ", ".join(sorted(p.name for p in output.iterdir())))
    return 0


def _bar(args: argparse.Namespace, what: str, total: int, unit: str) -> Progress[Any]:
    return progress(desc=what, total=total, unit=unit, disable=args.no_progress, leave=False)


def _say() -> Callable[[str], None]:
    """What is not the result: on stderr."""
    return lambda text: print(text, file=sys.stderr, flush=True)


def _config(
    args: argparse.Namespace,
    path: Path | None = None,
    *,
    keys: Mapping[str, str] | None = None,
    epochs: int | None = None,
) -> Configuration:
    """A configuration with flags, `--data` and `--set`; by default the one of `args.model`."""
    from cyclemlp.config import parse_assignments
    from cyclemlp.dense.det.configuration import Configuration

    overrides = {**dense.flags(args, keys or {}), **parse_assignments(args.set)}
    if args.data is not None:
        overrides = {f"{key}Dataset.dataset_dir": args.data for key in ("Train", "Eval", "Test")} | overrides
    return Configuration.load(path or dense.config_of_model(args), overrides, epochs=epochs)


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
