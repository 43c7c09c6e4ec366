"""`cyclemlp data scenes`: scenes of handwritten digits, for segmentation and detection."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cyclemlp.cli.options import add, image_size, whole_number
from cyclemlp.report import draw_detections, format_table, image_sheet, overlay_masks
from cyclemlp.text import counted

if TYPE_CHECKING:
    from cyclemlp.data.scenes import SceneOptions


DEFAULT_OUTPUT = Path("data/scenes")  # where configs/seg/scenes.yaml and configs/det/scenes.yaml look
PREVIEW_SCENES = 6

EPILOG = """
what it writes: images with masks, for PaddleSeg (images/, labels/, train.txt, val.txt, classes.txt), and the same
images with boxes and masks in COCO's format, for PaddleDetection (annotations/instances_train.json, _val.json).
The digits are scikit-learn's scans: training scenes hold none of those in validation scenes. Later digits hide
earlier ones, and masks and boxes are those of the visible parts.

examples:
  the data of configs/seg/scenes.yaml and configs/det/scenes.yaml:
    cyclemlp data scenes
  small scenes of three digits, and an image of some of them:
    cyclemlp data scenes --output data/three --digits 0,1,2 --size 120x160 --max-size 80 --preview
  more objects in the scenes for training, from which more is learnt in the same time:
    cyclemlp data scenes --train 3000 --train-objects 7-14
  many small objects:
    cyclemlp data scenes --output data/crowd --objects 15-30 --max-size 40
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this kind takes."""
    parser.epilog = EPILOG
    add(parser, "--output", "default: %(default)s", default=DEFAULT_OUTPUT)
    add(parser, "--force", "replace scenes that are there")
    add(parser, "--preview", "draw some scenes with their truth: DIR/preview.png")
    group = parser.add_argument_group("scenes")
    count = whole_number(1)
    add(group, "--train", "how many (default: %(default)s)", type=count, metavar="N", default=400)
    add(group, "--val", "how many (default: %(default)s)", type=count, metavar="N", default=100)
    group.add_argument(
        "--size",
        type=image_size,
        default=(240, 320),
        metavar="PIXELS|HxW",
        help="of a scene, height x width (default: 240x320)",
    )
    add(group, "--seed", "default: %(default)s", default=0)
    group = parser.add_argument_group("digits")
    add(
        group,
        "--digits",
        "which, e.g. 0,1,2 (default: all); the first of them is class 1 of the masks",
        type=_digits,
        metavar="LIST",
        default=tuple(range(10)),
    )
    add(
        group,
        "--objects",
        "how many in a scene (default: 3-8)",
        type=_objects,
        metavar="MIN-MAX",
        default=(3, 8),
    )
    add(
        group,
        "--train-objects",
        "how many in a scene for training, if others: more teach more in the same time (default: as --objects)",
        type=_objects,
        metavar="MIN-MAX",
    )
    add(
        group,
        "--min-size",
        "of the longer side (default: %(default)s)",
        type=count,
        metavar="PIXELS",
        default=12,
    )
    add(
        group,
        "--max-size",
        "of the longer side (default: %(default)s)",
        type=count,
        metavar="PIXELS",
        default=120,
    )


def run(args: argparse.Namespace) -> int:
    """`cyclemlp data scenes`; 0."""
    from cyclemlp.data.scenes import PREVIEW, SceneOptions, write_scenes

    height, width = (args.size, args.size) if isinstance(args.size, int) else args.size
    options = SceneOptions(
        height=height,
        width=width,
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
        f"in {args.output}/: {counted(args.train, 'scene')} for training, {args.val} for validation, "
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
    images = []
    for scene in (scenes[i] for i in range(PREVIEW_SCENES)):
        boxes, labels = [one.box for one in scene.objects], [one.label for one in scene.objects]
        masks = np.stack([one.mask for one in scene.objects])
        images.append(overlay_masks(scene.image, scene.mask, classes))
        images.append(draw_detections(scene.image, boxes, labels, None, classes, masks))
    image_sheet(images, columns=4).save(path)


def _words(options: SceneOptions, train_objects: tuple[int, int] | None) -> str:
    (least, most), (small, large) = options.objects, options.sizes
    training = f" ({train_objects[0]} to {train_objects[1]} in training)" if train_objects else ""
    return (
        f"{options.width}x{options.height} pixels, each with {least} to {counted(most, 'digit')}{training} of {small} "
        f"to {large} pixels"
    )


def _next(output: Path, options: SceneOptions) -> str:
    data = "" if output == DEFAULT_OUTPUT else f" --data {shlex.quote(str(output))}"
    count = len(options.digits)
    change = (
        ""
        if count == 10
        else f", with copies of these files in which the classes are {counted(count, 'digit')}"
    )
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


def _objects(text: str) -> tuple[int, int]:
    numbers = _numbers(text, "-", "3-8")
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"{text!r}: give two whole numbers as in 3-8")
    return numbers[0], numbers[1]


def _digits(text: str) -> tuple[int, ...]:
    return _numbers(text, ",", "0,1,2")
