"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import paddle
from paddle import nn

from cyclemlp.errors import ConfigError
from cyclemlp.training.recipe import OptimizerPart, Recipe


def build_optimizer(model: nn.Layer, part: OptimizerPart, *, lr: float) -> paddle.optimizer.AdamW:
    """AdamW over the model's trainable parameters; decay only on those with more than one dimension.

    Args:
        model: its biases and norm weights (one dimension) are not decayed. Frozen parameters get no update at all.
        part: decay, betas, eps, clipping, layer-wise decay of the rate.
        lr: learning rate to begin with; `optimizer.set_lr` changes it.

    Raises:
        ConfigError: layer-wise decay of a model that has no stages.
    """
    names = dict(model.named_parameters())
    trainable = [p for p in names.values() if not p.stop_gradient]
    # Paddle's predicate gets its own name of a parameter, unique in the process. Parameter groups would not do:
    # Paddle clips each group by its own norm.
    decayed = {p.name for p in trainable if p.ndim > 1}
    if part.layer_decay is not None:
        for name, ratio in layer_ratios(model, part.layer_decay).items():
            # Not AdamW's `lr_ratio`, which Paddle does not have on processors. Decay goes by this rate too.
            names[name].optimize_attr["learning_rate"] = ratio
    return paddle.optimizer.AdamW(
        learning_rate=float(lr),
        beta1=part.beta1,
        beta2=part.beta2,
        epsilon=part.eps,
        parameters=trainable,
        weight_decay=part.weight_decay,
        apply_decay_param_fun=decayed.__contains__,
        grad_clip=None if part.clip_norm is None else nn.ClipGradByGlobalNorm(part.clip_norm),
    )


def layer_ratios(model: nn.Layer, decay: float) -> dict[str, float]:
    """Share of the learning rate by parameter: decay ^ (L + 1 − depth), as in BEiT (Bao et al., 2021).

    With L blocks, the patch embedding has depth 0, the l-th block l, and the last norm and the head L + 1. What leads
    from one stage to the next has the depth of the block after it.

    Raises:
        ConfigError: a model that is not made of stages.
    """
    if not hasattr(model, "network"):
        raise ConfigError(f"optimizer.layer_decay needs a CycleMLP; this is a {type(model).__name__}")
    depths, blocks = {"patch_embed": 0}, 0
    for i, part in enumerate(model.network):
        if isinstance(part, nn.Sequential):
            depths |= {f"network.{i}.{j}": blocks + 1 + j for j in range(len(part))}
            blocks += len(part)
        else:
            depths[f"network.{i}"] = blocks + 1
    ratios = {}
    for name, _ in model.named_parameters():
        depth = next((d for layer, d in depths.items() if name.startswith(f"{layer}.")), blocks + 1)
        ratios[name] = decay ** (blocks + 1 - depth)
    return ratios


@dataclass(frozen=True)
class Schedule:
    """Learning rate by position in the run: a function without state, so that a resumed run needs none.

    With a cosine of T epochs, base rate b, minimum m and a warm-up of W epochs from w, the rate at position t (in
    epochs) is w + (b − w) · t / W for t < W, then m + (b − m) · (1 + cos(π · t / T)) / 2, and m from T on.

    Attributes:
        base_lr: b.
        epochs: T.
        by: "step": t moves with every step. "epoch": t is the number of the epoch before, from 0, and 0 in the
            first epoch: the authors step their schedule after each epoch with that epoch's number.
        warmup_epochs, warmup_lr, min_lr: W, w, m; w and m are taken as b where they are above it.
        shift: added to t, which stays at least 0.
    """

    base_lr: float
    epochs: int
    by: str = "epoch"
    warmup_epochs: float = 5.0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    shift: int = 0

    @classmethod
    def from_recipe(cls, recipe: Recipe, devices: int = 1) -> Schedule:
        """The recipe's schedule, for the rate scaled to the batch of all devices together."""
        part = recipe.schedule
        return cls(
            base_lr=recipe.optimizer.scaled_lr(recipe.data.batch_size * devices),
            epochs=part.cosine_epochs or recipe.run.epochs - part.cooldown_epochs,
            by=part.by,
            warmup_epochs=part.warmup_epochs,
            warmup_lr=part.warmup_lr,
            min_lr=part.min_lr,
            shift=part.shift_epochs,
        )

    def lr(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Rate of one step.

        Args:
            epoch: from 0.
            step: within the epoch, from 0.
            steps_per_epoch: steps of one epoch.
        """
        position = epoch + step / steps_per_epoch if self.by == "step" else epoch - 1
        return self.at(max(position + self.shift, 0))

    def at(self, position: float) -> float:
        """Rate at a position, in epochs from the start."""
        if position < self.warmup_epochs:
            start = min(self.warmup_lr, self.base_lr)
            return start + (self.base_lr - start) * position / self.warmup_epochs
        floor = min(self.min_lr, self.base_lr)
        turned = math.pi * min(position / self.epochs, 1.0)
        return floor + (self.base_lr - floor) * (1 + math.cos(turned)) / 2
