"""Effective receptive fields, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import DataError
from cyclemlp.explain.field import Field
from cyclemlp.explain.plots.common import PathLike
from cyclemlp.report.plots import _figure, _save, _style

#: Shares of the gradient whose area is given.
DRAWN_SHARES = (0.5, 0.95)


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
    """The square round the centre, as far as it lies in the image."""
    height, width = field.maps.shape[1:]
    (y, x), half = field.centres[index], field.side(share)[index] / 2
    top, left, bottom, right = max(y - half, 0), max(x - half, 0), min(y + half, height), min(x + half, width)
    xs = np.array([left, right, right, left, left]) - 0.5
    ys = np.array([top, top, bottom, bottom, top]) - 0.5
    axes.plot(xs, ys, dash, color="white", linewidth=1.0)
