"""Bias and GELU.

    y = z Φ(z),  z = x + b;  dz = dy (Φ(z) + z φ(z)),  db = Σ dz

with the normal distribution's Φ and φ. In float64 by erf and exp. In float32 by functions that vectorise: Φ(z) − ½ is z
times a rational function of z², fitted on |z| ≤ 5.8, where it is right to 3e-7; φ(z) is the 32nd power of a polynomial
for exp, right to 2e-6 of its value. Plain form: `paddle.nn.functional.gelu(x + b)`. Shapes: N rows, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import paddle
from numba.extending import overload

from cyclemlp.kernels.fused.launch import COMPILED, OPTIONS, Kernel, chunks_of, row
from cyclemlp.kernels.fused.program import empty
from cyclemlp.kernels.fused.sums import parts_total


def normal(z: Any) -> Any:
    """Φ(z), in compiled code."""
    raise NotImplementedError


def _normal32(z: Any) -> Any:
    f = numba.float32
    t = z * z
    t = t if t < f(33.64) else f(33.64)
    over = f(2.10567191e-08)
    over = over * t + f(6.40527122e-06)
    over = over * t + f(1.8543903e-04)
    over = over * t + f(4.77786335e-03)
    over = over * t + f(3.55456848e-02)
    over = over * t + f(3.98942188e-01)
    under = f(1.15185056e-06)
    under = under * t + f(7.86421309e-05)
    under = under * t + f(1.97907071e-03)
    under = under * t + f(2.96065233e-02)
    under = under * t + f(2.55765005e-01)
    under = under * t + f(1)
    inside = f(0.5) + z * over / under
    return inside if abs(z) < f(5.8) else (f(1) if z > f(0) else (f(0) if z < f(0) else z))


def density(z: Any) -> Any:
    """φ(z), in compiled code."""
    raise NotImplementedError


def _density32(z: Any) -> Any:
    f = numba.float32
    u = z * z * f(0.5 / 32)
    e = f(8.49954604e-04)
    e = e * u + f(-7.65717187e-03)
    e = e * u + f(4.12265294e-02)
    e = e * u + f(-1.66516838e-01)
    e = e * u + f(4.99975485e-01)
    e = e * u + f(-9.99998488e-01)
    e = e * u + f(9.99999985e-01)
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    return e * f(0.3989422804014327) if u < f(1) else f(0)


def _normal64(z: Any) -> Any:
    return 0.5 * math.erfc(-z * math.sqrt(0.5))  # small values keep their digits


def _density64(z: Any) -> Any:
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


# The function of the type is chosen where a kernel is compiled: one in a kernel's closure would be another one in each
# process, and the kernel would be compiled anew in each.


@overload(normal, jit_options=COMPILED)
def _normal_of(z: Any) -> Any:
    return _normal32 if z == numba.float32 else _normal64


@overload(density, jit_options=COMPILED)
def _density_of(z: Any) -> Any:
    return _density32 if z == numba.float32 else _density64


@numba.njit(**OPTIONS)
def gradient(grad: Any, source: Any, bias: Any, target: Any, total: Any) -> None:
    """Of a row: dz takes the place of dy and is added to `total`; the GELU is computed again, into `target`."""
    for c in range(len(grad)):
        z = source[c] + bias[c]
        p = normal(z)
        d = grad[c] * (p + z * density(z))
        target[c] = z * p
        grad[c] = d
        total[c] += d


def _make_forward(real: Any) -> Any:
    def gelu(chunk: int, a: Any) -> None:
        rows, channels, per, x, bias, y = a[3], a[4], a[5], a[6], a[7], a[8]
        b = row(bias, 0, 0, channels, real)
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            target = row(y, r, channels, channels, real)
            if x == y:  # said apart, because two arrays in the same place are not vectorised
                for c in range(channels):
                    z = target[c] + b[c]
                    target[c] = z * normal(z)
            else:
                source = row(x, r, channels, channels, real)
                for c in range(channels):
                    z = source[c] + b[c]
                    target[c] = z * normal(z)

    return gelu


def _make_backward(real: Any) -> Any:
    def gelu_backward(chunk: int, a: Any) -> None:
        rows, channels, per, dy, x, bias, y, sums = a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10]
        b, total = row(bias, 0, 0, channels, real), row(sums, chunk, channels, channels, real)
        for c in range(channels):
            total[c] = real(0)
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            grad, source = row(dy, r, channels, channels, real), row(x, r, channels, channels, real)
            target = row(y, r, channels, channels, real)
            gradient(grad, source, b, target, total)

    return gelu_backward


_forward, _backward = Kernel(_make_forward), Kernel(_make_backward)


def bias_gelu(x: paddle.Tensor, bias: paddle.Tensor, in_place: bool = False) -> paddle.Tensor:
    """`[N, C]` → `[N, C]`: GELU(x + bias)."""
    rows, channels = x.shape
    y = x if in_place else empty(x.shape, x)
    per, chunks = chunks_of(rows, channels)
    _forward(
        x.dtype, 8 * x.size, chunks, rows, channels, per, x.data_ptr(), bias.data_ptr(), y.data_ptr()
    )  # fmt: skip
    return y


def bias_gelu_backward(
    dy: paddle.Tensor, x: paddle.Tensor, bias: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """The gradient of x, which takes the place of dy; that of the bias; and GELU(x + bias), computed again."""
    rows, channels = x.shape
    y = empty(x.shape, x)
    per, chunks = chunks_of(rows, channels)
    sums = empty([chunks, 1, channels], x)
    _backward(
        x.dtype, 8 * x.size, chunks, rows, channels, per, dy.data_ptr(), x.data_ptr(), bias.data_ptr(),
        y.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    return dy, parts_total(sums, 1, 0, 1).reshape([channels]), y
