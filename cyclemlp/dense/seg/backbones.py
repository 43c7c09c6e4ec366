"""The variants as PaddleSeg's backbones."""

from __future__ import annotations

from typing import Any, ClassVar

from paddleseg.cvlibs import manager

from cyclemlp.dense.backbone import BACKBONES, DenseBackbone


class SegBackbone(DenseBackbone):
    """A variant as PaddleSeg wants its backbones: a batch `[B, in_channels, H, W]` gives a list of maps
    `[B, Cᵢ, H / sᵢ, W / sᵢ]`, and `feat_channels` says how wide they are.

    Args:
        in_channels: of the image, PaddleSeg's word for it.
        options: `pretrained`, `drop_path_rate`, `out_indices`, `freeze_stages`, `recompute`, or any other value of
            `CycleMLPConfig`; see `DenseBackbone`.

    Attributes:
        feat_channels: width of each map, in the order of the list that `forward` gives.
    """

    variant: ClassVar[str]

    def __init__(self, in_channels: int = 3, **options: Any) -> None:
        super().__init__(self.variant, in_chans=in_channels, **options)
        self.feat_channels = list(self.feature_channels)


#: Registered name → class.
seg_backbones: dict[str, type[SegBackbone]] = {
    name: type(name, (SegBackbone,), {"variant": variant, "__doc__": f"`{variant}` as a PaddleSeg backbone."})
    for name, variant in BACKBONES.items()
}
manager.BACKBONES.add_component(list(seg_backbones.values()))
