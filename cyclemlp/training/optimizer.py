"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import paddle
from paddle import nn

from cyclemlp.training.recipe import OptimizerPart, Recipe


def build_optimizer(model: nn.Layer, part: OptimizerPart, *, lr: float) -> paddle.optimizer.AdamW:
    """AdamW over the model's parameters; decay only on those with more than one dimension.

    Args:
        model: its biases and norm weights (one dimension) are not decayed.
        part: decay, betas, eps, clipping.
        lr: learning rate to begin with; `optimizer.set_lr` changes it.
    """
    # Paddle's predicate gets its own name of a parameter, unique in the process. Parameter groups would not do:
    # Paddle clips each group by its own norm.
    decayed = {p.name for p in model.parameters() if p.ndim > 1}
    return paddle.optimizer.AdamW(
        learning_rate=float(lr),
        beta1=part.beta1,
        beta2=part.beta2,
        epsilon=part.eps,
        parameters=model.parameters(),
        weight_decay=part.weight_decay,
        apply_decay_param_fun=decayed.__contains__,
        grad_clip=None if part.clip_norm is None else nn.ClipGradByGlobalNorm(part.clip_norm),
    )


@dataclass(frozen=True)
class Schedule:
    """Learning rate by position in the run: a function without state, so that a resumed run needs none.

    With T epochs, base rate b, minimum m and a warm-up of W epochs from w, the rate at position t (in epochs) is
    w + (b − w) · t / W for t < W and m + (b − m) · (1 + cos(π · t / T)) / 2 after it.

    Attributes:
        base_lr: b.
        epochs: T.
        by: "step": t moves with every step. "epoch": t is the number of the epoch before, from 0, and 0 in the
            first epoch: the authors step their schedule after each epoch with that epoch's number.
        warmup_epochs, warmup_lr, min_lr: W, w, m; w and m are taken as b where they are above it.
    """

    base_lr: float
    epochs: int
    by: str = "epoch"
    warmup_epochs: float = 5.0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Schedule:
        """The recipe's schedule, for the rate scaled to its batch size."""
        part = recipe.schedule
        return cls(
            base_lr=recipe.optimizer.scaled_lr(recipe.data.batch_size),
            epochs=recipe.run.epochs,
            by=part.by,
            warmup_epochs=part.warmup_epochs,
            warmup_lr=part.warmup_lr,
            min_lr=part.min_lr,
        )

    def lr(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Rate of one step.

        Args:
            epoch: from 0.
            step: within the epoch, from 0.
            steps_per_epoch: steps of one epoch.
        """
        return self.at(epoch + step / steps_per_epoch if self.by == "step" else max(epoch - 1, 0))

    def at(self, position: float) -> float:
        """Rate at a position, in epochs from the start."""
        if position < self.warmup_epochs:
            start = min(self.warmup_lr, self.base_lr)
            return start + (self.base_lr - start) * position / self.warmup_epochs
        floor = min(self.min_lr, self.base_lr)
        turned = math.pi * min(position / self.epochs, 1.0)
        return floor + (self.base_lr - floor) * (1 + math.cos(turned)) / 2
