"""The network's form for export: equal to the one that is trained, in operators that every runtime runs fast.

Shapes: B batch, H height, W width, C channels, K branches, S step size.

What runtimes do well decides, measured (docs/export.md has the figures):

* ONNX Runtime and OpenVINO are built for convolutions over `[B, C, H, W]`. With the shift as a depthwise convolution
  of one-hot kernels and each channel FC as a 1×1 convolution, a stage is a chain of them and costs what plain channel
  FCs cost.
* Paddle Inference is better with matrix products over `[B, H, W, C]`, transposed around the shift alone, from a few
  images on.
* Slices that are padded and concatenated, with the channels sorted once by their offset, were no faster. With the gate
  folded into per-image products as well, Paddle gained a sixth for eight images and the others lost; it is left
  out for its size.
"""

from __future__ import annotations

import copy

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.network import CycleMLP, CycleMLPConfig
from cyclemlp.network.cyclemlp import BRANCH_LAYERS
from cyclemlp.network.embedding import merge_patches
from cyclemlp.offsets import cycle_offsets

#: A layer's parameters by their published names.
Weights = dict[str, np.ndarray]


def export_form(layer: nn.Layer, *, channels_first: bool = True) -> nn.Layer:
    """A copy of a layer, in evaluation mode, in which every CycleMLP is in the form for export.

    Args:
        layer: a CycleMLP, or anything that holds some: a model for segmentation with it as its backbone, say.
        channels_first: the form for ONNX Runtime and OpenVINO; False: the one for Paddle Inference and for int8.

    Returns:
        The copy. It gives the same outputs, and is no longer meant to be trained or saved.
    """
    layer = copy.deepcopy(layer)
    for part in layer.sublayers(include_self=True):
        if isinstance(part, CycleMLP):
            _replace(part, channels_first)
    layer.eval()
    return layer


def _replace(network: CycleMLP, channels_first: bool) -> None:
    """Put the form for export in the places of the patch embedding, the stages and the downsampling."""
    config = network.config
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    padding = [*config.patch_padding, *config.patch_padding]
    network.patch_embed = _Embedding(
        _part(weights, "patch_embed."), config.patch_stride, padding, channels_last=False
    )
    for i in range(len(network.network)):
        part = _part(weights, f"network.{i}.")
        if i % 2 and config.downsample == "merge":
            network.network[i] = _Merging(part)
        elif i % 2:
            network.network[i] = _Embedding(part, 2, 1, channels_last=True)
        else:
            blocks = [_part(part, f"{j}.") for j in range(config.depths[i // 2])]
            network.network[i] = _Stage(blocks, config, channels_first)


def _part(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


class _Embedding(nn.Layer):
    """Patch embedding or downsampling: a convolution, and perhaps a norm → `[B, H, W, C]`.

    Args:
        channels_last: whether it takes `[B, H, W, C]`, rather than an image `[B, C, H, W]`.
    """

    def __init__(self, weights: Weights, stride: int, padding: int | list[int], channels_last: bool) -> None:
        super().__init__()
        self.channels_last = channels_last
        out, channels, size, _ = weights["proj.weight"].shape
        self.proj = nn.Conv2D(channels, out, size, stride, padding=padding)
        _set(self.proj, _part(weights, "proj."))
        norm = _part(weights, "norm.")
        self.norm = _Norm(norm, channels_first=False) if norm else nn.Identity()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Shapes as above."""
        if self.channels_last:
            x = x.transpose([0, 3, 1, 2])
        return self.norm(self.proj(x).transpose([0, 2, 3, 1]))


class _Merging(nn.Layer):
    """Patch merging: `[B, H, W, C]` → `[B, ⌈H / 2⌉, ⌈W / 2⌉, C']`."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.norm = _Norm(_part(weights, "norm."), channels_first=False)
        self.reduction = _fc(_part(weights, "reduction."), channels_first=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Shapes as above."""
        return self.reduction(self.norm(merge_patches(x)))


class _Stage(nn.Layer):
    """The blocks of a stage: `[B, H, W, C]` → `[B, H, W, C]`, whatever they work in."""

    def __init__(self, blocks: list[Weights], config: CycleMLPConfig, channels_first: bool) -> None:
        super().__init__()
        self.channels_first = channels_first
        self.blocks = nn.Sequential(*(_Block(weights, config, channels_first) for weights in blocks))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Shapes as above."""
        if not self.channels_first:
            return self.blocks(x)
        return self.blocks(x.transpose([0, 3, 1, 2])).transpose([0, 2, 3, 1])


class _Block(nn.Layer):
    """A block, over `[B, C, H, W]` or `[B, H, W, C]`."""

    def __init__(self, weights: Weights, config: CycleMLPConfig, channels_first: bool) -> None:
        super().__init__()
        self.norm1 = _Norm(_part(weights, "norm1."), channels_first)
        self.mixer = _Mixer(_part(weights, "attn."), config, channels_first)
        self.norm2 = _Norm(_part(weights, "norm2."), channels_first)
        self.fc1 = _fc(_part(weights, "mlp.fc1."), channels_first)
        self.fc2 = _fc(_part(weights, "mlp.fc2."), channels_first)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Shapes as above."""
        x = x + self.mixer(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class _Norm(nn.Layer):
    """LayerNorm over the channels."""

    def __init__(self, weights: Weights, channels_first: bool) -> None:
        super().__init__()
        self.channels_first = channels_first
        self.norm = nn.LayerNorm(len(weights["weight"]), epsilon=1e-5)
        _set(self.norm, weights)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """The same shape."""
        if not self.channels_first:
            return self.norm(x)
        return self.norm(x.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])


class _Mixer(nn.Layer):
    """The branches, gated or summed, and the projection."""

    def __init__(self, weights: Weights, config: CycleMLPConfig, channels_first: bool) -> None:
        super().__init__()
        channels, count = len(weights["proj.bias"]), len(config.branches)
        self.positions = [2, 3] if channels_first else [1, 2]
        self.count, self.gated = count, config.gate
        self.branches = nn.LayerList(
            [
                _branch(_part(weights, f"{BRANCH_LAYERS[branch]}."), step_size, channels_first)
                for branch, step_size in zip("hwc", (*config.step_sizes, (1, 1)), strict=True)
                if branch in config.branches
            ]
        )
        if config.gate:
            self.fc1 = _fc(_part(weights, "reweight.fc1."), channels_first=False)
            # The published order is channel by channel; branch by branch, a branch's weights lie together.
            fc2 = _part(weights, "reweight.fc2.")
            order = np.arange(channels * count).reshape(channels, count).T.reshape(-1)
            self.fc2 = _fc({name: value[..., order] for name, value in fc2.items()}, channels_first=False)
        self.proj = _fc(_part(weights, "proj."), channels_first)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """The same shape."""
        outputs = [branch(x) for branch in self.branches]
        total = sum(outputs[1:], outputs[0])
        if not self.gated:
            return self.proj(total)
        mean = total.mean(axis=self.positions)
        logits = self.fc2(F.gelu(self.fc1(mean)))
        gates = F.softmax(logits.reshape([0, self.count, -1]), axis=1)
        weighted = [y * gates[:, k].unsqueeze(self.positions) for k, y in enumerate(outputs)]
        return self.proj(sum(weighted[1:], weighted[0]))


class _Shift(nn.Layer):
    """Each channel moved by its Cycle FC offset: a depthwise convolution with one-hot kernels."""

    def __init__(self, channels: int, step_size: tuple[int, int], channels_first: bool) -> None:
        super().__init__()
        self.channels_first = channels_first
        offset_h, offset_w = cycle_offsets(channels, step_size)
        kernel = np.zeros((channels, 1, *step_size), dtype=np.float32)
        kernel[np.arange(channels), 0, offset_h + step_size[0] // 2, offset_w + step_size[1] // 2] = 1
        padding = [side for step in step_size for side in (step // 2, step - 1 - step // 2)]
        self.conv = nn.Conv2D(
            channels, channels, step_size, groups=channels, padding=padding, bias_attr=False
        )
        _set(self.conv, {"weight": kernel})

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """The same shape."""
        if self.channels_first:
            return self.conv(x)
        return self.conv(x.transpose([0, 3, 1, 2])).transpose([0, 2, 3, 1])


def _branch(weights: Weights, step_size: tuple[int, int], channels_first: bool) -> nn.Layer:
    """A Cycle FC, or for step size (1, 1) a channel FC."""
    if weights["weight"].ndim == 4:  # [out, in, 1, 1], a Cycle FC's
        weights = {**weights, "weight": weights["weight"][:, :, 0, 0].T}
    fc = _fc(weights, channels_first)
    if step_size == (1, 1):
        return fc
    return nn.Sequential(_Shift(weights["weight"].shape[0], step_size, channels_first), fc)


def _fc(weights: Weights, channels_first: bool) -> nn.Layer:
    """A channel FC, whose weight is `[in, out]`: a 1×1 convolution or a matrix product."""
    matrix = weights["weight"]
    bias = None if "bias" in weights else False
    if channels_first:
        fc = nn.Conv2D(*matrix.shape, 1, bias_attr=bias)
        return _set(fc, {**weights, "weight": matrix.T[:, :, None, None]})
    return _set(nn.Linear(*matrix.shape, bias_attr=bias), weights)


def _set(layer: nn.Layer, weights: Weights) -> nn.Layer:
    for name, value in weights.items():
        getattr(layer, name).set_value(np.ascontiguousarray(value, dtype=np.float32))
    return layer
