"""A model's parameters in groups for an optimizer, for training loops of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclemlp.errors import ConfigError
from cyclemlp.training.optimizer import layer_ratios

if TYPE_CHECKING:
    from paddle import nn


def param_groups(
    model: nn.Layer, weight_decay: float = 0.05, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Groups for `paddle.optimizer.AdamW`, with the decay and the rates of `cyclemlp train`.

    A `grad_clip` of that optimizer is applied to each group by its own norm, as Paddle does with groups; clip with
    `paddle.nn.utils.clip_grad_norm_(model.parameters(), …)` before the step instead.

    Args:
        model: its biases and norm weights (one dimension) are not decayed. Frozen parameters are in no group.
        weight_decay: decoupled decay, times the learning rate a step, of all other parameters.
        layer_decay: the rate of a block is this times that of the block above it, and the head's is the full one; None
            gives all the same.

    Returns:
        Dicts of `params`, `weight_decay` and `learning_rate`, the factor of the optimizer's rate. Without `layer_decay`
        the decayed parameters, then the others; with it, such groups for each rate, in the order of the model.

    Raises:
        ConfigError: a negative decay, a `layer_decay` outside (0, 1], or one for a model that has no stages.

    Examples:
        >>> import cyclemlp, paddle
        >>> model = cyclemlp.create_model("cyclemlp_nano", num_classes=10)
        >>> decayed, plain = cyclemlp.param_groups(model, weight_decay=0.05)
        >>> decayed["weight_decay"], plain["weight_decay"], len(decayed["params"]), len(plain["params"])
        (0.05, 0.0, 45, 62)
        >>> groups = cyclemlp.param_groups(model, layer_decay=0.5)
        >>> max(group["learning_rate"] for group in groups)
        1.0
        >>> optimizer = paddle.optimizer.AdamW(learning_rate=5e-4, parameters=groups)
    """
    if not weight_decay >= 0:
        raise ConfigError(f"weight_decay is {weight_decay!r}; give a number from 0")
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay is {layer_decay!r}; give a number in (0, 1], or None")
    ratios = {} if layer_decay is None else layer_ratios(model, layer_decay)
    groups: dict[tuple[float, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        ratio = float(ratios.get(name, 1.0))
        if parameter.stop_gradient:
            continue
        for decayed in (True, False):  # so that the decayed come first
            groups.setdefault((ratio, decayed), [])
        groups[ratio, parameter.ndim > 1].append(parameter)
    return [
        {"params": found, "weight_decay": float(weight_decay) if decayed else 0.0, "learning_rate": ratio}
        for (ratio, decayed), found in groups.items()
        if found
    ]
