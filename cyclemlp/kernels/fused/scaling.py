"""A matrix of each image's own: that of all images, with its columns scaled by the image's gate.

    y[b, k] = w[k] diag(a[b, k]);  dw[k] = Σ_b dy[b, k] diag(a[b, k]),  da[b, k] = column sums of dy[b, k] ⊙ w[k]

Plain form: `w * a.unsqueeze(2)`. Shapes: B images, K branches, C channels; w `[K, C, C]`, a `[B, K, C]`.
"""

from __future__ import annotations

from typing import Any

import paddle

from cyclemlp.kernels.fused.launch import Kernel, row
from cyclemlp.kernels.fused.program import empty
from cyclemlp.kernels.fused.sums import parts_total

#: Rows of a matrix in a chunk of the backward kernel, each of all images.
ROWS = 16


def _make_forward(real: Any) -> Any:
    def scaled(chunk: int, a: Any) -> None:
        branches, channels, w, weights, y = a[3], a[4], a[5], a[6], a[7]
        factor = row(weights, chunk, channels, channels, real)  # a chunk is one matrix of one image
        for i in range(channels):
            source = row(w, (chunk % branches) * channels + i, channels, channels, real)
            target = row(y, chunk * channels + i, channels, channels, real)
            for c in range(channels):
                target[c] = source[c] * factor[c]

    return scaled


def _make_backward(real: Any) -> Any:
    def scaled_backward(chunk: int, a: Any) -> None:
        images, branches, channels, per, w, weights, dy, dw, sums = (
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11],
        )  # fmt: skip
        k, part = chunk % branches, chunk // branches
        first, end = part * per, min(channels, (part + 1) * per)
        for i in range(first, end):
            target = row(dw, k * channels + i, channels, channels, real)
            for c in range(channels):
                target[c] = real(0)
        for image in range(images):
            factor = row(weights, image * branches + k, channels, channels, real)
            total = row(sums, (part * images + image) * branches + k, channels, channels, real)
            for c in range(channels):
                total[c] = real(0)
            for i in range(first, end):
                source = row(w, k * channels + i, channels, channels, real)
                grad = row(dy, (image * branches + k) * channels + i, channels, channels, real)
                target = row(dw, k * channels + i, channels, channels, real)
                for c in range(channels):
                    target[c] += grad[c] * factor[c]
                    total[c] += grad[c] * source[c]

    return scaled_backward


_forward, _backward = Kernel(_make_forward), Kernel(_make_backward)


def scaled(w: paddle.Tensor, weights: paddle.Tensor) -> paddle.Tensor:
    """`[K · C, C]` and `[B, K, C]` → `[B, K · C, C]`."""
    images, branches, channels = weights.shape
    y = empty([images, branches * channels, channels], w)
    _forward(
        w.dtype, y.size, images * branches, branches, channels, w.data_ptr(), weights.data_ptr(), y.data_ptr()
    )  # fmt: skip
    return y


def scaled_backward(
    dy: paddle.Tensor, w: paddle.Tensor, weights: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Gradients of w and of the weights."""
    images, branches, channels = weights.shape
    parts = -(-channels // ROWS)
    dw, sums = empty(w.shape, w), empty([parts, images * branches, channels], w)
    _backward(
        w.dtype, dy.size, branches * parts, images, branches, channels, ROWS, w.data_ptr(), weights.data_ptr(),
        dy.data_ptr(), dw.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    return dw, parts_total(sums, 1, 0, images * branches).reshape(weights.shape)
