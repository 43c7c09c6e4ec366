"""Models and images that topics of `cyclemlp explain` take: their arguments, and what these name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError

if TYPE_CHECKING:
    from cyclemlp.explain import Shown


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, which may have random weights here."""
    options.add_model_arguments(parser)
    add(
        parser,
        "--seed",
        "of random weights, where a variant is named without weights (default: %(default)s)",
        default=0,
    )


def add_image_arguments(parser: argparse.ArgumentParser, count: int) -> None:
    """Declare images; `count` of a data set unless it is said how many."""
    parser.set_defaults(default_images=count)
    group = parser.add_argument_group("images")
    options.add_optional_positional(
        group, "files", nargs="+", metavar="IMAGE|FOLDER", help="image files, and folders to look through"
    )
    add(
        group,
        "--data",
        "a data set instead: the bundled digits (default), or a folder with one folder of images a class",
        metavar="digits|DIR",
    )
    add(group, "--list", "text file with a line `name label` an image, below --data")
    add(
        group,
        "--images",
        "how many, taken at equal distances from the first to the last (default: all that are named, "
        f"{count} of a data set)",
    )
    options.add_preprocessing_arguments(parser)
    add(parser, "--device")


def model_only(given: str, seed: int) -> argparse.Namespace:
    """Model arguments of a model that is just named."""
    return argparse.Namespace(
        model_or_file=given, model=None, weights=None, pretrained=None, layout=None, override=[], seed=seed
    )


def open_model(args: argparse.Namespace) -> tuple[Any, str]:
    """The model, with random weights where a variant is named without any, and what to call it in a figure."""
    import paddle

    import cyclemlp
    from cyclemlp.network import canonical_name

    name = _variant_named(args)
    if name is not None:
        paddle.seed(args.seed)
        common.message(
            f"cyclemlp explain: warning: {name} has RANDOM weights (seed {args.seed}): this shows the architecture, "
            "not what a trained network does; give a run folder, --weights FILE or --pretrained"
        )
        overrides = common.model_overrides(args.override)
        return cyclemlp.create_model(name, **overrides), f"{canonical_name(name)}, random"
    model = common.open_model(args)
    return model, _label(args)


def architecture(args: argparse.Namespace) -> tuple[Any, Any, str]:
    """Configuration, preprocessing and name; no weights are needed, or made, for a variant."""
    import cyclemlp

    name = _variant_named(args)
    if name is not None:
        config, metadata = cyclemlp.models.describe_model(name, **common.model_overrides(args.override))
        return config, metadata.preprocessing, metadata.model
    model = common.open_model(args)
    return model.config, model.metadata.preprocessing, f"{model.metadata.model}, {_label(args)}"


def read_images(args: argparse.Namespace, model: Any, *, whole: bool = False) -> Iterator[Shown]:
    """The images that are asked for, as this model gets them."""
    from cyclemlp import explain
    from cyclemlp.data import ImageFiles, open_source

    if args.files and (args.data or args.list):
        raise ConfigError("give either images and folders, or --data, not both")
    if args.list and not args.data:
        raise ConfigError(f"--list {args.list} needs --data DIR, the folder that its names are relative to")
    source = (
        ImageFiles(args.files) if args.files else open_source(args.data or "digits", args.list, mode="val")
    )
    preprocessing = common.choose_preprocessing(model.metadata.preprocessing, args)
    count = args.images or (len(source) if args.files else args.default_images)
    return explain.read_images(source, preprocessing, count, whole=whole)


def _variant_named(args: argparse.Namespace) -> str | None:
    """The variant that is named without weights, if one is."""
    import cyclemlp
    from cyclemlp.network import canonical_name

    if args.weights or args.pretrained:
        return None
    if args.model_or_file is None or args.model is not None:
        return args.model if args.model_or_file is None else None
    given = args.model_or_file
    known = canonical_name(given) in cyclemlp.list_models()
    return given if known and not Path(given).exists() else None


def _label(args: argparse.Namespace) -> str:
    if args.model_or_file is not None:
        return Path(args.model_or_file).name
    return f"{args.model}, {args.weights.name if args.weights else 'published weights'}"
