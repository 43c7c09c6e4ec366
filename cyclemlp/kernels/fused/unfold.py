"""The patches of a convolution as rows, so that it is a matrix product.

    columns[(b, i, j), (p, q, c)] = x[b, i·s + p − pad, j·s + q − pad, c], zero outside

and back: dx gathers from the rows of each patch that it lies in. Plain form: `paddle.nn.functional.unfold`; for patch
merging, whose rows have (q, p, c), `cyclemlp.network.embedding.merge_patches`.
Shapes: B batch, H height, W width, C channels, k kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import paddle

from cyclemlp.kernels.fused.launch import Kernel, chunks_of, row
from cyclemlp.kernels.fused.program import empty


class Geometry(NamedTuple):
    """Kernel and stride in rows and in columns, padding above, below, left and right."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]


class Window(NamedTuple):
    """Kernel, stride and padding before, in rows and in columns, the size of the result, and the order of a patch."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    out: tuple[int, int]
    by_columns: bool = False

    @classmethod
    def of(cls, geometry: Geometry, height: int, width: int) -> Window:
        """Of a convolution over a map of this size."""
        kernel, stride, (top, bottom, left, right) = geometry
        out = (
            (height + top + bottom - kernel[0]) // stride[0] + 1,
            (width + left + right - kernel[1]) // stride[1] + 1,
        )
        return cls(kernel, stride, (top, left), out)

    @property
    def places(self) -> tuple[int, int]:
        """By how many places in a row of patches a row and a column of the patch are apart."""
        return (1, self.kernel[0]) if self.by_columns else (self.kernel[1], 1)


def _make_forward(real: Any) -> Any:
    def unfold(chunk: int, a: Any) -> None:
        rows, columns, per, x, y, channels, height, width = a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10]
        kh, kw, sh, sw, ph, pw, out_h, out_w, place_p, place_q, first = (
            a[11], a[12], a[13], a[14], a[15], a[16], a[17], a[18], a[19], a[20], a[21],
        )  # fmt: skip
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            j, i, image = r % out_w, (r // out_w) % out_h, r // (out_w * out_h)
            target = row(y, r, columns, columns, real)
            for p in range(kh):
                v = i * sh + p - ph
                for q in range(kw):
                    u = j * sw + q - pw
                    inside = 0 <= v < height and 0 <= u < width
                    place = p * place_p + q * place_q
                    if first:  # [B, C, H, W]
                        for c in range(channels):
                            at = ((image * channels + c) * height + v) * width + u
                            target[place * channels + c] = row(x, at, 1, 1, real)[0] if inside else real(0)
                    else:
                        part = row(y, r * kh * kw + place, channels, channels, real)
                        if inside:
                            source = row(x, (image * height + v) * width + u, channels, channels, real)
                            for c in range(channels):
                                part[c] = source[c]
                        else:
                            for c in range(channels):
                                part[c] = real(0)

    return unfold


def _make_backward(real: Any) -> Any:
    def fold(chunk: int, a: Any) -> None:
        rows, channels, per, dy, dx, height, width = a[3], a[4], a[5], a[6], a[7], a[8], a[9]
        kh, kw, sh, sw, ph, pw, out_h, out_w, place_p, place_q = (
            a[10], a[11], a[12], a[13], a[14], a[15], a[16], a[17], a[18], a[19],
        )  # fmt: skip
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            u, v, image = r % width, (r // width) % height, r // (width * height)
            target = row(dx, r, channels, channels, real)
            for c in range(channels):
                target[c] = real(0)
            for p in range(kh):
                i = v + ph - p
                if i >= 0 and i % sh == 0 and i // sh < out_h:
                    for q in range(kw):
                        j = u + pw - q
                        if j >= 0 and j % sw == 0 and j // sw < out_w:
                            at = (image * out_h + i // sh) * out_w + j // sw
                            place = p * place_p + q * place_q
                            source = row(dy, at * kh * kw + place, channels, channels, real)
                            for c in range(channels):
                                target[c] += source[c]

    return fold


def _make_turn(real: Any) -> Any:
    def turned(chunk: int, a: Any) -> None:
        rows, first, second, per, x, y = a[3], a[4], a[5], a[6], a[7], a[8]
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            source = row(x, r, first * second, first * second, real)
            target = row(y, r, first * second, first * second, real)
            for j in range(second):
                for i in range(first):
                    target[j * first + i] = source[i * second + j]

    return turned


_forward, _backward, _turn = Kernel(_make_forward), Kernel(_make_backward), Kernel(_make_turn)


def turned(x: paddle.Tensor) -> paddle.Tensor:
    """`[O, n, m]` → `[O, m, n]`: a weight's channels and positions, in the order of the patches and back.

    Plain form: `transpose([0, 2, 1])`.
    """
    rows, first, second = x.shape
    y = empty([rows, second, first], x)
    per, chunks = chunks_of(rows, first * second)
    _turn(x.dtype, x.size, chunks, rows, first, second, per, x.data_ptr(), y.data_ptr())
    return y


def unfold(x: paddle.Tensor, window: Window, channels_first: bool) -> paddle.Tensor:
    """`[B, H, W, C]`, or `[B, C, H, W]` if `channels_first`, → `[B · H' · W', k_H · k_W · C]`."""
    batch, height, width, channels = x.shape
    if channels_first:
        batch, channels, height, width = x.shape
    rows = batch * window.out[0] * window.out[1]
    columns = window.kernel[0] * window.kernel[1] * channels
    y = empty([rows, columns], x)
    per, chunks = chunks_of(rows, columns)
    _forward(
        x.dtype, y.size, chunks, rows, columns, per, x.data_ptr(), y.data_ptr(), channels, height, width,
        *window.kernel, *window.stride, *window.padding, *window.out, *window.places, int(channels_first),
    )  # fmt: skip
    return y


def fold(dy: paddle.Tensor, window: Window, shape: Sequence[int]) -> paddle.Tensor:
    """The gradient of the map `[B, H, W, C]` from that of its patches."""
    dx = empty(shape, dy)
    batch, height, width, channels = shape
    rows = batch * height * width
    per, chunks = chunks_of(rows, channels)
    _backward(
        dy.dtype, dy.size, chunks, rows, channels, per, dy.data_ptr(), dx.data_ptr(), height, width,
        *window.kernel, *window.stride, *window.padding, *window.out, *window.places,
    )  # fmt: skip
    return dx
