"""Stages that keep the weights they start with."""

from __future__ import annotations

from paddle import nn


def freeze_stages(model: nn.Layer, count: int) -> list[nn.Layer]:
    """Stop the gradients of the first stages' parameters.

    A stage is its blocks and what leads into it, so the first one's includes the patch embedding.

    Args:
        model: a CycleMLP.
        count: how many stages, 0 to 4.

    Returns:
        The frozen layers, to be given to `training_mode`.
    """
    frozen = [model.patch_embed, *model.network[: 2 * count - 1]] if count else []
    for layer in frozen:
        for parameter in layer.parameters():
            parameter.stop_gradient = True
    return frozen


def training_mode(model: nn.Layer, frozen: list[nn.Layer]) -> None:
    """Training mode, but evaluation mode for frozen layers: they shall be what they were, without dropout."""
    model.train()
    for layer in frozen:
        layer.eval()
