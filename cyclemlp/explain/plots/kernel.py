"""The pseudo-kernel: which channel reads where, and what is reached through several blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.explain.kernel import Kernel
from cyclemlp.explain.plots.common import PathLike
from cyclemlp.report.plots import BLUE, GREEN, ORANGE, _figure, _rgb, _save, _style


def plot_kernel(kernel: Kernel, path: PathLike) -> Path:
    """The pseudo-kernel of each Cycle FC, which channel reads where, and what is reached through several blocks.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    with _style():
        count = len(kernel.offsets)
        tallest = max([step[0] * step[1] for step in kernel.step_sizes.values()], default=1)
        above = count * (1.5 + 0.16 * min(tallest, 25))
        figure = _figure(11.0, above + 4.0)
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
        )
        return _save(figure, path)


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
    _cell_lines(seen, height, width)

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
    _cell_lines(along, cycle, shown)


def _offset_name(index: int, step: tuple[int, int], lowest: tuple[int, int]) -> str:
    h, w = index // step[1] + lowest[0], index % step[1] + lowest[1]
    if 1 in step:
        return f"{h or w:+d}" if h or w else "0"
    return f"({h}, {w})".replace("-", "−")


def _cycle_colours(count: int) -> list[np.ndarray]:
    if count <= 4:
        return [_rgb(colour) for colour in (BLUE, ORANGE, GREEN, "#CC79A7")[:count]]
    from matplotlib import colormaps

    return [np.array(colormaps["viridis"](i / count * 0.9)[:3]) for i in range(count)]


def _cell_lines(axes: Any, rows: int, columns: int) -> None:
    axes.grid(False)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#E3E6EA", linewidth=0.8)
    axes.tick_params(which="minor", length=0)


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
        title=f"{blocks} block{'s' if blocks > 1 else ''}: {int((paths > 0).sum())} positions",
    )
    axes.grid(False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
