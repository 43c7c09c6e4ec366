"""The exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import paddle
from paddle import nn

from cyclemlp.config import Config, Field
from cyclemlp.kernels.averaging import average


class EmaConfig(Config):
    """An exponential moving average of the weights, evaluated and saved beside the raw ones."""

    decay: float | None = Field(
        0.99996, ge=0, lt=1, description="share of the average that stays at each step; null keeps no average"
    )
    warmup: bool = Field(
        True,
        description="at the n-th step, from 0, at most (1 + n) / (10 + n) stays: else a short run's average would "
        "still be its initial weights",
    )


class Ema:
    """A second model, whose weights follow the first's: average ← average + (1 − d) · (weights − average).

    A model of its own and not a swap of weights, so that no interruption can leave the average in the trained one.

    Args:
        model: the model to follow; its present weights are the average's beginning.
        decay: d after the warm-up, in [0, 1).
        warmup: at the n-th update, from 0, d is at most (1 + n) / (10 + n).

    Attributes:
        model: the averaged model, in evaluation mode, with the first one's metadata.
    """

    def __init__(self, model: nn.Layer, decay: float, *, warmup: bool = True) -> None:
        self.decay, self.warmup = float(decay), warmup
        self.model = copy.deepcopy(model)
        self.model.eval()
        for parameter in self.model.parameters():
            parameter.stop_gradient = True

    @classmethod
    def from_config(cls, model: nn.Layer, config: EmaConfig) -> Ema | None:
        """The average that a config wants, or None."""
        return None if config.decay is None else cls(model, config.decay, warmup=config.warmup)

    def decay_at(self, update: int) -> float:
        """d of the `update`-th update, from 0."""
        return min(self.decay, (1 + update) / (10 + update)) if self.warmup else self.decay

    @paddle.no_grad()
    def update(self, model: nn.Layer, update: int) -> None:
        """Follow `model`'s weights.

        Args:
            model: the one that is trained.
            update: how many updates there were before; the caller counts, and keeps the count in its checkpoints.
        """
        # Exact where they are equal, unlike d · average + (1 − d) · weight.
        average(self.model.parameters(), model.parameters(), 1 - self.decay_at(update))
