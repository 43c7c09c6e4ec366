"""A step of Muon: by one program of kernels where that can run, and as Paddle does it elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import paddle

from cyclemlp.kernels.selection import fused_kernels_run, is_simple

MOMENTUM = 0.95
#: a, b, c of the Newton-Schulz iteration, as in the paper, and how often it is done.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


class MuonUpdate(NamedTuple):
    """What changes a weight: V ← μ V + G;  W ← kept · W − rate · NS(G + μ V).

    Args:
        weight, gradient, momentum: W, G and V, of one shape and type.
        kept: what decay leaves of the weight.
        rate: by which the orthogonal matrix is multiplied.
    """

    weight: paddle.Tensor
    gradient: paddle.Tensor
    momentum: paddle.Tensor
    kept: float
    rate: float


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """The first dimension by all others."""
    return shape[0], math.prod(shape[1:])


def muon_step(updates: Sequence[MuonUpdate]) -> None:
    """Change weights and momenta in place."""
    fused: dict[paddle.dtype, list[MuonUpdate]] = {}
    possible = fused_kernels_run()
    for update in updates:
        if possible and all(is_simple(tensor, update.weight.dtype) for tensor in update[:3]):
            fused.setdefault(update.weight.dtype, []).append(update)
            continue
        weight, gradient, momentum, kept, rate = update
        momentum.scale_(MOMENTUM)
        momentum.add_(gradient)
        direction = orthogonal((gradient + MOMENTUM * momentum).reshape(as_matrix(weight.shape)))
        weight.scale_(kept)
        weight.subtract_(direction.scale(rate).reshape(weight.shape))
    for alike in fused.values():
        from cyclemlp.kernels.fused.muon import muon_step as fused_step

        fused_step(alike)


def orthogonal(matrix: paddle.Tensor) -> paddle.Tensor:
    """`[n, m]` → about U Wᵀ of its singular value decomposition U S Wᵀ, `[n, m]`; zeros stay zeros."""
    tall, x = matrix.shape[0] > matrix.shape[1], matrix / (matrix.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        square = paddle.matmul(x, x, transpose_x=tall, transpose_y=not tall)
        powers = b * square + c * paddle.matmul(square, square)
        x = a * x + paddle.matmul(*((x, powers) if tall else (powers, x)))
    return x
