"""`cyclemlp explain field`: effective receptive fields."""

from __future__ import annotations

import argparse
from typing import Any

from cyclemlp.cli import common
from cyclemlp.cli.explain import given
from cyclemlp.report import format_table

FIELD_SHARES = (0.25, 0.5, 0.75, 0.95)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""
    given.add_model_arguments(parser)
    given.add_image_arguments(parser, 16)
    parser.add_argument(
        "--beside",
        nargs="+",
        metavar="MODEL",
        help="networks to compare with: run folders, weight files, variants (default: the same architecture with the "
        "channel FC as its only branch, random weights)",
    )
    parser.add_argument("--stage", nargs="+", type=common.whole_number(1), metavar="N", help="default: all")
    parser.add_argument(
        "--without-gate",
        action="store_true",
        help="leave out what goes through the gates, which see all positions through a mean",
    )


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from cyclemlp.explain import effective_field
    from cyclemlp.explain.images import batches
    from cyclemlp.explain.plots import plot_fields

    models = {}
    first, name = given.open_model(args)
    models[name] = first
    if args.beside is None:
        models["channel FC only, random"] = _channel_fc_twin(first, args.seed)
    for other in args.beside or []:
        model, label = given.open_model(given.model_only(other, args.seed))
        models[label if label not in models else f"{label} ({other})"] = model
    fields = {
        name: effective_field(
            model, batches(given.read_images(args, model)), args.stage, through_gate=not args.without_gate
        )
        for name, model in models.items()
    }
    plot_fields(fields, args.output)
    rows, facts = [], []
    for name, field in fields.items():
        areas = [field.area(share) for share in FIELD_SHARES]
        sides = [field.side(share) for share in FIELD_SHARES]
        touched, size = field.touched(), field.maps.shape[1:]
        for i, stage in enumerate(field.stages):
            extent = f"{touched[i][1] - touched[i][0] + 1}×{touched[i][3] - touched[i][2] + 1}"
            shares = [f"{100 * area[i]:.2f} %" for area in areas]
            rows.append([name, "×".join(map(str, size)), stage, *shares, int(sides[-1][i]), extent])
            facts.append(
                {
                    "model": name,
                    "stage": stage,
                    "images": field.images,
                    "size": list(size),
                    "area": {
                        f"{share:g}": float(area[i]) for share, area in zip(FIELD_SHARES, areas, strict=True)
                    },
                    "side_pixels": {
                        f"{share:g}": int(side[i]) for share, side in zip(FIELD_SHARES, sides, strict=True)
                    },
                    "any_gradient_pixels": extent,
                }
            )
    shares = [f"{100 * share:g} %" for share in FIELD_SHARES]
    header = ["network", "image", "stage", *shares, "side, 95 %", "any, pixels"]
    words = (
        format_table(header, rows)
        + "\n\nThe smallest part of the image that holds so much of the gradient; the side, in pixels, of the square "
        "round\nthe centre that holds 95 % of it; and rows × columns with any gradient."
    )
    return {"without_gate": args.without_gate, "fields": facts}, words


def _channel_fc_twin(model: Any, seed: int) -> Any:
    """The same architecture with the channel FC as the only branch, and random weights."""
    import paddle

    from cyclemlp.kernels import select_kernels
    from cyclemlp.network import build_network

    paddle.seed(seed)
    twin = select_kernels(build_network(model.config.replace({"branches": ("c",)})))
    twin.metadata = model.metadata
    return twin
