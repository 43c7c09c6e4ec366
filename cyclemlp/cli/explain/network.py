"""`cyclemlp explain network`: the network with shapes and costs."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from cyclemlp.cli.explain import given
from cyclemlp.errors import ConfigError
from cyclemlp.report import format_table
from cyclemlp.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""
    given.add_model_arguments(parser)
    parser.add_argument(
        "--size",
        metavar="PIXELS",
        help="of the image, 224, or height×width as 512x1024 (default: the model's)",
    )


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from cyclemlp.explain import plot_network
    from cyclemlp.network import part_costs

    config, preprocessing, name = given.architecture(args)
    height, width = _size(args.size or preprocessing.size_text, config.min_size)
    parts = part_costs(config, height, width)
    plot_network(name, config, parts, (height, width), args.figure)
    total = [sum(part.parameters for part in parts), sum(part.macs for part in parts)]
    rows: list[list[object]] = []
    for i, part in enumerate(parts):
        place = part.place if i == 0 or part.place != parts[i - 1].place else ""
        shape = f"{part.height}×{part.width}×{part.channels}"
        share = f"{100 * part.macs / total[1]:.1f} %"
        rows.append([place, part.name, part.times, shape, part.parameters, part.macs, share])
    rows.append(["all", "", None, "", *total, "100.0 %"])
    header = ["part", "", "times", "gives", "parameters", "MACs", "share"]
    words = f"{name} at {height}×{width}\n\n{format_table(header, rows)}"
    facts = {
        "model": name,
        "size": [height, width],
        "parameters": total[0],
        "macs": total[1],
        "parts": [asdict(part) for part in parts],
    }
    return facts, words


def _size(text: str, least: int) -> tuple[int, int]:
    from cyclemlp.preprocessing import parse_size, sides

    height, width = sides(parse_size(text))
    if min(height, width) < least:
        raise ConfigError(
            f"--size {text}: this network needs at least {counted(least, 'pixel')} in both directions"
        )
    return height, width
