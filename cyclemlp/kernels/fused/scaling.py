"""Matrices of each image: those of all images, with their columns scaled by the image's gate.

    y[b, k] = w[k] diag(a[b, k]);  dw[k] = Σ_b dy[b, k] diag(a[b, k]),  da[b, k] = column sums of dy[b, k] ⊙ w[k]

Plain form: `w * a.unsqueeze(2)`. Shapes: B images, K branches, C channels; w `[K, C, C]`, a `[B, K, C]`.
"""

from __future__ import annotations

from typing import Any

import paddle

from cyclemlp.kernels.fused.launch import Kernel, row


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
        branches, channels, w, weights, dy, dw, d_weights, images = (
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10],
        )  # fmt: skip
        # A chunk is one branch, of all images.
        for i in range(channels):
            target = row(dw, chunk * channels + i, channels, channels, real)
            for c in range(channels):
                target[c] = real(0)
        for image in range(images):
            at = image * branches + chunk
            factor, total = (
                row(weights, at, channels, channels, real),
                row(d_weights, at, channels, channels, real),
            )
            for c in range(channels):
                total[c] = real(0)
            for i in range(channels):
                source = row(w, chunk * channels + i, channels, channels, real)
                grad = row(dy, at * channels + i, channels, channels, real)
                target = row(dw, chunk * channels + i, channels, channels, real)
                for c in range(channels):
                    target[c] += grad[c] * factor[c]
                    total[c] += grad[c] * source[c]

    return scaled_backward


_forward, _backward = Kernel(_make_forward), Kernel(_make_backward)


def scaled(w: paddle.Tensor, weights: paddle.Tensor) -> paddle.Tensor:
    """`[K, C, C]` and `[B, K, C]` → `[B, K, C, C]`."""
    images, branches, channels = weights.shape
    y = paddle.empty([images, branches, channels, channels], w.dtype)
    _forward(
        w.dtype, y.size, images * branches, branches, channels, w.data_ptr(), weights.data_ptr(), y.data_ptr()
    )  # fmt: skip
    return y


def scaled_backward(
    dy: paddle.Tensor, w: paddle.Tensor, weights: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Gradients of w and of the weights."""
    images, branches, channels = weights.shape
    dw, d_weights = paddle.empty_like(w), paddle.empty_like(weights)
    _backward(
        w.dtype, dy.size, branches, branches, channels, w.data_ptr(), weights.data_ptr(), dy.data_ptr(),
        dw.data_ptr(), d_weights.data_ptr(), images,
    )  # fmt: skip
    return dw, d_weights
