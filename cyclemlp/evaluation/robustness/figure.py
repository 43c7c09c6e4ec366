"""Error of a classifier by severity of corruption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cyclemlp.errors import DataError
from cyclemlp.report.figures import COLOURS, GREY, INK, MARKERS, PathLike, saved_figure


def plot_severities(
    groups: Mapping[str, Mapping[str, Mapping[int, float]]],
    path: PathLike,
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
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    with saved_figure(path, 4.4 * columns, 3.6 * rows + 0.3, title=title) as figure:
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
                    color=COLOURS[i],
                    marker=MARKERS[i % len(MARKERS)] or "o",
                    markersize=5,
                )
            axes.set(title=group.capitalize(), xlabel="severity")
            axes.set_xticks(severities if clean_error is None else [0, *severities])
            # Below the panel: in it there is no place that is free for every model.
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8.5, labelcolor=INK)
            axes.set_ylabel("top-1 error, %")
        figure.axes[0].set_ylim(0, None)  # of all, now that all lines are there
    return Path(path)
