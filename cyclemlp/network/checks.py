"""The input's check, and activations that are computed again to save memory."""

from __future__ import annotations

import paddle
from paddle import nn

from cyclemlp.errors import ModelError


@paddle.jit.not_to_static  # a transformed shape is one of tensors, which cannot be compared
def check_input(x: paddle.Tensor, channels: int, least: int) -> None:
    """Raise ModelError unless x is `[B, channels, H, W]` with H and W from `least` on; −1 is a size not known yet."""
    if x.ndim != 4 or x.shape[1] not in (channels, -1):
        raise ModelError(f"the input has shape {list(x.shape)}; expected [batch, {channels}, height, width]")
    height, width = x.shape[2:]
    if 0 <= height < least or 0 <= width < least:
        raise ModelError(
            f"the image is {height}×{width} pixels (height×width); this network needs at least {least} in both "
            "directions: resize or pad it"
        )


def recomputed(blocks: nn.Sequential, x: paddle.Tensor) -> paddle.Tensor:
    """The blocks' result; for the gradient each block's activations are computed once more instead of kept."""
    from paddle.distributed.fleet.utils import recompute

    for block in blocks:
        # The other way, by a PyLayer, cannot be used under DataParallel.
        x = recompute(block, x, use_reentrant=False)
    return x
