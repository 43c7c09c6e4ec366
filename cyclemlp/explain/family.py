"""Published accuracy and cost of the MLP-like family: figures of others, each with its source.

`mlp_family.csv` beside this file holds them; CycleMLP's own are those of the table of variants.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cyclemlp.network import VARIANTS
from cyclemlp.report.figures import COLOURS, GREY, INK, ORANGE, PathLike, saved_figure

CYCLEMLP_SOURCE = "CycleMLP (arXiv 2107.10224)"


@dataclass(frozen=True)
class Published:
    """One network as it was published: trained on ImageNet-1k alone, evaluated at 224².

    Attributes:
        family, name: as the authors write them.
        parameters_millions: in 10⁶.
        macs_billions: in 10⁹, what the papers call FLOPs; None where none is given.
        top1_percent: ImageNet-1k top-1.
        source: where the figures stand.
    """

    family: str
    name: str
    parameters_millions: float
    macs_billions: float | None
    top1_percent: float
    source: str


def mlp_family() -> list[Published]:
    """The published networks, CycleMLP's last."""
    text = files("cyclemlp.explain").joinpath("mlp_family.csv").read_text(encoding="utf-8")
    others = [
        Published(
            row["family"],
            row["name"],
            float(row["parameters_millions"]),
            float(row["macs_billions"]) if row["macs_billions"] else None,
            float(row["top1_percent"]),
            row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    ]
    own = [
        Published(
            "CycleMLP T, S, B" if variant.inferred else "CycleMLP",
            "CycleMLP-" + name.removeprefix("cyclemlp_").removesuffix("_inferred").upper(),
            variant.params_published,
            variant.macs_published,
            variant.top1_published,
            CYCLEMLP_SOURCE,
        )
        for name, variant in VARIANTS.items()
        if variant.params_published is not None and variant.top1_published is not None
    ]
    return others + own


# ---- the figure


def plot_family(networks: Sequence[Published], path: PathLike) -> Path:
    """Published accuracy against parameters and against MACs, a line a family."""
    families = list(dict.fromkeys(network.family for network in networks))
    others = [*(colour for colour in COLOURS if colour != ORANGE), GREY, "#7A4E2D"]
    with saved_figure(path, 11.0, 5.6) as figure:
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
    return Path(path)


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
