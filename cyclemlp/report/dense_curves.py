"""Curves of segmentation and detection runs: losses by step; metrics by step and by minutes of training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import DataError
from cyclemlp.report.figures import GREY, INK, line_style, saved_figure
from cyclemlp.report.jsonlines import in_order

Record = Mapping[str, Any]

#: Words for the metrics that our own commands log; another key stands for itself.
METRIC_NAMES = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "dice": "mean Dice",
    "bbox_ap": "box AP",
    "bbox_ap50": "box AP50",
    "bbox_ap75": "box AP75",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "mask_ap75": "mask AP75",
}
DASHES = ("-", "--", ":", "-.")
#: Above this many steps a loss is drawn faint, with its running mean over a fiftieth of them on top.
MOST_PLAIN_STEPS = 100


def plot_dense_curves(
    runs: Mapping[str, Sequence[Record]],
    path: str | os.PathLike[str],
    *,
    metrics: Sequence[str],
    title: str | None = None,
) -> Path:
    """Losses by step, and metrics by step and by minutes of training, of one or several runs.

    The figure of one run has a colour a line and shows the parts of the loss too. That of several has a colour a
    run: at one height of the last panel stand the runs' metrics at equal time.

    Args:
        runs: the legend's name of each run → the records of its log.jsonl. Drawn are those whose `event` is "step"
            (`step`, `loss`, and its parts: other keys with "loss" in them) and "evaluation" (`step`, `seconds` since
            the start of the run, the metrics). A missing or null figure is a gap; of a step that was run twice, as
            after a crash, the later record counts.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        metrics: keys of the metrics to draw; the legend gives the best value of each, of several runs of the first.

    Raises:
        DataError: a run without a figure to draw, or no run.
        MissingDependencyError: matplotlib is not installed.
    """
    steps = {name: in_order(records, "step", "step") for name, records in runs.items()}
    evaluations = {name: in_order(records, "evaluation", "step") for name, records in runs.items()}
    for name in runs:
        if not _keys(steps[name], ["loss"]) and not _keys(evaluations[name], metrics):
            raise DataError(
                f"{name}: nothing to draw: no step has a `loss`, no evaluation has {_either(metrics)}"
            )
    if not runs:
        raise DataError("no run to draw")

    several = len(runs) > 1
    losses = ["loss"] if several else _loss_keys(next(iter(steps.values())))
    losses = _keys(_all(steps), losses)
    drawn = _keys(_all(evaluations), metrics)
    panels: list[tuple[str, str, str]] = []
    if losses:
        panels.append(("Loss", "step", "step"))
    if drawn:
        heading = ", ".join(map(_metric_name, drawn[:3])) + (" …" if drawn[3:] else "")
        panels += [
            (heading[0].upper() + heading[1:], "step", "step"),
            ("The same by time of training", "seconds", "minutes"),
        ]

    rows = -(-len(runs) // 3) if several else 0
    with saved_figure(path, 4.6 * len(panels), 3.6 + 0.22 * rows, title=title) as figure:
        from matplotlib.lines import Line2D

        for axes, (heading, across, unit) in zip(
            np.ravel(figure.subplots(1, len(panels))), panels, strict=True
        ):
            is_loss = heading == "Loss"
            keys, records_by_name = (losses, steps) if is_loss else (drawn, evaluations)
            for i, records in enumerate(records_by_name.values()):
                for k, key in enumerate(keys):
                    style = line_style(i if several else k) | {"linestyle": DASHES[k % 4] if several else "-"}
                    label = None if several else key if is_loss else _best(records, key)
                    (_draw_loss if is_loss else _draw_metric)(axes, records, key, across, style, label)
            axes.set(title=heading, xlabel=unit)
            if is_loss:
                axes.set_ylim(bottom=0)
            axes.set_xlim(left=0)
            if several and len(keys) > 1:
                kinds = [
                    Line2D([], [], color=GREY, linestyle=DASHES[k % 4], label=_metric_name(key))
                    for k, key in enumerate(keys)
                ]
                axes.legend(handles=kinds)
            elif not several and across == "step" and keys != ["loss"]:
                axes.legend()
        if several:
            handles = [
                Line2D(
                    [], [], **line_style(i), label=_best(evaluations[name], drawn[0], name) if drawn else name
                )
                for i, name in enumerate(runs)
            ]
            figure.legend(handles=handles, loc="outside lower left", ncols=min(3, len(runs)))
    return Path(path)


def _all(records_by_name: Mapping[str, Sequence[Record]]) -> list[Record]:
    return [record for records in records_by_name.values() for record in records]


def _keys(records: Sequence[Record], keys: Iterable[str]) -> list[str]:
    """Those of the keys under which a record has a figure."""
    return [key for key in keys if any(record.get(key) is not None for record in records)]


def _loss_keys(records: Sequence[Record]) -> list[str]:
    """`loss` and then its parts, in the records' order."""
    parts = {key: None for record in records for key in record if "loss" in key and key != "loss"}
    return ["loss", *parts]


def _values(records: Sequence[Record], key: str) -> np.ndarray:
    return np.array([np.nan if record.get(key) is None else float(record[key]) for record in records])


def _draw_loss(
    axes: Any, records: Sequence[Record], key: str, across: str, style: dict[str, Any], label: str | None
) -> None:
    x, values = _values(records, across), _values(records, key)
    style = style | {"marker": None, "linewidth": 1.5}
    if len(values) > MOST_PLAIN_STEPS:
        axes.plot(x, values, **style | {"linewidth": 0.6}, alpha=0.35)
        values = _running_mean(values, len(values) // 50)
    elif len(values) == 1:
        style["marker"] = "."
    axes.plot(x, values, **style, label=label)


def _draw_metric(
    axes: Any, records: Sequence[Record], key: str, across: str, style: dict[str, Any], label: str | None
) -> None:
    values = _values(records, key)
    if np.isnan(values).all():
        return
    x = _values(records, across) / (60 if across == "seconds" else 1)
    axes.plot(x, values, **style | {"marker": style["marker"] or "."}, label=label)
    best = int(np.nanargmax(values))
    axes.plot(x[best], values[best], "o", markersize=8, markerfacecolor="none", color=INK)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of the `width` values up to each, of fewer at the beginning; gaps are passed over."""
    there = ~np.isnan(values)
    sums, counts = np.cumsum(np.where(there, values, 0)), np.cumsum(there)
    sums[width:] -= sums[:-width].copy()
    counts[width:] -= counts[:-width].copy()
    return np.where(there, sums / np.maximum(counts, 1), np.nan)


def _best(records: Sequence[Record], key: str, name: str | None = None) -> str:
    words = f"{name}: {_metric_name(key)}" if name else _metric_name(key)
    found = [record for record in records if record.get(key) is not None]
    if not found:
        return name or words
    best = max(found, key=lambda record: record[key])
    return f"{words} (best {best[key]:.3f}, step {best['step']})"


def _metric_name(key: str) -> str:
    return METRIC_NAMES.get(key, key)


def _either(metrics: Sequence[str]) -> str:
    return " or ".join(f"`{key}`" for key in metrics)
