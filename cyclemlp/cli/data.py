"""`cyclemlp data KIND`: data sets that are made here, with nothing to download, and lists of ImageNet."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cyclemlp.cli.common import output_folder, plain_warnings, whole_number, write_text
from cyclemlp.errors import ConfigError
from cyclemlp.report import draw_detections, format_table, overlay_masks, picture_sheet

if TYPE_CHECKING:
    from cyclemlp.data.scenes import SceneOptions

KINDS = {
    "scenes": "scenes of handwritten digits, for segmentation and detection",
    "imagenet": "ImageNet's lists, from its tars, folders or other lists",
}
DEFAULT_OUTPUT = Path("data/scenes")  # where configs/seg/scenes.yaml and configs/det/scenes.yaml look
PREVIEW_SCENES = 6
CLASS_MAP = "map_to_1000.txt"  # as the Paddle 2.1 reproduction calls it

SCENES_EPILOG = """
what it writes: pictures with masks, for PaddleSeg (images/, labels/, train.txt, val.txt, classes.txt), and the same
pictures with boxes and masks in COCO's format, for PaddleDetection (annotations/instances_train.json, _val.json).
The digits are scikit-learn's scans: training scenes hold none of those in validation scenes. Later digits hide
earlier ones, and masks and boxes are those of the visible parts.

examples:
  the data of configs/seg/scenes.yaml and configs/det/scenes.yaml:
    cyclemlp data scenes
  small scenes of three digits, and a picture of some of them:
    cyclemlp data scenes --output data/three --digits 0,1,2 --size 160x120 --max-size 80 --preview
  more objects in the scenes for training, from which more is learnt in the same time:
    cyclemlp data scenes --train 3000 --train-objects 7-14
  many small objects:
    cyclemlp data scenes --output data/crowd --objects 15-30 --max-size 40
"""

IMAGENET_EPILOG = """
what it reads: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar with the devkit beside it, train/ and val/, or
train_list.txt and val_list.txt; see docs/imagenet.md. Nothing is unpacked.

what it writes: train_list.txt and val_list.txt, a line `path label` a picture, and map_to_1000.txt, a line
`wordnet-id label` a class. Labels are places in the sorted WordNet ids, 0 to 999. What can be compared is: ids in
paths with labels, and the validation pictures' labels with the devkit's.

examples:
  cyclemlp data imagenet --imagenet ILSVRC2012 --output lists
  cyclemlp eval runs/b1 --data ILSVRC2012 --list lists/val_list.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the kinds of data sets and their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    imagenet = kinds.add_parser(
        "imagenet",
        help=KINDS["imagenet"],
        description=f"Write {KINDS['imagenet']}.",
        epilog=IMAGENET_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    imagenet.add_argument("--imagenet", type=Path, required=True, metavar="DIR|TAR", help="where ImageNet is")
    imagenet.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the lists go")
    imagenet.add_argument("--force", action="store_true", help="replace lists that are there")
    scenes = kinds.add_parser(
        "scenes",
        help=KINDS["scenes"],
        description=f"Compose {KINDS['scenes']}.",
        epilog=SCENES_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scenes.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, metavar="DIR", help="default: %(default)s"
    )
    scenes.add_argument("--force", action="store_true", help="replace scenes that are there")
    scenes.add_argument(
        "--preview", action="store_true", help="draw some scenes with their truth: DIR/preview.png"
    )
    group = scenes.add_argument_group("scenes")
    count = whole_number(1)
    group.add_argument(
        "--train", type=count, default=400, metavar="N", help="how many (default: %(default)s)"
    )
    group.add_argument("--val", type=count, default=100, metavar="N", help="how many (default: %(default)s)")
    group.add_argument(
        "--size",
        type=_size,
        default=(320, 240),
        metavar="WxH",
        help="of a scene in pixels (default: 320x240)",
    )
    group.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="default: %(default)s")
    group = scenes.add_argument_group("digits")
    group.add_argument(
        "--digits",
        type=_digits,
        default=tuple(range(10)),
        metavar="LIST",
        help="which, e.g. 0,1,2 (default: all); the first of them is class 1 of the masks",
    )
    group.add_argument(
        "--objects",
        type=_objects,
        default=(3, 8),
        metavar="MIN-MAX",
        help="how many in a scene (default: 3-8)",
    )
    group.add_argument(
        "--train-objects",
        type=_objects,
        metavar="MIN-MAX",
        help="how many in a scene for training, if others: more teach more in the same time (default: as --objects)",
    )
    group.add_argument(
        "--min-size",
        type=count,
        default=12,
        metavar="PIXELS",
        help="of the longer side (default: %(default)s)",
    )
    group.add_argument(
        "--max-size",
        type=count,
        default=120,
        metavar="PIXELS",
        help="of the longer side (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Make the data set; 0."""
    if args.kind == "imagenet":
        with plain_warnings("data"):
            return write_imagenet_lists(args)
    return make_scenes(args)


def write_imagenet_lists(args: argparse.Namespace) -> int:
    """`cyclemlp data imagenet`; 0.

    Raises:
        DataError: the pictures or labels are not as they should be.
        ConfigError: there are lists already.
    """
    from cyclemlp.data.classes import imagenet_class_map
    from cyclemlp.data.imagenet import (
        LISTS,
        PICTURES,
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
        for path in (output / name for name in (*(LISTS[split] for split in splits), CLASS_MAP)):
            if path.exists():
                raise ConfigError(
                    f"{path} is there already; choose another --output, or --force to replace it"
                )
    output_folder(output)
    rows, notes, commands = [], [], []
    for split in splits:
        place, source = open_imagenet(root, split)
        if place.form == "list":
            source.file_sizes()  # whether every picture is there
        labels = np.asarray([source.label(index) for index in range(len(source))])
        data, lines = list_lines(place, source, root)
        write_text(output / LISTS[split], "".join(lines))
        counts = np.unique(labels, return_counts=True)[1]
        rows.append([split, len(source), len(counts), f"{counts.min()}–{counts.max()}", str(place)])
        if len(source) != PICTURES[split]:
            notes.append(f"note: all of ImageNet has {PICTURES[split]:,} {split} pictures")
        option = "--val-data" if split == "val" else "--data"
        commands.append(
            f"{option} {shlex.quote(str(data))} {'--val-list' if split == 'val' else '--list'} "
            f"{shlex.quote(str(output / LISTS[split]))}"
        )
        if split == "val" and (compared := check_validation_labels(source, truth_folders(place.path))):
            notes.append(
                f"the labels of {compared:,} validation pictures are those of the devkit's ground truth"
            )
    write_text(
        output / CLASS_MAP, "".join(f"{word} {label}\n" for word, label in imagenet_class_map().items())
    )
    print(format_table(["split", "pictures", "classes", "a class", "from"], rows))
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


def make_scenes(args: argparse.Namespace) -> int:
    """`cyclemlp data scenes`; 0."""
    from cyclemlp.data.scenes import PREVIEW, SceneOptions, write_scenes

    options = SceneOptions(
        width=args.size[0],
        height=args.size[1],
        digits=args.digits,
        objects=args.objects,
        sizes=(args.min_size, args.max_size),
        seed=args.seed,
    )
    counts = write_scenes(
        args.output,
        options,
        train=args.train,
        val=args.val,
        train_objects=args.train_objects,
        force=args.force,
    )
    train, val = counts["train"], counts["val"]
    rows = [[value, name, train[name], val[name]] for value, name in enumerate(options.classes) if value]
    rows.append([None, "all", train.total(), val.total()])
    print(
        f"in {args.output}/: {args.train} scenes for training, {args.val} for validation, "
        f"{_words(options, args.train_objects)}\n"
    )
    print(format_table(["class", "digit", "objects, train", "val"], rows))
    if args.preview:
        preview(replace(options, objects=args.train_objects or options.objects), args.output / PREVIEW)
        print(f"\n{args.output / PREVIEW} shows some of them with their masks, boxes and names")
    print(f"\n{_next(args.output, options)}")
    return 0


def preview(options: SceneOptions, path: Path) -> None:
    """Draw the first training scenes, each with its masks and, beside, its boxes."""
    from cyclemlp.data.scenes import Scenes

    scenes, classes = Scenes(options, "train"), options.classes
    pictures = []
    for scene in (scenes[i] for i in range(PREVIEW_SCENES)):
        boxes, labels = [one.box for one in scene.objects], [one.label for one in scene.objects]
        masks = np.stack([one.mask for one in scene.objects])
        pictures.append(overlay_masks(scene.image, scene.mask, classes))
        pictures.append(draw_detections(scene.image, boxes, labels, None, classes, masks))
    picture_sheet(pictures, columns=4).save(path)


def _words(options: SceneOptions, train_objects: tuple[int, int] | None) -> str:
    (least, most), (small, large) = options.objects, options.sizes
    training = f" ({train_objects[0]} to {train_objects[1]} in training)" if train_objects else ""
    return (
        f"{options.width}x{options.height} pixels, each with {least} to {most} digits{training} of {small} to {large} "
        "pixels"
    )


def _next(output: Path, options: SceneOptions) -> str:
    data = "" if output == DEFAULT_OUTPUT else f" --data {shlex.quote(str(output))}"
    count = len(options.digits)
    change = "" if count == 10 else f", with copies of these files in which the classes are {count} digits"
    return "\n".join(
        [
            f"next{change}:",
            f"  cyclemlp seg train --config configs/seg/scenes.yaml{data}",
            f"  cyclemlp det train --config configs/det/scenes.yaml{data}",
        ]
    )


# ---- types of arguments


def _numbers(text: str, separator: str, example: str) -> tuple[int, ...]:
    parts = text.split(separator)
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers as in {example}")
    return tuple(map(int, parts))


def _pair(text: str, separator: str, example: str) -> tuple[int, int]:
    numbers = _numbers(text, separator, example)
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"{text!r}: give two whole numbers as in {example}")
    return numbers[0], numbers[1]


def _size(text: str) -> tuple[int, int]:
    return _pair(text, "x", "320x240")


def _objects(text: str) -> tuple[int, int]:
    return _pair(text, "-", "3-8")


def _digits(text: str) -> tuple[int, ...]:
    return _numbers(text, ",", "0,1,2")
