"""Options: each is declared once, and means the same in every command; groups that several commands share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import EXIF, INTERPOLATIONS, Size, parse_size
from cyclemlp.run import AUTO

#: What options are added to.
Group = argparse.ArgumentParser | argparse._ArgumentGroup | argparse._MutuallyExclusiveGroup

#: Below this many images, starting worker processes costs more time than they save.
FEW_IMAGES = 512
MOST_WORKERS = 8

#: For the end of a command's help.
DATA_HELP = """where the images come from:
  --data digits            scikit-learn's 1797 scanned handwritten digits, a fixed fifth of them for evaluation
  --data cifar10-sample    200 of CIFAR-10's test images, which come with the package
  --data DIR               a folder with one folder of images a class: DIR/cat/1.jpg, DIR/dog/7.png
  --data DIR               the same below DIR/train and DIR/val (or validation, test …)
  --list FILE              a text file with a line `name label` an image: `images/1.jpg 0`, or a CSV file with a head
                           `image,label`; names are relative to --data, or without it to the file's own folder
  --data FILE.tar          either of them in a tar, read without unpacking; also a tar with one tar a class
  --data DIR               ImageNet as it is downloaded, unpacked or listed: ILSVRC2012_img_train.tar, …_img_val.tar and
                           the devkit; train/ and val/; or train_list.txt and val_list.txt
"""

# ---- types of arguments


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Type of an argument that must be a whole number from `least`, up to `most`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            upto = "" if most is None else f" to {most}"
            raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from {least}{upto}")
        return value

    return parse


def finite_number(text: str) -> float:
    """Type of an argument that is a number: neither infinite nor none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}: give a finite number")
    return value


def share(text: str) -> float:
    """Type of an argument that is a share of a whole, from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a share from 0 to below 1, such as 0.2")
    return value


def image_size(text: str) -> Size:
    """Type of an argument that is a size: `224`, or height and width as in `192x256`."""
    try:
        return parse_size(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def minutes(text: str) -> float:
    """Type of an option that is a time in minutes, above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of minutes above 0")
    return value


# ---- every option, once

_SWITCH = {"action": "store_true"}
#: `--pretrained` without a tag.
DEFAULT_TAG = "default"
_COUNT = {"type": whole_number(1), "metavar": "N"}
_FROM_0 = {"type": whole_number(0), "metavar": "N"}
_COUNTS = {"type": whole_number(1), "metavar": "N", "nargs": "+"}
_FILE = {"type": Path, "metavar": "FILE"}
_FOLDER = {"type": Path, "metavar": "DIR"}
_SECONDS = {"type": finite_number, "metavar": "S"}
_MEGABYTES = {"type": finite_number, "metavar": "MB"}
_NAME = {"metavar": "NAME"}
_FILE_OR_IMAGENET = {"metavar": "FILE|imagenet"}
_SIDES = {"type": whole_number(1), "metavar": "PIXELS", "nargs": "+"}
_ASSIGNMENTS = {"action": "append", "default": [], "metavar": "KEY=VALUE"}

#: Type and placeholder of each option, the same in every command that has it.
OPTIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            *("--all", "--features", "--flip", "--force", "--int8", "--json", "--no-check", "--no-eval"),
            *(
                "--no-images",
                "--no-nms",
                "--no-progress",
                "--no-speed",
                "--partial",
                "--predictions",
            ),
            *("--preview", "--quick", "--report", "--sheet", "--show-recipe", "--skip-bad", "--whole"),
            *("--with-maps", "--without-gate"),
        ),
        _SWITCH,
    ),
    **dict.fromkeys(
        (
            *(
                "--accumulate",
                "--batch-size",
                "--calibration-images",
                "--count",
                "--epoch",
                "--epochs",
                "--images",
            ),
            *(
                "--iters",
                "--log-iters",
                "--max-batch",
                "--patience",
                "--queue",
                "--sample",
                "--save-interval",
                "--step",
            ),
            "--threads",
        ),
        _COUNT,
    ),
    **dict.fromkeys(("--freeze", "--seed", "--workers"), _FROM_0),
    **dict.fromkeys(("--batch", "--blocks", "--stage"), _COUNTS),
    **dict.fromkeys(("--config", "--figure", "--list", "--real", "--val-list", "--weights"), _FILE),
    **dict.fromkeys(("--output", "--overlays"), _FOLDER),
    **dict.fromkeys(("--against", "--host", "--model"), _NAME),
    **dict.fromkeys(("--class-map", "--classes"), _FILE_OR_IMAGENET),
    **dict.fromkeys(("--override", "--set"), _ASSIGNMENTS),
    **dict.fromkeys(("--read-timeout", "--seconds"), _SECONDS),
    **dict.fromkeys(("--max-megabytes", "--max-memory"), _MEGABYTES),
    **dict.fromkeys(("--stride", "--window"), _SIDES),
    "--allow-host": {"action": "append", "default": [], "metavar": "NAME"},
    "--beside": {"metavar": "MODEL", "nargs": "+"},
    "--bins": {"type": whole_number(1), "metavar": "M"},
    "--branches": {"nargs": "+"},
    "--calibration": {"metavar": "digits|IMAGE|FOLDER"},
    "--channels": {"type": whole_number(0), "metavar": "C", "nargs": "+"},
    "--class": {"metavar": "NAME|INDEX", "nargs": "+"},
    "--corrupt": {"metavar": "NAME", "nargs": "+"},
    "--crop-pct": {"type": finite_number, "metavar": "SHARE"},
    "--data": {"metavar": "digits|DIR|TAR"},
    "--device": {"metavar": "cpu|gpu|gpu:N"},
    "--imagenet": {"type": Path, "metavar": "DIR|TAR"},
    "--input-size": {"type": image_size, "metavar": "PIXELS|HxW"},
    "--labels": {"choices": ("single", "multi")},
    "--lr": {"type": finite_number, "metavar": "RATE"},
    "--max-megapixels": {"type": finite_number, "metavar": "MP"},
    "--max-minutes": {"type": minutes, "metavar": "M"},
    "--max-wait": {"type": finite_number, "metavar": "MS"},
    "--models": {"action": "extend", "metavar": "NAME", "nargs": "+"},
    "--opset": {"type": whole_number(7), "metavar": "N"},
    "--pretrained": {"nargs": "?", "const": DEFAULT_TAG, "metavar": "TAG"},
    "--resume": {"nargs": "?", "const": AUTO, "metavar": "RUN|CHECKPOINT"},
    "--scales": {"type": finite_number, "metavar": "S", "nargs": "+"},
    "--size": {"metavar": "PIXELS", "nargs": "+"},
    "--sizes": {"type": image_size, "metavar": "PIXELS|HxW", "nargs": "+"},
    "--threshold": {"type": finite_number, "metavar": "SCORE"},
    "--title": {"metavar": "WORDS"},
    "--top": {"type": whole_number(1), "metavar": "K"},
    "--topk": {"type": whole_number(1), "metavar": "K", "nargs": "+"},
    "--unfreeze": {"type": whole_number(1), "metavar": "EPOCHS", "nargs": "+"},
    "--val-data": {"metavar": "DIR|TAR"},
    "--version": {"action": "version"},
}
#: What those do that mean the same in every command.
HELP = {
    "--device": "where to compute (default: the GPU if Paddle was built for one, else the CPU)",
    "--json": "print JSON on stdout, all else on stderr",
    "--no-progress": "no progress bar",
    "--pretrained": "weights for --model: `published`, the authors' of ImageNet, fetched once; `cifar10`, small ones "
    "of this package; default: what there is of the variant",
    "--skip-bad": "leave out images that cannot be read",
}


def add(group: Group, flag: str, help: str | None = None, **more: Any) -> None:
    """Declare an option.

    Args:
        flag: one of `OPTIONS`, or another with all that is its own in `more`.
        help: what it does; None for those of `HELP`.
        more: default, choices, or what is different here, as `argparse` has it.
    """
    group.add_argument(
        flag, help=HELP.get(flag) if help is None else help, **{**OPTIONS.get(flag, {}), **more}
    )


# ---- parsers and positionals


def add_subcommands(
    parser: argparse.ArgumentParser,
    summaries: Mapping[str, str],
    *,
    dest: str,
    metavar: str,
    epilog: str | None = None,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Declare what follows a command's name, one of which must; yields each name with its parser."""
    subparsers = parser.add_subparsers(dest=dest, metavar=metavar, required=True)
    for name, summary in summaries.items():
        yield (
            name,
            subparsers.add_parser(
                name,
                help=summary,
                description=summary[0].upper() + summary[1:] + ".",
                epilog=epilog,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            ),
        )


def add_optional_positional(group: Group, name: str, **described: Any) -> None:
    """Declare a positional that may be left out: `nargs='?'` or `'*'` would match nothing where options come first."""
    group.add_argument(name, **described).required = False


def with_pretrained_tag(words: Sequence[str]) -> list[str]:
    """`--pretrained TAG` as one word, and `--pretrained` before anything else as `--pretrained=default`."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--pretrained":
            from cyclemlp.weights import pretrained_tags

            tag = word in pretrained_tags()
            joined[-1] += f"={word if tag else DEFAULT_TAG}"
            if tag:
                continue
        joined.append(word)
    return joined


def resolve_pretrained(args: argparse.Namespace, name: str) -> None:
    """Replace the default tag in `args.pretrained` by the variant's own, if it has one."""
    if args.pretrained == DEFAULT_TAG:
        from cyclemlp.weights import pretrained_tags
        from cyclemlp.weights.pretrained import PUBLISHED_TAG

        args.pretrained = next(iter(pretrained_tags(name)), PUBLISHED_TAG)


def take_model_word_as_image(args: argparse.Namespace, images: str) -> None:
    """With --model there is no MODEL: the word that was taken for it is the first of `args.<images>`."""
    if args.model is not None and args.model_or_file is not None:
        setattr(args, images, [args.model_or_file, *(getattr(args, images) or [])])
        args.model_or_file = None


# ---- groups of arguments


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """`--data`, `--list`, `--class-map`: which images."""
    group = parser.add_argument_group("images")
    add(
        group,
        "--data",
        "the bundled digits, or a folder or tar: one folder of images a class, or with --list any (default with "
        "--list: the list's own folder)",
    )
    add(
        group,
        "--list",
        "text file with a line `name label` an image, or a CSV file with columns image and label; names are "
        "relative to --data",
    )
    add_class_map_argument(group)


def add_class_map_argument(group: Group) -> None:
    """`--class-map`: what turns folder names or words in a list into class numbers."""
    add(
        group,
        "--class-map",
        "text file with a line `wordnet-id index` a class, for lists whose label or folders whose name is "
        "such an id; `imagenet` is the built-in map of its 1000 classes",
    )


def add_classes_argument(group: Group) -> None:
    """`--classes`: names for people."""
    add(
        group,
        "--classes",
        "names of the classes, one a line in class order (`name` or `index name`); default: the model's own",
    )


def add_labels_argument(group: Group) -> None:
    """`--labels`: whether an image has one class or any number."""
    add(
        group,
        "--labels",
        "single: an image has one class (default); multi: it has any number of labels, as `name dog,outdoor` and "
        "`name -` in a list, or as a 0/1 column a class in a CSV file",
    )


def add_running_arguments(parser: argparse.ArgumentParser, *, batch_size: int) -> None:
    """`--batch-size`, `--workers`, `--device`."""
    group = parser.add_argument_group("running")
    add(
        group,
        "--batch-size",
        "images in one step (default: %(default)s); give fewer if memory runs out",
        default=batch_size,
    )
    add(
        group,
        "--workers",
        "processes that read images, 0 for none "
        f"(default: with a GPU and {FEW_IMAGES} images or more one a core, at most {MOST_WORKERS}, else 0)",
    )
    add(group, "--device")


def add_preprocessing_arguments(parser: argparse.ArgumentParser, *, input_size: bool = True) -> None:
    """`--input-size`, `--crop-pct`, `--interpolation`, `--exif`: overrides of the model's own evaluation preprocessing.

    Args:
        input_size: without it, the command has sizes of its own.
    """
    group = parser.add_argument_group("preparation of the images (default: as the model's file says)")
    parser.set_defaults(input_size=None)
    if input_size:
        add(
            group,
            "--input-size",
            "size of the network's input: the side of a square, or height x width such as 192x256",
        )
    add(
        group,
        "--crop-pct",
        "the input's height and width divided by the least ones of the image after resizing, e.g. 0.875",
    )
    add(group, "--interpolation", "how images are resized", choices=INTERPOLATIONS)
    add_exif_argument(group)


def add_exif_argument(group: Group) -> None:
    """`--exif`: what becomes of a rotation that an image's EXIF data note."""
    add(
        group,
        "--exif",
        "apply: turn images as their EXIF data say, as a photo viewer does; ignore: read them as they are stored, "
        "as the published networks were trained",
        choices=EXIF,
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Positional `model_or_file`; `--model NAME` with `--weights FILE` or `--pretrained`."""
    group = parser.add_argument_group("model")
    add_optional_positional(
        group,
        "model_or_file",
        metavar="MODEL",
        help="a run's folder of `cyclemlp train` (its best model, else its newest checkpoint), a checkpoint_… in it, "
        "or a weight file that it wrote: they know their architecture, preprocessing and classes",
    )
    add(group, "--model", "a variant by its name, e.g. cyclemlp_b1 (see `cyclemlp info`)")
    add(group, "--weights", "weights for --model: .pth, .pdparams, .safetensors")
    add(group, "--pretrained")
    add(group, "--layout", "layout of --weights, should it ask for it", choices=("authors", "paddle"))
    add_override_argument(group)


def add_override_argument(group: Group) -> None:
    """`--override`: what differs from the variant that is named."""
    add(
        group,
        "--override",
        "a value of the architecture that differs from the variant's, such as in_chans=1 or depths=[2,2,6,2]; may "
        "be repeated",
    )


def add_tta_argument(group: Group) -> None:
    """`--tta`: over which views of an image the probabilities are averaged."""
    add(
        group,
        "--tta",
        "average the probabilities over views of each image: flip, it and its mirror image (2 forward passes); crops, "
        "the centre and the corners of the resized image and their mirror images (10); default: none",
        choices=("none", "flip", "crops"),
        default="none",
    )


def add_threshold_argument(group: Group) -> None:
    """`--threshold`: of a model of several labels an image."""
    add(
        group,
        "--threshold",
        "of a model of several labels an image: the probability from which on a class counts as a label (default: the "
        "model's own, a threshold a class chosen in training, else 0.5)",
    )


def add_runtime_arguments(parser: argparse.ArgumentParser, *, exporter: str = "cyclemlp export") -> None:
    """`--runtime`, `--precision`, `--threads`: how an exported model runs.

    Args:
        exporter: the command that writes it.
    """
    from cyclemlp.deploy import PRECISIONS, RUNTIMES

    group = parser.add_argument_group(f"runtime, where MODEL is what `{exporter}` wrote")
    add(group, "--runtime", "what runs it (default: by its files)", choices=RUNTIMES)
    add(
        group,
        "--precision",
        "in which it computes; bfloat16: in OpenVINO, where `cyclemlp info` says that the processor can "
        "(default: the file's own)",
        choices=PRECISIONS,
    )
    add(group, "--threads", "threads (default: the runtime's own choice)")


def add_run_arguments(group: Group, *, default: str) -> None:
    """`--output`, `--resume`, `--force`: where a run lies and how it goes on; `--json`, `--no-progress`.

    Args:
        default: of `--output`, in words.
    """
    add(group, "--output", f"the run's folder (default: {default})")
    add(
        group,
        "--resume",
        "go on from the newest checkpoint of that run's folder, or from that checkpoint; without a value from the "
        "newest in --output, or begin if it has none",
    )
    add(group, "--force", "replace the run that is in --output")
    add(group, "--json")
    add(group, "--no-progress")
