"""Sums over chunks or images, and rows repeated for each image.

    y[b] = Σₙ x[b, n]

Plain form: `paddle.sum`. Shapes: B images, n rows, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cyclemlp.kernels.fused.launch import Kernel, float_argument, number, row
from cyclemlp.kernels.fused.program import empty


def _make_total(real: Any) -> Any:
    def total(chunk: int, a: Any) -> None:
        rows, channels, x, stride, row_stride, y = a[3], a[4], a[5], a[6], a[7], a[8]
        target = row(y, chunk, channels, channels, real)  # a chunk is an image
        for c in range(channels):
            target[c] = real(0)
        for r in range(rows):
            source = row(x, 1, chunk * stride + r * row_stride, channels, real)
            for c in range(channels):
                target[c] += source[c]

    return total


def _make_filled(real: Any) -> Any:
    def filled(chunk: int, a: Any) -> None:
        target = row(a[4], 0, 0, a[3], real)
        for c in range(a[3]):
            target[c] = number(a[5], real)

    return filled


_total, _filled = Kernel(_make_total), Kernel(_make_filled)


def parts_total(sums: Any, images: int, first: int, count: int) -> Any:
    """`[B, parts, n, C]` → `[B, count, C]`: over the parts, of the `count` rows from `first` on."""
    channels = sums.shape[-1]
    between = sums.shape[-2] * channels
    parts = sums.size // (images * between)
    y = empty([images, count, channels], sums)
    _total(
        sums.dtype, images * parts * count * channels, images, parts, count * channels,
        sums.data_ptr() + first * channels * sums.element_size(), parts * between, between, y.data_ptr(),
    )  # fmt: skip
    return y


def total(x: Any) -> Any:
    """`[n, C]` → `[C]`."""
    return repeated_total(x, 1).reshape([x.shape[-1]])


def repeated_total(x: Any, images: int) -> Any:
    """`[n, C]` → `[B, C]`: the sum of the rows, the same for each image."""
    rows, channels = x.shape
    y = empty([images, channels], x)
    _total(x.dtype, images * x.size, images, rows, channels, x.data_ptr(), 0, channels, y.data_ptr())
    return y


def filled(shape: Sequence[int], value: float, like: Any) -> Any:
    """One number everywhere."""
    y = empty(shape, like)
    _filled(y.dtype, y.size, 1, y.size, y.data_ptr(), float_argument(value))
    return y
