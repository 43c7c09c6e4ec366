"""The channel MLP of a block over some hundred rows at a time, so that its wide rows stay in a core's cache.

    out = x + s (GELU(norm(x) W₁ + b₁) W₂ + b₂)

A chunk goes through all steps on one thread, its two products included. Plain form: the same step by step
(`cyclemlp.kernels.fused.halves.mlp`). Shapes: N rows, C channels, H hidden ones; P rows an image.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from cyclemlp.kernels.fused.gelu import gradient, normal
from cyclemlp.kernels.fused.launch import Kernel, float_argument, number, row
from cyclemlp.kernels.fused.norm import normalise, normalise_backward
from cyclemlp.kernels.fused.products import AS_IS, TRANSPOSED, functions
from cyclemlp.kernels.fused.products import product as multiply
from cyclemlp.kernels.fused.program import Array, empty
from cyclemlp.kernels.fused.sums import parts_total

#: Numbers of a chunk's wide rows, about; of a weight, at most; of a wide row, at least; fewest chunks.
WIDE, WEIGHT, HIDDEN, CHUNKS = 131072, 65536, 256, 8


def rows_of_a_chunk(rows: int, channels: int, hidden: int) -> int | None:
    """None where it does not go by chunks: too few rows, weights that each would read anew, or nothing to save."""
    per = max(1, WIDE // hidden)
    return per if rows >= CHUNKS * per and channels * hidden <= WEIGHT and hidden >= HIDDEN else None


def _make_forward(real: Any) -> Any:
    size = real.bitwidth // 8

    def mlp(chunk: int, a: Any) -> None:
        rows, channels, hidden, per, positions = a[3], a[4], a[5], a[6], a[7]
        x, gamma_at, beta_at, w1, b1_at, w2, b2_at, scale, out = (
            a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15], a[16],
        )  # fmt: skip
        epsilon, gemm = number(a[17], real), a[18]
        kept_y, kept_mean, kept_inverse, kept_hidden = a[19], a[20], a[21], a[22]
        first = chunk * per
        n = min(per, rows - first)
        gamma, beta = row(gamma_at, 0, 0, channels, real), row(beta_at, 0, 0, channels, real)
        b1, b2 = row(b1_at, 0, 0, hidden, real), row(b2_at, 0, 0, channels, real)
        own = np.empty(n * (hidden + (0 if kept_y else channels)), real)
        wide = numba.int64(own.ctypes.data)
        y = kept_y + first * channels * size if kept_y else wide + n * hidden * size
        for r in range(n):
            source, target = row(x, first + r, channels, channels, real), row(y, r, channels, channels, real)
            middle, inverse = normalise(source, target, gamma, beta, epsilon, real)
            if kept_y:
                row(kept_mean, first + r, 1, 1, real)[0] = middle
                row(kept_inverse, first + r, 1, 1, real)[0] = inverse
        before = kept_hidden + first * hidden * size if kept_y else wide
        multiply(
            gemm, (AS_IS, AS_IS, n, hidden, channels), real(1), real(0),
            (y, channels, w1, hidden, before, hidden),
        )  # fmt: skip
        for r in range(n):
            target = row(wide, r, hidden, hidden, real)
            if kept_y:
                source = row(before, r, hidden, hidden, real)
                for c in range(hidden):
                    z = source[c] + b1[c]
                    target[c] = z * normal(z)
            else:  # said apart, because two arrays in the same place are not vectorised
                for c in range(hidden):
                    z = target[c] + b1[c]
                    target[c] = z * normal(z)
        multiply(
            gemm, (AS_IS, AS_IS, n, channels, hidden), real(1), real(0),
            (wide, hidden, w2, channels, out + first * channels * size, channels),
        )  # fmt: skip
        for r in range(first, first + n):
            source, target = row(x, r, channels, channels, real), row(out, r, channels, channels, real)
            s = row(scale, r // positions, 1, 1, real)[0] if scale else real(1)
            for c in range(channels):
                target[c] = source[c] + s * (target[c] + b2[c])
        own[0] = real(0)  # numba frees an array after its last use, whatever has its address

    return mlp


def _make_backward(real: Any) -> Any:
    size = real.bitwidth // 8

    def mlp_backward(chunk: int, a: Any) -> None:
        rows, channels, hidden, per, positions = a[3], a[4], a[5], a[6], a[7]
        x, gamma_at, w1, b1_at, w2, scale, dout, dx = a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]
        gemm, y, means, inverses, before = a[16], a[17], a[18], a[19], a[20]
        d_norm, d_w1, d_b1, d_w2, d_b2 = a[21], a[22], a[23], a[24], a[25]
        first = chunk * per
        n = min(per, rows - first)
        gamma, b1 = row(gamma_at, 0, 0, channels, real), row(b1_at, 0, 0, hidden, real)
        total_b2, total_b1 = (
            row(d_b2, chunk, channels, channels, real),
            row(d_b1, chunk, hidden, hidden, real),
        )
        d_gamma = row(d_norm, 2 * chunk, channels, channels, real)
        d_beta = row(d_norm, 2 * chunk + 1, channels, channels, real)
        for c in range(channels):
            total_b2[c] = real(0)
            d_gamma[c] = real(0)
            d_beta[c] = real(0)
        for c in range(hidden):
            total_b1[c] = real(0)
        own = np.empty(n * (2 * hidden + 2 * channels), real)
        wide = numba.int64(own.ctypes.data)
        activated = wide + n * hidden * size
        grad_at = activated + n * hidden * size
        dy = grad_at + n * channels * size
        for r in range(n):
            source, target = (
                row(dout, first + r, channels, channels, real),
                row(grad_at, r, channels, channels, real),
            )
            s = row(scale, (first + r) // positions, 1, 1, real)[0] if scale else real(1)
            for c in range(channels):
                d = s * source[c]
                target[c] = d
                total_b2[c] += d
        multiply(
            gemm, (AS_IS, TRANSPOSED, n, hidden, channels), real(1), real(0),
            (grad_at, channels, w2, channels, wide, hidden),
        )  # fmt: skip
        for r in range(n):
            grad, source = row(wide, r, hidden, hidden, real), row(before, first + r, hidden, hidden, real)
            gradient(grad, source, b1, row(activated, r, hidden, hidden, real), total_b1)
        weight = chunk * channels * hidden * size
        multiply(
            gemm, (TRANSPOSED, AS_IS, hidden, channels, n), real(1), real(0),
            (activated, hidden, grad_at, channels, d_w2 + weight, channels),
        )  # fmt: skip
        multiply(
            gemm, (TRANSPOSED, AS_IS, channels, hidden, n), real(1), real(0),
            (y + first * channels * size, channels, wide, hidden, d_w1 + weight, hidden),
        )  # fmt: skip
        multiply(
            gemm, (AS_IS, TRANSPOSED, n, channels, hidden), real(1), real(0),
            (wide, hidden, w1, hidden, dy, channels),
        )  # fmt: skip
        for r in range(n):
            at = first + r
            grad, source = row(dy, r, channels, channels, real), row(x, at, channels, channels, real)
            target, other = row(dx, at, channels, channels, real), row(dout, at, channels, channels, real)
            statistics = (row(means, at, 1, 1, real)[0], row(inverses, at, 1, 1, real)[0])
            normalise_backward(grad, source, gamma, statistics, target, other, d_gamma, d_beta, real)
        own[0] = real(0)  # as above

    return mlp_backward


_forward, _backward = Kernel(_make_forward), Kernel(_make_backward)


def mlp_by_chunks(
    tensors: list[Array], images: int, epsilon: float, scale: Array | None, keep: bool
) -> tuple[Array, list[Array]]:
    """`[N, C]` → `[N, C]`, and what the gradients need if `keep` is true.

    Args:
        tensors: x, the norm's weight and bias, the FCs' weights and biases.
        images: B.
        epsilon: of the norm.
        scale: s, `[B]`; None is 1.
    """
    x, gamma, beta, w1, b1, w2, b2 = tensors
    (rows, channels), hidden = x.shape, w1.shape[1]
    per = rows_of_a_chunk(rows, channels, hidden)
    assert per is not None
    out = empty(x.shape, x)
    kept = [empty(x.shape, x), empty([rows], x), empty([rows], x), empty([rows, hidden], x)] if keep else []
    _forward(
        x.dtype, 8 * rows * hidden, -(-rows // per), rows, channels, hidden, per, rows // images,
        x.data_ptr(), gamma.data_ptr(), beta.data_ptr(), w1.data_ptr(), b1.data_ptr(), w2.data_ptr(), b2.data_ptr(),
        0 if scale is None else scale.data_ptr(), out.data_ptr(), float_argument(float(np.float32(epsilon))),
        int(functions(x.dtype)[2]), *([array.data_ptr() for array in kept] or [0] * 4),
    )  # fmt: skip
    return out, kept


def mlp_by_chunks_gradients(
    grad: Array, tensors: list[Array], images: int, kept: list[Array], scale: Array | None
) -> list[Array]:
    """Of all tensors, from that of the result, `[N, C]`."""
    x, gamma, _, w1, b1, w2, _ = tensors
    (rows, channels), hidden = x.shape, w1.shape[1]
    per = rows_of_a_chunk(rows, channels, hidden)
    assert per is not None
    chunks, dx = -(-rows // per), empty(x.shape, x)
    d_norm, d_w1, d_w2 = (empty([chunks, *shape], x) for shape in ((2, channels), w1.shape, w2.shape))
    d_b1, d_b2 = (empty([chunks, 1, size], x) for size in (hidden, channels))
    _backward(
        x.dtype, 8 * rows * hidden, chunks, rows, channels, hidden, per, rows // images,
        x.data_ptr(), gamma.data_ptr(), w1.data_ptr(), b1.data_ptr(), w2.data_ptr(),
        0 if scale is None else scale.data_ptr(), grad.data_ptr(), dx.data_ptr(), int(functions(x.dtype)[2]),
        *[array.data_ptr() for array in (*kept, d_norm, d_w1, d_b1, d_w2, d_b2)],
    )  # fmt: skip
    d_gamma, d_beta = (parts_total(d_norm, 1, which, 1).reshape([channels]) for which in range(2))
    weights = [parts_total(d, 1, 0, d.shape[1]).reshape(d.shape[1:]) for d in (d_w1, d_w2)]
    biases = [parts_total(d, 1, 0, 1).reshape([d.shape[2]]) for d in (d_b1, d_b2)]
    return [dx, d_gamma, d_beta, weights[0], biases[0], weights[1], biases[1]]
