"""`cyclemlp explain gates`: how the gates weight the branches."""

from __future__ import annotations

import argparse
from typing import Any

from cyclemlp.cli.explain import given
from cyclemlp.report import format_table
from cyclemlp.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""
    given.add_model_arguments(parser)
    given.add_image_arguments(parser, 256)


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from cyclemlp.explain import batches, gate_weights, plot_gates

    model, name = given.open_model(args)
    gates = gate_weights(model, batches(given.read_images(args, model)))
    plot_gates(gates, args.figure)
    rows = [
        [
            f"{block.stage}.{block.block}",
            *(f"{value:.3f}" for value in block.branch_mean),
            *(f"{spread.max():.3f}" for spread in (block.over_channels, block.over_images)),
        ]
        for block in gates.blocks
    ]
    header = ["stage.block", *gates.branches, "spread over channels", "over images"]
    words = (
        format_table(header, rows)
        + f"\n\nMean weight of each branch over {counted(gates.images, 'image')} and all channels; standard "
        "deviations, the greatest of the branches."
    )
    return {"model": name, **gates.to_dict()}, words
