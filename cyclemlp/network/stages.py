"""The stages one after the other.

Shapes: B batch, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import nn

from cyclemlp.network.checks import recomputed


class Stages(nn.LayerList):
    """The stages, and between them the downsampling.

    Args:
        layers: a stage, a downsampling, a stage, …
        recompute: compute each stage's activations anew in the backward pass, to save memory.
    """

    def __init__(self, layers: Sequence[nn.Layer], recompute: bool = False) -> None:
        super().__init__(layers)
        self._recompute = recompute

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        """`[B, H, W, C]` → each stage's map, `[B, Hᵢ, Wᵢ, Cᵢ]`."""
        maps = []
        for i, layer in enumerate(self):
            x = recomputed(layer, x) if self._recompute and i % 2 == 0 and layer.training else layer(x)
            if i % 2 == 0:
                maps.append(x)
        return maps
