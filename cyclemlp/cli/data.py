"""`cyclemlp data KIND`: a data set checked or divided into parts, data sets that are made here, ImageNet's lists."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cyclemlp.cli.common import output_folder, plain_warnings, print_json
from cyclemlp.cli.options import (
    add,
    add_class_map_argument,
    add_classes_argument,
    add_labels_argument,
    image_size,
    share,
    whole_number,
)
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.report import Progress, draw_detections, format_table, image_sheet, overlay_masks, progress
from cyclemlp.text import printable

if TYPE_CHECKING:
    from cyclemlp.data import Finding, Source, Split
    from cyclemlp.data.scenes import SceneOptions

KINDS = {
    "check": "what is wrong with a data set: unreadable images, duplicates, leaks, imbalance",
    "split": "lists of training, validation and test images, from one set of images",
    "scenes": "scenes of handwritten digits, for segmentation and detection",
    "cifar": "CIFAR-10 or CIFAR-100 as tars of class folders, from the official archive",
    "imagenet": "ImageNet's lists, from its tars, folders or other lists",
}
DEFAULT_OUTPUT = Path("data/scenes")  # where configs/seg/scenes.yaml and configs/det/scenes.yaml look
PREVIEW_SCENES = 6
MOST_IMAGES = 5  # that are named of a finding about many
MOST_CLASSES = 50  # that the table of a split lists
CLASS_MAP = "map_to_1000.txt"  # as Paddle-CycleMLP calls it

SCENES_EPILOG = """
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

CHECK_EPILOG = """
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

SPLIT_EPILOG = """
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

CIFAR_EPILOG = """
what it reads: cifar-10-python.tar.gz or cifar-100-python.tar.gz, as https://www.cs.toronto.edu/~kriz/cifar.html has
them. The pickles in it are read as data: nothing of them is run.

what it writes: DIR/train.tar and DIR/test.tar with a PNG file an image, which loses nothing, in a folder a class.

examples:
  cyclemlp data cifar cifar-10-python.tar.gz --output data/cifar10
  cyclemlp data split data/cifar10/train.tar --val 0.1 --output data/cifar10
      5,000 of the training images for validation
"""

IMAGENET_EPILOG = """
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
    """Declare the kinds of data sets and their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    check = _add_kind(kinds, "check", "Find", CHECK_EPILOG)
    check.add_argument(
        "data", nargs="?", metavar="DIR|TAR", help="a folder a class, or train/ and val/ of such folders"
    )
    add(check, "--list", "text or CSV file that names the training images")
    add(check, "--val-data", "the validation images (default: the val/ of DIR)")
    add(check, "--val-list", "their list")
    add_class_map_argument(check)
    add_classes_argument(check)
    add_labels_argument(check)
    add(check, "--json")
    add(check, "--no-progress")
    _add_split_arguments(_add_kind(kinds, "split", "Write", SPLIT_EPILOG))
    cifar = _add_kind(kinds, "cifar", "Write", CIFAR_EPILOG)
    cifar.add_argument("archive", metavar="ARCHIVE", type=Path, help="cifar-10-python.tar.gz")
    add(cifar, "--output", "where the tars go", required=True)
    add(cifar, "--force", "replace tars that are there")
    add(cifar, "--no-progress")
    imagenet = _add_kind(kinds, "imagenet", "Write", IMAGENET_EPILOG)
    add(imagenet, "--imagenet", "where ImageNet is", required=True)
    add(imagenet, "--output", "where the lists go", required=True)
    add(imagenet, "--force", "replace lists that are there")
    scenes = _add_kind(kinds, "scenes", "Compose", SCENES_EPILOG)
    add(scenes, "--output", "default: %(default)s", default=DEFAULT_OUTPUT)
    add(scenes, "--force", "replace scenes that are there")
    add(scenes, "--preview", "draw some scenes with their truth: DIR/preview.png")
    group = scenes.add_argument_group("scenes")
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
    group = scenes.add_argument_group("digits")
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


def _add_kind(kinds: Any, name: str, verb: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        name,
        help=KINDS[name],
        description=f"{verb} {KINDS[name]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_split_arguments(parser: argparse.ArgumentParser) -> None:
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
    """Make, divide or check the data set; 0, or 1 for errors that were found."""
    if args.kind == "check":
        with plain_warnings("data"):
            return check(args)
    if args.kind == "split":
        with plain_warnings("data"):
            return split(args)
    if args.kind == "cifar":
        return write_cifar_tars(args)
    if args.kind == "imagenet":
        with plain_warnings("data"):
            return write_imagenet_lists(args)
    return make_scenes(args)


def check(args: argparse.Namespace) -> int:
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
        print(printable(f"{part:<6} {count:,} images, {len(report.classes[part])} classes{listed}"))
        if args.labels == "multi":
            counts = sorted(report.classes[part].items(), key=lambda pair: -pair[1])
            listed = ", ".join(f"{name} {count:,}" for name, count in counts[:MOST_CLASSES])
            print(printable(f"       {listed}{', …' if len(counts) > MOST_CLASSES else ''}"))
    for finding in sorted(findings, key=lambda finding: finding.level != "error"):
        print(printable(f"{finding.level}: {finding.kind}: {finding.message}", lines=False))
        for image in finding.images[:MOST_IMAGES] if finding.kind == "size" else []:
            print(printable(f"    {image}", lines=False))
    print(f"{errors} errors, {len(findings) - errors} warnings")
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


def write_cifar_tars(args: argparse.Namespace) -> int:
    """`cyclemlp data cifar`; 0.

    Raises:
        DataError: the archive is damaged or another one.
        ConfigError: there are tars already.
    """
    from cyclemlp.data.cifar import PARTS, read_cifar, write_class_tar

    paths = {part: args.output / f"{part}.tar" for part in PARTS}
    if not args.force:
        _refuse_existing(paths.values())
    found = read_cifar(args.archive)
    output_folder(args.output)
    total = sum(len(found[part].labels) for part in PARTS)
    bar: Progress[None] = progress(desc="images", total=total, disable=args.no_progress)
    with bar:
        for part, path in paths.items():
            write_class_tar(found[part], path, lambda: bar.update(1))
    for part, path in paths.items():
        print(f"{path}: {len(found[part].labels):,} images of {len(found[part].classes)} classes")
    command = ["cyclemlp", "data", "split", str(paths["train"]), "--val", "0.1", "--output", str(args.output)]
    print("\nnext, validation images set aside:", shlex.join(command), sep="\n  ")
    return 0


def write_imagenet_lists(args: argparse.Namespace) -> int:
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
        _refuse_existing(output / name for name in (*(LISTS[split] for split in splits), CLASS_MAP))
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
                f"the labels of {compared:,} validation images are those of the devkit's ground truth"
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


def _refuse_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path} is there already; choose another --output, or --force to replace it")


def split(args: argparse.Namespace) -> int:
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
        _refuse_existing(args.output / name for name in SPLIT_FILES)
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
    commands = [
        shlex.join(["cyclemlp", "data", "check", data, *lists]),
        shlex.join(["cyclemlp", "train", "--data", data, *lists]),
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
        print(f"… and {len(rows) - MOST_CLASSES:,} more classes")
    print(f"\nwritten: {', '.join(map(str, written))}")
    print("\nnext:", *commands, sep="\n  ")
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


def make_scenes(args: argparse.Namespace) -> int:
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


def _objects(text: str) -> tuple[int, int]:
    numbers = _numbers(text, "-", "3-8")
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"{text!r}: give two whole numbers as in 3-8")
    return numbers[0], numbers[1]


def _digits(text: str) -> tuple[int, ...]:
    return _numbers(text, ",", "0,1,2")
