"""Speed of models against their published accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclemlp.errors import DataError
from cyclemlp.report.figures import PathLike, line_style, saved_figure


def plot_speed(records: Sequence[Mapping[str, Any]], path: PathLike, *, title: str | None = None) -> Path:
    """Published top-1 by images/s: a line for each runtime, precision, size and batch, a point a model.

    Args:
        records: each with `name`, `runtime`, `precision`, `size`, `batch`, `images_per_second` and
            `published_top1_percent`; those without one of the figures are left out.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no record has both figures.
        MissingDependencyError: matplotlib is not installed.
    """
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if record.get("images_per_second") and record.get("published_top1_percent"):
            label = f"{record['runtime']}, {record['precision']}, {record['size']}, batch {record['batch']}"
            lines.setdefault(label, []).append(record)
    if not lines:
        raise DataError("no model with a published accuracy was measured: there is nothing to draw")
    with saved_figure(path, 7.2, 4.6 + 0.2 * ((len(lines) + 1) // 2)) as figure:
        axes = figure.subplots()
        for i, (label, points) in enumerate(lines.items()):
            points = sorted(points, key=lambda record: record["images_per_second"])
            style = line_style(i)
            style["marker"] = style["marker"] or "o"
            axes.plot(
                [p["images_per_second"] for p in points],
                [p["published_top1_percent"] for p in points],
                label=label,
                **style,
            )
            for p in points:
                axes.annotate(
                    p["name"].removeprefix("cyclemlp_").upper(),
                    (p["images_per_second"], p["published_top1_percent"]),
                    xytext=(5, 5),
                    textcoords="offset points",
                    fontsize=8,
                )
        axes.set_xscale("log")
        for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            which(lambda value, _: f"{value:g}")
        axes.tick_params(axis="x", which="minor", labelsize=7)
        axes.margins(0.12)
        axes.set(
            title=title or "Speed and accuracy",
            xlabel="images/s, measured here",
            ylabel="ImageNet top-1, %, as published in the paper",
        )
        figure.legend(loc="outside lower left", ncols=min(2, len(lines)))
    return Path(path)
