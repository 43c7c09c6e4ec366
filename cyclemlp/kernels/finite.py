"""Whether gradients are finite: by a fused kernel where that can run, and as Paddle does it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle

from cyclemlp.kernels.selection import fused_kernels_run, is_simple


def are_finite(loss: paddle.Tensor, tensors: Sequence[paddle.Tensor]) -> bool:
    """Whether a loss and the sums of the squares of tensors are finite; one value is read from the device.

    Args:
        loss: a scalar.
        tensors: of any float type and shape.
    """
    fused: dict[paddle.dtype, list[paddle.Tensor]] = {}
    possible, values = fused_kernels_run(), [loss]
    for tensor in tensors:
        if possible and is_simple(tensor, tensor.dtype):
            fused.setdefault(tensor.dtype, []).append(tensor)
        else:
            values.append(tensor.astype("float32").square().sum().astype(loss.dtype))
    for alike in fused.values():
        from cyclemlp.kernels.fused.finite import sums_of_squares

        if not np.isfinite(sums_of_squares(alike)).all():
            return False
    return bool(paddle.add_n(values).isfinite())
