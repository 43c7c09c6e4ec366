"""What happens to training images: each by itself, then to a batch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from cyclemlp.config import Config, Expected, Field, Pair, Share, Text, rising
from cyclemlp.data import Mixup, training_transform
from cyclemlp.data.transforms import TrainingTransform
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing

#: Greatest width / height of a crop.
MAX_RATIO = 100.0
MAX_REPEATS = 1000
#: Pixels around an image.
MAX_PADDING = 4096

Area = Annotated[Pair, rising(0, 1, above=True), Expected("two shares in (0, 1], rising")]
Ratio = Annotated[
    Pair,
    rising(1 / MAX_RATIO, MAX_RATIO),
    Expected(f"two ratios, rising, from {1 / MAX_RATIO:g} to {MAX_RATIO:g}"),
]
Sides = Annotated[Pair, rising(0, 1), Expected("two shares in [0, 1], rising")]


class AugmentConfig(Config):
    """What happens to training images: each by itself, then to a batch; see `cyclemlp.data`."""

    crop_scale: Area = Field(
        (0.08, 1.0), description="least and greatest area of the part that is taken, as shares of the image's"
    )
    crop_ratio: Ratio = Field((3 / 4, 4 / 3), description="least and greatest width / height of the part")
    crop_padding: int | None = Field(
        None,
        ge=0,
        le=MAX_PADDING,
        description="instead of a part that is resized: black pixels around the image, out of which a part of the "
        "input's size is cut; 4 is usual for CIFAR-10. Not together with `augment.crop_scale` or `.crop_ratio`",
    )
    hflip: Share = Field(0.5, description="probability of mirroring left and right; 0 for digits or writing")
    interpolation: Literal["nearest", "bilinear", "bicubic", "random"] | None = Field(
        None, description="of resizing; `random` is bilinear or bicubic; null takes the preprocessing's"
    )
    auto_augment: Text | None = Field(
        "rand-m9-mstd0.5-inc1",
        description="RandAugment or AutoAugment in timm's words, such as `rand-m9-mstd0.5-inc1` or `original`",
    )
    color_jitter: float = Field(
        0.4,
        ge=0,
        description="strength of brightness, contrast and saturation; only used where `augment.auto_augment` is null, "
        "as timm has it",
    )
    erasing_prob: Share = Field(0.25, description="probability of random erasing")
    erasing_mode: Literal["pixel", "rand", "const"] = Field(
        "pixel", description="what an erased part is filled with"
    )
    erasing_count: int = Field(1, ge=1, le=MAX_REPEATS, description="largest number of erased rectangles")
    mixup: float = Field(0.8, ge=0, description="α of the share's Beta distribution; 0 is none")
    cutmix: float = Field(1.0, ge=0, description="likewise")
    cutmix_minmax: Sides | None = Field(
        None, description="least and greatest side of cutmix's rectangle, as shares, instead of from Beta"
    )
    mixup_prob: Share = Field(1.0, description="probability that a batch is mixed at all")
    mixup_switch_prob: Share = Field(0.5, description="probability of cutmix where both are on")
    mixup_mode: Literal["batch", "pair", "elem"] = Field(
        "batch", description="one share for the batch, for each pair of partners, or for each image"
    )
    repeats: int = Field(
        3,
        ge=1,
        le=MAX_REPEATS,
        description="repeated augmentation: how often each image that an epoch takes comes in it; an epoch stays as "
        "long; 1 is none",
    )

    @model_validator(mode="after")
    def _crops_one_way(self) -> AugmentConfig:
        default = AugmentConfig.model_fields
        for name in ("crop_scale", "crop_ratio"):
            if self.crop_padding is not None and getattr(self, name) != default[name].default:
                raise ConfigError(
                    f"augment.{name}, of a part that is resized, and augment.crop_padding, of one that is not, both "
                    "set how images are cropped; leave out one of them, or write `crop_padding: null`"
                )
        return self


def build_transform(config: AugmentConfig, preprocessing: Preprocessing) -> TrainingTransform:
    """What happens to each training image.

    Raises:
        ConfigError: an unknown word in `auto_augment`.
    """
    return training_transform(
        preprocessing,
        scale=config.crop_scale,
        ratio=config.crop_ratio,
        padding=config.crop_padding,
        **config.model_dump(
            include={
                "hflip",
                "interpolation",
                "auto_augment",
                "color_jitter",
                "erasing_prob",
                "erasing_mode",
                "erasing_count",
            }
        ),
    )


def build_mixup(config: AugmentConfig, num_classes: int, label_smoothing: float) -> Mixup:
    """What happens to each training batch: it is mixed, and its labels are smoothed."""
    return Mixup(
        num_classes,
        mixup_alpha=config.mixup,
        cutmix_alpha=config.cutmix,
        cutmix_minmax=config.cutmix_minmax,
        prob=config.mixup_prob,
        switch_prob=config.mixup_switch_prob,
        mode=config.mixup_mode,
        label_smoothing=label_smoothing,
    )
