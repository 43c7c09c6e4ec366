"""The weights' moving average, of all parameters in one pass.

    a ← a + s (p − a)

Plain form: `paddle.Tensor.lerp_`, which runs on one thread, parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from numba import types

from cyclemlp.kernels.fused.launch import Kernel, float_argument, number, row, table_of_chunks


def _make_average(real: Any) -> Any:
    def average(chunk: int, a: Any) -> None:
        place, share = row(a[3], chunk, 3, 3, types.int64), real(number(a[5], types.float64))
        addresses = row(a[4], place[0], 2, 2, types.int64)
        averages = row(addresses[0], place[1], 1, place[2], real)
        values = row(addresses[1], place[1], 1, place[2], real)
        for i in range(place[2]):
            averages[i] += share * (values[i] - averages[i])

    return average


_average = Kernel(_make_average)


def average(pairs: Sequence[tuple[paddle.Tensor, paddle.Tensor]], share: float) -> None:
    """Move each first tensor towards the second by a share of the distance, in place.

    Args:
        pairs: of one shape each; all of one type, float32 or float64, contiguous, on the CPU.
        share: s, from 0 to 1.
    """
    addresses = np.array([[tensor.data_ptr() for tensor in pair] for pair in pairs], np.int64)
    table, numbers = table_of_chunks(tuple([tensor.size for tensor, _ in pairs]))
    _average(
        pairs[0][0].dtype, numbers, len(table), table.ctypes.data, addresses.ctypes.data, float_argument(share)
    )  # fmt: skip
