"""`cyclemlp explain field`: effective receptive fields."""

from __future__ import annotations

import argparse
from typing import Any

from cyclemlp.cli.explain import given
from cyclemlp.cli.options import add
from cyclemlp.report import format_table

FIELD_SHARES = (0.25, 0.5, 0.75, 0.95)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""
    given.add_model_arguments(parser)
    given.add_image_arguments(parser, 16)
    add(
        parser,
        "--beside",
        "networks to compare with: run folders, weight files, variants (default: the same architecture with the "
        "channel FC as its only branch, random weights)",
    )
    add(parser, "--stage", "default: all")
    add(
        parser,
        "--without-gate",
        "leave out what goes through the gates, which see all positions through a mean",
    )


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from cyclemlp.explain import batches, effective_field, plot_fields

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
    plot_fields(fields, args.figure)
    facts = [
        {"model": name, **stage} for name, field in fields.items() for stage in field.to_dicts(FIELD_SHARES)
    ]
    rows = [
        [
            *(stage["model"], "×".join(map(str, stage["size"])), stage["stage"]),
            *(f"{100 * area:.2f} %" for area in stage["area"].values()),
            *(stage["side_pixels"]["0.95"], stage["any_gradient_pixels"]),
        ]
        for stage in facts
    ]
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
