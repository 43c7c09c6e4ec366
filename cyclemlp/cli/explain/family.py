"""`cyclemlp explain family`: published accuracy and cost."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from cyclemlp.report import format_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from cyclemlp.explain import mlp_family, plot_family

    networks = mlp_family()
    plot_family(networks, args.figure)
    rows = [[n.name, n.parameters_millions, n.macs_billions, n.top1_percent, n.source] for n in networks]
    header = ["network", "parameters, M", "MACs, G", "top-1 %", "source"]
    words = (
        format_table(header, rows)
        + "\n\nAll figures are published ones: ImageNet-1k alone, 224². Nothing was measured here."
    )
    return {"networks": [asdict(network) for network in networks]}, words
