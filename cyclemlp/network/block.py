"""The CycleMLP block: Cycle FC branches, gated or summed, then a channel MLP, each with a residual connection.

Shapes: B batch, H height, W width, C channels, K branches.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.network.config import BRANCHES
from cyclemlp.network.cycle_fc import CycleFC
from cyclemlp.network.layers import (
    LayerNorm,
    Linear,
    add_row,
    gelu,
    linear,
    mean_of_rows,
    rewritten,
    scale_by_row,
    traced_whole,
)

_BRANCH_LAYER = {"h": "sfc_h", "w": "sfc_w", "c": "mlp_c"}


class Mlp(nn.Layer):
    """FC, GELU (erf), FC; dropout after each.

    Args:
        channels, hidden, out: widths; `out` defaults to `channels`.
        drop: dropout rate in [0, 1).
    """

    def __init__(self, channels: int, hidden: int, out: int | None = None, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = Linear(channels, hidden)
        self.fc2 = Linear(hidden, out or channels)
        self.drop = nn.Dropout(drop)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[…, C]` → `[…, out]`."""
        return self.drop(self.fc2(self.drop(gelu(self.fc1(x)))))


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

    Three forms, equal but for rounding:

    * as written: all of the above, one after another. What is traced and exported, and what runs on a GPU.
    * branch by branch: the same in operations that are fast on a CPU (see `cyclemlp.network.layers`).
    * one product: the gate is linear up to its softmax, so its input follows from the means of the shifted inputs,
      before any large product. With the weights a₁…a_K of a picture known, Σₖ aₖ ⊙ (Wₖ xₖ + bₖ), then the
      projection P, is Σₖ (P diag(aₖ) Wₖ) xₖ plus one bias: K products with matrices of the picture's own in place of
      K + 1 and the weighting, and no branch's output is ever stored. Making the matrices takes K·C³, and saves
      H·W·C² multiply-adds, so this form runs where H·W ≥ K·C: at 224² pixels in stages 1 and 2.

    Without the gate the branches are summed. On a CPU this too is K products, Σₖ xₖ (Wₖ P) plus one bias, where making
    the matrices, one set for all pictures, pays: B·H·W ≥ K·C.

    Args:
        channels: C.
        step_sizes: (S_H, S_W) of `sfc_h` and of `sfc_w`.
        branches: which of `BRANCHES`, in that order.
        drop: dropout rate in the gate's MLP and after the projection.
        gate: whether there is one.
    """

    def __init__(
        self,
        channels: int,
        step_sizes: Sequence[tuple[int, int]] = ((1, 3), (3, 1)),
        branches: Sequence[str] = BRANCHES,
        drop: float = 0.0,
        gate: bool = True,
    ) -> None:
        super().__init__()
        # Created in the order of the published weights.
        if "c" in branches:
            self.mlp_c = Linear(channels, channels, bias_attr=False)
        if "h" in branches:
            self.sfc_h = CycleFC(channels, channels, step_sizes[0])
        if "w" in branches:
            self.sfc_w = CycleFC(channels, channels, step_sizes[1])
        if gate:
            self.reweight = Mlp(channels, channels // 4, channels * len(branches), drop)
        self.proj = Linear(channels, channels)
        self.proj_drop = nn.Dropout(drop)
        self.branches, self.gated = tuple(branches), gate

    def gate(self, mean: paddle.Tensor) -> paddle.Tensor:
        """Weights of the branches: mean of their sum, `[B, C]` → `[B, C, K]`, each row of K summing to 1."""
        channels = mean.shape[-1]
        logits = self.reweight(mean).reshape([-1, channels, len(self.branches)])
        return F.softmax(logits.astype("float32") if logits.dtype != paddle.float64 else logits, axis=-1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        layers = [getattr(self, _BRANCH_LAYER[branch]) for branch in self.branches]
        if not self.gated:
            y = self._sum(x, layers)
        elif not rewritten(x):
            y = self._as_written(x, layers)
        elif x.shape[1] * x.shape[2] >= len(layers) * x.shape[3] and _are_plain([*layers, self.proj]):
            y = self._one_product(x, layers)
        else:
            y = self._branch_by_branch(x, layers)
        return self.proj_drop(y)

    def _as_written(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        outputs = [layer(x) for layer in layers]
        weights = self.gate(paddle.add_n(outputs).mean(axis=[1, 2])).astype(outputs[0].dtype)
        weighted = [y * weights[:, :, k].unsqueeze([1, 2]) for k, y in enumerate(outputs)]
        return self.proj(paddle.add_n(weighted))

    def _branch_by_branch(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        outputs = [layer(x).flatten(1, 2) for layer in layers]
        weights = self.gate(paddle.add_n([mean_of_rows(y) for y in outputs]).squeeze(1)).unsqueeze(1)
        weighted = [scale_by_row(y, weights[..., k]) for k, y in enumerate(outputs)]
        return self.proj(paddle.add_n(weighted).reshape(x.shape))

    def _one_product(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        products = [_product_of(layer, x) for layer in layers]
        means = [linear(mean_of_rows(y).squeeze(1), weight, bias) for y, weight, bias in products]
        weights = self.gate(paddle.add_n(means))
        batch, channels, _ = weights.shape
        proj = self.proj.weight.expand([batch, channels, channels])
        total, bias_sum = [], paddle.zeros([batch, channels], x.dtype)
        for k, (y, weight, bias) in enumerate(products):
            of_branch = weights[:, :, k]
            total.append(paddle.matmul(y, paddle.matmul(weight, proj * of_branch.unsqueeze(2))))
            if bias is not None:
                bias_sum = bias_sum + of_branch * bias
        return add_row(paddle.add_n(total), self.proj(bias_sum).unsqueeze(1)).reshape(x.shape)

    def _sum(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        if (
            rewritten(x)
            and x.size // x.shape[3] >= len(layers) * x.shape[3]
            and _are_plain([*layers, self.proj])
        ):
            return self._sum_as_products(x, layers)
        return self.proj(paddle.add_n([layer(x) for layer in layers]))

    def _sum_as_products(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        products = [_product_of(layer, x) for layer in layers]
        total = [
            paddle.matmul(y.flatten(0, 1), paddle.matmul(weight, self.proj.weight))
            for y, weight, _ in products
        ]
        biases = [bias for _, _, bias in products if bias is not None]
        bias_sum = paddle.add_n(biases) if biases else paddle.zeros(x.shape[-1:], x.dtype)
        return add_row(paddle.add_n(total), self.proj(bias_sum.unsqueeze(0))).reshape(x.shape)


def _product_of(
    layer: nn.Layer, x: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor | None]:
    """A branch as the product that it is: input `[B, H·W, C]`, weight `[C, C]`, and bias `[C]`."""
    if isinstance(layer, CycleFC):
        return layer.shift(x).flatten(1, 2), layer.weight.flatten(1).t(), layer.bias
    return x.flatten(1, 2), layer.weight, layer.bias


def _are_plain(layers: list[nn.Layer]) -> bool:
    """Whether these are the network's own layers and nobody listens to them, so that they need not be called."""
    return all(
        type(layer) in (Linear, CycleFC) and not layer._forward_pre_hooks and not layer._forward_post_hooks
        for layer in layers
    )


@traced_whole
class CycleBlock(nn.Layer):
    """Norm, `CycleMixer`, residual; norm, `Mlp`, residual.

    Args:
        channels: C.
        mlp_ratio: hidden width of the channel MLP over C.
        step_sizes, branches, drop, gate: as in `CycleMixer`; `drop` also acts in the channel MLP.
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
        gate: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels, epsilon=1e-5)
        self.attn = CycleMixer(channels, step_sizes, branches, drop, gate)
        self.norm2 = LayerNorm(channels, epsilon=1e-5)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), drop=drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
