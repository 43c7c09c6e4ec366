"""`cyclemlp data cifar`: CIFAR-10 or CIFAR-100 as tars of class folders."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from cyclemlp.cli.common import output_folder, refuse_existing
from cyclemlp.cli.options import add
from cyclemlp.report import Progress, progress
from cyclemlp.text import counted

EPILOG = """
what it reads: cifar-10-python.tar.gz or cifar-100-python.tar.gz, as https://www.cs.toronto.edu/~kriz/cifar.html has
them. The pickles in it are read as data: nothing of them is run.

what it writes: DIR/train.tar and DIR/test.tar with a PNG file an image, which loses nothing, in a folder a class.

examples:
  cyclemlp data cifar cifar-10-python.tar.gz --output data/cifar10
  cyclemlp data split data/cifar10/train.tar --val 0.1 --output data/cifar10
      5,000 of the training images for validation
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this kind takes."""
    parser.epilog = EPILOG
    parser.add_argument("archive", metavar="ARCHIVE", type=Path, help="cifar-10-python.tar.gz")
    add(parser, "--output", "where the tars go", required=True)
    add(parser, "--force", "replace tars that are there")
    add(parser, "--no-progress")


def run(args: argparse.Namespace) -> int:
    """`cyclemlp data cifar`; 0.

    Raises:
        DataError: the archive is damaged or another one.
        ConfigError: there are tars already.
    """
    from cyclemlp.data.cifar import PARTS, read_cifar, write_class_tar

    paths = {part: args.output / f"{part}.tar" for part in PARTS}
    if not args.force:
        refuse_existing(paths.values())
    found = read_cifar(args.archive)
    output_folder(args.output)
    total = sum(len(found[part].labels) for part in PARTS)
    bar: Progress[None] = progress(desc="images", total=total, disable=args.no_progress)
    with bar:
        for part, path in paths.items():
            write_class_tar(found[part], path, lambda: bar.update(1))
    for part, path in paths.items():
        print(
            f"{path}: {counted(len(found[part].labels), 'image')} of {counted(len(found[part].classes), 'class')}"
        )
    command = ["cyclemlp", "data", "split", str(paths["train"]), "--val", "0.1", "--output", str(args.output)]
    print("\nnext, validation images set aside:", shlex.join(command), sep="\n  ")
    return 0
