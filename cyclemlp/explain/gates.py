"""What the gates do over a data set: how they weight the branches in each block.

Shapes: B images, C channels, K branches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import paddle

from cyclemlp.errors import DataError, ModelError
from cyclemlp.explain.watch import as_images, evaluating, mixers, removed_at_end
from cyclemlp.network import CycleMLP


@dataclass(frozen=True)
class BlockGates:
    """The gate of one block.

    Attributes:
        stage, block: from 1.
        mean: float64 [C, K], mean weight over the images; each row sums to 1.
        spread: float64 [C, K], standard deviation over the images.
    """

    stage: int
    block: int
    mean: np.ndarray
    spread: np.ndarray

    @property
    def branch_mean(self) -> np.ndarray:
        """float64 [K]: mean over images and channels; sums to 1."""
        return self.mean.mean(axis=0)

    @property
    def over_channels(self) -> np.ndarray:
        """float64 [K]: standard deviation over the channels of their means."""
        return self.mean.std(axis=0)

    @property
    def over_images(self) -> np.ndarray:
        """float64 [K]: standard deviation over the images, in a channel, averaged over channels."""
        return self.spread.mean(axis=0)


@dataclass(frozen=True)
class Gates:
    """The gates of all blocks.

    Attributes:
        branches: names of the K branches: h, w, c.
        images: over how many.
        blocks: in the order of the network.
    """

    branches: tuple[str, ...]
    images: int
    blocks: list[BlockGates]


def gate_weights(model: CycleMLP, batches: Iterable[np.ndarray | paddle.Tensor]) -> Gates:
    """Mean and spread of the gates' weights over images.

    Args:
        model: left as it is.
        batches: prepared images `[B, C, H, W]`; their sizes may differ.

    Raises:
        ModelError: a network without gates, or with one branch only; an image that does not fit it.
        DataError: no image.
        FloatingPointError: the weights are not finite.
    """
    if not model.config.gate:
        raise ModelError("this network sums its branches: it has no gates")
    if len(model.config.branches) == 1:
        raise ModelError(
            f"this network has branch {model.config.branches[0]} only, which every gate weights with 1"
        )
    watched = mixers(model)
    means: dict[tuple[int, int], paddle.Tensor] = {}
    sums = {place: [0.0, 0.0] for place in watched}
    count = 0
    with evaluating(model), paddle.no_grad():
        for batch in batches:
            # The gate's own function is asked again, outside of the forward: no second copy of its formula.
            hooks = [
                mixer.reweight.register_forward_pre_hook(
                    lambda _, inputs, place=place: means.update({place: inputs[0]})
                )
                for place, mixer in watched.items()
            ]
            with removed_at_end(hooks):
                model.forward_features(as_images(batch))
            for place, mixer in watched.items():
                weights = mixer.gate(means[place]).numpy().astype(np.float64)  # [B, C, K]
                sums[place][0] += weights.sum(axis=0)
                sums[place][1] += (weights**2).sum(axis=0)
            count += len(batch)
    if not count:
        raise DataError("no image is given: the gates' weights depend on images")
    blocks = []
    for (stage, block), (total, squares) in sums.items():
        mean = np.asarray(total) / count
        if not np.isfinite(mean).all():
            raise FloatingPointError("the gates' weights are not finite; the network's weights may be broken")
        blocks.append(BlockGates(stage, block, mean, np.sqrt(np.maximum(squares / count - mean**2, 0))))
    return Gates(model.config.branches, count, blocks)
