"""How an image becomes a network's input: the part of a model's metadata that evaluation must share with training.

Standard library only, so that the weights, data and model rooms can all hold it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

from cyclemlp.errors import ConfigError
from cyclemlp.text import counted, shown

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
#: What becomes of a rotation noted in an image's EXIF data.
EXIF = ("ignore", "apply")

#: Largest side of a network's input, and of an image that was resized for it, in pixels.
MAX_INPUT_SIZE = 8192
MAX_RESIZE_SIZE = 16384
MAX_CHANNELS = 256
#: Largest amount of a mean or standard deviation, for pixel values scaled to [0, 1].
MAX_STATISTIC = 1e4
MIN_STD = 1e-6

Size = int | tuple[int, int]
"""The side of a square, or (height, width), in pixels."""

_SIZE_TEXT = re.compile(r"\s*([0-9]{1,6})\s*(?:[x×X]\s*([0-9]{1,6})\s*)?")


@dataclass(frozen=True)
class Preprocessing:
    """Evaluation preprocessing: resize so that the crop fits, crop the centre, normalise.

    The image keeps its proportions. Before the crop it has at least the height and width of `resize_size`, and
    exactly one of the two; of a square, this resizes the shorter side. The defaults are the published protocol for
    every variant: resize the shorter side to 256, crop 224, bicubic.

    Attributes:
        input_size: side of the square crop, or (height, width), in pixels; a square is always an int.
        crop_pct: the crop's height and width divided by `resize_size`'s, in (0, 1].
        interpolation: one of `INTERPOLATIONS`.
        mean, std: per channel, for pixel values scaled to [0, 1]. Their length is the number of input
            channels: 3 reads images as RGB, 1 as greyscale.
        exif: one of `EXIF`: "apply" turns an image as its EXIF data say, before everything else. The published
            networks were trained with "ignore".

    Raises:
        ConfigError: for a value of another type or outside these; the message names it.
    """

    input_size: Size = 224
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    exif: str = "ignore"

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, checked(f.name, getattr(self, f.name)))
        if len(self.mean) != len(self.std):
            raise ConfigError(
                f"mean has {len(self.mean)} and std {counted(len(self.std), 'value')}; give one each per channel"
            )
        if max(self.resize_height, self.resize_width) > MAX_RESIZE_SIZE:
            raise ConfigError(
                f"crop_pct is {self.crop_pct}; with input_size {self.size_text} images would be resized to "
                f"{max(self.resize_height, self.resize_width):,} pixels, more than {MAX_RESIZE_SIZE:,}"
            )

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    @property
    def input_height(self) -> int:
        """Height of the network's input, in pixels."""
        return sides(self.input_size)[0]

    @property
    def input_width(self) -> int:
        """Width of the network's input, in pixels."""
        return sides(self.input_size)[1]

    @property
    def resize_height(self) -> int:
        """Least height before the crop, in pixels: `input_height / crop_pct`, rounded down."""
        return int(self.input_height / self.crop_pct + 1e-6)  # 1e-6: 49 / 0.7 is 69.99…

    @property
    def resize_width(self) -> int:
        """Least width before the crop, in pixels: `input_width / crop_pct`, rounded down."""
        return int(self.input_width / self.crop_pct + 1e-6)

    @property
    def resize_size(self) -> Size:
        """Length of the shorter side before the crop, in pixels, or the least (height, width)."""
        return as_size(self.resize_height, self.resize_width)

    @property
    def size_text(self) -> str:
        """The input's size for people: "224×224", height first."""
        return f"{self.input_height}×{self.input_width}"

    @property
    def resize_text(self) -> str:
        """How images are resized, in words."""
        if isinstance(self.resize_size, int):
            return f"shorter side {self.resize_size}"
        return f"at least {self.resize_height}×{self.resize_width}"

    @property
    def crop_text(self) -> str:
        """What is cropped, in words: "centre 224", "centre 32×64"."""
        return f"centre {size_words(self.input_size)}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        if not isinstance(self.input_size, int):
            values["input_size"] = list(self.input_size)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """From `to_dict`'s values; what is left out has its default.

        Raises:
            ConfigError: no mapping, an unknown key, a value of another type or out of range, named in the message.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"preprocessing is {shown(values)}; expected a mapping of keys to values")
        known = {f.name for f in fields(cls)}
        unknown = sorted(str(key) for key in values if key not in known)
        if unknown:
            raise ConfigError(
                f"unknown preprocessing keys {shown(unknown)}; the known ones are {sorted(known)}"
            )
        return cls(**values)


def sides(size: Size) -> tuple[int, int]:
    """(height, width) of a size."""
    return (size, size) if isinstance(size, int) else size


def as_size(height: int, width: int) -> Size:
    """The size of this height and width: an int where they are equal."""
    return height if height == width else (height, width)


def size_words(size: Size, square: str = "") -> str:
    """A size for people: "224" and then `square`, or "192×256", height first."""
    return f"{size}{square}" if isinstance(size, int) else f"{size[0]}×{size[1]}"


def parse_size(text: str) -> Size:
    """A size as it is typed: `224`, or `HEIGHTxWIDTH` such as `32x64`.

    Raises:
        ConfigError: the text is no size, or one outside 1 to `MAX_INPUT_SIZE` pixels.
    """
    match = _SIZE_TEXT.fullmatch(text)
    values = [] if match is None else [int(value) for value in match.groups() if value is not None]
    if not values or not all(1 <= value <= MAX_INPUT_SIZE for value in values):
        raise ConfigError(
            f"{shown(text)} is no size; give pixels from 1 to {MAX_INPUT_SIZE}, such as 224, or height and width such "
            "as 192x256"
        )
    return as_size(values[0], values[-1])


def checked(name: str, value: Any) -> Any:
    """A value of `Preprocessing`, as the class holds it.

    Args:
        name: the attribute.
        value: what was given for it.

    Raises:
        ConfigError: its type or range is wrong.
    """
    if name == "input_size":
        return _checked_size(value)
    if name == "crop_pct":
        if not _is_number(value) or not 0 < value <= 1:
            raise ConfigError(f"crop_pct is {shown(value)}; it must be a number in (0, 1]")
        return float(value)
    if name in ("mean", "std"):
        return _checked_statistics(name, value)
    choices = {"interpolation": INTERPOLATIONS, "exif": EXIF}[name]
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} is {shown(value)}; use one of {', '.join(choices)}")
    return value


def _checked_size(value: Any) -> Size:
    given = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    for side in given:
        if isinstance(side, bool) or not isinstance(side, Integral) or not 1 <= int(side) <= MAX_INPUT_SIZE:
            raise ConfigError(
                f"input_size is {shown(value)}; it must be at least 1 pixel and at most {MAX_INPUT_SIZE}: one whole "
                "number, or two, height and width"
            )
    height, width = (int(side) for side in given)
    return as_size(height, width)


def _checked_statistics(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise ConfigError(f"{name} is {shown(values)}; expected a list of numbers, one a channel")
    if not 1 <= len(values) <= MAX_CHANNELS:
        raise ConfigError(
            f"{name} has {counted(len(values), 'value')}; give one each per channel, 1 to {MAX_CHANNELS}"
        )
    for value in values:
        if not _is_number(value) or abs(value) > MAX_STATISTIC:
            raise ConfigError(
                f"{name} holds {shown(value)}; expected numbers, of at most {MAX_STATISTIC:g}, for pixel values from 0 "
                "to 1"
            )
        if name == "std" and value < MIN_STD:
            raise ConfigError(f"std is {shown(values)}; every value must be above 0 (from {MIN_STD:g})")
    return tuple(float(value) for value in values)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
