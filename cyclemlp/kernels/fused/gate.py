"""The gate's softmax over the branches, and the row that the branches' biases come to.

    aₖ = softmax over k of (l + b);  r = Σₖ aₖ ⊙ cₖ
    gₖ = daₖ + dr ⊙ cₖ;  dlₖ = aₖ (gₖ − Σⱼ aⱼ gⱼ);  dcₖ = Σ aₖ ⊙ dr  (sum over images)

The logits l come channel by channel, `[B, C · K]`, as in the published weights. Plain form: `CycleMixer.gate`, and the
biases in `CycleMixer.mix`. Shapes: B images, K branches, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import paddle

from cyclemlp.kernels.fused.launch import Kernel, chunks_of, row
from cyclemlp.kernels.fused.program import empty
from cyclemlp.kernels.fused.sums import parts_total


def _make_forward(real: Any) -> Any:
    def gate(chunk: int, a: Any) -> None:
        images, branches, channels, per, logits, bias, biases, weights, rows = (
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11],
        )  # fmt: skip
        b = row(bias, 0, 0, branches * channels, real)
        added = row(biases, 0, 0, branches * channels, real)
        for image in range(chunk * per, min(images, (chunk + 1) * per)):
            logit = row(logits, image, branches * channels, branches * channels, real)
            total = row(rows, image, channels, channels, real)
            w = row(weights, image, branches * channels, branches * channels, real)
            for c in range(channels):
                highest = logit[c * branches] + b[c * branches]
                for k in range(1, branches):
                    highest = max(highest, logit[c * branches + k] + b[c * branches + k])
                whole = real(0)
                for k in range(branches):
                    e = real(math.exp(logit[c * branches + k] + b[c * branches + k] - highest))
                    w[k * channels + c] = e
                    whole += e
                mixed = real(0)
                for k in range(branches):
                    share = w[k * channels + c] / whole
                    w[k * channels + c] = share
                    mixed += share * added[k * channels + c]
                total[c] = mixed

    return gate


def _make_backward(real: Any) -> Any:
    def gate_backward(chunk: int, a: Any) -> None:
        images, branches, channels, per, d_weights, d_rows, weights, biases, d_logits, sums = (
            a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12],
        )  # fmt: skip
        wide = branches * channels
        added, total = row(biases, 0, 0, wide, real), row(sums, chunk, wide, wide, real)
        for i in range(wide):
            total[i] = real(0)
        for image in range(chunk * per, min(images, (chunk + 1) * per)):
            dw, w = row(d_weights, image, wide, wide, real), row(weights, image, wide, wide, real)
            dr, dl = row(d_rows, image, channels, channels, real), row(d_logits, image, wide, wide, real)
            for c in range(channels):
                inner = real(0)
                for k in range(branches):
                    inner += w[k * channels + c] * (dw[k * channels + c] + dr[c] * added[k * channels + c])
                for k in range(branches):
                    share = w[k * channels + c]
                    dl[c * branches + k] = share * (
                        dw[k * channels + c] + dr[c] * added[k * channels + c] - inner
                    )
                    total[k * channels + c] += share * dr[c]

    return gate_backward


_forward, _backward = Kernel(_make_forward), Kernel(_make_backward)


def gate(
    logits: paddle.Tensor, bias: paddle.Tensor, biases: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Weights of the branches `[B, K, C]` and row `[B, C]`.

    Args:
        logits: `[B, C · K]`, without their bias.
        bias: `[C · K]`.
        biases: of the branches, `[K, C]`.
    """
    images, (branches, channels) = logits.shape[0], biases.shape
    weights = empty([images, branches, channels], logits)
    rows = empty([images, channels], logits)
    per, chunks = chunks_of(images, 8 * branches * channels)
    _forward(
        logits.dtype, 8 * logits.size, chunks, images, branches, channels, per, logits.data_ptr(), bias.data_ptr(),
        biases.data_ptr(), weights.data_ptr(), rows.data_ptr(),
    )  # fmt: skip
    return weights, rows


def gate_backward(
    d_weights: paddle.Tensor, d_rows: paddle.Tensor, weights: paddle.Tensor, biases: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Gradients of the logits, `[B, C · K]`, and of the branches' biases through the row, `[K, C]`."""
    images, branches, channels = weights.shape
    d_logits = empty([images, channels * branches], weights)
    per, chunks = chunks_of(images, 8 * branches * channels)
    sums = empty([chunks, branches, channels], weights)
    _backward(
        weights.dtype, weights.size, chunks, images, branches, channels, per, d_weights.data_ptr(), d_rows.data_ptr(),
        weights.data_ptr(), biases.data_ptr(), d_logits.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    return d_logits, parts_total(sums, 1, 0, branches).reshape([branches, channels])
