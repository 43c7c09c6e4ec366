"""`cyclemlp data KIND`: a data set checked or divided into parts, data sets that are made here, ImageNet's lists."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from cyclemlp.cli import options
from cyclemlp.cli.common import plain_warnings

KINDS = {
    "check": "find what is wrong with a data set: unreadable images, duplicates, leaks, imbalance",
    "split": "write lists of training, validation and test images, from one set of images",
    "scenes": "compose scenes of handwritten digits, for segmentation and detection",
    "cifar": "write CIFAR-10 or CIFAR-100 as tars of class folders, from the official archive",
    "imagenet": "write ImageNet's lists, from its tars, folders or other lists",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the kinds of data sets and their arguments."""
    for name, sub in options.add_subcommands(parser, KINDS, dest="kind", metavar="KIND"):
        _module(name).add_arguments(sub)


def run(args: argparse.Namespace) -> int:
    """Make, divide or check the data set; 0, or 1 for errors that were found."""
    with plain_warnings("data"):
        return int(_module(args.kind).run(args))


def _module(kind: str) -> Any:
    return importlib.import_module(f"cyclemlp.cli.data.{kind}")
