"""From the image to the first stage, and from stage to stage.

Shapes: B batch, H height, W width, C channels.

Source: CycleMLP, see `cyclemlp.network.cyclemlp`. Of the inferred variants, the patch norm and `PatchMerging`:
Swin Transformer, Liu et al., ICCV 2021, arXiv 2103.14030.
"""

from __future__ import annotations

import paddle
from paddle import nn

from cyclemlp.network.config import CycleMLPConfig
from cyclemlp.network.init import init_conv


class PatchEmbed(nn.Layer):
    """Patch embedding, a convolution: overlapping and without norm in the published variants."""

    def __init__(self, config: CycleMLPConfig) -> None:
        super().__init__()
        channels, padding = config.embed_dims[0], [*config.patch_padding, *config.patch_padding]
        self.proj = nn.Conv2D(
            config.in_chans, channels, config.patch_size, config.patch_stride, padding=padding
        )
        init_conv(self.proj)
        self.norm = nn.LayerNorm(channels, epsilon=1e-5) if config.patch_norm else nn.Identity()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, in_chans, H, W]` → `[B, H / stride, W / stride, C]`."""
        return self.norm(self.proj(x).transpose([0, 2, 3, 1]))


class Downsample(nn.Layer):
    """3×3 convolution of stride 2 between stages: C before is `channels`, after `out`."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Conv2D(channels, out, 3, 2, padding=1)
        init_conv(self.proj)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, ⌈H / 2⌉, ⌈W / 2⌉, out]`."""
        return self.proj(x.transpose([0, 3, 1, 2])).transpose([0, 2, 3, 1])


class PatchMerging(nn.Layer):
    """Swin's downsampling: the channels of 2×2 neighbours side by side, norm, a linear layer without bias.

    An odd number of rows or columns is filled up with zeros at the end.

    Args:
        channels, out: C before and after.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels, epsilon=1e-5)
        self.reduction = nn.Linear(4 * channels, out, bias_attr=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, ⌈H / 2⌉, ⌈W / 2⌉, out]`."""
        return self.reduction(self.norm(merge_patches(x)))


def merge_patches(x: paddle.Tensor) -> paddle.Tensor:
    """`[B, H, W, C]` → `[B, ⌈H / 2⌉, ⌈W / 2⌉, 4 C]`: 2×2 neighbours side by side, column by column."""
    # One row and column of zeros whatever the size, which may be unknown; an even one leaves them out. Not by padding:
    # paddle2onnx 2.1 writes a number into its Pad that it never set.
    x = paddle.concat([x, paddle.zeros_like(x[:, :1])], axis=1)
    x = paddle.concat([x, paddle.zeros_like(x[:, :, :1])], axis=2)
    first, second = slice(0, -1, 2), slice(1, None, 2)
    return paddle.concat(
        [x[:, rows, columns] for columns in (first, second) for rows in (first, second)], axis=-1
    )
