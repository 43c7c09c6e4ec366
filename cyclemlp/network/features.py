"""The network as a backbone: normalised feature maps of some stages, and no head."""

from __future__ import annotations

from typing import NoReturn

import paddle
from paddle import nn

from cyclemlp.errors import ModelError
from cyclemlp.network.config import CycleMLPConfig
from cyclemlp.network.cyclemlp import CycleMLP


class CycleMLPFeatures(CycleMLP):
    """CycleMLP whose forward gives a list of feature maps. Stages after the last of `out_indices` are not built.

    Args:
        config: the architecture, with `features_only`.

    Attributes:
        feature_channels, feature_strides: of the maps, in their order.
    """

    def __init__(self, config: CycleMLPConfig) -> None:
        self.feature_channels = [config.embed_dims[i] for i in config.out_indices]
        self.feature_strides = [config.strides[i] for i in config.out_indices]
        self._out_indices = config.out_indices
        super().__init__(config)

    def add_top(self) -> None:
        """Make the maps' norms, with the names that the authors gave them."""
        for i in self.config.out_indices:
            self.add_sublayer(f"norm{2 * i}", nn.LayerNorm(self.config.embed_dims[i], epsilon=1e-5))

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        """See `forward_maps`."""
        return self.forward_maps(x)

    def forward_maps(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        """`[B, in_chans, H, W]` → normalised maps `[B, Cᵢ, H / sᵢ, W / sᵢ]` of the strides `feature_strides`.

        Raises:
            ModelError: for an image with other channels, or smaller than 32 pixels in a direction.
        """
        maps = self.forward_stages(x)
        return [getattr(self, f"norm{2 * i}")(maps[i]).transpose([0, 3, 1, 2]) for i in self._out_indices]

    def forward_features(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, in_chans, H, W]` → the last of the maps."""
        return self.forward_maps(x)[-1]

    @property
    def num_classes(self) -> int:
        """0: there is no head."""
        return 0

    def _no_head(self, *args: object, **named: object) -> NoReturn:
        raise ModelError("a model made with features_only=True has no head")

    forward_head = get_classifier = reset_classifier = class_maps = _no_head


def build_network(config: CycleMLPConfig) -> CycleMLP:
    """The network that a configuration describes: a classifier, or with `features_only` a backbone."""
    return CycleMLPFeatures(config) if config.features_only else CycleMLP(config)
