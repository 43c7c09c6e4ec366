"""Published accuracy and cost of the MLP-like family: figures of others, each with its source.

`mlp_family.csv` beside this file holds them; CycleMLP's own are those of the table of variants.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

from cyclemlp.network import VARIANTS

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
