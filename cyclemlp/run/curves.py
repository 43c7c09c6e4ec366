"""Curves of runs of any kind, from their logs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclemlp.errors import DataError
from cyclemlp.report import in_order, plot_curves, plot_dense_curves, plot_runs, read_json_lines

#: Figures of an evaluation that are drawn.
METRICS = ("mean_iou", "bbox_ap", "bbox_ap50", "mask_ap", "mask_ap50")


def draw_runs(logs: Mapping[str, Path], path: Path, *, title: str | None = None) -> Path:
    """Draw one run, or several of one kind in one figure, a colour a run.

    Args:
        logs: the legend's name of each run → its log.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: a log holds nothing to draw, or cannot be read; the runs are of classification and of others.
        MissingDependencyError: matplotlib is not installed.
    """
    records = {name: read_json_lines(log) for name, log in logs.items()}
    epochs = {name: in_order(of_run, "epoch", "epoch") for name, of_run in records.items()}
    for name, log in logs.items():
        if not epochs[name] and not any(map(_is_dense, records[name])):
            raise DataError(f"{log}: no epoch, step or evaluation is logged yet, so there is nothing to draw")
    if not any(epochs.values()):
        found = [key for key in METRICS if any(key in r for of_run in records.values() for r in of_run)]
        return plot_dense_curves(records, path, metrics=found, title=title)
    if other := next((log for name, log in logs.items() if not epochs[name]), None):
        raise DataError(
            f"{other.parent} counts steps and the other runs count epochs; draw them in two figures"
        )
    if len(logs) == 1:
        return plot_curves(next(iter(epochs.values())), path, title=title)
    return plot_runs(epochs, path, title=title)


def _is_dense(record: Mapping[str, Any]) -> bool:
    return record.get("event") in ("step", "evaluation")
