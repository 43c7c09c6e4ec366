"""The network: patch embedding, four stages of blocks with downsampling between them, norm, pool, head.

Shapes: B batch, H height, W width, C channels. The picture comes in as `[B, 3, H, W]`; inside, channels are
last; feature maps go out as `[B, C, H, W]`.

Names, order and layout of the parameters are those of the published weights (Linear weights transposed, as
Paddle stores them): `network.0`, `.2`, `.4`, `.6` are the stages, `.1`, `.3`, `.5` the downsampling.

Source: CycleMLP: A MLP-like Architecture for Dense Prediction, Chen, Xie, Ge, Chen, Liang, Luo,
ICLR 2022, arXiv 2107.10224. Of the inferred variants, the patch embedding's norm and `PatchMerging`: Swin Transformer,
Liu et al., ICCV 2021, arXiv 2103.14030.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn

from cyclemlp.errors import ModelError
from cyclemlp.network.block import CycleBlock
from cyclemlp.network.config import CycleMLPConfig
from cyclemlp.network.init import init_conv, init_linear_or_norm
from cyclemlp.network.layers import Conv2D, LayerNorm, Linear, traced_whole


@traced_whole
class PatchEmbed(nn.Layer):
    """Patch embedding: overlapping and without norm in the published variants.

    Args:
        config: of it, `in_chans`, C₁, `patch_size`, `patch_stride`, `patch_padding` and `patch_norm`.
    """

    def __init__(self, config: CycleMLPConfig) -> None:
        super().__init__()
        channels, padding = config.embed_dims[0], [*config.patch_padding, *config.patch_padding]
        self.proj = Conv2D(config.in_chans, channels, config.patch_size, config.patch_stride, padding=padding)
        init_conv(self.proj)
        self.norm = LayerNorm(channels, epsilon=1e-5) if config.patch_norm else nn.Identity()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, in_chans, H, W]` → `[B, H / stride, W / stride, C]`."""
        return self.norm(self.proj(x).transpose([0, 2, 3, 1]))


@traced_whole
class Downsample(nn.Layer):
    """3×3 convolution of stride 2 between stages.

    Args:
        channels, out: C before and after.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = Conv2D(channels, out, 3, 2, padding=1)
        init_conv(self.proj)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, ⌈H / 2⌉, ⌈W / 2⌉, out]`."""
        return self.proj(x.transpose([0, 3, 1, 2])).transpose([0, 2, 3, 1])


@traced_whole
class PatchMerging(nn.Layer):
    """Swin's downsampling: the channels of 2×2 neighbours side by side, norm, a linear layer without bias.

    An odd number of rows or columns is filled up with zeros at the end.

    Args:
        channels, out: C before and after.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * channels, epsilon=1e-5)
        self.reduction = Linear(4 * channels, out, bias_attr=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, ⌈H / 2⌉, ⌈W / 2⌉, out]`."""
        return self.reduction(self.norm(merge_patches(x)))


def merge_patches(x: paddle.Tensor) -> paddle.Tensor:
    """`[B, H, W, C]` → `[B, ⌈H / 2⌉, ⌈W / 2⌉, 4 C]`: 2×2 neighbours side by side, column by column."""
    # One row and column of zeros whatever the size, which tracing may not know; an even one leaves them out. Not by
    # padding: paddle2onnx 2.1 writes a number into its Pad that it never set.
    x = paddle.concat([x, paddle.zeros_like(x[:, :1])], axis=1)
    x = paddle.concat([x, paddle.zeros_like(x[:, :, :1])], axis=2)
    first, second = slice(0, -1, 2), slice(1, None, 2)
    return paddle.concat(
        [x[:, rows, columns] for columns in (first, second) for rows in (first, second)], axis=-1
    )


class CycleMLP(nn.Layer):
    """CycleMLP for pictures of any size from `config.min_size` (32 pixels) on.

    Args:
        config: the architecture; see `CycleMLPConfig`.

    Attributes:
        config: as given.
        metadata: model name, preprocessing and class names, from `cyclemlp.create_model`; None otherwise.
        feature_channels, feature_strides: of the maps that the feature form returns, in its order.
        num_features: width of the last stage, the input of the head.

    In the feature form, stages after the last of `out_indices` are not built.
    """

    metadata: Any = None

    def __init__(self, config: CycleMLPConfig) -> None:
        super().__init__()
        self.config = config
        # Of plain types and of their own, because Paddle's symbolic tracer does not look into `config`.
        self._features_only, self._out_indices = config.features_only, config.out_indices
        self._recompute, self._min_size, self._in_chans = config.recompute, config.min_size, config.in_chans
        dims = config.embed_dims
        self.num_features = dims[config.stages - 1]
        self.feature_channels = [dims[i] for i in config.out_indices]
        self.feature_strides = [config.strides[i] for i in config.out_indices]

        self.patch_embed = PatchEmbed(config)
        downsampling = Downsample if config.downsample == "conv" else PatchMerging
        blocks = sum(config.depths)
        drop_paths = [config.drop_path_rate * i / max(blocks - 1, 1) for i in range(blocks)]
        network: list[nn.Layer] = []
        for i, depth in enumerate(config.depths[: config.stages]):
            if i > 0:
                network.append(downsampling(dims[i - 1], dims[i]))
            network.append(
                nn.Sequential(
                    *(
                        CycleBlock(
                            dims[i],
                            config.mlp_ratios[i],
                            config.step_sizes,
                            config.branches,
                            config.drop_rate,
                            drop_paths.pop(0),
                            config.gate,
                        )
                        for _ in range(depth)
                    )
                )
            )
        self.network = nn.LayerList(network)
        if config.features_only:
            for i in config.out_indices:
                self.add_sublayer(f"norm{2 * i}", LayerNorm(dims[i], epsilon=1e-5))
        else:
            self.norm = LayerNorm(dims[-1], epsilon=1e-5)
            self.head = Linear(dims[-1], config.num_classes) if config.num_classes else nn.Identity()
        self.apply(init_linear_or_norm)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor | list[paddle.Tensor]:
        """`[B, in_chans, H, W]` → logits `[B, num_classes]`.

        Without a head, pooled features `[B, C₄]`; in the feature form, a list of normalised maps
        `[B, Cᵢ, H / sᵢ, W / sᵢ]` of the strides `feature_strides`.

        Raises:
            ModelError: for a picture with other channels, or smaller than 32 pixels in a direction.
        """
        if self._features_only:
            return self._forward_maps(x)
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, in_chans, H, W]` → the last stage's normalised map, `[B, C₄, H / 32, W / 32]`."""
        if self._features_only:
            return self._forward_maps(x)[-1]
        self._check_input(x)
        x = self.patch_embed(x)
        for stage in self.network:
            x = self._forward_stage(stage, x)
        return self.norm(x).transpose([0, 3, 1, 2])

    def forward_head(self, x: paddle.Tensor, pre_logits: bool = False) -> paddle.Tensor:
        """Map of `forward_features`, `[B, C₄, h, w]` → logits `[B, num_classes]`.

        With `pre_logits`, the pooled features before the head, `[B, C₄]`.

        Raises:
            ModelError: in the feature form, which has no head.
        """
        if self._features_only:
            raise ModelError("a model made with features_only=True has no head")
        x = x.mean(axis=[2, 3])
        return x if pre_logits else self.head(x)

    def class_maps(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map of `forward_features`, `[B, C₄, h, w]` → what each position gives each class, `[B, num_classes, h, w]`.

        Mean and head are linear, so a class's logit is the mean of its map, plus the head's bias.

        Raises:
            ModelError: for a network without a head.
        """
        if self.config.features_only or not self.config.num_classes:
            raise ModelError("class maps need a classification head; this model has none")
        maps = paddle.matmul(x.transpose([0, 2, 3, 1]), self.head.weight)
        return maps.transpose([0, 3, 1, 2])

    @property
    def num_classes(self) -> int:
        """Number of logits; 0 without a head and in the feature form."""
        return 0 if self._features_only else self.config.num_classes

    def get_classifier(self) -> nn.Layer:
        """The head: a linear layer, or `nn.Identity` in a model of no classes.

        Raises:
            ModelError: in the feature form, which has no head.
        """
        if self._features_only:
            raise ModelError("a model made with features_only=True has no head")
        return self.head

    def no_weight_decay(self) -> list[str]:
        """Names of the parameters that the recipes do not decay: biases, and scales of norms."""
        return [name for name, parameter in self.named_parameters() if parameter.ndim <= 1]

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a freshly initialised one of `num_classes` outputs; 0 removes it.

        The names of the former classes are forgotten.

        Raises:
            ModelError: in the feature form, or for a number below 0.
        """
        if self.config.features_only:
            raise ModelError("a model made with features_only=True has no head to reset")
        self.config = self.config.replace({"num_classes": num_classes})
        self.head = Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        init_linear_or_norm(self.head)
        if self.metadata is not None:
            self.metadata.classes = None

    def _forward_maps(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        self._check_input(x)
        x = self.patch_embed(x)
        maps = []
        for i, stage in enumerate(self.network):
            x = self._forward_stage(stage, x)
            if i % 2 == 0 and i // 2 in self._out_indices:
                maps.append(getattr(self, f"norm{i}")(x).transpose([0, 3, 1, 2]))
        return maps

    def _forward_stage(self, stage: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
        if self._recompute and stage.training and isinstance(stage, nn.Sequential):
            from paddle.distributed.fleet.utils import recompute

            for block in stage:
                # The other way, by a PyLayer, cannot be used under DataParallel.
                x = recompute(block, x, use_reentrant=False)
            return x
        return stage(x)

    def _check_input(self, x: paddle.Tensor) -> None:
        if not paddle.in_dynamic_mode():
            return  # under tracing a size may be unknown
        least, channels = self._min_size, self._in_chans
        if x.ndim != 4 or x.shape[1] != channels:
            raise ModelError(
                f"the input has shape {list(x.shape)}; expected [batch, {channels}, height, width]"
            )
        if min(x.shape[2:]) < least:
            raise ModelError(
                f"the picture is {x.shape[2]}×{x.shape[3]} pixels (height×width); "
                f"this network needs at least {least} in both directions: resize or pad it"
            )
