"""Accuracy, speed and cost of a model by the size of its input: which sizes, the table and the figure.

The speed and the cost are given: nothing here knows a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import ConfigError, DataError
from cyclemlp.evaluation.tables import write_csv
from cyclemlp.preprocessing import Size, as_size, sides, size_words
from cyclemlp.report.figures import BLUE, GREY, PathLike, saved_figure
from cyclemlp.text import counted

#: Of the paper's figure, for a network trained at `PAPER_OWN_SIZE`; other networks' sizes are in proportion, and whole
#: multiples of `MULTIPLE`, so that patches and stages leave no pixels over.
PAPER_SIZES = tuple(range(128, 417, 32))
PAPER_OWN_SIZE, MULTIPLE = 224, 4
#: Up to so many sizes each has its tick.
MOST_TICKS = 12

#: What was measured at one size: `size`, `resize`, `top1` and `top1_interval` (percent), `images_per_second` (of the
#: network alone), `macs` (of an image; None if they are not known), and whatever else.
Row = Mapping[str, Any]


def choose_sizes(asked: Sequence[Size] | None, own: Size, least: int) -> list[Size]:
    """The sizes asked for, each once and ascending; by default the paper's, in proportion to the model's own size.

    Args:
        asked: None for the default.
        own: the input size that the model's file names.
        least: the smallest side that the network takes.

    Raises:
        ConfigError: one is too small for the network.
    """
    if asked is None:
        sizes = {
            as_size(*(MULTIPLE * round(side * size / PAPER_OWN_SIZE / MULTIPLE) for side in sides(own)))
            for size in PAPER_SIZES
        }
        return sorted((size for size in sizes if min(sides(size)) >= least), key=mean_side)
    for size in asked:
        if min(sides(size)) < least:
            raise ConfigError(
                f"--sizes has {size_words(size)}; this model needs at least {counted(least, 'pixel')} a side"
            )
    return sorted(set(asked), key=mean_side)


def mean_side(size: Size) -> float:
    """Side of the square of the same area, in pixels."""
    height, width = sides(size)
    return math.sqrt(height * width)


def write_sweep_csv(path: Path, rows: Sequence[Row]) -> None:
    """A line a size, written whole or not at all; the interval's ends are `top1_low` and `top1_high`."""
    flat = [
        {
            **row,
            **{key: size_words(row[key]) for key in ("size", "resize")},
            **dict(zip(("top1_low", "top1_high"), row["top1_interval"], strict=True)),
        }
        for row in rows
    ]
    header = [key for key in flat[0] if key != "top1_interval"]
    write_csv(path, header, ([row[key] for key in header] for row in flat))


def plot_sweep(rows: Sequence[Row], path: PathLike, *, own_size: Size, title: str | None = None) -> Path:
    """Accuracy, speed and, where they are known, MACs by input size.

    Args:
        rows: by ascending size.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        own_size: the size that the model's file names, drawn as a line.

    Raises:
        DataError: no size.
        MissingDependencyError: matplotlib is not installed.
    """
    if not rows:
        raise DataError("no size to draw")
    panels = [
        ("Accuracy", "top-1, %", "top1", 1.0),
        ("Speed of the network", "images/s", "images_per_second", 1.0),
    ]
    costs = [row["macs"] for row in rows]
    if None not in costs:
        unit, name = (1e9, "G") if max(costs) >= 1e9 else (1e6, "M")
        panels.append(("MACs of an image", f"MACs, {name}", "macs", unit))
    sizes = [mean_side(row["size"]) for row in rows]
    with saved_figure(path, 4.0 * len(panels), 3.5, title=title) as figure:
        for axes, (heading, label, key, unit) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            axes.plot(sizes, [row[key] / unit for row in rows], color=BLUE, marker="o", markersize=4.5)
            axes.axvline(mean_side(own_size), color=GREY, linestyle="--", linewidth=1.2)
            axes.set(title=heading, xlabel="input size, pixels a side", ylabel=label)
            if key == "top1":
                ends = np.transpose([row["top1_interval"] for row in rows])
                axes.fill_between(sizes, *ends, color=BLUE, alpha=0.2, linewidth=0)
            else:
                axes.set_ylim(bottom=0)
            if len(sizes) <= MOST_TICKS:
                axes.set_xticks(sizes, [size_words(row["size"]) for row in rows], fontsize=8)
    return Path(path)
