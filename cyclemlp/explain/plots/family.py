"""Published accuracy against parameters and MACs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclemlp.explain.family import Published
from cyclemlp.explain.plots.common import PathLike
from cyclemlp.report.plots import GREY, INK, ORANGE, RUN_COLOURS, _figure, _save, _style


def plot_family(networks: Sequence[Published], path: PathLike) -> Path:
    """Published accuracy against parameters and against MACs, a line a family.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    families = list(dict.fromkeys(network.family for network in networks))
    others = [*(colour for colour in RUN_COLOURS if colour != ORANGE), GREY, "#7A4E2D"]
    with _style():
        figure = _figure(11.0, 5.6)
        panels = figure.subplots(1, 2, sharey=True)
        facts = (("parameters_millions", "parameters, M"), ("macs_billions", "MACs, G"))
        for axes, (fact, label) in zip(panels, facts, strict=True):
            for i, family in enumerate(families):
                own = family.startswith("CycleMLP")
                points = sorted(
                    (getattr(network, fact), network.top1_percent, network)
                    for network in networks
                    if network.family == family and getattr(network, fact) is not None
                )
                axes.plot(
                    [x for x, _, _ in points],
                    [y for _, y, _ in points],
                    label=family,
                    color=ORANGE if own else others[i % len(others)],
                    marker="osD^vPX*"[i % 8],
                    markersize=5,
                    linestyle="--" if own and family != "CycleMLP" else "-",
                    linewidth=2.0 if own else 1.0,
                    zorder=3 if own else 2,
                )
                if own:
                    _name_points(axes, points, 6 if family == "CycleMLP" else -13)
            axes.set(xlabel=label, xscale="log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value)[0] in "25" else "")
            axes.tick_params(axis="x", which="minor", labelsize=8)
        panels[0].set_ylabel("ImageNet-1k top-1, %, as published")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=-(-len(families) // 2), fontsize=9)
        return _save(figure, path)


def _name_points(axes: Any, points: Sequence[tuple[float, float, Published]], above: int) -> None:
    for x, y, network in points:
        axes.annotate(
            network.name.removeprefix("CycleMLP-"),
            (x, y),
            xytext=(0, above),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
            zorder=4,
        )
