"""The network's layers as they are computed eagerly on a CPU: subclasses of the plain ones, with the same parameters.

Each runs fused kernels (`cyclemlp.kernels.fused`) where `on_cpu` says so, and is the plain layer everywhere else:
traced, exported, on other devices, in other types. Importing this needs numba.

Shapes: B batch, H height, W width, C channels, K branches.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import paddle
from paddle import nn
from paddle.hapi import dynamic_flops

from cyclemlp.kernels.fused import functions
from cyclemlp.kernels.fused.functions import Part
from cyclemlp.kernels.fused.halves import Mixing
from cyclemlp.kernels.fused.shift import Moves
from cyclemlp.kernels.fused.unfold import Geometry, Window
from cyclemlp.network.cyclemlp import BRANCH_LAYERS, CycleBlock, CycleFC, CycleMixer, Mlp
from cyclemlp.network.drop_path import DropPath
from cyclemlp.network.embedding import Downsample, PatchMerging
from cyclemlp.network.stages import Stages

_LayerClass = TypeVar("_LayerClass", bound=type)


def on_cpu(x: paddle.Tensor) -> bool:
    """Whether the kernels can compute this: eager, on a CPU, float32 or float64, without mixed precision."""
    if not paddle.in_dynamic_mode():
        return False
    return bool(
        x.dtype in (paddle.float32, paddle.float64)
        and x.place.is_cpu_place()
        and paddle.device.get_device() == "cpu"  # where Paddle knows no autocast, either
        and 0 not in x.shape
    )


def traced_whole(layer: _LayerClass) -> _LayerClass:
    """Decorator of a layer: Paddle's symbolic tracer (`paddle.jit.to_static` with its defaults) takes it as a whole.

    Looked into, its Python would be simulated instruction by instruction on tensors without a place, which is more
    than the tracer can do. As a whole it is called in static mode, as it is everywhere else where it is traced.
    """
    marker = getattr(paddle.jit, "marker", None)  # of Paddle 3.1 and later
    return layer if marker is None else marker.unified(layer, for_ast=False)


@traced_whole
class FusedLayerNorm(nn.LayerNorm):
    """In one pass over the map, and its gradient in one."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[…, C]` → `[…, C]`."""
        if on_cpu(x) and self.weight is not None and self.bias is not None and x.dtype == self.weight.dtype:
            return functions.LayerNorm.run([x, self.weight, self.bias], self._epsilon)
        return super().forward(x)


@traced_whole
class FusedConv2D(nn.Conv2D):
    """As the product of its patches with its weight."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, C, H, W]` → `[B, O, H', W']`."""
        geometry = self.geometry() if on_cpu(x) and x.ndim == 4 and x.dtype == self.weight.dtype else None
        if geometry is None or min(Window.of(geometry, *x.shape[2:]).out) < 1:
            return super().forward(x)
        return functions.Convolution.run([x, self.weight, self.bias], geometry)

    def geometry(self) -> Geometry | None:
        """None for a convolution of another kind than those of the network."""
        plain = self.bias is not None and self._groups == 1 and self._padding_mode == "zeros"
        if not plain or self._data_format != "NCHW" or isinstance(self._padding, str):
            return None
        padding = (
            self._updated_padding if isinstance(self._updated_padding, list) else [self._updated_padding]
        )
        around = {1: padding * 4, 2: [padding[0], padding[0], padding[-1], padding[-1]], 4: padding}.get(
            len(padding)
        )
        if around is None or list(self._dilation) != [1, 1] or not all(isinstance(p, int) for p in around):
            return None
        top, bottom, left, right = around
        return Geometry(tuple(self.weight.shape[2:]), tuple(self._stride), (top, bottom, left, right))


@traced_whole
class FusedPatchMerging(PatchMerging):
    """Its neighbours by one copy."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, ⌈H / 2⌉, ⌈W / 2⌉, out]`."""
        if not on_cpu(x):
            return super().forward(x)
        return self.reduction(self.norm(functions.Merge.run([x])))


@traced_whole
class FusedCycleBlock(CycleBlock):
    """As one function, gradient included, where all the layers inside are the network's own without hooks.

    With dropout in training, with a hook or with another layer inside, its layers are called one by one.
    """

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        if not (on_cpu(x) and self.is_whole(x.dtype)):
            return super().forward(x)
        tensors, mixing, epsilon = self.tensors()
        if self.training and self.drop_path.rate:
            tensors += [self._scale(x), self._scale(x)]
        return functions.Block.run([x, *tensors], mixing, epsilon)

    def tensors(self) -> tuple[list[paddle.Tensor], Mixing, float]:
        """What `functions.Block` takes beside x."""
        attention, mlp, norm1, norm2 = self.attn, self.mlp, self.norm1, self.norm2
        layers = [getattr(attention, BRANCH_LAYERS[branch]) for branch in attention.branches]
        gate = attention.reweight if attention.gated else None
        tensors = [norm1.weight, norm1.bias, *[layer.weight for layer in layers]]
        tensors += [layer.bias for layer in layers if layer.bias is not None]
        tensors += [] if gate is None else [gate.fc1.weight, gate.fc1.bias, gate.fc2.weight, gate.fc2.bias]
        tensors += [attention.proj.weight, attention.proj.bias, norm2.weight, norm2.bias]
        tensors += [mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias]
        mixing = _mixing(
            norm1._epsilon,
            norm1.weight.shape[0],
            attention.branches,
            tuple([layer.step_size if isinstance(layer, CycleFC) else None for layer in layers]),
            tuple([layer.bias is not None for layer in layers]),
            attention.gated,
        )
        return tensors, mixing, norm2._epsilon

    def is_whole(self, dtype: paddle.dtype) -> bool:
        """Whether a map of this type can be computed as a whole."""
        return dtype == self.mlp.fc1.weight.dtype and _are_own(self, self.training)

    def _scale(self, x: paddle.Tensor) -> paddle.Tensor:
        """Stochastic depth's factor of each image, `[B]`, drawn as the plain layer draws it."""
        return self.drop_path(paddle.ones([x.shape[0], 1, 1, 1], x.dtype)).reshape([-1])


@traced_whole
class FusedStages(Stages):
    """Without gradients as one program, where all the layers inside are the network's own without hooks."""

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        """`[B, H, W, C]` → each stage's map, `[B, Hᵢ, Wᵢ, Cᵢ]`."""
        found = _parts_of_all(self, x)
        if found is None:
            return super().forward(x)
        tensors = [tensor for of_part, _ in found for tensor in of_part]
        return functions.run_parts([x, *tensors], tuple([part for _, part in found]))


@paddle.jit.not_to_static  # whose transformer takes no return inside a loop
def _parts_of_all(stages: Stages, x: paddle.Tensor) -> list[tuple[list[paddle.Tensor], Part]] | None:
    """Tensors and parts of a whole network; None where it cannot be one program."""
    if not on_cpu(x) or paddle.is_grad_enabled():
        return None
    found = []
    for layer in stages:
        parts = _parts_of(layer, x.dtype)
        if parts is None:
            return None
        found += parts
    return found


def _parts_of(layer: nn.Layer, dtype: paddle.dtype) -> list[tuple[list[paddle.Tensor], Part]] | None:
    """Tensors and parts of a stage or of a downsampling; None for what cannot be part of a program."""
    kind = type(layer)
    if not _is_untouched(layer):
        return None
    if kind is nn.Sequential:
        blocks, parts = list(layer), []
        for block in blocks:
            if type(block) is not FusedCycleBlock or not _is_untouched(block) or not block.is_whole(dtype):
                return None
            if block.training and block.drop_path.rate:
                return None
            tensors, *more = block.tensors()
            part = Part(functions.block_part, len(tensors), tuple(more), block is blocks[-1])
            parts.append((tensors, part))
        return parts or None
    if kind is Downsample and type(layer.proj) is FusedConv2D and _is_untouched(layer.proj):
        geometry = layer.proj.geometry()
        if geometry is not None and layer.proj.weight.dtype == dtype:
            tensors = [layer.proj.weight, layer.proj.bias]
            return [(tensors, Part(functions.convolution_part, 2, (geometry,), False))]
    if kind is FusedPatchMerging:
        norm, linear = layer.norm, layer.reduction
        own = type(norm) is FusedLayerNorm and type(linear) is nn.Linear and linear.bias is None
        if own and _is_untouched(norm) and _is_untouched(linear) and linear.weight.dtype == dtype:
            tensors = [norm.weight, norm.bias, linear.weight]
            return [(tensors, Part(functions.merging_part, 3, (norm._epsilon,), False))]
    return None


def _is_untouched(layer: nn.Layer) -> bool:
    """Whether nobody waits for its input or output."""
    return not (layer._forward_pre_hooks or layer._forward_post_hooks)


@functools.cache
def _mixing(
    epsilon: float,
    channels: int,
    branches: tuple[str, ...],
    steps: tuple[tuple[int, int] | None, ...],
    biased: tuple[bool, ...],
    gated: bool,
) -> Mixing:
    """How a mixer is made whose branches have these step sizes, None for a channel FC."""
    moves = Moves.of(channels, tuple(step or (1, 1) for step in steps))
    plain = branches.index("c") if "c" in branches else None
    return Mixing(epsilon, moves, plain, tuple(step is not None for step in steps), biased, gated)


#: The network's own layers inside a block.
_OWN = (nn.Linear, nn.LayerNorm, FusedLayerNorm, nn.Dropout, CycleFC, CycleMixer, Mlp, DropPath)


def _are_own(layer: Any, training: bool) -> bool:
    """Whether all that lies in a layer is the network's own; `sublayers()` would take longer than small products."""
    inside = layer._sub_layers.values()
    return all(_is_own(child, training) and _are_own(child, training) for child in inside)


def _is_own(layer: Any, training: bool) -> bool:
    kind = type(layer)
    if not _is_untouched(layer):
        return False
    if kind is nn.Dropout:
        return not training or layer.p == 0
    if kind is CycleFC:
        return bool(layer.groups == 1)
    return kind in _OWN


#: Plain layer → the one that takes its place.
CPU_LAYERS: dict[type[nn.Layer], type[nn.Layer]] = {
    nn.LayerNorm: FusedLayerNorm,
    nn.Conv2D: FusedConv2D,
    PatchMerging: FusedPatchMerging,
    CycleBlock: FusedCycleBlock,
    Stages: FusedStages,
}

# `paddle.flops` knows a layer by its very class.
dynamic_flops.register_hooks |= {
    faster: dynamic_flops.register_hooks[plain]
    for plain, faster in CPU_LAYERS.items()
    if plain in dynamic_flops.register_hooks
}
