"""`cyclemlp data split`: lists of training, validation and test images, from one set of images."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cyclemlp.cli.common import output_folder, print_json, refuse_existing
from cyclemlp.cli.options import add, add_class_map_argument, add_labels_argument, share
from cyclemlp.errors import ConfigError
from cyclemlp.report import format_table
from cyclemlp.text import counted

if TYPE_CHECKING:
    from cyclemlp.data import Source, Split


MOST_CLASSES = 50  # that the table lists
SMALL = "configs/own_folder_small.yaml"  # the recipe that every number of images trains with

EPILOG = """
what it writes: DIR/train.txt, DIR/val.txt and, with --test, DIR/test.txt, a line `name label` an image, and
DIR/classes.txt where the classes have names. Names are relative to SOURCE, or of a list to its --data. No image is
copied.

Each class is divided by the same shares, up to rounding: every class has a training image and, of two or more, a
validation image. The result depends on names, classes, shares and --seed, not on the order in which files are found.

examples:
  cyclemlp data split photos --output lists
      photos/cat/1.jpg, photos/dog/7.png …: 80 % for training, 20 % for validation
  cyclemlp data split photos.tar --output lists --val 0.15 --test 0.15 --seed 1
  cyclemlp data split labels.csv --data photos --output lists
  cyclemlp data split frames --output lists --group-by-prefix _
      frames/cat/video7_0012.jpg and all others of video7 are in one part
  cyclemlp data split labels.csv --data photos --labels multi --output lists
      several labels an image: the parts have each label as often as its share, as near as the images permit
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this kind takes."""
    parser.epilog = EPILOG
    parser.add_argument(
        "source", metavar="SOURCE", help="a folder or a tar with one folder of images a class, or a list file"
    )
    add(parser, "--output", "where the lists go", required=True)
    add(
        parser,
        "--data",
        "the folder or tar that a list's names are relative to (default: the list's own folder)",
    )
    add_class_map_argument(parser)
    add(
        parser,
        "--classes",
        "names of the classes of a list, one a line in class order (`name` or `index name`)",
    )
    add_labels_argument(parser)
    add(
        parser,
        "--val",
        "share of the validation images (default: %(default)s)",
        type=share,
        metavar="SHARE",
        default=0.2,
    )
    add(
        parser, "--test", "share of the test images (default: none)", type=share, metavar="SHARE", default=0.0
    )
    add(parser, "--seed", "another one gives another split (default: %(default)s)", default=0)
    add(
        parser,
        "--group-by-prefix",
        "images whose file names agree up to the first SEPARATOR are all in one part, such as the frames of a video",
        metavar="SEPARATOR",
    )
    add(parser, "--force", "replace lists that are there")
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """`cyclemlp data split`; 0.

    Raises:
        DataError: the images or labels are not as they should be.
        ConfigError: impossible options, or there are lists already.
    """
    from cyclemlp.data import open_class_names, split_source, write_split
    from cyclemlp.data.splitting import SPLIT_FILES

    if not args.val:
        raise ConfigError("--val is 0; give the share of the validation images, above 0")
    if args.val + args.test >= 1:
        raise ConfigError(
            f"--val {args.val:g} and --test {args.test:g} leave no training images; they must add up to less than 1"
        )
    if not args.force:
        refuse_existing(args.output / name for name in SPLIT_FILES)
    names = open_class_names(args.classes)
    data, source = _open_undivided(args, names)
    if Path(args.source).is_dir() and Path(data).resolve() in args.output.resolve().parents:
        raise ConfigError(
            f"--output {args.output} lies in {data}, where it would be a class; choose another folder"
        )
    divided = split_source(
        source, val=args.val, test=args.test, seed=args.seed, separator=args.group_by_prefix
    )
    classes = source.classes or names
    output_folder(args.output)
    written = write_split(args.output, source, divided, classes)
    lists = ["--list", str(args.output / "train.txt"), "--val-list", str(args.output / "val.txt")]
    if classes is not None:
        lists += ["--classes", str(written[-1])]
    if args.labels is not None:
        lists += ["--labels", args.labels]
    several = args.labels == "multi"
    better = [
        "--config",
        f"configs/finetune/own_{'multilabel' if several else 'folder'}.yaml",
        "--pretrained",
    ]
    commands = [
        shlex.join(["cyclemlp", "data", "check", data, *lists]),
        shlex.join(["cyclemlp", "train", "--config", SMALL, "--data", data, *lists]),
        shlex.join(["cyclemlp", "train", *better, "--data", data, *lists]),
    ]
    rows = _split_rows(divided, classes)
    if args.json:
        print_json(
            {
                "written": [str(path) for path in written],
                "images": {part: len(indices) for part, indices in divided.parts.items()},
                "classes": [dict(zip(("class", *divided.parts), row, strict=True)) for row in rows],
                "val": args.val,
                "test": args.test,
                "seed": args.seed,
                "group_by_prefix": args.group_by_prefix,
                "next": commands,
            },
            indent=1,
        )
        return 0
    totals = ["all", *map(len, divided.parts.values())]
    print(format_table(["class", *divided.parts], [*rows[:MOST_CLASSES], totals]))
    if len(rows) > MOST_CLASSES:
        print(f"… and {counted(len(rows) - MOST_CLASSES, 'more class')}")
    print(f"\nwritten: {', '.join(map(str, written))}")
    notes = (
        "",
        "a small network from random weights, without a download",
        "better: B1 from the published weights",
    )
    print("\nnext:")
    for note, command in zip(notes, commands, strict=True):
        print(*([f"  # {note}"] if note else []), f"  {command}", sep="\n")
    return 0


def _open_undivided(args: argparse.Namespace, names: list[str] | None) -> tuple[str, Source]:
    """What the names in the lists are relative to, and the images.

    Raises:
        DataError, ConfigError: no such images, options for a list beside a folder, or images with parts of their own.
    """
    from cyclemlp.data import (
        ImageFolder,
        TarFolders,
        data_folder,
        find_split,
        is_tar,
        open_class_map,
        open_source,
    )

    given = args.source
    if given == "digits":
        raise ConfigError(
            "the digits have parts of their own: --data digits; a folder of that name is ./digits"
        )
    if not Path(given).is_dir() and not is_tar(given):
        listed = Path(given)
        source = open_source(
            args.data,
            listed,
            mode="train",
            num_classes=None if names is None else len(names),
            class_map=args.class_map,
            names=names,
            multi_label=args.labels == "multi",
        )
        return data_folder(args.data, listed), source
    for option in ("data", "classes", "labels"):
        if getattr(args, option) is not None:
            raise ConfigError(
                f"--{option} goes with a list file; {given} is a {'tar' if is_tar(given) else 'folder'}"
            )
    if is_tar(given):
        return given, TarFolders(given, class_map=open_class_map(args.class_map))
    if (parts := find_split(given)) is not None:
        raise ConfigError(
            f"{given} has parts already, {parts[0].name}/ and {parts[1].name}/; train with --data {given}, or split "
            f"{parts[0]}"
        )
    return given, ImageFolder(given, class_map=open_class_map(args.class_map))


def _split_rows(divided: Split, classes: Sequence[str] | None) -> list[list[str | int]]:
    """A row a class: its name and its images in each part."""
    from cyclemlp.data.splitting import UNLABELLED

    return [
        ["(no label)" if label == UNLABELLED else classes[label] if classes else str(label), *counts.values()]
        for label, counts in divided.counts.items()
    ]
