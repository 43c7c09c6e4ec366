"""An experiment's arms side by side: every run, their mean, and how sure it is."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclemlp.errors import DataError
from cyclemlp.report.plots import BLUE, GREY, ORANGE, _figure, _save, _style


@dataclass(frozen=True)
class Arm:
    """One arm of an experiment.

    Attributes:
        values: of its runs, in the order of the seeds.
        mean, half: their mean, and half of its interval; not a number where one run gives none.
        marked: whether it is the one that the others are compared with.
    """

    values: Sequence[float]
    mean: float
    half: float
    marked: bool = False


def plot_arms(
    panels: Mapping[str, Mapping[str, Arm]], path: str | os.PathLike[str], *, title: str, label: str
) -> Path:
    """A panel for each comparison: an arm a column, its runs as dots, mean and interval beside them.

    Args:
        panels: title → name of the arm under its column → arm.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        title: of the whole.
        label: what the values are, with their unit.

    Raises:
        DataError: no arm.
        MissingDependencyError: matplotlib is not installed.
    """
    if not any(panels.values()):
        raise DataError("no arm to draw: nothing was run")
    with _style():
        figure = _figure(1.6 + 1.25 * sum(map(len, panels.values())), 3.8)
        ratios = [max(len(arms), 1) for arms in panels.values()]
        axes_of = np.ravel(figure.subplots(1, len(panels), sharey=True, width_ratios=ratios))
        for axes, (name, arms) in zip(axes_of, panels.items(), strict=True):
            for column, arm in enumerate(arms.values()):
                # Spread a little, so that equal values are seen to be several.
                spread = np.linspace(-0.06, 0.06, len(arm.values)) if len(arm.values) > 1 else [0.0]
                axes.plot(column - 0.12 + np.asarray(spread), arm.values, ".", color=GREY, markersize=7)
                axes.errorbar(
                    column + 0.12,
                    arm.mean,
                    None if math.isnan(arm.half) else arm.half,
                    fmt="D" if arm.marked else "o",
                    color=ORANGE if arm.marked else BLUE,
                    markersize=6,
                    capsize=4,
                )
            axes.set_xticks(range(len(arms)), list(arms))
            axes.set_xlim(-0.6, max(len(arms), 1) - 0.4)
            axes.grid(visible=False, axis="x")
            axes.set_title(name)
        axes_of[0].set_ylabel(label)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        return _save(figure, path)
