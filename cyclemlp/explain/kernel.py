"""The pseudo-kernel of a Cycle FC: where it reads, by channel and after several blocks. NumPy only.

Source: the Cycle FC of CycleMLP (Chen et al., ICLR 2022, arXiv 2107.10224), figure 2, with the offsets of the
published weights, see `cyclemlp.offsets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import ConfigError
from cyclemlp.offsets import cycle_offsets
from cyclemlp.report.figures import BLUE, COLOURS, PathLike, cell_lines, rgb, saved_figure
from cyclemlp.text import counted

#: Beyond this many positions in one direction nothing can be seen in a drawing, and the sets take long to make.
WIDEST = 2001


@dataclass(frozen=True)
class Kernel:
    """Where the branches of a block read, and what is reached through several blocks.

    Attributes:
        branches: which of h, w (Cycle FCs) and c (channel FC) the block has.
        step_sizes: branch h or w → its step size (S_H, S_W).
        channels: number of channels, C.
        offsets: branch h or w → int64 [C, 2], the offset (δ_h, δ_w) in positions at which each channel is read.
        paths: number of blocks n → float64 [2·R_H + 1, 2·R_W + 1], centred on the position itself: the share of the
            ways through n blocks that end at this offset. In a block, the way round the mixer and each branch count
            alike, and within a branch each channel. Sums to 1; above 0 exactly where something is read.
    """

    branches: tuple[str, ...]
    step_sizes: dict[str, tuple[int, int]]
    channels: int
    offsets: dict[str, np.ndarray]
    paths: dict[int, np.ndarray]

    def positions(self, blocks: int) -> set[tuple[int, int]]:
        """The offsets (δ_h, δ_w) that are reached through so many blocks, the position itself among them."""
        paths = self.paths[blocks]
        radius = np.array(paths.shape) // 2
        return {(int(h), int(w)) for h, w in np.argwhere(paths > 0) - radius}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; of the paths, the positions that they reach."""
        return {
            "branches": self.branches,
            "step_sizes": self.step_sizes,
            "channels": self.channels,
            "offsets": {branch: offsets.tolist() for branch, offsets in self.offsets.items()},
            "positions": {blocks: sorted(self.positions(blocks)) for blocks in self.paths},
        }


def cycle_kernel(
    step_sizes: Sequence[tuple[int, int]] = ((1, 3), (3, 1)),
    channels: int = 64,
    blocks: Sequence[int] = (1, 2, 4),
    branches: Sequence[str] = ("h", "w", "c"),
) -> Kernel:
    """The pseudo-kernel of a block's Cycle FCs, and the positions reached through several blocks.

    The gate is left out: it weights the branches, and sees all positions through its mean.

    Args:
        step_sizes: (S_H, S_W) of branch h and of branch w.
        channels: C, at least 1.
        blocks: for which numbers of blocks to follow the paths.
        branches: which of h, w and c.

    Raises:
        ConfigError: for a step, a number of channels or of blocks below 1, an unknown branch, or more than `WIDEST`
            positions in a direction.
    """
    if not branches or not set(branches) <= {"h", "w", "c"}:
        raise ConfigError(f"branches are {', '.join(branches) or 'none'}; choose some of h, w and c")
    if channels < 1 or min([*blocks, 1]) < 1 or any(min(step) < 1 for step in step_sizes):
        raise ConfigError(
            f"channels={channels}, blocks={list(blocks)}, steps {list(step_sizes)}: each must be at least 1"
        )
    reach = max((max(step) // 2 for step in step_sizes), default=0) * max(blocks, default=0)
    if 2 * reach + 1 > WIDEST:
        raise ConfigError(
            f"with steps {list(step_sizes)}, {counted(max(blocks), 'block reaches', 'blocks reach')} "
            f"{counted(reach, 'position')} each way; at most {WIDEST // 2} are drawn: give fewer blocks or steps"
        )
    steps = {branch: step for branch, step in zip("hw", step_sizes, strict=True) if branch in branches}
    offsets = {branch: np.stack(cycle_offsets(channels, step), axis=1) for branch, step in steps.items()}
    radius = [max([step[axis] // 2 for step in steps.values()], default=0) for axis in (0, 1)]

    one = np.zeros([2 * r + 1 for r in radius])
    one[tuple(radius)] = 1 + ("c" in branches)  # round the mixer, and the channel FC
    for of_channel in offsets.values():
        np.add.at(one, tuple((of_channel + radius).T), 1 / channels)
    one /= one.sum()

    paths, through, done = {}, np.ones((1, 1)), 0
    for count in sorted(set(blocks)):
        for _ in range(count - done):
            through = _spread(through, one)
        paths[count], done = through, count
    return Kernel(tuple(branches), steps, channels, offsets, paths)


def _spread(paths: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Paths continued through one more block: the full convolution, [h, w] and [a, b] → [h + a − 1, w + b − 1]."""
    height, width = paths.shape
    total = np.zeros((height + one.shape[0] - 1, width + one.shape[1] - 1))
    for h, w in np.argwhere(one > 0):
        total[h : h + height, w : w + width] += one[h, w] * paths
    return total


# ---- the figure


def plot_kernel(kernel: Kernel, path: PathLike) -> Path:
    """The pseudo-kernel of each Cycle FC, which channel reads where, and what is reached through several blocks."""
    count = len(kernel.offsets)
    tallest = max([step[0] * step[1] for step in kernel.step_sizes.values()], default=1)
    above = count * (1.5 + 0.16 * min(tallest, 25))
    with saved_figure(path, 11.0, above + 4.0) as figure:
        parts = figure.subfigures(2, 1, height_ratios=(max(above, 0.1), 4.0))
        if count:
            grid = parts[0].subplots(count, 2, squeeze=False, width_ratios=(1, 2.6))
            for (branch, offsets), (seen, along) in zip(kernel.offsets.items(), grid, strict=True):
                _draw_pseudo_kernel(seen, along, branch, kernel.step_sizes[branch], offsets)
        panels = np.ravel(parts[1].subplots(1, len(kernel.paths), squeeze=False))
        widest = [max(paths.shape[axis] for paths in kernel.paths.values()) // 2 for axis in (0, 1)]
        for axes, (blocks, paths) in zip(panels, kernel.paths.items(), strict=True):
            _draw_reach(axes, blocks, paths, widest)
        parts[1].suptitle(
            "Positions that one position reads (darker: a greater share of the ways through the blocks)",
            x=0.01,
            ha="left",
            fontsize=10,
            fontweight="normal",
        )
    return Path(path)


def _draw_pseudo_kernel(
    seen: Any, along: Any, branch: str, step: tuple[int, int], offsets: np.ndarray
) -> None:
    height, width = step
    cycle = height * width
    lowest = (-(height // 2), -(width // 2))
    colours = _cycle_colours(cycle)
    shown = min(len(offsets), max(12, 2 * cycle), 60)

    cells = np.ones((height, width, 3))
    for turn in range(min(cycle, len(offsets)) - 1, -1, -1):
        at = tuple(offsets[turn] - lowest)
        cells[at] = colours[turn]
        if cycle <= 25:
            text = f"{turn}, {turn + cycle}, …" if height * width <= 5 else f"{turn}"
            seen.text(at[1], at[0], text, ha="center", va="center", color="white", fontsize=8)
    seen.imshow(cells, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    seen.set_xticks(range(width), [f"{lowest[1] + i:+d}" if lowest[1] + i else "0" for i in range(width)])
    seen.set_yticks(range(height), [f"{lowest[0] + i:+d}" if lowest[0] + i else "0" for i in range(height)])
    seen.set(xlabel="δ along W", ylabel="δ along H", title=f"branch {branch}: {height}×{width}")
    cell_lines(seen, height, width)

    strip = np.ones((cycle, shown, 3))
    for channel in range(shown):
        h, w = offsets[channel] - lowest
        strip[h * width + w, channel] = colours[channel % cycle]
    along.imshow(strip, aspect="auto", extent=(-0.5, shown - 0.5, cycle - 0.5, -0.5))
    along.set_xticks(range(0, shown, max(1, shown // 12)))
    if cycle <= 25:
        along.set_yticks(range(cycle), [_offset_name(index, step, lowest) for index in range(cycle)])
    else:
        along.set_yticks([])
    along.set(
        xlabel=f"input channel ({shown} of {len(offsets)})",
        ylabel="read at δ" if 1 in step else "read at (δ H, δ W)",
        title="by channel: the cycle starts at 0",
    )
    cell_lines(along, cycle, shown)


def _offset_name(index: int, step: tuple[int, int], lowest: tuple[int, int]) -> str:
    h, w = index // step[1] + lowest[0], index % step[1] + lowest[1]
    if 1 in step:
        return f"{h or w:+d}" if h or w else "0"
    return f"({h}, {w})".replace("-", "−")


def _cycle_colours(count: int) -> list[np.ndarray]:
    if count <= 4:
        return [rgb(colour) for colour in COLOURS[:count]]
    from matplotlib import colormaps

    return [np.array(colormaps["viridis"](i / count * 0.9)[:3]) for i in range(count)]


def _draw_reach(axes: Any, blocks: int, paths: np.ndarray, widest: Sequence[int]) -> None:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    height, width = (n // 2 for n in paths.shape)
    blues = LinearSegmentedColormap.from_list("reach", ["#D6E6F2", BLUE, "#00263D"])
    axes.imshow(
        np.ma.masked_equal(paths, 0),
        cmap=blues,
        norm=LogNorm(max(float(paths[paths > 0].min()), 1e-8), float(paths.max()) * 1.001),
        extent=(-width - 0.5, width + 0.5, height + 0.5, -height - 0.5),
    )
    axes.set(
        xlim=(-widest[1] - 0.5, widest[1] + 0.5),
        ylim=(widest[0] + 0.5, -widest[0] - 0.5),
        title=f"{counted(blocks, 'block')}: {counted(int((paths > 0).sum()), 'position')}",
    )
    axes.grid(False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
