"""`cyclemlp predict`: what is on an image."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.text import counted, part_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclemlp.data import Failure, Source
    from cyclemlp.evaluation import Prediction

USAGE = """cyclemlp predict MODEL IMAGE|FOLDER … [options]
       cyclemlp predict MODEL --data DIR --list FILE [options]
       cyclemlp predict --model NAME (--weights FILE | --pretrained [TAG]) IMAGE|FOLDER … [options]"""

EXAMPLES = """examples:
  cyclemlp predict runs/pets cat.jpg dog.png
      what a run of `cyclemlp train` says about two images
  cyclemlp predict --model cyclemlp_b1 --pretrained holiday/ --top 3 --output results
      every image below holiday/, with ImageNet's classes; writes results/predictions.csv and .json
  cyclemlp predict runs/pets --data pets --list pets/test.txt --output results --skip-bad
      a list, one name a line (spaces are part of it); goes on where an image cannot be read
  cyclemlp predict runs/pets --data pets --list pets/val.txt --list-mode val
      a list with lines `name label`: the true class is shown beside the predicted ones
  cyclemlp predict runs/pets images.tar --output results
      every image in a tar, which is not unpacked
  cyclemlp predict runs/digits --data digits
      the held-out digits
  cyclemlp predict runs/tags holiday/ --output results
      a model of several labels an image: every label whose probability reaches its threshold
  cyclemlp predict exported/pets holiday/ --runtime openvino --precision bfloat16
      a model that `cyclemlp export` wrote, in OpenVINO

Exit code: 0 done; 1 images were skipped, or the model gives no finite numbers; 2 an error in the options or the input.
"""
#: With --output, more images than this are not all printed.
MOST_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage, parser.epilog = USAGE, EXAMPLES
    options.add_model_arguments(parser)
    group = parser.add_argument_group("images")
    options.add_optional_positional(
        group,
        "images",
        nargs="+",
        metavar="IMAGE|FOLDER|TAR",
        help="image files, and folders to look through; or a tar, read without unpacking",
    )
    add(
        group,
        "--data",
        "the bundled digits, the folder or tar of --list's names, or a tar with one folder a class",
    )
    add(group, "--list", "text file with one image a line, relative to --data")
    add(
        group,
        "--list-mode",
        "test: the whole line is the name (default); val: the last word is the image's class",
        choices=("test", "val"),
        default="test",
    )
    options.add_class_map_argument(group)
    add(group, "--skip-bad", "leave out images that cannot be read, instead of stopping at the first")
    options.add_preprocessing_arguments(parser)
    options.add_running_arguments(parser, batch_size=32)
    options.add_runtime_arguments(parser)
    group = parser.add_argument_group("results")
    options.add_tta_argument(group)
    add(
        group,
        "--top",
        "classes an image (default: 5); of a model of several labels an image at most so many (default: all)",
    )
    options.add_threshold_argument(group)
    options.add_classes_argument(group)
    add(group, "--output", "write DIR/predictions.csv and DIR/predictions.json")
    add(group, "--json")
    add(group, "--no-progress")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    options.take_model_word_as_image(args, "images")
    _check_images(args)
    with common.plain_warnings("predict"):
        return _predict(args)


def _predict(args: argparse.Namespace) -> int:
    from cyclemlp.evaluation import (
        PredictionFiles,
        choose_views,
        outcome_to_dict,
        predict,
        prediction_to_dict,
    )
    from cyclemlp.evaluation.run import TOP

    output = common.output_folder(args.output)
    model, classify, device = common.open_classifier(args)
    classes = common.model_class_names(model, args.classes)
    source = _open_source(args, model)
    preprocessing = common.choose_preprocessing(model.metadata.preprocessing, args)
    failures: list[Failure] = []

    def skip(failure: Failure) -> None:
        failures.append(failure)
        common.message(f"cyclemlp predict: skipped {failure.message}")

    def stop(failure: Failure) -> None:
        raise DataError(f"{failure.message}; {common.SKIP_BAD}")

    on_failure = skip if args.skip_bad else stop
    views = choose_views(args.tta)
    transform = views.transform(preprocessing)
    loader = common.open_loader(args, model, source, transform, device, on_failure=on_failure)
    thresholds = common.model_thresholds(model, args.threshold)
    topk = args.top and min(args.top, len(classes))
    if thresholds is None:
        topk = topk or min(TOP, len(classes))
    head = {**common.provenance(args, model, preprocessing, device), "tta": views.to_dict()}
    if thresholds is not None:
        head["thresholds"] = thresholds.tolist()
    files = (
        None
        if output is None
        else PredictionFiles(
            output,
            classes,
            topk=topk if thresholds is None else None,
            labelled=source.label(0) is not None,
            head=head,
            failures=failures,
        )
    )
    shown: list[Prediction] = []
    count = 0
    complete = False
    try:
        with files or nullcontext():
            averaged = views.classifier(classify, multi_label=thresholds is not None)
            found = predict(averaged, loader, topk=topk, thresholds=thresholds, progress=not args.no_progress)
            for prediction in found:
                if files is not None:
                    files.write(prediction)
                if args.json or files is None or count < MOST_SHOWN:
                    shown.append(prediction)
                count += 1
        complete = True
    finally:  # what was computed before an error is shown all the same
        if args.json:
            entries = [prediction_to_dict(prediction, classes) for prediction in shown]
            common.print_json(
                {**head, "predictions": entries, **outcome_to_dict(failures, complete)}, indent=1
            )
        else:
            _print_table(shown, classes)
            if count > len(shown):
                print(f"… and {counted(count - len(shown), 'more image')}")
        if files is not None:
            written = " and ".join(str(path) for path in (files.paths if complete else files.partial_paths))
            common.message(f"cyclemlp predict: {counted(count, 'image')} written to {written}")
    if failures:
        common.message(
            f"cyclemlp predict: {part_of(len(failures), len(source), 'image', 'was', 'were')} skipped"
        )
    return 1 if failures else 0


def _check_images(args: argparse.Namespace) -> None:
    from cyclemlp.data import data_folder, is_tar

    if args.images and (args.data or args.list):
        raise ConfigError("give either images and folders, or --data with --list, not both")
    whole = args.data and (args.data == "digits" or is_tar(data_folder(args.data, None)))
    if args.data and not args.list and not whole:
        raise ConfigError(
            f"--data {args.data} needs --list FILE; for every image below a folder just name the folder"
        )
    if not args.images and not args.data and not args.list:
        raise ConfigError("no images are named; give files, folders, or --list FILE")
    if args.class_map and (not args.list or args.list_mode == "test"):
        raise ConfigError("--class-map has an effect on a list with labels only: --list FILE --list-mode val")


def _open_source(args: argparse.Namespace, model: Any) -> Source:
    from cyclemlp.data import ImageFiles, TarImages, is_tar, open_source

    if args.images:
        tars = [path for path in args.images if is_tar(path)]
        if not tars:
            return ImageFiles(args.images)
        if len(args.images) > 1:
            raise ConfigError(f"{tars[0]} is a tar; name it alone, and other images in a run of their own")
        return TarImages(tars[0])
    if args.list and args.list_mode == "test":
        return open_source(args.data, args.list, mode="test")
    return common.open_labelled_source(model, args.data, args.list, class_map=args.class_map)


def _print_table(predictions: Sequence[Prediction], classes: Sequence[str]) -> None:
    from cyclemlp.data import label_text
    from cyclemlp.report import format_table

    rows = []
    labelled = any(prediction.label is not None for prediction in predictions)
    for prediction in predictions:
        image, true = prediction.name, label_text(prediction.label, classes) or ""
        said = [
            (classes[index], f"{probability:7.2%}")
            for index, probability in zip(prediction.indices, prediction.probabilities, strict=True)
        ]
        for name, probability in said or [("no label", "")]:
            rows.append([image, *([true] if labelled else []), name, probability])
            image = true = ""
    if rows:
        header = ["image", *(["true class"] if labelled else []), "predicted class", "probability"]
        print(format_table(header, rows))
