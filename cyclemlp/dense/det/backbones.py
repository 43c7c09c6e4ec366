"""CycleMLP's variants under the names by which PaddleDetection's YAML files call them.

Shapes: B batch, H height, W width; Cᵢ and sᵢ width and stride of stage i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
from ppdet.core.workspace import register, serializable
from ppdet.modeling.shape_spec import ShapeSpec

from cyclemlp.dense.backbone import BACKBONES, DenseBackbone


class _DetectionBackbone(DenseBackbone):
    """A variant as a backbone of PaddleDetection; see `DenseBackbone` for the arguments.

    The engine reads a module's options from this signature, so that a misspelt one is found. None keeps the variant's
    own value.
    """

    variant: ClassVar[str]

    def __init__(
        self,
        pretrained: str | bool | None = None,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        freeze_stages: int = 0,
        recompute: bool = False,
        in_chans: int | None = None,
        embed_dims: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        mlp_ratios: Sequence[float] | None = None,
        step_size: Any = None,
        patch_size: int | None = None,
        patch_stride: int | None = None,
        patch_norm: bool | None = None,
        downsample: str | None = None,
        drop_rate: float | None = None,
        branches: Sequence[str] | None = None,
        gate: bool | None = None,
    ) -> None:
        super().__init__(
            self.variant,
            pretrained=pretrained,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            freeze_stages=freeze_stages,
            recompute=recompute,
            in_chans=in_chans,
            embed_dims=embed_dims,
            depths=depths,
            mlp_ratios=mlp_ratios,
            step_size=step_size,
            patch_size=patch_size,
            patch_stride=patch_stride,
            patch_norm=patch_norm,
            downsample=downsample,
            drop_rate=drop_rate,
            branches=branches,
            gate=gate,
        )

    def forward(self, inputs: dict[str, paddle.Tensor]) -> list[paddle.Tensor]:
        """The engine's batch, whose `image` is `[B, in_chans, H, W]` → a list of maps `[B, Cᵢ, H / sᵢ, W / sᵢ]`."""
        return self.forward_maps(
            inputs["image"]
        )  # tracing for export takes super().forward for this very method

    @property
    def out_shape(self) -> list[ShapeSpec]:
        """Channels and stride of each map, which necks and heads read."""
        return [
            ShapeSpec(channels=channels, stride=stride)
            for channels, stride in zip(self.feature_channels, self.feature_strides, strict=True)
        ]


def _registered(name: str) -> type[_DetectionBackbone]:
    """Make one and register it; the engine later looks it up by its name in this module."""
    members = {
        "variant": BACKBONES[name],
        "__module__": __name__,
        "__doc__": f"{name} for PaddleDetection; see `DenseBackbone` for the arguments.",
    }
    return register(serializable(type(name, (_DetectionBackbone,), members)))


CycleMLP_B1 = _registered("CycleMLP_B1")
CycleMLP_B2 = _registered("CycleMLP_B2")
CycleMLP_B3 = _registered("CycleMLP_B3")
CycleMLP_B4 = _registered("CycleMLP_B4")
CycleMLP_B5 = _registered("CycleMLP_B5")
CycleMLP_T_Inferred = _registered("CycleMLP_T_Inferred")
CycleMLP_S_Inferred = _registered("CycleMLP_S_Inferred")
CycleMLP_B_Inferred = _registered("CycleMLP_B_Inferred")
CycleMLP_Nano = _registered("CycleMLP_Nano")
CycleMLP_Nano_Deep = _registered("CycleMLP_Nano_Deep")
CycleMLP_Micro = _registered("CycleMLP_Micro")
