"""Bias and residual connection, with stochastic depth.

    out = x + s (y + b);  dy = s dout,  db = Σ dy

s is one number an image (or 1), b one row for all or one an image. Plain form: `x + drop_path(y + b)`.
Shapes: B images of P rows, C channels.
"""

from __future__ import annotations

from typing import Any

import paddle

from cyclemlp.kernels.fused.launch import Kernel, chunks_of, row
from cyclemlp.kernels.fused.program import empty
from cyclemlp.kernels.fused.sums import parts_total


def _make_forward(real: Any) -> Any:
    def residual(chunk: int, a: Any) -> None:
        positions, channels, per, x, y, bias, bias_stride, scale = (
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10],
        )  # fmt: skip
        parts = (positions + per - 1) // per
        image, part = chunk // parts, chunk % parts
        b = row(bias, image, bias_stride, channels, real)
        s = row(scale, 0, 0, image + 1, real)[image] if scale else real(1)
        for r in range(part * per, min(positions, (part + 1) * per)):
            target = row(y, image * positions + r, channels, channels, real)
            if x:
                source = row(x, image * positions + r, channels, channels, real)
                for c in range(channels):
                    target[c] = source[c] + s * (target[c] + b[c])
            else:
                for c in range(channels):
                    target[c] = s * (target[c] + b[c])

    return residual


def _make_backward(real: Any) -> Any:
    def residual_backward(chunk: int, a: Any) -> None:
        positions, channels, per, dout, dy, scale, sums = a[3], a[4], a[5], a[6], a[7], a[8], a[9]
        parts = (positions + per - 1) // per
        image, part = chunk // parts, chunk % parts
        total = row(sums, chunk, channels, channels, real)
        for c in range(channels):
            total[c] = real(0)
        s = row(scale, 0, 0, image + 1, real)[image] if scale else real(1)
        for r in range(part * per, min(positions, (part + 1) * per)):
            source = row(dout, image * positions + r, channels, channels, real)
            if scale:
                target = row(dy, image * positions + r, channels, channels, real)
                for c in range(channels):
                    d = s * source[c]
                    target[c] = d
                    total[c] += d
            else:
                for c in range(channels):
                    total[c] += source[c]

    return residual_backward


_forward, _backward = Kernel(_make_forward), Kernel(_make_backward)


def add_residual(
    x: paddle.Tensor | None,
    y: paddle.Tensor,
    bias: paddle.Tensor,
    images: int,
    scale: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """x + s (y + bias) in place of y: `[B · P, C]`; without x, s (y + bias).

    Args:
        x: `[B · P, C]`.
        y: `[B · P, C]`.
        bias: `[C]`, or `[B, C]`.
        images: B.
        scale: s, `[B]`.
    """
    rows, channels = y.shape
    positions = rows // images
    per, parts = chunks_of(positions, channels)
    _forward(
        y.dtype, y.size, images * parts, positions, channels, per,
        0 if x is None else x.data_ptr(), y.data_ptr(), bias.data_ptr(), channels if len(bias.shape) > 1 else 0,
        0 if scale is None else scale.data_ptr(),
    )  # fmt: skip
    return y


def add_residual_backward(
    dout: paddle.Tensor, images: int, scale: paddle.Tensor | None = None
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The gradient of y, which is dout itself without `scale`, and its sums over each image's rows, `[B, C]`.

    Without `scale` it is nothing but these sums, of whatever map.
    """
    rows, channels = dout.shape
    positions = rows // images
    per, parts = chunks_of(positions, channels)
    dy = dout if scale is None else empty(dout.shape, dout)
    sums = empty([images, parts, 1, channels], dout)
    _backward(
        dout.dtype, dout.size, images * parts, positions, channels, per, dout.data_ptr(), dy.data_ptr(),
        0 if scale is None else scale.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    return dy, (sums if parts == 1 else parts_total(sums, images, 0, 1)).reshape([images, channels])
