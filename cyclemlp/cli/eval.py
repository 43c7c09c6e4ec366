"""`cyclemlp eval`: top-k, loss and speed of a model on labelled images, and a report on what it gets wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common, options
from cyclemlp.cli.eval_labels import LabelEvaluation, check_chosen, require_labels
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.text import counted

if TYPE_CHECKING:
    from cyclemlp.data import Loader
    from cyclemlp.evaluation import Analysis, EvaluationResult, Views
    from cyclemlp.preprocessing import Preprocessing
    from cyclemlp.training.distributed import World

USAGE = """cyclemlp eval MODEL --data digits|DIR [--list FILE] [options]
       cyclemlp eval --model NAME (--weights FILE | --pretrained [TAG]) --data DIR [--list FILE] [options]"""

EXAMPLES = f"""{options.DATA_HELP}
examples:
  cyclemlp eval runs/digits --data digits
      the run that `cyclemlp train` left in runs/digits, on the digits it was not trained on
  cyclemlp eval runs/pets --data pets --list pets/val.txt --output results/pets --predictions
      a list file; also writes results/pets/eval.json and, a line an image, eval.csv
  cyclemlp eval runs/pets --data pets --list pets/val.txt --output results/pets --report --topk 1 3 10
      also results/pets/report.md with tables and images: confusions, classes, calibration, the worst mistakes
  cyclemlp eval --model cyclemlp_b1 --weights CycleMLP_B1.pth --data imagenet/val --list val.txt
      published weights on ImageNet: expect top-1 78.8
  cyclemlp eval --model cyclemlp_b1 --pretrained --data imagenet/val --json
      the same, fetched; the folders are named by WordNet ids; only JSON on stdout
  cyclemlp eval exported/digits --data digits --runtime openvino
      a model that `cyclemlp export` wrote, in OpenVINO
  cyclemlp eval runs/pets --data pets/val --tta flip
      the mean of the probabilities of each image and of its mirror image
  cyclemlp eval runs/tags --data photos --list photos/later.csv --choose-thresholds tags.safetensors
      a model of several labels an image: also writes it with thresholds chosen on these images

Exit code: 0 done; 1 the model gives no finite numbers; 2 an error in the options or the input.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage, parser.epilog = USAGE, EXAMPLES
    options.add_model_arguments(parser)
    options.add_data_arguments(parser)
    options.add_preprocessing_arguments(parser)
    options.add_running_arguments(parser, batch_size=64)
    options.add_runtime_arguments(parser)
    group = parser.add_argument_group("results")
    options.add_tta_argument(group)
    options.add_threshold_argument(group)
    add(
        group,
        "--choose-thresholds",
        "of a model of several labels an image: choose the threshold of each class by the highest F1 on these images, "
        "and write the model with them to FILE, a new .safetensors or .pdparams for predict, export and serve; MODEL "
        "stays as it is",
        metavar="FILE",
        type=Path,
    )
    add(
        group,
        "--topk",
        "also how often the true class is among the K most probable, for any K; 1 and 5 are always reported",
        default=[],
    )
    add(group, "--output", "write the figures to DIR/eval.json")
    add(group, "--predictions", "also write what each image was taken for, to DIR/eval.csv")
    add(
        group,
        "--report",
        "also write DIR/report.md with tables and images: confusions, accuracy by class, calibration, the most "
        "confident mistakes; with it comes --predictions",
    )
    add(group, "--bins", "bins of the calibration error in the report (default: 15)")
    options.add_classes_argument(group)
    add(group, "--json")
    add(group, "--no-progress")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from cyclemlp.training.distributed import faults_told_apart, join

    with common.plain_warnings("eval"), faults_told_apart():
        from cyclemlp.evaluation import (
            accuracy_intervals,
            analyse,
            choose_views,
            write_evaluation_csv,
            write_report,
        )
        from cyclemlp.evaluation.analysis.measures import BINS

        _check(args)
        world = join(args.device)
        output = common.output_folder(args.output)
        model, classify, device = common.open_classifier(args)
        thresholds = common.model_thresholds(model, args.threshold)
        if args.choose_thresholds is not None:
            require_labels(model, thresholds)
        classes = common.model_class_names(model, args.classes)
        source = common.open_labelled_source(model, args.data, args.list, class_map=args.class_map)
        preprocessing = common.choose_preprocessing(model.metadata.preprocessing, args)
        views, share = choose_views(args.tta), {"rank": world.rank, "world_size": world.size}
        loader = common.open_loader(args, model, source, views.transform(preprocessing), device, **share)
        classify = views.classifier(classify, multi_label=thresholds is not None)
        facts = {**common.provenance(args, model, preprocessing, device), "tta": views.to_dict()}
        if thresholds is not None:
            return LabelEvaluation(args, thresholds, classes, facts, output).run(classify, loader, world)
        result = _evaluate(args, classify, loader, world)
        if not world.is_first:
            return 0
        report: dict[str, Any] = {
            **result.to_dict(),
            **{f"top{k}_interval": list(ends) for k, ends in accuracy_intervals(result).items()},
            **facts,
        }
        analysis = analyse(result, bins=args.bins or BINS) if args.report else None
        if analysis is not None:
            report["analysis"] = analysis.to_dict()
        written: list[Path] = []
        if output is not None:
            written.append(output / "eval.json")
            write_text(written[0], json.dumps(report, indent=2) + "\n")
            if result.logits is not None:
                written.append(output / "eval.csv")
                write_evaluation_csv(written[1], result, source, classes)
            if analysis is not None:
                written += write_report(output, result, analysis, source, classes, report)
    if args.json:
        common.print_json(report, indent=2)
    else:
        _print(report, result, analysis, preprocessing, views)
        if written:
            print(f"written   in {output}: {', '.join(path.name for path in written)}")
    return 0


def _evaluate(args: argparse.Namespace, classify: Any, loader: Loader, world: World) -> EvaluationResult:
    """Over this process's images; in the first process the result over all."""
    from cyclemlp.evaluation import evaluate, merge_results

    own = None
    if loader.images:
        keep = args.predictions or args.report
        own = evaluate(classify, loader, topk=args.topk, keep=keep, progress=world.is_first)
    return merge_results(world.gather(own))


def _print(
    report: dict[str, Any],
    result: EvaluationResult,
    analysis: Analysis | None,
    preprocessing: Preprocessing,
    views: Views,
) -> None:
    def interval(ends: Sequence[float], digits: int = 2) -> str:
        return f"   (95 % interval {ends[0]:.{digits}f} to {ends[1]:.{digits}f})"

    print(f"model     {report['model']}, {report['weights']}")
    print(f"images    {result.images:,} of {report['data']}, {counted(result.classes, 'class')}")
    turned = ", turned by EXIF" if preprocessing.exif == "apply" else ""
    prepared = f"{preprocessing.resize_text}, {preprocessing.crop_text}, {preprocessing.interpolation}"
    print(f"prepared  {prepared}{turned}")
    if views.name != "none":
        print(f"views     {views}")
    for k, value in result.accuracy.items():
        print(f"{f'top-{k}':<9} {value:.3f} %{interval(report[f'top{k}_interval'])}")
    print(f"loss      {result.loss:.4f}")
    if analysis is not None:
        classes, calibration = analysis.classes, analysis.calibration
        print(f"classes   {classes.mean:.3f} % on average{interval(classes.mean_interval)}")
        print(f"ECE       {calibration.error:.4f}{interval(calibration.error_interval, 4)}")
    print(f"speed     {result.images_per_second:.1f} images/s on {report['device']}, reading included")
    for note in result.notes:
        print(f"note      {note}")


def _check(args: argparse.Namespace) -> None:
    """What needs something else, before anything is read. Raises ConfigError, MissingDependencyError."""
    for option in ("predictions", "report"):
        if getattr(args, option) and args.output is None:
            raise ConfigError(f"--{option} needs --output DIR, where it is written")
    if args.classes and not (args.predictions or args.report):
        raise ConfigError(
            "--classes names the classes in the files of --predictions and --report; without them, it has no effect"
        )
    if args.bins and not args.report:
        raise ConfigError("--bins is for the calibration in the --report; without it, it has no effect")
    if args.choose_thresholds is not None:
        check_chosen(args)
    if args.report:  # not found out after hours of work
        from cyclemlp.evaluation.analysis.measures import scipy_stats
        from cyclemlp.report import require_matplotlib

        scipy_stats()
        require_matplotlib()
