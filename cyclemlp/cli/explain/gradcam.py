"""`cyclemlp explain gradcam`: which parts of an image speak for a class."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.cli import common, options
from cyclemlp.cli.explain import given
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError
from cyclemlp.report import format_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""
    given.add_model_arguments(parser)
    given.add_image_arguments(parser, 8)
    add(parser, "--class", "whose maps (default: the most probable class of each image)", dest="of_class")
    options.add_classes_argument(parser)
    add(parser, "--stage", "default: the last, exactly")
    add(parser, "--whole", "the whole image, not its central square")
    add(parser, "--overlays", "also write each overlay as an image of its own")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from PIL import Image

    from cyclemlp.explain import CamPanel, grad_cam, overlay_heat, plot_cams

    overlays = common.output_folder(args.overlays)
    model, name = given.open_model(args)
    names = common.model_class_names(model, args.classes)
    wanted = [_class_index(word, names) for word in args.of_class] if args.of_class else [None]
    drawn, facts, rows = [], [], []
    for number, image in enumerate(given.read_images(args, model, whole=args.whole)):
        panels = []
        for index in wanted:
            cam = grad_cam(model, image.image[None], None if index is None else [index], args.stage)
            label, probability = names[int(cam.classes[0])], float(cam.probabilities()[0])
            rows.append([image.name, label, f"{probability:.2%}", *(_peak(cam.heat(s)[0]) for s in cam.maps)])
            facts.append(
                {
                    "image": image.name,
                    "class": label,
                    "index": int(cam.classes[0]),
                    "probability": probability,
                    "maps": {
                        stage: [[float(f"{value:.4g}") for value in row] for row in maps[0]]
                        for stage, maps in sorted(cam.maps.items())
                    },
                }
            )
            for stage in sorted(cam.maps):
                heat = cam.heat(stage)[0]
                nothing = "" if heat.any() else "\nnothing speaks for it"
                panels.append(
                    CamPanel(heat, f"stage {stage}", f"{label} ({100 * probability:.0f} %){nothing}")
                )
                if overlays is not None:
                    stem = f"{number:03d}_{Path(image.name).stem}_class{cam.classes[0]}"
                    overlay = Image.fromarray(overlay_heat(image.pixels, heat))
                    overlay.save(overlays / f"{stem}_stage{stage}.png")
        true = f"\ntrue: {image.true}" if image.true else ""
        drawn.append((Path(image.name).name + true, image.pixels, panels))
    plot_cams(drawn, args.figure, title=f"Grad-CAM of {name}: orange speaks for the class")
    stages = sorted(cam.maps)
    header = ["image", "class", "probability", *(f"stage {stage}, strongest at" for stage in stages)]
    words = format_table(header, rows)
    if overlays is not None:
        words += f"\n\noverlays  {overlays}"
    return {"model": name, "images": facts}, words


def _class_index(word: str, names: Sequence[str]) -> int:
    if word in names:
        return list(names).index(word)
    if word.isdigit() and int(word) < len(names):
        return int(word)
    raise ConfigError(
        f"--class {word!r} is no class of this model; it has 0 to {len(names) - 1}: {', '.join(names[:8])}"
        f"{' …' if len(names) > 8 else ''}"
    )


def _peak(heat: np.ndarray) -> str:
    if not heat.any():
        return "–"
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return f"({row}, {column}) of {heat.shape[0]}×{heat.shape[1]}"
