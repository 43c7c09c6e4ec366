"""The shifts of all branches in one pass over the map.

    yₖ[i, j, c] = x[i + δₖ(c), j + εₖ(c), c], zero outside;  dx = Σₖ dyₖ moved back

Plain form: `cyclemlp.network.cyclemlp.CycleShift`. Shapes: B batch, H height, W width, C channels, K branches.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import paddle
from numba import types

from cyclemlp.kernels.fused.launch import Kernel, chunks_of, row
from cyclemlp.kernels.fused.program import empty
from cyclemlp.offsets import cycle_offsets


class Moves(NamedTuple):
    """What the kernels need to know of the branches: arrays, kept alive here, and their addresses.

    Args:
        table: `[moves, 3]`: branch, δ, ε; a move is an offset that some channels of a branch have.
        chosen: `[K, C]`, the move of each channel.
    """

    table: np.ndarray
    chosen: np.ndarray

    @classmethod
    def of(cls, channels: int, step_sizes: tuple[tuple[int, int], ...]) -> Moves:
        """Of branches with these step sizes (S_H, S_W); (1, 1) stays in its place."""
        table: list[tuple[int, ...]] = []
        chosen = np.empty((len(step_sizes), channels), np.int32)
        for k, steps in enumerate(step_sizes):
            offsets = np.stack(cycle_offsets(channels, steps), axis=1)
            for move in np.unique(offsets, axis=0):
                chosen[k, (offsets == move).all(axis=1)] = len(table)
                table.append((k, *move.tolist()))
        return cls(np.array(table, np.int64), chosen)


def _make_forward(real: Any) -> Any:
    def shift(chunk: int, a: Any) -> None:
        rows, channels, per, height, width, x, source_stride = a[3], a[4], a[5], a[6], a[7], a[8], a[9]
        target_stride, moves, table, chosen = a[10], a[11], a[12], a[13]
        move = row(table, 0, 0, 3 * moves, types.int64)
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            j, i = r % width, (r // width) % height
            for m in range(moves):
                k, down, right = move[3 * m], move[3 * m + 1], move[3 * m + 2]
                address = a[14 + k]
                if address:
                    target = row(address, r, target_stride, channels, real)
                    which = row(chosen, k, channels, channels, types.int32)
                    if 0 <= i + down < height and 0 <= j + right < width:
                        source = row(x, r + down * width + right, source_stride, channels, real)
                        for c in range(channels):
                            old, new = target[c], source[c]
                            target[c] = new if which[c] == m else old
                    else:
                        for c in range(channels):
                            old = target[c]
                            target[c] = real(0) if which[c] == m else old

    return shift


def _make_backward(real: Any) -> Any:
    def shift_backward(chunk: int, a: Any) -> None:
        rows, channels, per, height, width, dx, source_stride = a[3], a[4], a[5], a[6], a[7], a[8], a[9]
        moves, table, chosen, more, branches = a[10], a[11], a[12], a[13], a[14]
        move = row(table, 0, 0, 3 * moves, types.int64)
        for r in range(chunk * per, min(rows, (chunk + 1) * per)):
            j, i, image = r % width, (r // width) % height, r // (width * height)
            target = row(dx, r, channels, channels, real)
            for c in range(channels):
                target[c] = real(0)
            for m in range(moves):
                k, down, right = move[3 * m], move[3 * m + 1], move[3 * m + 2]
                if 0 <= i - down < height and 0 <= j - right < width:
                    source = row(a[15 + k], r - down * width - right, source_stride, channels, real)
                    which = row(chosen, k, channels, channels, types.int32)
                    if more:
                        other = row(more, image * branches + k, channels, channels, real)
                        for c in range(channels):
                            new = source[c] + other[c]
                            target[c] += new if which[c] == m else real(0)
                    else:
                        for c in range(channels):
                            new = source[c]
                            target[c] += new if which[c] == m else real(0)

    return shift_backward


_forward, _backward = Kernel(_make_forward), Kernel(_make_backward)


def shift(x: Any, like: paddle.Tensor, moves: Moves, targets: list[Any], strides: tuple[int, int]) -> None:
    """Write each branch's map to its address; a branch whose address is 0 is left out.

    Args:
        x: address of the map.
        like: of its type and shape, `[B, H, W, C]`.
        moves: of the branches.
        targets: K addresses.
        strides: numbers from row to row of the map, and of the targets.
    """
    batch, height, width, channels = like.shape
    rows = batch * height * width
    per, chunks = chunks_of(rows, channels)
    _forward(
        like.dtype, rows * channels * len(targets), chunks, rows, channels, per, height, width, x,
        strides[0], strides[1], len(moves.table), moves.table.ctypes.data, moves.chosen.ctypes.data, *targets,
    )  # fmt: skip


def shift_backward(
    sources: list[Any], like: paddle.Tensor, moves: Moves, stride: int, more: paddle.Tensor | None
) -> paddle.Tensor:
    """The gradient of the map, `[B, H, W, C]`, from those of the branches.

    Args:
        sources: K addresses of the branches' gradients.
        like, moves: as in `shift`.
        stride: numbers from row to row of the gradients.
        more: `[B, K, C]`, added to each row of an image's gradients.
    """
    batch, height, width, channels = like.shape
    rows = batch * height * width
    per, chunks = chunks_of(rows, channels)
    dx = empty(like.shape, like)
    _backward(
        like.dtype, rows * channels * len(sources), chunks, rows, channels, per, height, width,
        dx.data_ptr(), stride, len(moves.table), moves.table.ctypes.data, moves.chosen.ctypes.data,
        0 if more is None else more.data_ptr(), len(sources), *sources,
    )  # fmt: skip
    return dx
