"""`cyclemlp data check`: what is wrong with a data set."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cyclemlp.cli.common import print_json
from cyclemlp.cli.options import add, add_class_map_argument, add_classes_argument, add_labels_argument
from cyclemlp.errors import ConfigError
from cyclemlp.report import Progress, progress
from cyclemlp.text import counted, printable

if TYPE_CHECKING:
    from cyclemlp.data import Finding, Source


MOST_IMAGES = 5  # that are named of a finding about many
MOST_CLASSES = 50  # that are counted in one line

EPILOG = """
every image is decoded. Errors are: images that cannot be read, classes without images, a single class, the same image
in two classes or in both training and validation. Warnings are: the same image twice in a class, images with a very
short side, and classes ten times as large as others. `cyclemlp train` does the same with a sample before it begins.

examples:
  cyclemlp data check photos
      photos/train and photos/val, or photos alone, with a folder a class
  cyclemlp data check photos/train --val-data photos/val --json
  cyclemlp data check photos --list train.csv --val-list val.csv
  cyclemlp data check photos --list train.csv --labels multi
      several labels an image: also says how many images have none

Exit code: 0 no errors; 1 errors were found; 2 an error in the options or the input.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this kind takes."""
    parser.epilog = EPILOG
    parser.add_argument(
        "data", nargs="?", metavar="DIR|TAR", help="a folder a class, or train/ and val/ of such folders"
    )
    add(parser, "--list", "text or CSV file that names the training images")
    add(parser, "--val-data", "the validation images (default: the val/ of DIR)")
    add(parser, "--val-list", "their list")
    add_class_map_argument(parser)
    add_classes_argument(parser)
    add_labels_argument(parser)
    add(parser, "--json")
    add(parser, "--no-progress")


def run(args: argparse.Namespace) -> int:
    """`cyclemlp data check`; 1 for errors that were found, else 0.

    Raises:
        ConfigError, DataError: the data set cannot be opened.
    """
    from cyclemlp.data import (
        ImageFolder,
        check_data,
        find_imagenet,
        find_split,
        is_tar,
        open_class_map,
        open_class_names,
        open_source,
    )

    names = open_class_names(args.classes)

    def opened(data: str | None, listed: Path | None, mode: str, names: list[str] | None) -> Source:
        if data not in (None, "digits") and listed is None and not is_tar(data):
            parts = find_split(data)
            folder = data if parts is None else parts[mode != "train"]
            if find_imagenet(folder, mode, lists=False) is None:  # a class without images is a finding here
                return ImageFolder(folder, class_map=open_class_map(args.class_map), allow_empty=True)
        return open_source(
            data, listed, mode=mode, class_map=args.class_map, names=names, multi_label=args.labels == "multi"
        )

    if args.data is None and args.list is None:
        raise ConfigError("no images are named; give a folder, a tar or --list FILE")
    sources = {"train": opened(args.data, args.list, "train", names)}
    has_parts = args.list is None and (args.data == "digits" or find_split(args.data) is not None)
    if args.val_data is not None or args.val_list is not None or has_parts:
        sources["val"] = opened(
            args.val_data or args.data, args.val_list, "val", names or sources["train"].classes
        )
    total = sum(map(len, sources.values()))
    bar: Progress[None] = progress(
        desc="check", total=total, unit="img", leave=False, disable=args.no_progress or args.json
    )
    with bar:
        report = check_data(sources, on_image=bar.update)
    findings = report.findings + _compare_classes(report.classes)
    errors = sum(finding.level == "error" for finding in findings)
    if args.json:
        found = {**report.to_dict(), "ok": not errors, "findings": [asdict(finding) for finding in findings]}
        print_json(found, indent=1)
        return 1 if errors else 0
    for part, count in report.images.items():
        size = report.sizes[part]
        listed = (
            f", {size['width'][0]}×{size['height'][0]} to {size['width'][2]}×{size['height'][2]}"
            if size
            else ""
        )
        print(
            printable(
                f"{part:<6} {counted(count, 'image')}, {counted(len(report.classes[part]), 'class')}{listed}"
            )
        )
        if args.labels == "multi":
            counts = sorted(report.classes[part].items(), key=lambda pair: -pair[1])
            listed = ", ".join(f"{name} {count:,}" for name, count in counts[:MOST_CLASSES])
            print(printable(f"       {listed}{', …' if len(counts) > MOST_CLASSES else ''}"))
    for finding in sorted(findings, key=lambda finding: finding.level != "error"):
        print(printable(f"{finding.level}: {finding.kind}: {finding.message}", lines=False))
        for image in finding.images[:MOST_IMAGES] if finding.kind == "size" else []:
            print(printable(f"    {image}", lines=False))
    print(f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")
    return 1 if errors else 0


def _compare_classes(classes: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """Whether training and validation have the same classes."""
    from cyclemlp.data import Finding

    if "val" not in classes:
        return []
    train, val = ({name for name, count in classes[part].items() if count} for part in ("train", "val"))
    found = []
    if unknown := sorted(val - train):
        text = f"val: classes that are not in train: {', '.join(map(repr, unknown))}"
        found.append(Finding("error", "unknown_class", text))
    if missing := sorted(train - val):
        text = f"val: no images of the classes {', '.join(map(repr, missing))}"
        found.append(Finding("warning", "missing_class", text))
    return found
