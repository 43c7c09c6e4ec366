"""What `paddle.flops` counts of this network's layers.

It counts the layers that are in Paddle's table, by their very class, and takes any other for free. So the classes of
this network are added to the table.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.hapi import dynamic_flops

from cyclemlp.network.cyclemlp import CycleFC, CycleShift
from cyclemlp.network.drop_path import DropPath


def register_flops() -> None:
    """Add this network's layers to the table of `paddle.flops`: multiply-accumulate operations, as `model_info` gives.

    A convolution counts its bias too, as Paddle's own does.
    """
    table = dynamic_flops.register_hooks
    free = (nn.LayerNorm, CycleShift, DropPath, nn.Identity)
    table |= {layer: dynamic_flops.count_zero_ops for layer in free if layer not in table}
    table[CycleFC] = _count_cycle_fc


def _count_cycle_fc(layer: CycleFC, inputs: Any, output: paddle.Tensor) -> None:
    """A hook after the forward: a channel FC's products; the shift multiplies nothing."""
    layer.total_ops += output.size * layer.weight.shape[1]
