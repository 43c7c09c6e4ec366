"""Operations that are slow in Paddle 3 on a CPU, as equal ones that are not.

Shapes: B batch, H height, W width, N rows (positions), C channels in, O channels out.

The matrix products run at the processor's speed, and what stands between them does not. A broadcast over the batch
takes thirty times an addition, the gradient of a layer norm twenty times its forward, a bias with its gradient as long
as the forward of its product (docs/speed.md). Each has an exact equivalent that is a product with ones, an operation on
equal shapes, or another norm:

* a row of values is spread over all rows, and a sum is taken over all rows, as a product with a column of ones;
* a layer norm is a batch norm over positions instead of channels, then scale and bias;
* a shift is a sum over its offsets of the map moved as a whole, times 0 or 1 by channel.

Gradients are Paddle's, or by hand (`PyLayer`) for functions of one tensor: with two, `paddle.grad` for one of them
would fail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer


def on_cpu(x: paddle.Tensor) -> bool:
    """Whether these operations are the ones to take: eager, on a CPU, float32 or float64, without mixed precision."""
    if not paddle.in_dynamic_mode():
        return False
    return bool(
        x.place.is_cpu_place()
        and paddle.device.get_device() == "cpu"  # where Paddle knows no autocast, either
        and x.dtype in (paddle.float32, paddle.float64)
    )


def wants_gradient(x: paddle.Tensor) -> bool:
    return paddle.is_grad_enabled() and not x.stop_gradient


# ---- one row and all rows


def ones_column(rows: int, like: paddle.Tensor) -> paddle.Tensor:
    return paddle.ones([rows, 1], dtype=like.dtype)


def spread(row: paddle.Tensor, rows: int) -> paddle.Tensor:
    """`[…, 1, C]` → `[…, N, C]`, each row the same."""
    return paddle.matmul(ones_column(rows, row), row)


def mean_of_rows(x: paddle.Tensor) -> paddle.Tensor:
    """`[…, N, C]` → `[…, 1, C]`."""
    rows = x.shape[-2]
    return paddle.matmul(paddle.full([1, rows], 1 / rows, dtype=x.dtype), x)


def add_row(x: paddle.Tensor, row: paddle.Tensor) -> paddle.Tensor:
    """`[…, N, C]` plus `[…, 1, C]`."""
    return x + spread(row, x.shape[-2])


def scale_by_row(x: paddle.Tensor, row: paddle.Tensor) -> paddle.Tensor:
    """`[…, N, C]` times `[…, 1, C]`."""
    return x * spread(row, x.shape[-2])


def linear(
    x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None, transpose: bool = False
) -> paddle.Tensor:
    """`[…, C]` → `[…, O]`: product with a weight `[C, O]`, or `[O, C]` if `transpose`, plus a bias."""
    y = paddle.matmul(x, weight, transpose_y=transpose)
    if bias is None:
        return y
    shape = y.shape
    y, bias = y.reshape([-1, shape[-1]]), bias.unsqueeze(0)
    if paddle.is_grad_enabled():
        return add_row(y, bias).reshape(shape)
    return y.addmm_(ones_column(y.shape[0], y), bias).reshape(
        shape
    )  # in one pass; but it would keep y for the gradient


def layer_norm(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, epsilon: float) -> paddle.Tensor:
    """`[…, C]` → `[…, C]`: the norm over channels as a batch norm over rows, whose gradient is fast."""
    channels = x.shape[-1]
    rows = x.size // channels
    unused = paddle.zeros([rows], x.dtype), paddle.zeros([rows], x.dtype)  # running mean and variance
    y = F.batch_norm(x.reshape([1, rows, channels]), *unused, None, None, True, epsilon=epsilon)
    y = scale_by_row(y.reshape([rows, channels]), weight.unsqueeze(0))
    return add_row(y, bias.unsqueeze(0)).reshape(x.shape)


def add_channel_bias(y: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    """`[B, O, H, W]` plus `[O]`."""
    batch, _, height, width = y.shape
    bias = bias.tile([batch]).unsqueeze(1)  # a row here is one position of all the maps
    return y + paddle.matmul(bias, ones_column(height * width, y), transpose_y=True).reshape(y.shape)


def gelu(x: paddle.Tensor) -> paddle.Tensor:
    """x·Φ(x), Φ the normal distribution's (GELU by erf)."""
    return _Gelu.apply(x) if wants_gradient(x) else _normal(x).multiply_(x)


def _normal(x: paddle.Tensor) -> paddle.Tensor:
    """Φ(x)."""
    return paddle.erf(paddle.scale(x, math.sqrt(0.5))).scale_(0.5, 0.5)


class _Gelu(PyLayer):
    """Keeps the derivative, Φ(x) + x·φ(x), in place of x: the gradient is then one product."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor) -> paddle.Tensor:
        normal = _normal(x)
        derivative = (x * x).scale_(-0.5, -0.5 * math.log(2 * math.pi)).exp_().multiply_(x).add_(normal)
        ctx.save_for_backward(derivative)
        return normal.multiply_(x)

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> paddle.Tensor:
        (derivative,) = ctx.saved_tensor()
        return derivative * grad


# ---- the shift


#: An offset along an axis, in positions, and which channels have it: a row `[1, C]` of 0 and 1.
Moves = Sequence[tuple[int, paddle.Tensor]]


def shift(x: paddle.Tensor, moves: Moves, axis: int) -> paddle.Tensor:
    """`[B, H, W, C]` → `[B, H, W, C]`: each channel read at its offset further along `axis` (1 or 2), zero outside."""
    return _Shift.apply(x, moves, axis) if wants_gradient(x) else _shifted(x, moves, axis, 1)


class _Shift(PyLayer):
    """By hand because the gradient is the shift by the opposite offsets and needs nothing kept."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, moves: Moves, axis: int) -> paddle.Tensor:
        ctx.moves, ctx.axis = moves, axis
        return _shifted(x, moves, axis, 1)

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> paddle.Tensor:
        return _shifted(grad, ctx.moves, ctx.axis, -1)


def _shifted(x: paddle.Tensor, moves: Moves, axis: int, sign: int) -> paddle.Tensor:
    shape, channels = x.shape, x.shape[-1]
    length = shape[axis]
    ones = ones_column(x.size // channels, x)
    # [positions before the axis, along it, after it with channels]: whole rows are moved.
    x = x.reshape([-1, length, channels if axis == 2 else shape[2] * channels])
    total = None
    for offset, chosen in moves:
        if abs(offset) < length:
            # Position i read at i + offset: cut off on one side, zeros on the other.
            moved = F.pad(x, [-sign * offset, sign * offset], data_format="NLC") if offset else x
            part = paddle.matmul(ones, chosen).multiply_(moved.reshape([-1, channels]))
            total = part if total is None else total.add_(part)
    return (paddle.zeros_like(x) if total is None else total).reshape(shape)
