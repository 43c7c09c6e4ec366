"""Pictures of what this room finds; each takes the data that a function of the room returned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from PIL import Image

from cyclemlp.errors import DataError
from cyclemlp.explain.family import Published
from cyclemlp.explain.features import FeatureMaps
from cyclemlp.explain.field import Field
from cyclemlp.explain.gates import Gates
from cyclemlp.explain.kernel import Kernel
from cyclemlp.network import CycleMLPConfig, PartCost
from cyclemlp.report.plots import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RUN_COLOURS,
    _figure,
    _rgb,
    _save,
    _style,
)

PathLike = str | os.PathLike[str]

BRANCH_NAMES = {"h": "Cycle FC, branch h", "w": "Cycle FC, branch w", "c": "channel FC"}
BRANCH_STYLES = {"h": (BLUE, "o"), "w": (ORANGE, "s"), "c": (GREEN, "^")}
#: Shares of the gradient whose area is given.
DRAWN_SHARES = (0.5, 0.95)
#: Side in pixels below which a picture is enlarged before something is laid over it.
OVERLAY_SIDE = 224


# ---- the pseudo-kernel


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


# ---- receptive fields


def plot_fields(fields: Mapping[str, Field], path: PathLike) -> Path:
    """Effective receptive fields: a row a network, a column a stage.

    Each map is drawn by the fourth root of its values; the squares hold half of the gradient, and 95 % of it.

    Raises:
        DataError: the networks' fields are not of the same stages, or there is none.
        MissingDependencyError: matplotlib is not installed.
    """
    stages = {field.stages for field in fields.values()}
    if len(stages) != 1:
        raise DataError(f"fields of the same stages can be drawn side by side; these are of {sorted(stages)}")
    with _style():
        columns = len(next(iter(stages)))
        figure = _figure(2.75 * columns + 0.3, 3.15 * len(fields) + 0.3)
        grid = figure.subplots(len(fields), columns, squeeze=False)
        for row, (name, field) in zip(grid, fields.items(), strict=True):
            areas = [field.area(share) for share in DRAWN_SHARES]
            for i, axes in enumerate(row):
                values = field.maps[i]
                axes.imshow((values / values.max()) ** 0.25, cmap="magma", vmin=0, vmax=1)
                for share, dash in zip(DRAWN_SHARES, ("-", ":"), strict=True):
                    _square(axes, field, i, share, dash)
                axes.set(xticks=[], yticks=[], title=f"stage {field.stages[i]}")
                axes.set_xlabel(
                    "\n".join(
                        f"{100 * share:g} % in {100 * area[i]:.2g} % of the area"
                        for share, area in zip(DRAWN_SHARES, areas, strict=True)
                    ),
                    fontsize=8.5,
                )
                axes.grid(False)
            row[0].set_ylabel(name, fontsize=9)
        return _save(figure, path)


def _square(axes: Any, field: Field, index: int, share: float, dash: str) -> None:
    """The square round the centre, as far as it lies in the picture."""
    height, width = field.maps.shape[1:]
    (y, x), half = field.centres[index], field.side(share)[index] / 2
    top, left, bottom, right = max(y - half, 0), max(x - half, 0), min(y + half, height), min(x + half, width)
    xs = np.array([left, right, right, left, left]) - 0.5
    ys = np.array([top, top, bottom, bottom, top]) - 0.5
    axes.plot(xs, ys, dash, color="white", linewidth=1.0)


# ---- Grad-CAM


@dataclass(frozen=True)
class CamPanel:
    """One overlay: heat [h, w] in [0, 1], and what stands above and below it."""

    heat: np.ndarray
    title: str
    caption: str


def overlay_heat(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture with heat in orange over it: uint8 [H', W', 3], enlarged by a whole factor if it is small.

    Args:
        pixels: uint8 [H, W, 1] or [H, W, 3].
        heat: [h, w] in [0, 1], spread over the picture by linear interpolation.
    """
    factor = max(1, round(OVERLAY_SIDE / min(pixels.shape[:2])))
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    picture = Image.fromarray(pixels.squeeze()).convert("RGB").resize(size, Image.Resampling.NEAREST)
    spread = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    share = 0.8 * np.clip(np.asarray(spread), 0, 1)[..., None]
    return np.rint((1 - share) * np.asarray(picture) + share * 255 * _rgb(ORANGE)).astype(np.uint8)


def plot_cams(
    pictures: Sequence[tuple[str, np.ndarray, Sequence[CamPanel]]], path: PathLike, *, title: str
) -> Path:
    """Pictures, each followed by its overlays.

    Args:
        pictures: (caption, uint8 [H, W, C], overlays) each; all with as many overlays.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no picture.
        MissingDependencyError: matplotlib is not installed.
    """
    if not pictures:
        raise DataError("no picture to draw")
    width = 1 + len(pictures[0][2])
    side_by_side = max(1, min(len(pictures), 10 // width))
    rows = -(-len(pictures) // side_by_side)
    with _style():
        figure = _figure(1.7 * width * side_by_side, 2.25 * rows + 0.4)
        grid = figure.subplots(rows, width * side_by_side, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for i, (caption, pixels, panels) in enumerate(pictures):
            first = (i % side_by_side) * width
            row = grid[i // side_by_side][first : first + width]
            _show(row[0], pixels, "", caption)
            for axes, panel in zip(row[1:], panels, strict=True):
                _show(axes, overlay_heat(pixels, panel.heat), panel.title, panel.caption)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
        return _save(figure, path)


def _show(axes: Any, pixels: np.ndarray, title: str, caption: str) -> None:
    axes.axis("on")
    axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.set_title(title, fontsize=8.5, fontweight="normal")
    axes.set_xlabel(caption, fontsize=8.5, linespacing=1.2)


# ---- gates


def plot_gates(gates: Gates, path: PathLike) -> Path:
    """How the gates weight the branches in each block: a dot a channel, the mean, and the spread over pictures.

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
                yerr=[block.over_pictures[k] for block in gates.blocks],
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
            xlabel="stage.block (dots: a channel's mean; bars: standard deviation over pictures)",
            ylabel="weight",
            xlim=(-0.6, count - 0.4),
            title=f"Gate weights over {gates.pictures:,} pictures",
        )
        figure.legend(loc="outside lower left", ncols=branches, fontsize=9)
        return _save(figure, path)


# ---- feature maps


def plot_features(maps: Sequence[FeatureMaps], pixels: np.ndarray, path: PathLike, *, title: str) -> Path:
    """Feature maps of one picture, a row a stage, each by its own range of values.

    Args:
        maps: of each stage, as many channels each.
        pixels: the picture, uint8 [H, W, 1] or [H, W, 3].
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    columns = 1 + max(len(stage.channels) for stage in maps)
    with _style():
        figure = _figure(1.25 * columns, 1.5 * len(maps) + 0.35)
        grid = figure.subplots(len(maps), columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for i, (row, stage) in enumerate(zip(grid, maps, strict=True)):
            if i == 0:
                _show(row[0], pixels, "picture", "")
            for axes, channel, values in zip(row[1:], stage.channels, stage.maps, strict=False):
                axes.axis("on")
                axes.imshow(values, cmap="viridis", interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
                axes.set_title(f"channel {channel}", fontsize=8, fontweight="normal")
            height, width = stage.maps.shape[1:]
            row[1].set_ylabel(f"stage {stage.stage}\n{height}×{width}", fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
        return _save(figure, path)


# ---- the family


def plot_family(networks: Sequence[Published], path: PathLike) -> Path:
    """Published accuracy against parameters and against multiply-adds, a line a family.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    families = list(dict.fromkeys(network.family for network in networks))
    others = [*(colour for colour in RUN_COLOURS if colour != ORANGE), GREY, "#7A4E2D"]
    with _style():
        figure = _figure(11.0, 5.6)
        panels = figure.subplots(1, 2, sharey=True)
        facts = (("parameters_millions", "parameters, M"), ("multiply_adds_billions", "multiply-adds, G"))
        for axes, (fact, label) in zip(panels, facts, strict=True):
            for i, family in enumerate(families):
                own = family.startswith("CycleMLP")
                points = sorted(
                    (getattr(network, fact), network.top1_percent, network)
                    for network in networks
                    if network.family == family and getattr(network, fact) is not None
                )
                axes.plot(
                    [x for x, _, _ in points],
                    [y for _, y, _ in points],
                    label=family,
                    color=ORANGE if own else others[i % len(others)],
                    marker="osD^vPX*"[i % 8],
                    markersize=5,
                    linestyle="--" if own and family != "CycleMLP" else "-",
                    linewidth=2.0 if own else 1.0,
                    zorder=3 if own else 2,
                )
                if own:
                    _name_points(axes, points, 6 if family == "CycleMLP" else -13)
            axes.set(xlabel=label, xscale="log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value)[0] in "25" else "")
            axes.tick_params(axis="x", which="minor", labelsize=8)
        panels[0].set_ylabel("ImageNet-1k top-1, %, as published")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=-(-len(families) // 2), fontsize=9)
        return _save(figure, path)


def _name_points(axes: Any, points: Sequence[tuple[float, float, Published]], above: int) -> None:
    for x, y, network in points:
        axes.annotate(
            network.name.removeprefix("CycleMLP-"),
            (x, y),
            xytext=(0, above),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
            zorder=4,
        )


# ---- the network


def plot_network(
    name: str, config: CycleMLPConfig, parts: Sequence[PartCost], size: tuple[int, int], path: PathLike
) -> Path:
    """A network's places from picture to logits, one block in detail, and where parameters and multiply-adds are.

    Args:
        name: for the title.
        config: the architecture.
        parts: of `cyclemlp.network.part_costs`.
        size: height and width of the picture, in pixels.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    places: dict[str, list[PartCost]] = {}
    for part in parts:
        places.setdefault(part.place, []).append(part)
    total = sum(part.parameters for part in parts), sum(part.multiply_adds for part in parts)
    with _style():
        figure = _figure(12.0, 6.6)
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
        above.suptitle(
            f"{name}: {total[0] / 1e6:.2f} M parameters, {_count(total[1])} multiply-adds at {size[0]}×{size[1]}",
            x=0.01,
            ha="left",
            fontweight="bold",
        )
        _draw_places(above.subplots(), config, places, size)
        left, right = below.subfigures(1, 2, width_ratios=(1.25, 1))
        _draw_block(left.subplots(), config)
        _draw_shares(right.subplots(), parts)
        return _save(figure, path)


def _draw_places(
    axes: Any, config: CycleMLPConfig, places: Mapping[str, Sequence[PartCost]], size: tuple[int, int]
) -> None:
    """Boxes from left to right, lower with every stride; under each what it gives and costs."""
    axes.axis("off")
    stages = sum(place.startswith("stage") for place in places)
    wide, narrow, gap = 1.5, 0.95, 0.12
    x = 0.0
    heads = [f"{size[0]}×{size[1]}×{config.in_chans}", "parameters:", "multiply-adds:"]
    x = _place(axes, x, 0.95, 1.0, "picture", GREY, heads) + gap
    for place, inside in places.items():
        last = inside[-1]
        stage = int(place[-1]) if place[-1].isdigit() else 0
        is_stage = place.startswith("stage")
        height = 1.0 - 0.17 * ((stage or (1 if place.startswith("patch") else stages)) - 1)
        lines = [
            f"{last.height}×{last.width}×{last.channels}",
            _count(sum(part.parameters for part in inside)),
            _count(sum(part.multiply_adds for part in inside)),
        ]
        if is_stage:
            words = f"stage {stage}\n{inside[0].times} block{'s' if inside[0].times > 1 else ''}"
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
    """Bars: each kind of part's share of the parameters and of the multiply-adds."""
    kinds: dict[str, list[int]] = {}
    for part in parts:
        inside = part.place.startswith("stage")
        kind = part.name if inside else part.place.rstrip("0123456789– ")
        kind = "branches" if kind.startswith("branches") else "norms" if "norms" in kind else kind
        entry = kinds.setdefault(kind, [0, 0])
        entry[0] += part.parameters
        entry[1] += part.multiply_adds
    totals = [max(1, sum(values)) for values in zip(*kinds.values(), strict=True)]
    rows = np.arange(len(kinds))[::-1]
    for k, (label, colour) in enumerate((("parameters", BLUE), ("multiply-adds", ORANGE))):
        shares = [100 * values[k] / totals[k] for values in kinds.values()]
        axes.barh(rows + 0.19 - 0.38 * k, shares, 0.36, color=colour, label=label)
        for row, share in zip(rows, shares, strict=True):
            axes.text(share + 0.6, row + 0.19 - 0.38 * k, f"{share:.1f}", va="center", fontsize=7.5)
    axes.set_yticks(rows, list(kinds))
    axes.set_axisbelow(True)
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
