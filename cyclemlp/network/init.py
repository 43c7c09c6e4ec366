"""Initialisation: as the published networks were initialised before training, and Glorot's."""

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


def init_xavier(network: nn.Layer) -> None:
    """Fill every weight of more than one dimension from U(±√(6 / (fan_in + fan_out))), in place; all biases with 0.

    Glorot and Bengio, 2010. Norms stay as they are. Narrow networks learn faster from it than from N(0, 0.02²), which
    makes the outputs of a layer of few inputs small.
    """
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.initializer.XavierUniform()(parameter)
        elif name.endswith("bias"):
            zeros_(parameter)
