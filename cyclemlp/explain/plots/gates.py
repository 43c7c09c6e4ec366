"""Gate weights, block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cyclemlp.explain.gates import Gates
from cyclemlp.explain.plots.common import PathLike
from cyclemlp.report.plots import BLUE, GREEN, GREY, INK, ORANGE, _figure, _save, _style

BRANCH_NAMES = {"h": "Cycle FC, branch h", "w": "Cycle FC, branch w", "c": "channel FC"}
BRANCH_STYLES = {"h": (BLUE, "o"), "w": (ORANGE, "s"), "c": (GREEN, "^")}


def plot_gates(gates: Gates, path: PathLike) -> Path:
    """How the gates weight the branches in each block: a dot a channel, the mean, and the spread over images.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    count, branches = len(gates.blocks), len(gates.branches)
    rng = np.random.default_rng(0)  # dots side by side, not on top of each other
    with _style():
        figure = _figure(min(max(7.0, 2.2 + 0.75 * count), 22), 4.2)
        axes = figure.subplots()
        for k, branch in enumerate(gates.branches):
            colour, marker = BRANCH_STYLES[branch]
            places = np.arange(count) + (k - (branches - 1) / 2) * 0.26
            for x, block in zip(places, gates.blocks, strict=True):
                jitter = rng.uniform(-0.09, 0.09, len(block.mean))
                axes.scatter(x + jitter, block.mean[:, k], s=4, color=colour, alpha=0.25, linewidth=0)
            axes.errorbar(
                places,
                [block.branch_mean[k] for block in gates.blocks],
                yerr=[block.over_images[k] for block in gates.blocks],
                fmt=marker,
                markersize=6,
                markeredgecolor="white",
                color=colour,
                ecolor=INK,
                elinewidth=1.4,
                capsize=3,
                label=BRANCH_NAMES[branch],
                zorder=3,
            )
        axes.axhline(1 / branches, color=GREY, linewidth=1, linestyle=":", zorder=0)
        axes.set_xticks(range(count), [f"{block.stage}.{block.block}" for block in gates.blocks])
        for i in range(1, count):
            if gates.blocks[i].stage != gates.blocks[i - 1].stage:
                axes.axvline(i - 0.5, color="#C9CDD3", linewidth=0.8)
        axes.grid(axis="x", visible=False)
        axes.set(
            xlabel="stage.block (dots: a channel's mean; bars: standard deviation over images)",
            ylabel="weight",
            xlim=(-0.6, count - 0.4),
            title=f"Gate weights over {gates.images:,} images",
        )
        figure.legend(loc="outside lower left", ncols=branches, fontsize=9)
        return _save(figure, path)
