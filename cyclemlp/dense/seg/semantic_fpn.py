"""Semantic FPN: a feature pyramid whose levels are brought to stride 4 and summed.

PaddleSeg's own `PFPNNet` differs: it has one width for the pyramid and the head, its head does not read the coarsest
level, and a fifth of its parameters belong to layers that no output depends on. No setting of it gives the published
parameter counts, so here is the architecture that does.

Shapes: B batch, K classes, H height, W width of the image; Cᵢ, sᵢ width and stride of the backbone's map i.

Source: Kirillov, Girshick, He, Dollár, Panoptic Feature Pyramid Networks, CVPR 2019, arXiv 1901.02446, sections 3 and
4; widths as in the segmentation results of CycleMLP (256 in the pyramid, 128 in the head).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import Constant, Normal, XavierUniform
from paddleseg.cvlibs import manager
from paddleseg.models import layers
from paddleseg.utils import utils

from cyclemlp.errors import ModelError
from cyclemlp.text import counted


class FeaturePyramid(nn.Layer):
    """Maps of a backbone → maps of one width, each with what the coarser ones saw.

    Args:
        in_channels: Cᵢ of the backbone's maps, finest first.
        channels: width of the pyramid.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()

        def conv(inputs: int, size: int) -> nn.Conv2D:
            return nn.Conv2D(
                inputs,
                channels,
                size,
                padding=size // 2,
                weight_attr=XavierUniform(),
                bias_attr=Constant(0.0),
            )

        self.lateral = nn.LayerList([conv(inputs, 1) for inputs in in_channels])
        self.output = nn.LayerList([conv(channels, 3) for _ in in_channels])

    def forward(self, maps: Sequence[paddle.Tensor]) -> list[paddle.Tensor]:
        """`[B, Cᵢ, H / sᵢ, W / sᵢ]`, finest first → the same with `channels` each."""
        merged = [lateral(maps[i]) for i, lateral in enumerate(self.lateral)]  # tracing knows no strict zip
        for i in range(len(merged) - 1, 0, -1):
            finer = merged[i - 1]
            merged[i - 1] = finer + F.interpolate(merged[i], paddle.shape(finer)[2:], mode="nearest")
        return [output(merged[i]) for i, output in enumerate(self.output)]


class _Double(nn.Layer):
    """Bilinear enlargement by 2; by size, since paddle2onnx does not translate a factor."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, C, h, w]` → `[B, C, 2 h, 2 w]`."""
        return F.interpolate(x, 2 * paddle.shape(x)[2:], mode="bilinear", align_corners=False)


class SemanticHead(nn.Layer):
    """Brings every level to the finest one's size, a factor of 2 a step, and sums them.

    Args:
        levels: number of levels, each of twice the stride of the one before.
        in_channels: their width.
        channels: the head's own width.
    """

    def __init__(self, levels: int, in_channels: int, channels: int) -> None:
        super().__init__()
        scales = []
        for level in range(levels):
            steps: list[nn.Layer] = []
            for step in range(max(1, level)):
                width = channels if step else in_channels
                steps.append(layers.ConvBNReLU(width, channels, 3, padding=1, bias_attr=False))
                if level:
                    steps.append(_Double())
            scales.append(nn.Sequential(*steps))
        self.scales = nn.LayerList(scales)

    def forward(self, maps: Sequence[paddle.Tensor]) -> paddle.Tensor:
        """`[B, in_channels, H / sᵢ, W / sᵢ]`, finest first → `[B, channels, H / s₀, W / s₀]`."""
        total = self.scales[0](maps[0])
        size = paddle.shape(total)[2:]
        for i in range(1, len(self.scales)):
            # Of an image whose sides 32 does not divide, twice a coarse map is a little larger than the finer one.
            total = total + F.interpolate(self.scales[i](maps[i]), size, mode="bilinear", align_corners=False)
        return total


@manager.MODELS.add_component
class SemanticFPN(nn.Layer):
    """Semantic FPN for any backbone of PaddleSeg whose maps have strides s, 2s, 4s, ….

    Args:
        num_classes: K.
        backbone: a layer with `feat_channels` that gives a list of maps, finest first.
        backbone_indices: which of its maps; None for all.
        fpn_channels: width of the pyramid.
        channels: width of the head.
        dropout_ratio: of whole channels, before the classifier.
        align_corners: how the logits are brought to the image's size.
        pretrained: weights of a whole model, as PaddleSeg's own models take them.

    Raises:
        ModelError: `backbone_indices` names maps that the backbone does not give.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: Any,
        backbone_indices: Sequence[int] | None = None,
        fpn_channels: int = 256,
        channels: int = 128,
        dropout_ratio: float = 0.1,
        align_corners: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        widths = list(backbone.feat_channels)
        indices = list(range(len(widths))) if backbone_indices is None else list(backbone_indices)
        if not indices or any(i not in range(len(widths)) for i in indices):
            raise ModelError(
                f"backbone_indices is {indices}; the backbone gives {counted(len(widths), 'map')}, numbered from 0"
            )
        self.backbone = backbone
        self.backbone_indices, self.align_corners = indices, align_corners
        self.fpn = FeaturePyramid([widths[i] for i in indices], fpn_channels)
        self.head = SemanticHead(len(indices), fpn_channels, channels)
        self.dropout = nn.Dropout2D(dropout_ratio)
        self.classify = nn.Conv2D(
            channels, num_classes, 1, weight_attr=Normal(0.0, 0.01), bias_attr=Constant(0.0)
        )
        if pretrained is not None:
            utils.load_entire_model(self, pretrained)

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        """`[B, 3, H, W]` → `[logits]`, logits `[B, K, H, W]`."""
        maps = self.backbone(x)
        pyramid = self.fpn([maps[i] for i in self.backbone_indices])
        logits = self.classify(self.dropout(self.head(pyramid)))
        size = paddle.shape(x)[2:]
        return [F.interpolate(logits, size, mode="bilinear", align_corners=self.align_corners)]
