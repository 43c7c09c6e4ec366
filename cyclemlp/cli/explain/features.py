"""`cyclemlp explain features`: feature maps of an image."""

from __future__ import annotations

import argparse
from typing import Any

from cyclemlp.cli.explain import given
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError
from cyclemlp.report import format_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""
    given.add_model_arguments(parser)
    given.add_image_arguments(parser, 1)
    add(parser, "--stage", "default: all")
    add(parser, "--count", "channels a stage (default: %(default)s)", default=8)
    add(
        parser,
        "--order",
        "which: those that differ most from position to position (default), or the first",
        choices=("active", "first"),
        default="active",
    )
    add(parser, "--channels", "which, by number, instead")
    add(parser, "--whole", "the whole image, not its central square")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from cyclemlp.explain import feature_maps, plot_features

    model, name = given.open_model(args)
    images = list(given.read_images(args, model, whole=args.whole))
    if len(images) > 1:
        raise ConfigError(f"a sheet is of one image, and {len(images)} are given: run it for each of them")
    (image,) = images
    found = feature_maps(
        model, image.image, args.stage, count=args.count, order=args.order, channels=args.channels
    )
    plot_features(found, image.pixels, args.figure, title=f"{name}: {image.name}")
    facts = [
        {"stage": stage.stage, "channels": stage.channels.tolist(), "activity": stage.activity.tolist()}
        for stage in found
    ]
    rows = [
        [stage.stage, "×".join(map(str, stage.maps.shape[1:])), " ".join(map(str, stage.channels))]
        for stage in found
    ]
    words = format_table(["stage", "map", "channels"], rows)
    return {"model": name, "image": image.name, "stages": facts}, words
