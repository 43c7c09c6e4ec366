"""A drawing of the network with shapes and costs; its data is what `cyclemlp.network.part_costs` gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np

from cyclemlp.network import CycleMLPConfig, PartCost
from cyclemlp.report.figures import BLUE, GREEN, GREY, INK, ORANGE, PathLike, saved_figure
from cyclemlp.text import counted


def plot_network(
    name: str, config: CycleMLPConfig, parts: Sequence[PartCost], size: tuple[int, int], path: PathLike
) -> Path:
    """A network's places from image to logits, one block in detail, and where parameters and MACs are.

    Args:
        name: for the title.
        config: the architecture.
        parts: of `cyclemlp.network.part_costs`.
        size: height and width of the image, in pixels.
    """
    places: dict[str, list[PartCost]] = {}
    for part in parts:
        places.setdefault(part.place, []).append(part)
    total = sum(part.parameters for part in parts), sum(part.macs for part in parts)
    with saved_figure(path, 12.0, 6.6) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
        above.suptitle(
            f"{name}: {total[0] / 1e6:.2f} M parameters, {_count(total[1])} MACs at {size[0]}×{size[1]}",
            x=0.01,
            ha="left",
            fontweight="bold",
        )
        _draw_places(above.subplots(), config, places, size)
        left, right = below.subfigures(1, 2, width_ratios=(1.25, 1))
        _draw_block(left.subplots(), config)
        _draw_shares(right.subplots(), parts)
    return Path(path)


def _draw_places(
    axes: Any, config: CycleMLPConfig, places: Mapping[str, Sequence[PartCost]], size: tuple[int, int]
) -> None:
    """Boxes from left to right, lower with every stride; under each what it gives and costs."""
    axes.axis("off")
    stages = sum(place.startswith("stage") for place in places)
    wide, narrow, gap = 1.5, 0.95, 0.12
    x = 0.0
    heads = [f"{size[0]}×{size[1]}×{config.in_chans}", "parameters:", "MACs:"]
    x = _place(axes, x, 0.95, 1.0, "image", GREY, heads) + gap
    for place, inside in places.items():
        last = inside[-1]
        stage = int(place[-1]) if place[-1].isdigit() else 0
        is_stage = place.startswith("stage")
        height = 1.0 - 0.17 * ((stage or (1 if place.startswith("patch") else stages)) - 1)
        lines = [
            f"{last.height}×{last.width}×{last.channels}",
            _count(sum(part.parameters for part in inside)),
            _count(sum(part.macs for part in inside)),
        ]
        if is_stage:
            words = f"stage {stage}\n{counted(inside[0].times, 'block')}"
        else:
            words = "\n".join(
                wrap(place, 13) + ([] if place in ("head", "maps") else wrap(inside[0].name, 13))
            )
        colour = BLUE if is_stage else ORANGE if place.startswith(("patch", "down")) else GREEN
        x = _place(axes, x, wide if is_stage else narrow, height, words, colour, lines) + gap
    axes.set(xlim=(-0.05, x), ylim=(-1.05, 0.52))


def _place(
    axes: Any, x: float, width: float, height: float, words: str, colour: str, lines: Sequence[str]
) -> float:
    """A box with words in it and lines under it; returns where it ends."""
    _box(axes, x, 0, width, height, words, colour)
    axes.text(x + width / 2, -0.62, "\n".join(lines), ha="center", va="top", fontsize=7.5, linespacing=1.4)
    return x + width


def _draw_block(axes: Any, config: CycleMLPConfig) -> None:
    """One block: norm, the branches side by side, gate, projection; norm, channel MLP; both with a way round."""
    axes.axis("off")
    count = len(config.branches)
    steps = dict(zip("hw", config.step_sizes, strict=True))
    words = {
        "c": "channel FC",
        **{branch: f"Cycle FC\n{step[0]}×{step[1]}" for branch, step in steps.items()},
    }
    heights = [(count - 1) / 2 - k for k in range(count)]

    def box(x: float, y: float, width: float, text: str, colour: str, height: float = 0.66) -> None:
        _box(axes, x, y, width, height, text, colour)

    box(0.35, 0, 0.7, "norm", GREY)
    for branch, y in zip(config.branches, heights, strict=True):
        axes.plot([1.05, 1.35], [0, y], color=INK, linewidth=1)
        box(1.35, y, 1.2, words[branch], GREEN if branch == "c" else BLUE, 0.78)
        axes.plot([2.55, 2.9], [y, 0], color=INK, linewidth=1)
    box(2.9, 0, 0.95, "gate,\nweighted\nsum" if config.gate else "sum", ORANGE, 0.95)
    box(4.1, 0, 1.0, "projection", BLUE)
    box(5.95, 0, 0.7, "norm", GREY)
    box(6.95, 0, 1.05, "channel\nMLP, GELU", BLUE, 0.78)
    for start, end in (
        (0, 0.35),
        (3.85, 4.1),
        (5.1, 5.35),
        (5.65, 5.95),
        (6.65, 6.95),
        (8.0, 8.25),
        (8.55, 8.85),
    ):
        axes.annotate(
            "", (end, 0), (start, 0), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1}
        )
    top = max(heights[0], 0.4) + 0.75
    for start, plus in ((0.15, 5.5), (5.8, 8.4)):
        axes.plot([start, start, plus, plus], [0, top, top, 0.2], color=GREY, linewidth=1)
        axes.plot(plus, 0, "o", markersize=14, markerfacecolor="white", color=INK, markeredgewidth=1)
        axes.text(plus, 0, "+", ha="center", va="center", fontsize=11)
    axes.set(xlim=(-0.1, 8.95), ylim=(-top - 0.1, top + 0.25))
    axes.set_title("One block", fontsize=10)


def _box(axes: Any, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (x, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=colour,
            linewidth=0,
            zorder=2,
        )
    )
    axes.text(
        x + width / 2,
        y,
        text,
        ha="center",
        va="center",
        color="white",
        fontsize=7.5,
        linespacing=1.2,
        zorder=3,
    )


def _draw_shares(axes: Any, parts: Sequence[PartCost]) -> None:
    """Bars: each kind of part's share of the parameters and of the MACs."""
    kinds: dict[str, list[int]] = {}
    for part in parts:
        inside = part.place.startswith("stage")
        kind = part.name if inside else part.place.rstrip("0123456789– ")
        kind = "branches" if kind.startswith("branches") else "norms" if "norms" in kind else kind
        entry = kinds.setdefault(kind, [0, 0])
        entry[0] += part.parameters
        entry[1] += part.macs
    totals = [max(1, sum(values)) for values in zip(*kinds.values(), strict=True)]
    rows = np.arange(len(kinds))[::-1]
    for k, (label, colour) in enumerate((("parameters", BLUE), ("MACs", ORANGE))):
        shares = [100 * values[k] / totals[k] for values in kinds.values()]
        axes.barh(rows + 0.19 - 0.38 * k, shares, 0.36, color=colour, label=label)
        for row, share in zip(rows, shares, strict=True):
            axes.text(share + 0.6, row + 0.19 - 0.38 * k, f"{share:.1f}", va="center", fontsize=7.5)
    axes.set_yticks(rows, list(kinds))
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="share, %")
    axes.set_title("Where the cost is", fontsize=10)
    axes.margins(x=0.12)
    axes.legend(fontsize=8)


def _count(number: int) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)
