"""The table of variants: architecture, what was published of each, and where its weights are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cyclemlp.network.config import CycleMLPConfig
from cyclemlp.preprocessing import Preprocessing


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        config: architecture.
        from_paper: whether the paper has it; the small ones are ours.
        inferred: no code of it was published: the architecture was inferred from the paper's words and counts of
            parameters and MACs, and no weights that were seen confirm it (docs/variants.md).
        params_published, macs_published: parameters in millions, MACs in 10⁹ at 224×224 (the
            paper's "FLOPs"), as published.
        top1_published: ImageNet-1k top-1 in % as published (table 2 of the paper).
        reproduced_top1, reproduced_top5, reproduced_loss: of the published weights, measured by Paddle-CycleMLP.
        preprocessing: what the weights were trained with. The authors' `default_cfg` says crop 0.9 for B1 to
            B3; their evaluation, and their published accuracy, use 0.875.
        weights: name of the published weight file, if there is one; whether it fits an inferred variant is not known.
    """

    config: CycleMLPConfig
    from_paper: bool = True
    inferred: bool = False
    params_published: float | None = None
    macs_published: float | None = None
    top1_published: float | None = None
    reproduced_top1: float | None = None
    reproduced_top5: float | None = None
    reproduced_loss: float | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    weights: str | None = None


def _paper(
    number: int,
    depths: tuple[int, ...],
    mlp_ratios: tuple[float, ...],
    published: tuple[float, float, float],
    reproduced: tuple[float, float, float],
    embed_dims: tuple[int, ...] = (64, 128, 320, 512),
) -> Variant:
    params, macs, top1 = published
    return Variant(
        CycleMLPConfig(embed_dims=embed_dims, depths=depths, mlp_ratios=mlp_ratios),
        params_published=params,
        macs_published=macs,
        top1_published=top1,
        reproduced_top1=reproduced[0],
        reproduced_top5=reproduced[1],
        reproduced_loss=reproduced[2],
        weights=f"CycleMLP_B{number}.pth",
    )


def _inferred(
    size: str, width: int, depths: tuple[int, ...], published: tuple[float, float, float]
) -> Variant:
    # Swin's patch embedding, patch merging, depths and widths; no gate: with it there are too many parameters.
    params, macs, top1 = published
    return Variant(
        CycleMLPConfig(
            embed_dims=(width, 2 * width, 4 * width, 8 * width),
            depths=depths,
            patch_size=4,
            patch_norm=True,
            downsample="merge",
            gate=False,
        ),
        inferred=True,
        params_published=params,
        macs_published=macs,
        top1_published=top1,
        weights=f"CycleMLP_{size}.pth",
    )


def _small(embed_dims: tuple[int, ...], depths: tuple[int, ...], size: int, **config: Any) -> Variant:
    # Overlapping patches as in the paper, at the stride that suits a small image.
    return Variant(
        CycleMLPConfig(embed_dims=embed_dims, depths=depths, **config),
        from_paper=False,
        preprocessing=Preprocessing(input_size=size),
    )


VARIANTS: dict[str, Variant] = {
    "cyclemlp_b1": _paper(1, (2, 2, 4, 2), (4, 4, 4, 4), (15.2, 2.1, 78.9), (78.794, 94.546, 0.9331)),
    "cyclemlp_b2": _paper(2, (2, 3, 10, 3), (4, 4, 4, 4), (26.8, 3.9, 81.6), (81.508, 95.682, 0.8169)),
    "cyclemlp_b3": _paper(3, (3, 4, 18, 3), (8, 8, 4, 4), (38.4, 6.9, 82.4), (82.274, 96.036, 0.7884)),
    "cyclemlp_b4": _paper(4, (3, 8, 27, 3), (8, 8, 4, 4), (51.8, 10.1, 83.0), (82.962, 96.328, 0.7593)),
    "cyclemlp_b5": _paper(
        5,
        (3, 4, 24, 3),
        (4, 4, 4, 4),
        (75.7, 12.3, 83.2),
        (83.25, 96.436, 0.7529),
        embed_dims=(96, 192, 384, 768),
    ),
    "cyclemlp_t_inferred": _inferred("tiny", 96, (2, 2, 6, 2), (28, 4.4, 81.3)),
    "cyclemlp_s_inferred": _inferred("small", 96, (2, 2, 18, 2), (50, 8.5, 82.9)),
    "cyclemlp_b_inferred": _inferred("base", 128, (2, 2, 18, 2), (88, 15.2, 83.4)),
    # Ours, for small images, demonstrations and tests.
    "cyclemlp_nano": _small((24, 48, 72, 96), (1, 1, 2, 1), 32, patch_size=3, patch_stride=2),
    "cyclemlp_nano_deep": _small(
        (32, 64, 80, 96), (2, 4, 1, 1), 32, mlp_ratios=(2, 2, 2, 2), patch_size=3, patch_stride=2
    ),
    "cyclemlp_micro": _small((32, 64, 128, 192), (1, 1, 3, 1), 96),
}


def canonical_name(name: str) -> str:
    """`cyclemlp_b1` for it and for Paddle-CycleMLP's `CycleMLP_B1`."""
    return name.lower()
