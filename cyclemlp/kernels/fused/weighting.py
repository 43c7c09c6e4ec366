"""The branches, weighted by the gate.

    t = Σₖ aₖ yₖ + r;  dyₖ = aₖ dt + m,  daₖ = Σ dt yₖ,  dr = Σ dt  (sums over an image's rows)

aₖ, r and m (the gradient that comes through the gate's mean) are rows of an image. Plain form: `CycleMixer.mix`.
Shapes: B images of P rows, C channels, K branches.
"""

from __future__ import annotations

from typing import Any

import paddle

from cyclemlp.kernels.fused.launch import Kernel, chunks_of, float_argument, number, row
from cyclemlp.kernels.fused.program import empty
from cyclemlp.kernels.fused.sums import parts_total


def _make_forward(real: Any) -> Any:
    def weighted_sum(chunk: int, a: Any) -> None:
        positions, channels, per, branches, weights, bias, out = a[3], a[4], a[5], a[6], a[7], a[8], a[9]
        parts = (positions + per - 1) // per
        image, part = chunk // parts, chunk % parts
        b = row(bias, image, channels, channels, real)
        for r in range(part * per, min(positions, (part + 1) * per)):
            target = row(out, image * positions + r, channels, channels, real)
            for k in range(branches):
                source = row(a[10 + k], image * positions + r, channels, channels, real)
                weight = row(weights, image * branches + k, channels, channels, real)
                if k == 0:
                    for c in range(channels):
                        target[c] = b[c] + weight[c] * source[c]
                else:
                    for c in range(channels):
                        target[c] += weight[c] * source[c]

    return weighted_sum


def _make_mean(real: Any) -> Any:
    def mean_of_sum(chunk: int, a: Any) -> None:
        positions, channels, per, branches, sums = a[3], a[4], a[5], a[6], a[7]
        parts = (positions + per - 1) // per
        image, part = chunk // parts, chunk % parts
        total = row(sums, chunk, channels, channels, real)
        for c in range(channels):
            total[c] = real(0)
        for k in range(branches):
            for r in range(part * per, min(positions, (part + 1) * per)):
                source = row(a[8 + k], image * positions + r, channels, channels, real)
                for c in range(channels):
                    total[c] += source[c]
        for c in range(channels):
            total[c] /= real(positions)

    return mean_of_sum


def _make_sums(real: Any) -> Any:
    def products_summed(chunk: int, a: Any) -> None:
        positions, channels, per, branches, dout, sums = a[3], a[4], a[5], a[6], a[7], a[8]
        parts = (positions + per - 1) // per
        image, part = chunk // parts, chunk % parts
        for k in range(branches + 1):
            total = row(sums, chunk * (branches + 1) + k, channels, channels, real)
            for c in range(channels):
                total[c] = real(0)
            for r in range(part * per, min(positions, (part + 1) * per)):
                grad = row(dout, image * positions + r, channels, channels, real)
                if k < branches:
                    source = row(a[9 + k], image * positions + r, channels, channels, real)
                    for c in range(channels):
                        total[c] += grad[c] * source[c]
                else:
                    for c in range(channels):
                        total[c] += grad[c]

    return products_summed


def _make_backward(real: Any) -> Any:
    def weighted_sum_backward(chunk: int, a: Any) -> None:
        positions, channels, per, branches, weights, more, dout = a[3], a[4], a[5], a[6], a[7], a[8], a[9]
        share = number(a[10], real)
        parts = (positions + per - 1) // per
        image, part = chunk // parts, chunk % parts
        for r in range(part * per, min(positions, (part + 1) * per)):
            grad = row(dout, image * positions + r, channels, channels, real)
            for k in range(branches):
                target = row(a[11 + k], image * positions + r, channels, channels, real)
                weight = row(weights, image * branches + k, channels, channels, real)
                if more:
                    other = row(more, image, channels, channels, real)
                    for c in range(channels):
                        target[c] = grad[c] * weight[c] + share * other[c]
                else:
                    for c in range(channels):
                        target[c] = grad[c] * weight[c]

    return weighted_sum_backward


_forward, _mean = Kernel(_make_forward), Kernel(_make_mean)
_sums, _backward = Kernel(_make_sums), Kernel(_make_backward)


def mean_of_sum(ys: list[paddle.Tensor], images: int) -> paddle.Tensor:
    """K maps `[B · P, C]` → the mean over the positions of their sum, `[B, C]`."""
    rows, channels = ys[0].shape
    positions = rows // images
    per, parts = chunks_of(positions, channels)
    sums = empty([images, parts, 1, channels], ys[0])
    _mean(
        sums.dtype, ys[0].size * len(ys), images * parts, positions, channels, per, len(ys), sums.data_ptr(),
        *[y.data_ptr() for y in ys],
    )  # fmt: skip
    return (sums if parts == 1 else parts_total(sums, images, 0, 1)).reshape([images, channels])


def weighted_sum(ys: list[paddle.Tensor], weights: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    """K maps `[B · P, C]`, weights `[B, K, C]` and row `[B, C]` → `[B · P, C]`."""
    images, branches, channels = weights.shape
    positions, out = ys[0].shape[0] // images, empty(ys[0].shape, ys[0])
    per, parts = chunks_of(positions, channels)
    _forward(
        out.dtype, out.size * branches, images * parts, positions, channels, per, branches,
        weights.data_ptr(), bias.data_ptr(), out.data_ptr(), *[y.data_ptr() for y in ys],
    )  # fmt: skip
    return out


def weighted_sum_gradients(
    dout: paddle.Tensor, ys: list[paddle.Tensor], images: int
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Gradients of the weights and of the row: `[B, K, C]`, `[B, C]`."""
    rows, channels = dout.shape
    branches, positions = len(ys), rows // images
    per, parts = chunks_of(positions, channels)
    sums = empty([images, parts, branches + 1, channels], dout)
    _sums(
        dout.dtype, dout.size * branches, images * parts, positions, channels, per, branches, dout.data_ptr(),
        sums.data_ptr(), *[y.data_ptr() for y in ys],
    )  # fmt: skip
    d_row = parts_total(sums, images, branches, 1).reshape([images, channels])
    return parts_total(sums, images, 0, branches), d_row


def weighted_sum_backward(
    dout: paddle.Tensor, weights: paddle.Tensor, more: paddle.Tensor | None, share: float = 1.0
) -> list[paddle.Tensor]:
    """Gradients of the K maps; a share of `more`, `[B, C]`, is added to each row of an image's."""
    images, branches, channels = weights.shape
    positions = dout.shape[0] // images
    per, parts = chunks_of(positions, channels)
    gradients = [empty(dout.shape, dout) for _ in range(branches)]
    _backward(
        dout.dtype, dout.size * branches, images * parts, positions, channels, per, branches,
        weights.data_ptr(), 0 if more is None else more.data_ptr(), dout.data_ptr(), float_argument(share),
        *[dy.data_ptr() for dy in gradients],
    )  # fmt: skip
    return gradients
