"""An experiment's variants side by side: every run, their mean, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclemlp.errors import DataError
from cyclemlp.report.figures import BLUE, GREY, ORANGE, PathLike, saved_figure


@dataclass(frozen=True)
class Variant:
    """One variant of an experiment.

    Attributes:
        values: of its runs, in the order of the seeds.
        mean, half: their mean, and half of its interval; not a number where one run gives none.
        marked: whether it is the one that the others are compared with.
    """

    values: Sequence[float]
    mean: float
    half: float
    marked: bool = False


def plot_variants(
    panels: Mapping[str, Mapping[str, Variant]], path: PathLike, *, title: str, label: str
) -> Path:
    """A panel for each comparison: a variant a column, its runs as dots, mean and interval beside them.

    Args:
        panels: title → name of the variant under its column → variant.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        title: of the whole.
        label: what the values are, with their unit.

    Raises:
        DataError: no variant.
        MissingDependencyError: matplotlib is not installed.
    """
    if not any(panels.values()):
        raise DataError("no variant to draw: nothing was run")
    with saved_figure(path, 1.6 + 1.25 * sum(map(len, panels.values())), 3.8, title=title) as figure:
        ratios = [max(len(variants), 1) for variants in panels.values()]
        axes_of = np.ravel(figure.subplots(1, len(panels), sharey=True, width_ratios=ratios))
        for axes, (name, variants) in zip(axes_of, panels.items(), strict=True):
            for column, variant in enumerate(variants.values()):
                # Spread a little, so that equal values are seen to be several.
                spread = np.linspace(-0.06, 0.06, len(variant.values)) if len(variant.values) > 1 else [0.0]
                axes.plot(column - 0.12 + np.asarray(spread), variant.values, ".", color=GREY, markersize=7)
                axes.errorbar(
                    column + 0.12,
                    variant.mean,
                    None if math.isnan(variant.half) else variant.half,
                    fmt="D" if variant.marked else "o",
                    color=ORANGE if variant.marked else BLUE,
                    markersize=6,
                    capsize=4,
                )
            axes.set_xticks(range(len(variants)), list(variants))
            axes.set_xlim(-0.6, max(len(variants), 1) - 0.4)
            axes.grid(visible=False, axis="x")
            axes.set_title(name)
        axes_of[0].set_ylabel(label)
    return Path(path)
