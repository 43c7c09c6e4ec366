"""What timm's users expect of a classifier's head."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn

from cyclemlp.errors import ModelError
from cyclemlp.network.init import init_linear_or_norm


class ClassificationHead:
    """The end of a network: norm, mean over positions, a linear layer; and how it is looked at and replaced.

    Shapes: B batch, C₄ channels of the last stage; h, w of its map.
    """

    config: Any
    metadata: Any
    num_features: int
    head: nn.Layer

    def add_top(self) -> None:
        """Make `norm` and `head`."""
        if self.config.features_only:
            raise ModelError(
                "features_only is for CycleMLPFeatures; build_network(config) takes the right class"
            )
        self.norm = nn.LayerNorm(self.num_features, epsilon=1e-5)
        self.head = self._new_head(self.config.num_classes)

    def _new_head(self, num_classes: int) -> nn.Layer:
        return nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    @property
    def num_classes(self) -> int:
        """Number of logits; 0 without a head."""
        return int(self.config.num_classes)

    def forward_head(self, x: paddle.Tensor, pre_logits: bool = False) -> paddle.Tensor:
        """Map of `forward_features`, `[B, C₄, h, w]` → logits `[B, num_classes]`.

        With `pre_logits`, the pooled features before the head, `[B, C₄]`.
        """
        x = x.mean(axis=[2, 3])
        return x if pre_logits else self.head(x)

    def class_maps(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map of `forward_features`, `[B, C₄, h, w]` → what each position gives each class, `[B, num_classes, h, w]`.

        Mean and head are linear, so a class's logit is the mean of its map, plus the head's bias.

        Raises:
            ModelError: for a network without a head.
        """
        if not self.num_classes:
            raise ModelError("class maps need a classification head; this model has none")
        maps = paddle.matmul(x.transpose([0, 2, 3, 1]), self.head.weight)
        return maps.transpose([0, 3, 1, 2])

    def get_classifier(self) -> nn.Layer:
        """The head: a linear layer, or `nn.Identity` in a model of no classes."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a freshly initialised one of `num_classes` outputs; 0 removes it.

        The names of the former classes are forgotten.

        Raises:
            ModelError: for a number below 0.
        """
        self.config = self.config.replace({"num_classes": num_classes})
        self.head = self._new_head(num_classes)
        init_linear_or_norm(self.head)
        if self.metadata is not None:
            self.metadata.classes = None

    def no_weight_decay(self) -> list[str]:
        """Names of the parameters that the recipes do not decay: biases, and scales of norms."""
        return [name for name, parameter in self.named_parameters() if parameter.ndim <= 1]  # type: ignore[attr-defined]
