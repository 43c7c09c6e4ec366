"""The one way to make a figure: in one style, without a display, written whole or not at all.

    with saved_figure("losses.png", 4.0, 3.0, title="Losses") as figure:
        axes = figure.subplots()
        axes.plot(losses, color=BLUE)

matplotlib is optional and imported at first use, without pyplot: no display, no global state.
Blue and orange (Okabe and Ito's) carry all meaning, together with a form or a word: every reader sees it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import MissingDependencyError
from cyclemlp.files import replacing

PathLike = str | os.PathLike[str]

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8A8F98", "#22262B"
#: Lines between cells, and of the grid.
PALE = "#E3E6EA"
#: Of several lines, in this order; an eighth begins anew, with a marker.
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = (None, "s", "^", "D", "v", "o")
#: The figures' forms, by the suffix of their path.
FORMS = (".png", ".svg", ".pdf")

STYLE: dict[str, Any] = {
    "font.size": 10,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": PALE,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 130,
}


@contextmanager
def saved_figure(
    path: PathLike, width_inches: float, height_inches: float, *, title: str | None = None
) -> Iterator[Any]:
    """A matplotlib figure in this style, which is written to `path` where the block ends without an error.

    A reader of an older figure there never meets half a new one.

    Args:
        path: where to write, in a folder that is made if need be; the suffix decides the form (.png, .svg, .pdf).
        width_inches, height_inches: its size.
        title: over all of it.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    with require_matplotlib().rc_context(STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
        if title:
            figure.suptitle(title, x=0.01, ha="left")
        yield figure
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            figure.savefig(part)


def require_matplotlib() -> Any:
    """matplotlib; to be asked for before long work whose end is a figure.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingDependencyError(
            'drawing needs matplotlib, which is not installed: pip install "paddle-cyclemlp[plot]"'
        ) from None
    return matplotlib


def line_style(index: int) -> dict[str, Any]:
    """Colour and marker of the line `index` of several, from 0, as keywords of `Axes.plot`."""
    turn, colour = divmod(index, len(COLOURS))
    return {"color": COLOURS[colour], "marker": MARKERS[turn % len(MARKERS)], "markersize": 5}


def rgb(colour: str) -> np.ndarray:
    """`#RRGGBB` as float64 [3], in 0..1."""
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def cell_lines(axes: Any, rows: int, columns: int, colour: str = PALE, width: float = 0.8) -> None:
    """Lines between the cells of an image [rows, columns], instead of a grid through their middles."""
    axes.grid(False)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=colour, linewidth=width)
    axes.tick_params(which="minor", length=0)
