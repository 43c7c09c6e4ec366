"""Weights of the classes in PaddleSeg's cross entropy: a list, or `balanced` by the pixels of the training masks.

PaddleSeg's `CrossEntropyLoss` multiplies the loss of a pixel by the `weight` of its class, and divides the sum over the
pixels by the sum of their weights: a factor common to all weights changes nothing.

Shapes: K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cyclemlp.dense.seg.config import SegConfig
from cyclemlp.errors import ConfigError
from cyclemlp.text import counted, listed, shown

#: The value of `weight` for which the pixels are counted.
BALANCED = "balanced"
#: The loss whose `weight` may be balanced.
CROSS_ENTROPY = "CrossEntropyLoss"
#: Classes whose weights a message shows.
MOST_SHOWN = 12


def balanced_weights(pixels: np.ndarray) -> list[float]:
    """N / (K · n) for a class with n of N pixels, to six digits; 1 for a class without a pixel, whose weight counts
    nowhere.

    Args:
        pixels: of each class, int [K]; those of K classes that have some.
    """
    present = int((pixels > 0).sum())
    weights = pixels.sum() / (max(present, 1) * np.maximum(pixels, 1))
    return [float(f"{weight:.6g}") for weight in np.where(pixels > 0, weights, 1.0)]


def is_balanced(config: SegConfig) -> bool:
    """Whether a loss asks for balanced weights, which are not counted yet."""
    return any(loss.get("weight") == BALANCED for _, loss in _losses(config))


def given_weights(config: SegConfig) -> Sequence[float] | None:
    """The weights of the first cross entropy that has some as a list."""
    lists = (loss["weight"] for _, loss in _losses(config) if isinstance(loss.get("weight"), list | tuple))
    return next(lists, None)


def check_weights(config: SegConfig) -> None:
    """Look at the `weight` of every loss, before hours of training.

    Raises:
        ConfigError: neither `balanced` nor a number from 0 for each class; or `balanced` for another loss.
    """
    for key, loss in _losses(config):
        weight, kind = loss.get("weight"), loss.get("type")
        if weight is None:
            continue
        if kind != CROSS_ENTROPY:
            if weight == BALANCED:
                raise ConfigError(
                    f"{key}.weight is balanced, which is for {CROSS_ENTROPY}; {key} is a {kind}"
                )
            continue  # each of PaddleSeg's losses has its own meaning of it
        if weight == BALANCED:
            continue
        if (
            not isinstance(weight, list | tuple)
            or not all(_is_weight(one) for one in weight)
            or not any(weight)
        ):
            raise ConfigError(
                f"{key}.weight is {shown(weight)}; expected {BALANCED}, or a list of a number from 0 for each class"
            )
        if len(weight) != config.num_classes:
            raise ConfigError(
                f"{key}.weight has {counted(len(weight), 'number')}, and the model has "
                f"{counted(config.num_classes, 'class')}: give one for each class, or {BALANCED}"
            )


def set_weights(config: SegConfig, weight: str | Sequence[float], *, where: str | None = None) -> None:
    """Give every cross entropy of `loss` these weights.

    Args:
        weight: `balanced`, or K numbers.
        where: of those with this `weight` only.

    Raises:
        ConfigError: there is no cross entropy.
    """
    found = 0

    def changed(loss: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal found
        loss = dict(loss)
        if "losses" in loss:
            loss["losses"] = [changed(part) for part in loss["losses"]]
        if loss.get("type") == CROSS_ENTROPY and where in (None, loss.get("weight")):
            found += 1
            loss["weight"] = weight if isinstance(weight, str) else list(weight)
        return loss

    settings = config.dic.get("loss", {})
    config.dic["loss"] = {**settings, "types": [changed(loss) for loss in settings.get("types", [])]}
    if not found:
        kinds = listed([str(loss.get("type")) for _, loss in _losses(config)], MOST_SHOWN)
        raise ConfigError(
            f"{config.path}: class weights are for {CROSS_ENTROPY}, and the losses are {kinds or 'none'}; leave the "
            "weights out, or see PaddleSeg's documentation of these losses"
        )


def parse_weights(text: str) -> str | list[float]:
    """`balanced`, or numbers with commas between them.

    Raises:
        ConfigError: neither of them.
    """
    if text.strip() == BALANCED:
        return BALANCED
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--class-weights is {shown(text)}; give {BALANCED}, or a number for each class such as 0.3,1,1"
        ) from None


def weights_text(weights: Sequence[float], classes: Sequence[str], pixels: np.ndarray | None = None) -> str:
    """The weights for people: each with its class, of many classes the ends.

    Args:
        pixels: of each class in the masks, int [K], where they were counted.
    """
    if len(weights) <= MOST_SHOWN:
        text = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(classes, weights, strict=True))
    else:
        low, high = int(np.argmin(weights)), int(np.argmax(weights))
        text = f"from {weights[low]:.3g} ({classes[low]}) to {weights[high]:.3g} ({classes[high]})"
    if pixels is not None and (absent := [classes[k] for k in np.flatnonzero(pixels == 0)]):
        text += f"; no mask has a pixel of {listed(absent, MOST_SHOWN)}"
    return text


def _losses(config: SegConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The key and the values of every loss, those inside of a `MixedLoss` too."""

    def inside(key: str, losses: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for place, loss in enumerate(losses if isinstance(losses, list) else []):
            if isinstance(loss, Mapping):
                yield f"{key}.{place}", loss
                yield from inside(f"{key}.{place}.losses", loss.get("losses"))

    yield from inside("loss.types", config.dic.get("loss", {}).get("types"))


def _is_weight(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    )
