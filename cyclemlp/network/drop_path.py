"""Stochastic depth."""

from __future__ import annotations

import paddle
from paddle import nn


class DropPath(nn.Layer):
    """Stochastic depth (Huang et al., 2016): in training, drops a residual branch for whole images.

    Args:
        rate: probability of dropping, in [0, 1). What is kept is scaled by 1 / (1 − rate).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = float(rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, …]` → the same shape."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        # From a slice of x, not from its shape: the batch size may be unknown.
        corner = (slice(None), *[slice(0, 1)] * (x.ndim - 1))
        kept = paddle.bernoulli(paddle.full_like(x[corner].detach().astype("float32"), keep))
        return x * (kept / keep).astype(x.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"
