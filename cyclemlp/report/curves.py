"""Curves of classification runs: losses, accuracies and the learning rate by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cyclemlp.errors import DataError
from cyclemlp.report.figures import BLUE, GREEN, GREY, INK, ORANGE, PathLike, line_style, saved_figure

Record = Mapping[str, Any]
Line = TypeVar("Line")

RATE = "Learning rate"
# Panel → key of the records → name, colour, dash. A panel without a single figure is left out.
CURVES: dict[str, dict[str, tuple[str, str, str]]] = {
    "Loss": {"train_loss": ("training", BLUE, "-"), "val_loss": ("validation", ORANGE, "--")},
    "Accuracy (%)": {
        "train_top1": ("training top-1", BLUE, "-"),
        "val_top1": ("validation top-1", ORANGE, "--"),
        "val_top5": ("validation top-5", GREEN, ":"),
        "ema_top1": ("validation top-1, EMA", INK, "-."),
    },
    "mAP and F1 (%)": {
        "val_map": ("validation mAP", ORANGE, "--"),
        "val_macro_f1": ("macro F1", GREEN, ":"),
        "ema_map": ("validation mAP, EMA", INK, "-."),
    },
    RATE: {"lr": ("learning rate", BLUE, "-")},
}
# The same for several runs, where the colour says which run.
RUN_CURVES: dict[str, dict[str, tuple[str, str]]] = {
    "Loss": {"train_loss": ("training", "-"), "val_loss": ("validation", "--")},
    "Accuracy (%)": {"val_top1": ("validation top-1", "-"), "ema_top1": ("of the EMA", ":")},
    "mAP (%)": {"val_map": ("validation mAP", "-"), "ema_map": ("of the EMA", ":")},
    RATE: {"lr": ("learning rate", "-")},
}
#: The figure whose best value is marked → its name: of one class an image, or of several labels.
BEST = {"val_top1": "top-1", "val_map": "mAP"}
#: Up to so many epochs each gets a dot: a single one must be visible too.
MOST_DOTS = 40


def plot_curves(records: Sequence[Record], path: PathLike, *, title: str | None = None) -> Path:
    """Loss, accuracy and learning rate by epoch.

    Args:
        records: one mapping an epoch with `epoch` (from 1) and any of `train_loss`, `val_loss`, `train_top1`,
            `val_top1`, `val_top5`, `val_map` (percent), `lr`; a missing or null figure is a gap.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no record holds a figure to draw.
        MissingDependencyError: matplotlib is not installed.
    """
    panels = _panels(CURVES, records)
    if not panels:
        raise DataError("no epoch to draw: the records hold neither loss, accuracy nor learning rate")
    epochs = [record["epoch"] for record in records]
    with saved_figure(path, 4.3 * len(panels), 3.4, title=title) as figure:
        for axes, name in _drawn(figure, panels):
            for key, (label, colour, dash) in panels[name].items():
                values = _values(records, key)
                if key in BEST:
                    best = int(np.nanargmax(values))
                    axes.plot(
                        epochs[best], values[best], "o", markersize=8, markerfacecolor="none", color=INK
                    )
                    label += f" (best {values[best]:.2f}, epoch {epochs[best]})"
                marker = "." if len(epochs) <= MOST_DOTS else None
                axes.plot(epochs, values, dash, color=colour, label=label, marker=marker)
            if len(panels[name]) > 1 or BEST.keys() & panels[name]:
                axes.legend()
    return Path(path)


def plot_runs(runs: Mapping[str, Sequence[Record]], path: PathLike, *, title: str | None = None) -> Path:
    """Loss, validation top-1 and learning rate of several runs in one figure: a colour a run.

    Args:
        runs: the legend's name of each run → its epochs, as `plot_curves` takes them.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: a run without a figure to draw, or no run.
        MissingDependencyError: matplotlib is not installed.
    """
    for name, records in runs.items():
        if not _panels(RUN_CURVES, records):
            raise DataError(f"{name}: no epoch to draw: it holds neither loss, accuracy nor learning rate")
    if not runs:
        raise DataError("no run to draw")
    panels = _panels(RUN_CURVES, [record for records in runs.values() for record in records])
    columns = min(3, len(runs))
    height = 3.6 + 0.22 * -(-len(runs) // columns)
    with saved_figure(path, 4.6 * len(panels), height, title=title) as figure:
        from matplotlib.lines import Line2D

        for axes, name in _drawn(figure, panels):
            for i, records in enumerate(runs.values()):
                for key, (_, dash) in _panels(RUN_CURVES, records).get(name, {}).items():
                    style = line_style(i) | {"linestyle": dash, "linewidth": 1.5}
                    style["marker"] = style["marker"] or ("." if len(records) <= MOST_DOTS else None)
                    every = max(1, len(records) // 15)
                    axes.plot([r["epoch"] for r in records], _values(records, key), markevery=every, **style)
            if len(panels[name]) > 1:
                lines = panels[name].values()
                axes.legend(
                    handles=[Line2D([], [], color=GREY, linestyle=dash, label=label) for label, dash in lines]
                )
        handles = [Line2D([], [], **line_style(i), label=_label(*run)) for i, run in enumerate(runs.items())]
        figure.legend(handles=handles, loc="outside lower left", ncols=columns)
    return Path(path)


def _panels(
    panels: Mapping[str, Mapping[str, Line]], records: Sequence[Record]
) -> dict[str, dict[str, Line]]:
    """The panels and lines of which a record has a figure; F1 only beside mAP."""
    found = {
        name: {key: line for key, line in lines.items() if any(r.get(key) is not None for r in records)}
        for name, lines in panels.items()
    }
    return {name: lines for name, lines in found.items() if lines and set(lines) != {"val_macro_f1"}}


def _drawn(figure: Any, panels: Iterable[str]) -> Iterator[tuple[Any, str]]:
    """Axes and name of each panel, which is finished when the next is asked for."""
    names = list(panels)
    for axes, name in zip(np.ravel(figure.subplots(1, len(names))), names, strict=True):
        yield axes, name
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if name == RATE:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _values(records: Sequence[Record], key: str) -> np.ndarray:
    """A figure by epoch, NaN where there is none."""
    return np.array([np.nan if record.get(key) is None else float(record[key]) for record in records])


def _label(name: str, records: Sequence[Record]) -> str:
    for key, title in BEST.items():
        there = [record for record in records if record.get(key) is not None]
        if there:
            best = max(there, key=lambda record: record[key])
            return f"{name} (best {title} {best[key]:.2f} %, epoch {best['epoch']})"
    return name
