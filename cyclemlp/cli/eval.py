"""`cyclemlp eval`: top-1, top-5, loss and speed of a model on labelled pictures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cyclemlp.cli import common
from cyclemlp.errors import ConfigError

USAGE = """cyclemlp eval MODEL --data digits|DIR [--list FILE] [options]
       cyclemlp eval --model NAME (--weights FILE | --pretrained) --data DIR [--list FILE] [options]"""

EXAMPLES = f"""{common.DATA_HELP}
examples:
  cyclemlp eval runs/digits --data digits
      the run that `cyclemlp train` left in runs/digits, on the digits it was not trained on
  cyclemlp eval runs/pets --data pets --list pets/val.txt --output results/pets --predictions
      a list file; also writes results/pets/eval.json and, a line a picture, eval.csv
  cyclemlp eval --model cyclemlp_b1 --weights CycleMLP_B1.pth --data imagenet/val --list val.txt
      published weights on ImageNet: expect top-1 78.8
  cyclemlp eval --model cyclemlp_b1 --pretrained --data imagenet/val --json
      the same, fetched; the folders are named by WordNet ids; only JSON on stdout
  cyclemlp eval exported/digits --data digits --runtime openvino
      a model that `cyclemlp export` wrote, in OpenVINO

Exit code: 0 done; 1 the model gives no finite numbers; 2 something to mend in what was asked.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage, parser.epilog = USAGE, EXAMPLES
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    common.add_preprocessing_arguments(parser)
    common.add_running_arguments(parser, batch_size=64)
    common.add_runtime_arguments(parser)
    group = parser.add_argument_group("results")
    group.add_argument("--output", type=Path, metavar="DIR", help="write the figures to DIR/eval.json")
    group.add_argument(
        "--predictions",
        action="store_true",
        help="also write what each picture was taken for, to DIR/eval.csv",
    )
    common.add_classes_argument(group)
    group.add_argument(
        "--json", action="store_true", help="print the figures as JSON on stdout, and nothing else there"
    )


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    with common.plain_warnings("eval"):
        from cyclemlp.data import build_loader, evaluation_transform
        from cyclemlp.deploy import ExportedModel
        from cyclemlp.evaluation import evaluate, write_evaluation_csv

        if args.predictions and args.output is None:
            raise ConfigError("--predictions needs --output DIR, where the CSV is written")
        if args.classes and not args.predictions:
            raise ConfigError(
                "--classes names the classes in the CSV of --predictions; without it, it has no effect"
            )
        output = common.output_folder(args.output)
        model, classify, device = common.open_classifier(args)
        classes = common.model_class_names(model, args.classes)
        source = common.open_labelled_source(model, args.data, args.list, class_map=args.class_map)
        preprocessing = common.choose_preprocessing(model.metadata.preprocessing, args)
        loader = build_loader(
            source,
            evaluation_transform(preprocessing),
            batch_size=args.batch_size,
            num_workers=common.choose_workers(args.workers, source),
            tensors=not isinstance(model, ExportedModel),
        )
        try:
            result = evaluate(classify, loader, keep=args.predictions)
        except FloatingPointError as error:
            print(f"cyclemlp eval: error: {error}", file=sys.stderr)
            return 1
        report: dict[str, Any] = {
            **result.to_dict(),
            **common.provenance(args, model, preprocessing, device),
        }
        if output is not None:
            common.write_text(output / "eval.json", json.dumps(report, indent=2) + "\n")
            if args.predictions:
                write_evaluation_csv(output / "eval.csv", result, source, classes)
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    print(f"model     {report['model']}, {report['weights']}")
    print(f"pictures  {result.images:,} of {report['data']}, {result.classes} classes")
    print(
        f"prepared  shorter side {preprocessing.resize_size}, centre {preprocessing.input_size}, "
        f"{preprocessing.interpolation}"
    )
    print(f"top-1     {result.top1:.3f} %")
    print(f"top-5     {result.top5:.3f} %")
    print(f"loss      {result.loss:.4f}")
    print(f"speed     {result.images_per_second:.1f} pictures/s on {device}, reading included")
    for note in result.notes:
        print(f"note      {note}")
    if output is not None:
        print(f"written   {output / 'eval.json'}" + (f", {output / 'eval.csv'}" if args.predictions else ""))
    return 0
