"""Error of a classifier by severity of corruption."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cyclemlp.errors import DataError
from cyclemlp.report.plots import GREY, INK, RUN_COLOURS, _figure, _save, _style

MARKERS = ("o", "s", "^", "D")


def plot_severities(
    groups: Mapping[str, Mapping[str, Mapping[int, float]]],
    path: str | os.PathLike[str],
    *,
    clean_error: float | None = None,
    title: str | None = None,
) -> Path:
    """Top-1 error by severity: a panel a group, a line a corruption, all on one scale.

    Args:
        groups: group → corruption → severity (from 1) → error in percent.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        clean_error: that on the images without corruption, in percent: a level line, and the point at 0.
        title: over all panels.

    Raises:
        DataError: no error to draw.
        MissingDependencyError: matplotlib is not installed.
    """
    if not any(errors for names in groups.values() for errors in names.values()):
        raise DataError("no corruption was measured: there is nothing to draw")
    severities = sorted({s for names in groups.values() for errors in names.values() for s in errors})
    with _style():
        columns = min(2, len(groups))
        rows = -(-len(groups) // columns)
        figure = _figure(4.4 * columns, 3.6 * rows + 0.3)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
        for spare in panels[len(groups) :]:
            spare.set_visible(False)
        for axes, (group, names) in zip(panels, groups.items(), strict=False):
            if clean_error is not None:
                axes.axhline(clean_error, color=GREY, linestyle=":", label="clean")
            for i, (name, errors) in enumerate(names.items()):
                points = sorted(errors.items())
                if clean_error is not None:
                    points.insert(0, (0, clean_error))
                axes.plot(
                    *zip(*points, strict=True),
                    label=name.replace("_", " "),
                    color=RUN_COLOURS[i],
                    marker=MARKERS[i % len(MARKERS)],
                    markersize=5,
                )
            axes.set(title=group.capitalize(), xlabel="severity")
            axes.set_xticks(severities if clean_error is None else [0, *severities])
            # Below the panel: in it there is no place that is free for every model.
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8.5, labelcolor=INK)
            axes.set_ylabel("top-1 error, %")
        figure.axes[0].set_ylim(0, None)  # of all, now that all lines are there
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        return _save(figure, path)
