"""AdamW or Muon, without decay on biases and norms."""

from __future__ import annotations

from typing import Any, Literal

import paddle
from paddle import nn

from cyclemlp.config import MAX_COUNT, Config, Field
from cyclemlp.errors import ConfigError
from cyclemlp.training.muon import Muon


class OptimizerConfig(Config):
    """AdamW (Loshchilov and Hutter, 2019) or Muon (Jordan et al., 2024), without decay on biases and norms."""

    name: Literal["adamw", "muon"] = Field(
        "adamw",
        description="`muon` makes the updates of weights orthogonal, and needs fewer epochs; biases, norms, patch "
        "embedding and head remain AdamW's, at the same rate",
    )

    lr: float = Field(
        5e-4, gt=0, description="highest learning rate, for `optimizer.lr_for_batch` images a step"
    )
    lr_for_batch: int | None = Field(
        512,
        ge=1,
        le=MAX_COUNT,
        description="linear scaling rule: the rate used is lr · images a step / this; null uses `optimizer.lr` as is",
    )
    weight_decay: float = Field(0.05, ge=0, description="decoupled decay, times the learning rate a step")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the running mean of gradients")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the running mean of their squares")
    eps: float = Field(1e-8, gt=0, description="added to the root of the second mean")
    clip_norm: float | None = Field(
        None, gt=0, description="largest norm of all gradients together; null clips nothing"
    )
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="the rate of a block is this times that of the block above it (the head's is the full one); null "
        "gives all the same; 0.65 to 0.9 is usual in fine-tuning",
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=65_536,
        description="each step is computed in so many parts, one after the other, where a batch does not fit in "
        "memory; the result is that of the whole batch",
    )

    def scaled_lr(self, batch_size: int) -> float:
        """The highest learning rate for `batch_size` images a step, of all devices together."""
        return self.lr * batch_size / self.lr_for_batch if self.lr_for_batch else self.lr


def build_optimizer(model: nn.Layer, config: OptimizerConfig, *, lr: float) -> paddle.optimizer.AdamW:
    """AdamW or Muon over the model's trainable parameters; decay only on those with more than one dimension.

    Args:
        model: its biases and norm weights (one dimension) are not decayed. Frozen parameters get no update at all.
        config: decay, betas, eps, clipping, layer-wise decay of the rate.
        lr: learning rate to begin with; `optimizer.set_lr` changes it.

    Raises:
        ConfigError: layer-wise decay of a model that has no stages.
    """
    names = dict(model.named_parameters())
    trainable = [p for p in names.values() if not p.stop_gradient]
    # Paddle's predicate gets its own name of a parameter, unique in the process. Parameter groups would not do:
    # Paddle clips each group by its own norm.
    decayed = {p.name for p in trainable if p.ndim > 1}
    if config.layer_decay is not None:
        for name, ratio in layer_ratios(model, config.layer_decay).items():
            # Not AdamW's `lr_ratio`, which Paddle does not have on processors. Decay goes by this rate too.
            names[name].optimize_attr["learning_rate"] = ratio
    arguments: dict[str, Any] = {
        "learning_rate": float(lr),
        "beta1": config.beta1,
        "beta2": config.beta2,
        "epsilon": config.eps,
        "parameters": trainable,
        "weight_decay": config.weight_decay,
        "apply_decay_param_fun": decayed.__contains__,
        "grad_clip": None if config.clip_norm is None else nn.ClipGradByGlobalNorm(config.clip_norm),
    }
    if config.name == "adamw":
        return paddle.optimizer.AdamW(**arguments)
    weights = [p.name for p in names.values() if p.ndim > 1]
    return Muon(weights[1:-1], **arguments)  # all but the patch embedding's and the head's


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
