"""The weights' moving average: by a fused kernel where that can run, and as Paddle does it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import paddle

from cyclemlp.kernels.selection import fused_kernels_run, is_simple


def average(averages: Sequence[paddle.Tensor], values: Sequence[paddle.Tensor], share: float) -> None:
    """a ← a + share · (v − a) in place, of each pair of tensors."""
    fused: dict[paddle.dtype, list[tuple[paddle.Tensor, paddle.Tensor]]] = {}
    possible = fused_kernels_run()
    for a, v in zip(averages, values, strict=True):
        if possible and all(is_simple(tensor, a.dtype) for tensor in (a, v)):
            fused.setdefault(a.dtype, []).append((a, v))
        else:
            a.lerp_(v.detach(), share)
    for pairs in fused.values():
        from cyclemlp.kernels.fused.average import average as fused_average

        fused_average(pairs, share)
