"""Looking into a network while it works, without changing it.

Shapes: B images, H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import paddle

from cyclemlp.errors import ModelError
from cyclemlp.network import CycleMixer, CycleMLP


@contextlib.contextmanager
def evaluating(model: CycleMLP) -> Iterator[None]:
    """Within it the network is in evaluation mode; afterwards every layer is in the mode that it was in."""
    training = [layer for layer in model.sublayers(include_self=True) if layer.training]
    model.eval()
    try:
        yield
    finally:
        for layer in training:
            layer.training = True


@contextlib.contextmanager
def removed_at_end(hooks: Iterable[Any]) -> Iterator[None]:
    """Removes hooks, whatever happens."""
    hooks = list(hooks)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def stages(model: CycleMLP) -> list[Any]:
    """The stages as layers; between them lies the downsampling."""
    return list(model.network)[::2]


def mixers(model: CycleMLP) -> dict[tuple[int, int], CycleMixer]:
    """(stage, block), both from 1 → the block's mixer."""
    return {
        (stage, block): layer.attn
        for stage, layers in enumerate(stages(model), 1)
        for block, layer in enumerate(layers, 1)
    }


def check_stages(model: CycleMLP, wanted: Iterable[int]) -> tuple[int, ...]:
    """Stages, from 1, in rising order. Raises ModelError for one that the network has not."""
    chosen, count = tuple(sorted(set(wanted))), model.config.stages
    if not chosen or not 1 <= chosen[0] <= chosen[-1] <= count:
        raise ModelError(f"stages {list(chosen)} are asked for; this network has 1 to {count}")
    return chosen


def forward_with_stages(model: CycleMLP, images: paddle.Tensor) -> tuple[Any, list[paddle.Tensor]]:
    """`[B, C, H, W]` → what `forward_features` returns, and each stage's map before any norm, `[B, h, w, C]`."""
    maps: list[paddle.Tensor] = []
    hooks = [stage.register_forward_post_hook(lambda _, __, out: maps.append(out)) for stage in stages(model)]
    with removed_at_end(hooks):
        return model.forward_features(images), maps


def as_images(images: np.ndarray | paddle.Tensor) -> paddle.Tensor:
    """Prepared images `[B, C, H, W]` as a tensor of their own, apart from any gradient."""
    return paddle.to_tensor(images.numpy() if isinstance(images, paddle.Tensor) else images)
