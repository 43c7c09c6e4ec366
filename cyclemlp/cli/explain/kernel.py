"""`cyclemlp explain kernel`: where a Cycle FC reads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from cyclemlp.cli import options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError
from cyclemlp.report import format_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this topic takes."""
    parser.add_argument(
        "--step",
        nargs="+",
        default=["3"],
        metavar="S|HxW",
        help="one number S: 1×S for branch h and S×1 for branch w; or HxW for both, or two of them (default: 3)",
    )
    add(parser, "--branches", "of a block (default: all)", choices=("h", "w", "c"), default=["h", "w", "c"])
    parser.add_argument(
        "--channels", type=options.whole_number(1), default=64, metavar="C", help="default: %(default)s"
    )
    add(
        parser,
        "--blocks",
        "through how many blocks to follow what is read (default: 1 2 4)",
        default=[1, 2, 4],
    )


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Draw it; returns the figures as JSON values, and as text."""
    from cyclemlp.explain import cycle_kernel, plot_kernel

    kernel = cycle_kernel(_steps(args.step), args.channels, args.blocks, args.branches)
    plot_kernel(kernel, args.figure)
    rows = [
        [blocks, len(kernel.positions(blocks)), paths.shape[0] // 2, paths.shape[1] // 2]
        for blocks, paths in kernel.paths.items()
    ]
    lines = [
        f"branch {branch}: step {step[0]}×{step[1]}, offsets (δ H, δ W) by channel: "
        + ", ".join(f"({h}, {w})" for h, w in kernel.offsets[branch][: max(4, min(step[0] * step[1], 12))])
        + ", …"
        for branch, step in kernel.step_sizes.items()
    ]
    lines += ["", format_table(["blocks", "positions read", "farthest along H", "along W"], rows)]
    lines += [
        "",
        "The cycle starts at 0, as the published weights were trained; the paper's formula and figure start it at −1.",
    ]
    return kernel.to_dict(), "\n".join(lines)


def _steps(words: Sequence[str]) -> tuple[tuple[int, int], tuple[int, int]]:
    if len(words) == 1 and words[0].isdigit():
        return (1, int(words[0])), (int(words[0]), 1)
    pairs = [word.lower().replace("×", "x").split("x") for word in words]
    if len(pairs) > 2 or not all(len(pair) == 2 and all(part.isdigit() for part in pair) for pair in pairs):
        raise ConfigError(f"--step {' '.join(words)}: give one number as 3, or one or two sizes as 3x3 7x1")
    steps = [(int(height), int(width)) for height, width in pairs]
    return steps[0], steps[-1]
