"""RegNetX, the teacher of distillation, with the state-dict keys of PaddleClas, so that its weights load.

Source: Designing Network Design Spaces, Radosavovic, Kosaraju, Girshick, He, Dollár, CVPR 2020,
arXiv 2003.13678: a network is four numbers (w_0, w_a, w_m, depth), from which the widths follow, and a
group width. Batch norm has epsilon 1e-5. Trained in PaddleClas on 224² images normalised as ImageNet's are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.weights import WeightFile

#: Where PaddleClas keeps its weights, by its own spelling of the name (its model_zoo/regnet.py).
_URL = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/{name}_pretrained.pdparams"


@dataclass(frozen=True)
class RegNetConfig:
    """The design of one RegNetX.

    Attributes:
        w_a, w_0, w_m: slope, initial width and multiplier of the quantised linear widths.
        depth: number of blocks in all.
        group_width: channels of a group in the 3×3 convolutions.
    """

    w_a: float
    w_0: int
    w_m: float
    depth: int
    group_width: int

    def stages(self) -> list[tuple[int, int]]:
        """(width, blocks) of each stage.

        Block j has width w_0 + w_a·j, rounded to w_0·w_m^k for a whole k, then to a multiple of 8 and to one
        of the group width; equal widths make a stage (section 3.3 of the paper).
        """
        linear = self.w_0 + self.w_a * np.arange(self.depth)
        powers = np.round(np.log(linear / self.w_0) / np.log(self.w_m))
        widths = np.round(self.w_0 * self.w_m**powers / 8) * 8
        groups = np.minimum(self.group_width, widths)
        widths = (np.round(widths / groups) * groups).astype(int)
        return [(int(w), int((widths == w).sum())) for w in np.unique(widths)]


#: Table 2 of the paper's appendix; the size is in MACs at 224².
REGNETX = {
    "regnetx_200mf": RegNetConfig(36.44, 24, 2.49, 13, 8),
    "regnetx_400mf": RegNetConfig(24.48, 24, 2.54, 22, 16),
    "regnetx_600mf": RegNetConfig(36.97, 48, 2.24, 16, 24),
    "regnetx_800mf": RegNetConfig(35.73, 56, 2.28, 16, 16),
    "regnetx_1600mf": RegNetConfig(34.01, 80, 2.25, 18, 24),
    "regnetx_3200mf": RegNetConfig(26.31, 88, 2.25, 25, 48),
    "regnetx_4gf": RegNetConfig(38.65, 96, 2.43, 23, 40),
    "regnetx_6400mf": RegNetConfig(60.83, 184, 2.07, 17, 56),
    "regnetx_8gf": RegNetConfig(49.56, 80, 2.88, 23, 120),
    "regnetx_12gf": RegNetConfig(73.36, 168, 2.37, 19, 112),
    "regnetx_16gf": RegNetConfig(55.59, 216, 2.1, 22, 128),
    "regnetx_32gf": RegNetConfig(69.86, 320, 2.0, 23, 168),
}


class _ConvNorm(nn.Layer):
    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self._conv = nn.Conv2D(
            channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias_attr=False
        )
        self._batch_norm = nn.BatchNorm2D(out)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self._batch_norm(self._conv(x))


class _Bottleneck(nn.Layer):
    """1×1, grouped 3×3, 1×1, each with batch norm; the residual is projected where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int, group_width: int) -> None:
        super().__init__()
        self.conv0 = _ConvNorm(channels, out, 1)
        self.conv1 = _ConvNorm(out, out, 3, stride, groups=out // min(group_width, out))
        self.conv2 = _ConvNorm(out, out, 1)
        self.short = _ConvNorm(channels, out, 1, stride) if stride > 1 or channels != out else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        shortcut = x if self.short is None else self.short(x)
        return F.relu(shortcut + self.conv2(F.relu(self.conv1(F.relu(self.conv0(x))))))


class RegNet(nn.Layer):
    """RegNetX: a stem of stride 2, four stages of stride 2 each, average pooling, a linear head.

    Args:
        config: one of `REGNETX`.
        num_classes: outputs of the head.
    """

    def __init__(self, config: RegNetConfig, num_classes: int = 1000) -> None:
        super().__init__()
        channels = 32
        self.conv = _ConvNorm(3, channels, 3, 2)
        self._blocks: list[nn.Layer] = []
        for i, (width, depth) in enumerate(config.stages(), 1):
            for j in range(1, depth + 1):
                block = _Bottleneck(channels, width, 2 if j == 1 else 1, config.group_width)
                self._blocks.append(self.add_sublayer(f"s{i}_b{j}", block))
                channels = width
        self.out = nn.Linear(channels, num_classes)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, 3, H, W]` → logits `[B, num_classes]`."""
        x = F.relu(self.conv(x))
        for block in self._blocks:
            x = block(x)
        return self.out(x.mean(axis=[2, 3]))


def published_url(name: str) -> str:
    """Where PaddleClas publishes the weights of one of `REGNETX`."""
    return _URL.format(name=f"RegNetX_{name.rpartition('_')[2].upper()}")


def without_convolution_biases(file: WeightFile) -> WeightFile:
    """The file of a RegNetX as PaddleClas long had it, with a bias in each convolution, for one without.

    A norm of conv(x) + b with the running mean m is one of conv(x) with m − b, exactly.
    """
    tensors, biases = dict(file.tensors), 0
    for name in file.tensors:
        layer, _, kind = name.rpartition("._conv.")
        mean = f"{layer}._batch_norm._mean"
        if kind == "bias" and mean in tensors:
            tensors[mean] = tensors[mean] - tensors.pop(name)
            biases += 1
    if not biases:
        return file
    note = f"{biases} biases of convolutions taken into the running means of the norms that follow them"
    return replace(file, tensors=tensors, notes=(*file.notes, note))
