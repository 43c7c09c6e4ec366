"""The branches' weights below each other, and their gradients apart again.

    y[k · C + i, j] = wₖ[i, j], or wₖ[j, i] where a weight is `[O, C]`

Plain form: `paddle.concat`. Shapes: K branches, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cyclemlp.kernels.fused.launch import Kernel, chunks_of, row
from cyclemlp.kernels.fused.program import empty


def _make_copy(real: Any) -> Any:
    def copy(chunk: int, a: Any) -> None:
        rows, columns, per, parts = a[3], a[4], a[5], a[6]
        k, part = chunk // parts, chunk % parts
        source_at, target_at, across = a[7 + 3 * k], a[8 + 3 * k], a[9 + 3 * k]
        for r in range(part * per, min(rows, (part + 1) * per)):
            target = row(target_at, r, columns, columns, real)
            if not source_at:
                for c in range(columns):
                    target[c] = real(0)
            elif across:  # the r-th column
                source = row(source_at, r, 1, rows * (columns - 1) + 1, real)
                for c in range(columns):
                    target[c] = source[c * rows]
            else:
                source = row(source_at, r, columns, columns, real)
                for c in range(columns):
                    target[c] = source[c]

    return copy


_copy = Kernel(_make_copy)


def _copied(like: Any, shape: tuple[int, int], copies: Sequence[tuple[Any, Any, bool]]) -> None:
    """Copy matrices: from address (0: zeros) to address, changing rows and columns or not."""
    rows, columns = shape
    per, parts = chunks_of(rows, columns)
    _copy(
        like.dtype, rows * columns * len(copies), len(copies) * parts, rows, columns, per, parts,
        *[part for source, target, across in copies for part in (source, target, int(across))],
    )  # fmt: skip


def stacked(weights: Sequence[Any], transposed: Sequence[bool]) -> Any:
    """K weights, `[C, C]` or with more dimensions of 1, → `[K · C, C]`."""
    channels = weights[0].shape[0]
    y = empty([len(weights) * channels, channels], weights[0])
    size = channels * channels * y.element_size()
    copies = [
        (w.data_ptr(), y.data_ptr() + k * size, across)
        for k, (w, across) in enumerate(zip(weights, transposed, strict=True))
    ]
    _copied(y, (channels, channels), copies)
    return y


def unstacked(y: Any, weights: Sequence[Any], transposed: Sequence[bool]) -> list[Any]:
    """The gradient of each weight, in its shape, from that of `stacked`."""
    channels = y.shape[1]
    size = channels * channels * y.element_size()
    gradients = [empty(w.shape, y) for w in weights]
    copies = [
        (y.data_ptr() + k * size, g.data_ptr(), across)
        for k, (g, across) in enumerate(zip(gradients, transposed, strict=True))
    ]
    _copied(y, (channels, channels), copies)
    return gradients


def stacked_rows(rows: Sequence[Any | None], like: Any) -> Any:
    """K rows `[C]` → `[K, C]`; zeros for None.

    Args:
        like: has C channels.
    """
    channels = like.shape[-1]
    y = empty([len(rows), channels], like)
    size = channels * y.element_size()
    copies = [(0 if r is None else r.data_ptr(), y.data_ptr() + k * size, False) for k, r in enumerate(rows)]
    _copied(y, (1, channels), copies)
    return y
