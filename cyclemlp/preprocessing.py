"""How a picture becomes a network's input: the part of a model's metadata that evaluation must share with training.

Standard library only, so that the weights, data and model rooms can all hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cyclemlp.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """Evaluation preprocessing: resize the shorter side to `resize_size`, centre crop `input_size`, normalise.

    The defaults are the published protocol for every variant: resize to 256, crop 224, bicubic.

    Attributes:
        input_size: side of the square crop, in pixels.
        crop_pct: crop side divided by the resized shorter side, in (0, 1].
        interpolation: one of `INTERPOLATIONS`.
        mean, std: per channel, for pixel values scaled to [0, 1]. Their length is the number of input
            channels: 3 reads pictures as RGB, 1 as greyscale.

    Raises:
        ConfigError: for a value outside these.
    """

    input_size: int = 224
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        if self.input_size < 1:
            raise ConfigError(f"input_size is {self.input_size}; it must be at least 1 pixel")
        if not 0 < self.crop_pct <= 1:
            raise ConfigError(f"crop_pct is {self.crop_pct}; it must be in (0, 1]")
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"interpolation is {self.interpolation!r}; use one of {', '.join(INTERPOLATIONS)}"
            )
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigError(
                f"mean has {len(self.mean)} and std {len(self.std)} values; give one each per channel"
            )
        if min(self.std) <= 0:
            raise ConfigError(f"std is {self.std}; every value must be above 0")

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    @property
    def resize_size(self) -> int:
        """Length of the shorter side before the crop, in pixels: `input_size / crop_pct`, rounded down."""
        return int(self.input_size / self.crop_pct + 1e-6)  # 1e-6: 49 / 0.7 is 69.99…

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """From `to_dict`'s values; an unknown key is a `ConfigError`."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown preprocessing keys {unknown}; the known ones are {sorted(known)}")
        return cls(**values)
