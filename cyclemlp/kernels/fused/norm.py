"""LayerNorm over channels.

    x̂ = (x − mean) / √(var + ε),  y = γ x̂ + β
    dx = (g − mean(g) − x̂ · mean(g x̂)) / √(var + ε),  g = γ dy;  dγ = Σ dy x̂,  dβ = Σ dy

Plain form: `paddle.nn.functional.layer_norm`, which takes ε in float32. Shapes: N rows, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import paddle

from cyclemlp.kernels.fused.launch import OPTIONS, Kernel, chunks_of, float_argument, number, row
from cyclemlp.kernels.fused.program import empty
from cyclemlp.kernels.fused.sums import parts_total


@numba.njit(**OPTIONS)
def normalise(source: Any, target: Any, gamma: Any, beta: Any, epsilon: Any, real: Any) -> Any:
    """One row; its mean and 1 / √(var + ε)."""
    channels = source.size
    total = real(0)
    for c in range(channels):
        total += source[c]
    middle = total / real(channels)
    squares = real(0)
    for c in range(channels):
        squares += (source[c] - middle) * (source[c] - middle)
    inverse = real(1) / real(math.sqrt(squares / real(channels) + epsilon))
    for c in range(channels):
        target[c] = (source[c] - middle) * inverse * gamma[c] + beta[c]
    return middle, inverse


@numba.njit(**OPTIONS)
def normalise_backward(
    grad: Any,
    source: Any,
    gamma: Any,
    statistics: Any,
    target: Any,
    residual: Any,
    d_gamma: Any,
    d_beta: Any,
    real: Any,
) -> None:
    """One row's gradient, plus `residual` unless that is None; those of weight and bias are added up."""
    channels, (middle, inverse) = source.size, statistics
    first, second = real(0), real(0)
    for c in range(channels):
        scaled = (source[c] - middle) * inverse
        d_gamma[c] += grad[c] * scaled
        d_beta[c] += grad[c]
        first += grad[c] * gamma[c]
        second += grad[c] * gamma[c] * scaled
    first /= real(channels)
    second /= real(channels)
    if residual is None:
        for c in range(channels):
            scaled = (source[c] - middle) * inverse
            target[c] = (grad[c] * gamma[c] - first - scaled * second) * inverse
    else:
        for c in range(channels):
            scaled = (source[c] - middle) * inverse
            target[c] = (grad[c] * gamma[c] - first - scaled * second) * inverse + residual[c]


def _make_forward(real: Any) -> Any:
    def layer_norm(chunk: int, a: Any) -> None:
        rows, channels, per, x, weight, bias, epsilon, y, stride, mean, scale = (
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
        )  # fmt: skip
        gamma, beta = row(weight, 0, 0, channels, real), row(bias, 0, 0, channels, real)
        means, scales = row(mean, 0, 0, rows, real), row(scale, 0, 0, rows, real)
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            source, target = row(x, r, channels, channels, real), row(y, r, stride, channels, real)
            means[r], scales[r] = normalise(source, target, gamma, beta, number(epsilon, real), real)

    return layer_norm


def _make_backward(real: Any) -> Any:
    def layer_norm_backward(chunk: int, a: Any) -> None:
        rows, channels, per, dy, x, weight, mean, scale, residual, dx, sums = (
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
        )  # fmt: skip
        gamma = row(weight, 0, 0, channels, real)
        means, scales = row(mean, 0, 0, rows, real), row(scale, 0, 0, rows, real)
        d_gamma = row(sums, 2 * chunk, channels, channels, real)
        d_beta = row(sums, 2 * chunk + 1, channels, channels, real)
        for c in range(channels):
            d_gamma[c] = real(0)
            d_beta[c] = real(0)
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            grad, source = row(dy, r, channels, channels, real), row(x, r, channels, channels, real)
            target = row(dx, r, channels, channels, real)
            statistics = (means[r], scales[r])
            if residual:
                other = row(residual, r, channels, channels, real)
                normalise_backward(grad, source, gamma, statistics, target, other, d_gamma, d_beta, real)
            else:
                normalise_backward(grad, source, gamma, statistics, target, None, d_gamma, d_beta, real)

    return layer_norm_backward


_forward, _backward = Kernel(_make_forward), Kernel(_make_backward)


def layer_norm(
    x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, epsilon: float
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """`[N, C]` → y `[N, C]`, mean and 1 / √(var + ε) of each row, `[N]`."""
    y = empty(x.shape, x)
    return y, *layer_norm_into(x, weight, bias, epsilon, y.data_ptr(), x.shape[1])


def layer_norm_into(
    x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, epsilon: float, address: int, stride: int
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """As `layer_norm`, but y is written to an address, each row `stride` numbers after the last."""
    rows, channels = x.shape
    mean, scale = empty([rows], x), empty([rows], x)
    per, chunks = chunks_of(rows, channels)
    _forward(
        x.dtype, x.size, chunks, rows, channels, per, x.data_ptr(), weight.data_ptr(), bias.data_ptr(),
        float_argument(float(np.float32(epsilon))), address, stride, mean.data_ptr(), scale.data_ptr(),
    )  # fmt: skip
    return mean, scale


def layer_norm_backward(
    dy: paddle.Tensor,
    x: paddle.Tensor,
    weight: paddle.Tensor,
    mean: paddle.Tensor,
    scale: paddle.Tensor,
    residual: paddle.Tensor | None = None,
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Gradients of x (plus `residual`, if given), weight and bias: `[N, C]`, `[C]`, `[C]`."""
    rows, channels = x.shape
    dx = empty(x.shape, x)
    per, chunks = chunks_of(rows, channels)
    sums = empty([chunks, 2, channels], x)
    _backward(
        x.dtype, x.size, chunks, rows, channels, per, dy.data_ptr(), x.data_ptr(), weight.data_ptr(),
        mean.data_ptr(), scale.data_ptr(), 0 if residual is None else residual.data_ptr(), dx.data_ptr(),
        sums.data_ptr(),
    )  # fmt: skip
    d_weight, d_bias = (parts_total(sums, 1, which, 1).reshape([channels]) for which in range(2))
    return dx, d_weight, d_bias
