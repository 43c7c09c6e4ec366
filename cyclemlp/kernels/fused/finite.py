"""The sum of the squares of many tensors, which is finite if all their numbers are and none is beyond about 1e19.

    s = Σᵢ xᵢ², of each chunk

Plain form: `paddle.Tensor.square` and `sum`, tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from numba import types

from cyclemlp.kernels.fused.launch import Kernel, row, table_of_chunks


def _make_squares(real: Any) -> Any:
    def squares(chunk: int, a: Any) -> None:
        place = row(a[3], chunk, 3, 3, types.int64)
        values = row(row(a[4], place[0], 1, 1, types.int64)[0], place[1], 1, place[2], real)
        total = real(0)
        for i in range(place[2]):
            total += values[i] * values[i]
        row(a[5], chunk, 1, 1, real)[0] = total

    return squares


_squares = Kernel(_make_squares)


def sums_of_squares(tensors: Sequence[paddle.Tensor]) -> np.ndarray:
    """Of each chunk of the tensors, float [chunks]; all of one type, float32 or float64, contiguous, on the CPU."""
    dtype = tensors[0].dtype
    table, numbers = table_of_chunks(tuple([tensor.size for tensor in tensors]))
    addresses = np.array([tensor.data_ptr() for tensor in tensors], np.int64)
    sums = np.empty(len(table), np.float32 if dtype == paddle.float32 else np.float64)
    _squares(
        dtype, numbers, len(table), table.ctypes.data, addresses.ctypes.data, sums.ctypes.data
    )  # fmt: skip
    return sums
