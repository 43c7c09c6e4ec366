"""The CycleMLP block: gated Cycle FC branches, then a channel MLP, each with a residual connection.

Shapes: B batch, H height, W width, C channels, K branches.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.network.config import BRANCHES
from cyclemlp.network.cycle_fc import CycleFC

_BRANCH_LAYER = {"h": "sfc_h", "w": "sfc_w", "c": "mlp_c"}


class Mlp(nn.Layer):
    """FC, GELU (erf), FC; dropout after each.

    Args:
        channels, hidden, out: widths; `out` defaults to `channels`.
        drop: dropout rate in [0, 1).
    """

    def __init__(self, channels: int, hidden: int, out: int | None = None, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, out or channels)
        self.drop = nn.Dropout(drop)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[…, C]` → `[…, out]`."""
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class DropPath(nn.Layer):
    """Stochastic depth (Huang et al., 2016): in training, drops a residual branch for whole pictures.

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
        # From a slice of x, not from its shape: the batch size may be unknown under tracing.
        corner = (slice(None), *[slice(0, 1)] * (x.ndim - 1))
        first = x[corner].detach().astype("float32")
        kept = paddle.bernoulli(paddle.full_like(first, keep))
        return x * (kept / keep).astype(x.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class CycleMixer(nn.Layer):
    """The branches, weighted per picture and channel by a gate, then a projection.

    The gate is an MLP C → C/4 → K·C on the mean over positions of the branches' sum, with a softmax over
    the K branches (Split Attention; `reweight` in the published weights).

    Args:
        channels: C.
        step_sizes: (S_H, S_W) of `sfc_h` and of `sfc_w`.
        branches: which of `BRANCHES`, in that order.
        drop: dropout rate in the gate's MLP and after the projection.
    """

    def __init__(
        self,
        channels: int,
        step_sizes: Sequence[tuple[int, int]] = ((1, 3), (3, 1)),
        branches: Sequence[str] = BRANCHES,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        # Created in the order of the published weights.
        if "c" in branches:
            self.mlp_c = nn.Linear(channels, channels, bias_attr=False)
        if "h" in branches:
            self.sfc_h = CycleFC(channels, channels, step_sizes[0])
        if "w" in branches:
            self.sfc_w = CycleFC(channels, channels, step_sizes[1])
        self.reweight = Mlp(channels, channels // 4, channels * len(branches), drop)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(drop)
        self.branches = tuple(branches)

    def gate(self, mean: paddle.Tensor) -> paddle.Tensor:
        """Weights of the branches: mean of their sum, `[B, C]` → `[B, C, K]`, each row of K summing to 1."""
        channels = mean.shape[-1]
        logits = self.reweight(mean).reshape([-1, channels, len(self.branches)])
        return F.softmax(logits.astype("float32") if logits.dtype != paddle.float64 else logits, axis=-1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        outputs = [getattr(self, _BRANCH_LAYER[branch])(x) for branch in self.branches]
        weights = self.gate(paddle.add_n(outputs).mean(axis=[1, 2])).astype(outputs[0].dtype)
        weighted = [y * weights[:, :, k].unsqueeze([1, 2]) for k, y in enumerate(outputs)]
        return self.proj_drop(self.proj(paddle.add_n(weighted)))


class CycleBlock(nn.Layer):
    """Norm, `CycleMixer`, residual; norm, `Mlp`, residual.

    Args:
        channels: C.
        mlp_ratio: hidden width of the channel MLP over C.
        step_sizes, branches, drop: as in `CycleMixer`; `drop` also acts in the channel MLP.
        drop_path: stochastic depth rate of both residual branches.
    """

    def __init__(
        self,
        channels: int,
        mlp_ratio: float = 4.0,
        step_sizes: Sequence[tuple[int, int]] = ((1, 3), (3, 1)),
        branches: Sequence[str] = BRANCHES,
        drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, epsilon=1e-5)
        self.attn = CycleMixer(channels, step_sizes, branches, drop)
        self.norm2 = nn.LayerNorm(channels, epsilon=1e-5)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), drop=drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
