"""`cyclemlp explain gates`: how the gates weight the branches."""

from __future__ import annotations

import argparse
from typing import Any

from cyclemlp.cli.explain import given
from cyclemlp.report import format_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""
    given.add_model_arguments(parser)
    given.add_image_arguments(parser, 256)


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from cyclemlp.explain import gate_weights
    from cyclemlp.explain.images import batches
    from cyclemlp.explain.plots import plot_gates

    model, name = given.open_model(args)
    gates = gate_weights(model, batches(given.read_images(args, model)))
    plot_gates(gates, args.output)
    blocks, rows = [], []
    for block in gates.blocks:
        means = dict(zip(gates.branches, block.branch_mean.tolist(), strict=True))
        images = dict(zip(gates.branches, block.over_images.tolist(), strict=True))
        channels = dict(zip(gates.branches, block.over_channels.tolist(), strict=True))
        rows.append(
            [
                f"{block.stage}.{block.block}",
                *(f"{value:.3f}" for value in means.values()),
                f"{max(channels.values()):.3f}",
                f"{max(images.values()):.3f}",
            ]
        )
        blocks.append(
            {
                "stage": block.stage,
                "block": block.block,
                "mean": means,
                "over_channels": channels,
                "over_images": images,
                "channel_means": {
                    branch: [round(value, 5) for value in block.mean[:, k].tolist()]
                    for k, branch in enumerate(gates.branches)
                },
            }
        )
    header = ["stage.block", *gates.branches, "spread over channels", "over images"]
    words = (
        format_table(header, rows)
        + f"\n\nMean weight of each branch over {gates.images:,} images and all channels; standard deviations, the "
        "greatest of the branches."
    )
    return {"model": name, "images": gates.images, "branches": gates.branches, "blocks": blocks}, words
