"""CycleMLP as the paper has it, in plain Paddle operations: one file, read from top to bottom.

    image → patch embedding → 4 × (blocks, downsampling between them) → norm → mean over positions → head
    block:   x ← x + mixer(norm(x));  x ← x + mlp(norm(x))
    mixer:   Σₖ gₖ ⊙ branchₖ(x), then a channel FC; branches: Cycle FC along H, along W, a channel FC; g: the gate

Shapes: B batch, H height, W width, C channels, K branches, S step size. The image comes in as `[B, 3, H, W]`; inside,
channels are last; feature maps go out as `[B, C, H, W]`.

Names, order and layout of the parameters are those of the published weights (Linear weights transposed, as Paddle
stores them): `network.0`, `.2`, `.4`, `.6` are the stages, `.1`, `.3`, `.5` the downsampling.

Equal forms of these layers that are faster on some device are in `cyclemlp.kernels`, which puts them in their places.

Source: CycleMLP: A MLP-like Architecture for Dense Prediction, Chen, Xie, Ge, Chen, Liang, Luo, ICLR 2022,
arXiv 2107.10224.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.errors import ModelError
from cyclemlp.network.checks import check_input
from cyclemlp.network.config import BRANCHES, CycleMLPConfig
from cyclemlp.network.drop_path import DropPath
from cyclemlp.network.embedding import Downsample, PatchEmbed, PatchMerging
from cyclemlp.network.head import ClassificationHead
from cyclemlp.network.init import init_linear_or_norm, trunc_normal_, zeros_
from cyclemlp.network.stages import Stages
from cyclemlp.offsets import cycle_offsets

BRANCH_LAYERS = {"h": "sfc_h", "w": "sfc_w", "c": "mlp_c"}


class CycleShift(nn.Layer):
    """Channel c at (i, j) reads (i + δ_h(c), j + δ_w(c)), zero outside; the offsets are `cycle_offsets`'.

    A depthwise convolution with one-hot kernels, which is exact, has a gradient and is one standard operator. A value
    that is not finite makes its neighbours not finite too: 0 · ∞ is not a number.

    Args:
        channels: C.
        step_size: (S_H, S_W), both at least 1; a step in both is a shift along H and one along W.
    """

    def __init__(self, channels: int, step_size: tuple[int, int]) -> None:
        super().__init__()
        self.channels, self.step_size = channels, step_size
        for name, step, offsets in zip("hw", step_size, cycle_offsets(channels, step_size), strict=True):
            one_hot = np.eye(step)[offsets + step // 2].reshape(
                (-1, 1, step, 1) if name == "h" else (-1, 1, 1, step)
            )
            # Not persistable: it follows from the step size and is in no published weight file.
            kernel = paddle.to_tensor(one_hot, dtype=paddle.get_default_dtype()) if step > 1 else None
            self.register_buffer(f"kernel_{name}", kernel, persistable=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        return self.shift(x)

    def shift(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`: each channel at its offset."""
        (step_h, step_w), groups = self.step_size, self.channels
        x = x.transpose([0, 3, 1, 2])
        if step_h > 1:
            x = F.conv2d(
                x, self.kernel_h, padding=[step_h // 2, step_h - 1 - step_h // 2, 0, 0], groups=groups
            )
        if step_w > 1:
            x = F.conv2d(
                x, self.kernel_w, padding=[0, 0, step_w // 2, step_w - 1 - step_w // 2], groups=groups
            )
        return x.transpose([0, 2, 3, 1])

    def extra_repr(self) -> str:
        return f"{self.channels}, step_size={self.step_size}"


class CycleFC(CycleShift):
    """Cycle fully-connected layer (equation 2 of the paper): y = W shift(x) + b.

    One layer, not a layer of two: so `paddle.flops` counts it, which looks at layers without others inside.
    The weight has the published layout, `[out_channels, in_channels / groups, 1, 1]`.

    Args:
        in_channels, out_channels: C_in and C_out, any numbers; neither need be divisible by the step.
        step_size: (S_H, S_W), both at least 1. (1, 3) shifts along W, (3, 1) along H.
        groups: blocks of the channel FC that do not see each other; must divide both channel counts.
        bias: whether the channel FC adds one.

    Raises:
        ModelError: for a size below 1, or groups that do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        step_size: tuple[int, int] = (1, 3),
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        if min(in_channels, out_channels, groups, *step_size) < 1 or len(step_size) != 2:
            raise ModelError(
                f"CycleFC({in_channels}, {out_channels}, step_size={step_size}, groups={groups}): "
                "channels, groups and both steps (S_H, S_W) must be at least 1"
            )
        if in_channels % groups or out_channels % groups:
            raise ModelError(
                f"CycleFC: groups={groups} must divide in_channels={in_channels} and {out_channels=}"
            )
        super().__init__(in_channels, (int(step_size[0]), int(step_size[1])))
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.weight = self.create_parameter([out_channels, in_channels // groups, 1, 1])
        self.bias = self.create_parameter([out_channels], is_bias=True) if bias else None
        trunc_normal_(self.weight)
        if self.bias is not None:
            zeros_(self.bias)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C_in]` → `[B, H, W, C_out]`."""
        parts, weights = self.shift(x).chunk(self.groups, axis=-1), self.weight.flatten(1).chunk(self.groups)
        products = [paddle.matmul(parts[i], weights[i], transpose_y=True) for i in range(self.groups)]
        y = products[0] if self.groups == 1 else paddle.concat(products, axis=-1)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        more = f"groups={self.groups}, bias={self.bias is not None}"
        return f"{self.in_channels}, {self.out_channels}, step_size={self.step_size}, {more}"


class Mlp(nn.Layer):
    """FC, GELU, FC; dropout after each. Widths `channels`, `hidden`, `out` (`channels` by default)."""

    def __init__(self, channels: int, hidden: int, out: int | None = None, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, out or channels)
        self.drop = nn.Dropout(drop)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[…, C]` → `[…, out]`."""
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class CycleMixer(nn.Layer):
    """y = P(Σₖ gₖ ⊙ branchₖ(x)): the branches, weighted per image and channel by a gate, then a projection.

    The gate g = softmax over k of MLP(mean over positions of Σₖ branchₖ(x)), the MLP C → C/4 → K·C (Split Attention;
    `reweight` in the published weights). Without it the branches are summed.

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
            self.mlp_c = nn.Linear(channels, channels, bias_attr=False)
        if "h" in branches:
            self.sfc_h = CycleFC(channels, channels, step_sizes[0])
        if "w" in branches:
            self.sfc_w = CycleFC(channels, channels, step_sizes[1])
        if gate:
            self.reweight = Mlp(channels, channels // 4, channels * len(branches), drop)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(drop)
        self.branches, self.gated = tuple(branches), gate

    def gate(self, mean: paddle.Tensor) -> paddle.Tensor:
        """Weights of the branches: mean of their sum, `[B, C]` → `[B, C, K]`, each row of K summing to 1."""
        logits = self.reweight(mean).reshape([-1, mean.shape[-1], len(self.branches)])
        return F.softmax(logits.astype("float32") if logits.dtype != paddle.float64 else logits, axis=-1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        return self.proj_drop(self.mix(x, [getattr(self, BRANCH_LAYERS[branch]) for branch in self.branches]))

    def mix(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        """Branches and projection, before dropout: `[B, H, W, C]` → `[B, H, W, C]`."""
        outputs = [layer(x) for layer in layers]
        if self.gated:
            weights = self.gate(paddle.add_n(outputs).mean(axis=[1, 2])).astype(outputs[0].dtype)
            outputs = [y * weights[:, :, k].unsqueeze([1, 2]) for k, y in enumerate(outputs)]
        return self.proj(paddle.add_n(outputs))


class CycleBlock(nn.Layer):
    """x ← x + mixer(norm(x)); x ← x + mlp(norm(x)).

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
        self.norm1 = nn.LayerNorm(channels, epsilon=1e-5)
        self.attn = CycleMixer(channels, step_sizes, branches, drop, gate)
        self.norm2 = nn.LayerNorm(channels, epsilon=1e-5)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), drop=drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class CycleMLP(ClassificationHead, nn.Layer):
    """CycleMLP for images of any size from `config.min_size` (32 pixels) on; see `ClassificationHead` for its head.

    Args:
        config: the architecture; see `CycleMLPConfig`.

    Attributes:
        config: as given.
        metadata: model name, preprocessing and class names, from `cyclemlp.create_model`; None otherwise.
        num_features: width of the last stage, the input of the head.
    """

    metadata: Any = None

    def __init__(self, config: CycleMLPConfig) -> None:
        super().__init__()
        self.config = config
        # Of plain types, because Paddle's symbolic tracer does not look into `config`.
        self._min_size, self._in_chans = config.min_size, config.in_chans
        dims, blocks = config.embed_dims, sum(config.depths)
        self.num_features = dims[config.stages - 1]
        self.patch_embed = PatchEmbed(config)
        downsampling = Downsample if config.downsample == "conv" else PatchMerging
        drop_paths = iter(config.drop_path_rate * i / max(blocks - 1, 1) for i in range(blocks))
        more = (config.step_sizes, config.branches, config.drop_rate)
        network: list[nn.Layer] = []
        for i, (dim, ratio, depth) in enumerate(zip(dims, config.mlp_ratios, config.depths, strict=True)):
            if i < config.stages:
                network += [downsampling(dims[i - 1], dim)] if i else []
                stage = [CycleBlock(dim, ratio, *more, next(drop_paths), config.gate) for _ in range(depth)]
                network.append(nn.Sequential(*stage))
        self.network = Stages(network, config.recompute)
        self.add_top()
        self.apply(init_linear_or_norm)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, in_chans, H, W]` → logits `[B, num_classes]`; without a head, pooled features `[B, C₄]`.

        Raises:
            ModelError: for an image with other channels, or smaller than 32 pixels in a direction.
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, in_chans, H, W]` → the last stage's normalised map, `[B, C₄, H / 32, W / 32]`."""
        return self.norm(self.forward_stages(x)[-1]).transpose([0, 3, 1, 2])

    def forward_stages(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        """`[B, in_chans, H, W]` → each stage's map, `[B, H / sᵢ, W / sᵢ, Cᵢ]`."""
        check_input(x, self._in_chans, self._min_size)
        return self.network(self.patch_embed(x))
