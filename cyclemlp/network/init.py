"""Initialisation, as the published networks were initialised before training."""

from __future__ import annotations

import math

import paddle
from paddle import nn

STD = 0.02
_CUT = 2.0  # absolute, a hundred standard deviations: the authors' cut, which in practice cuts nothing


def trunc_normal_(tensor: paddle.Tensor, std: float = STD) -> None:
    """Fill in place from N(0, std²), truncated at ±2 (absolute)."""
    nn.initializer.TruncatedNormal(0.0, std, -_CUT, _CUT)(tensor)


def zeros_(tensor: paddle.Tensor) -> None:
    """Fill in place with 0."""
    nn.initializer.Constant(0.0)(tensor)


def ones_(tensor: paddle.Tensor) -> None:
    """Fill in place with 1."""
    nn.initializer.Constant(1.0)(tensor)


def init_linear_or_norm(layer: nn.Layer) -> None:
    """Linear: truncated normal and zeros. LayerNorm: ones and zeros. Other layers are left alone."""
    if isinstance(layer, nn.Linear):
        trunc_normal_(layer.weight)
    elif isinstance(layer, nn.LayerNorm):
        ones_(layer.weight)
    else:
        return
    if layer.bias is not None:
        zeros_(layer.bias)


def init_conv(conv: nn.Conv2D) -> None:
    """Weight and bias uniform in ±1/√fan_in: the authors left their convolutions at PyTorch's default."""
    fan_in = math.prod(conv.weight.shape[1:])
    uniform = nn.initializer.Uniform(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
    uniform(conv.weight)
    if conv.bias is not None:
        uniform(conv.bias)
