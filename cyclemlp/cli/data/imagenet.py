"""`cyclemlp data imagenet`: ImageNet's lists, from its tars, folders or other lists."""

from __future__ import annotations

import argparse
import shlex

import numpy as np

from cyclemlp.cli.common import output_folder, refuse_existing
from cyclemlp.cli.options import add
from cyclemlp.files import write_text
from cyclemlp.report import format_table
from cyclemlp.text import counted

CLASS_MAP = "map_to_1000.txt"  # as Paddle-CycleMLP calls it

EPILOG = """
what it reads: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar with the devkit beside it, train/ and val/, or
train_list.txt and val_list.txt; see docs/imagenet.md. Nothing is unpacked.

what it writes: train_list.txt and val_list.txt, a line `path label` an image, and map_to_1000.txt, a line
`wordnet-id label` a class. Labels are places in the sorted WordNet ids, 0 to 999. What can be compared is: ids in
paths with labels, and the validation images' labels with the devkit's.

examples:
  cyclemlp data imagenet --imagenet ILSVRC2012 --output lists
  cyclemlp eval runs/b1 --data ILSVRC2012 --list lists/val_list.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this kind takes."""
    parser.epilog = EPILOG
    add(parser, "--imagenet", "where ImageNet is", required=True)
    add(parser, "--output", "where the lists go", required=True)
    add(parser, "--force", "replace lists that are there")


def run(args: argparse.Namespace) -> int:
    """`cyclemlp data imagenet`; 0.

    Raises:
        DataError: the images or labels are not as they should be.
        ConfigError: there are lists already.
    """
    from cyclemlp.data.classes import imagenet_class_map
    from cyclemlp.data.imagenet import (
        IMAGES,
        LISTS,
        check_validation_labels,
        find_imagenet,
        list_lines,
        open_imagenet,
        truth_folders,
    )

    root, output = args.imagenet, args.output
    splits = [split for split in LISTS if find_imagenet(root, split)] or [
        "val"
    ]  # none: opening says what is missing
    if not args.force:
        refuse_existing(output / name for name in (*(LISTS[split] for split in splits), CLASS_MAP))
    output_folder(output)
    rows, notes, commands = [], [], []
    for split in splits:
        place, source = open_imagenet(root, split)
        if place.form == "list":
            source.file_sizes()  # whether every image is there
        labels = np.asarray([source.label(index) for index in range(len(source))])
        data, lines = list_lines(place, source, root)
        write_text(output / LISTS[split], "".join(lines))
        counts = np.unique(labels, return_counts=True)[1]
        rows.append([split, len(source), len(counts), f"{counts.min()}–{counts.max()}", str(place)])
        if len(source) != IMAGES[split]:
            notes.append(f"note: all of ImageNet has {IMAGES[split]:,} {split} images")
        option = "--val-data" if split == "val" else "--data"
        commands.append(
            f"{option} {shlex.quote(str(data))} {'--val-list' if split == 'val' else '--list'} "
            f"{shlex.quote(str(output / LISTS[split]))}"
        )
        if split == "val" and (compared := check_validation_labels(source, truth_folders(place.path))):
            notes.append(
                f"the labels of {counted(compared, 'validation image')} are those of the devkit's ground truth"
            )
    write_text(
        output / CLASS_MAP, "".join(f"{word} {label}\n" for word, label in imagenet_class_map().items())
    )
    print(format_table(["split", "images", "classes", "a class", "from"], rows))
    print(
        "\n".join(
            [
                "",
                *notes,
                f"written: {', '.join(str(output / LISTS[s]) for s in splits)}, {output / CLASS_MAP}",
            ]
        )
    )
    print("\nthey are read with:", *commands, sep="\n  ")
    return 0
