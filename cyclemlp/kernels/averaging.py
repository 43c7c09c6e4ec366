"""The weights' moving average: by a fused kernel where that can run, and as Paddle does it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import paddle

from cyclemlp.kernels.selection import fused_kernels_run


def average(averages: Sequence[paddle.Tensor], values: Sequence[paddle.Tensor], share: float) -> None:
    """a ← a + share · (v − a) in place, of each pair of tensors."""
    fused: dict[paddle.dtype, list[tuple[paddle.Tensor, paddle.Tensor]]] = {}
    possible = fused_kernels_run()
    for a, v in zip(averages, values, strict=True):
        if possible and all(_is_simple(tensor, a.dtype) for tensor in (a, v)):
            fused.setdefault(a.dtype, []).append((a, v))
        else:
            a.lerp_(v.detach(), share)
    for pairs in fused.values():
        from cyclemlp.kernels.fused.average import average as fused_average

        fused_average(pairs, share)


def _is_simple(tensor: paddle.Tensor, dtype: paddle.dtype) -> bool:
    """Whether a kernel can go through a tensor as numbers of a type, one after the other."""
    return bool(
        tensor.dtype == dtype
        and dtype in (paddle.float32, paddle.float64)
        and tensor.place.is_cpu_place()
        and tensor.is_contiguous()
        and tensor.size
    )
