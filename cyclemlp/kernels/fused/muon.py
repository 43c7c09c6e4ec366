"""A step of Muon for many weights, as one program.

    V ← μ V + G;  U = G + μ V;  X = U / (‖U‖ + 1e-7);  five times X ← a X + (b X Xᵀ + c (X Xᵀ)²) X;  W ← f W − s X

Plain form: `cyclemlp.kernels.muon`. Shapes: W, G, V `[n, m]`; if n > m, XᵀX from the other side.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import paddle

from cyclemlp.kernels.fused.launch import CHUNK, Kernel, float_argument, number, row
from cyclemlp.kernels.fused.program import Address, Array, Program, product
from cyclemlp.kernels.muon import COEFFICIENTS, MOMENTUM, STEPS, MuonUpdate, as_matrix


def _make_momentum(real: Any) -> Any:
    def momentum(chunk: int, a: Any) -> None:
        size, per, share = a[3], a[4], number(a[5], real)
        first, length = chunk * per, min(size - chunk * per, per)
        g, v = row(a[6], first, 1, length, real), row(a[7], first, 1, length, real)
        u = row(a[8], first, 1, length, real)
        total = real(0)
        for i in range(length):
            moved = share * v[i] + g[i]
            v[i] = moved
            u[i] = g[i] + share * moved
            total += u[i] * u[i]
        row(a[9], chunk, 1, 1, real)[0] = total

    return momentum


def _make_normalised(real: Any) -> Any:
    def normalised(chunk: int, a: Any) -> None:
        size, per, chunks = a[3], a[4], a[5]
        first, length = chunk * per, min(size - chunk * per, per)
        squares, x = row(a[6], 0, 0, chunks, real), row(a[7], first, 1, length, real)
        total = real(0)
        for i in range(chunks):
            total += squares[i]
        factor = real(1) / (real(math.sqrt(total)) + real(1e-7))
        for i in range(length):
            x[i] *= factor

    return normalised


def _make_copied(real: Any) -> Any:
    def copied(chunk: int, a: Any) -> None:
        size, per, factor = a[3], a[4], number(a[5], real)
        first, length = chunk * per, min(size - chunk * per, per)
        x, y = row(a[6], first, 1, length, real), row(a[7], first, 1, length, real)
        for i in range(length):
            y[i] = factor * x[i]

    return copied


def _make_subtracted(real: Any) -> Any:
    def subtracted(chunk: int, a: Any) -> None:
        size, per = a[3], a[4]
        first, length = chunk * per, min(size - chunk * per, per)
        factors = row(a[5], 0, 0, 2, real)
        w, x = row(a[6], first, 1, length, real), row(a[7], first, 1, length, real)
        for i in range(length):
            w[i] = factors[0] * w[i] - factors[1] * x[i]

    return subtracted


_momentum, _normalised = Kernel(_make_momentum), Kernel(_make_normalised)
_copied, _subtracted = Kernel(_make_copied), Kernel(_make_subtracted)


def _over(kernel: Kernel, x: Array, *arguments: Any) -> None:
    """Run a kernel over all numbers of an array."""
    kernel(x.dtype, x.size, -(-x.size // CHUNK), x.size, CHUNK, *arguments)


def _multiple(x: Array, factor: float) -> Array:
    y = x.program.empty(x.shape)
    _over(_copied, x, float_argument(factor), x.data_ptr(), y.data_ptr())
    return y


def _record(w: Array, g: Array, v: Array, factors: Address) -> None:
    """factors: address of f and s."""
    x, squares = w.program.empty(w.shape), w.program.empty([-(-w.size // CHUNK)])
    _over(
        _momentum, x, float_argument(MOMENTUM), g.data_ptr(), v.data_ptr(), x.data_ptr(), squares.data_ptr()
    )  # fmt: skip
    _over(_normalised, x, squares.size, squares.data_ptr(), x.data_ptr())
    tall, (a, b, c) = w.shape[0] > w.shape[1], COEFFICIENTS
    for _ in range(STEPS):
        square = product(x, x, transpose_a=tall, transpose_b=not tall)
        powers = product(square, square, alpha=c, to=_multiple(square, b))
        x = product(*((x, powers) if tall else (powers, x)), to=_multiple(x, a))
    _over(_subtracted, w, factors, w.data_ptr(), x.data_ptr())


@functools.lru_cache(8)
def _program(shapes: tuple[tuple[int, int], ...], dtype: Any) -> Program:
    """Inputs: the weights, the gradients, the momenta, the factors `[weights, 2]`; changes weights and momenta."""
    program = Program(dtype)
    weights, gradients, momenta = ([program.input(shape) for shape in shapes] for _ in range(3))
    factors = program.input([len(shapes), 2])
    for i, (w, g, v) in enumerate(zip(weights, gradients, momenta, strict=True)):
        _record(w, g, v, factors.data_ptr() + 2 * i * program.bytes)
    return program.finish([])


def muon_step(updates: Sequence[MuonUpdate]) -> None:
    """Make the updates, all of one type; tensors are contiguous and on the CPU."""
    dtype = updates[0].weight.dtype
    program = _program(tuple([as_matrix(u.weight.shape) for u in updates]), dtype)
    factors = paddle.to_tensor([[u.kept, u.rate] for u in updates], dtype=dtype)
    tensors = [[u.weight for u in updates], [u.gradient for u in updates], [u.momentum for u in updates]]
    program([*tensors[0], *tensors[1], *tensors[2], factors])
