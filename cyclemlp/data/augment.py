"""What training does to an image beyond crop and mirror: RandAugment, AutoAugment, colour jitter, random erasing.

Each is a callable of (image, NumPy generator) and takes every random choice from the generator. The first three
work on Pillow images, RGB or greyscale ("L"), and leave their argument as it was; erasing works on the normalised
array. Levels, ranges and probabilities are those of the pytorch-image-models library (timm 0.4.5), with which the
authors trained.

    RandAugment    Cubuk et al. 2019, arXiv 1909.13719
    AutoAugment    Cubuk et al. 2018, arXiv 1805.09501
    random erasing Zhong et al. 2017, arXiv 1708.04896
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from cyclemlp.errors import ConfigError

Fill = int | tuple[int, ...]
Augmentation = Callable[[Image.Image, np.random.Generator], Image.Image]

MAX_LEVEL = 10
ERASING_MODES = ("pixel", "rand", "const")
ERASING_TRIES = 10

# ---- operations: (image, amount, colour of what comes from outside, resampling) → image


def _affine(image: Image.Image, matrix: Sequence[float], fill: Fill, resampling: int) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling(resampling), fillcolor=fill
    )


def _rotate(image: Image.Image, degrees: float, fill: Fill, resampling: int) -> Image.Image:
    return image.rotate(degrees, resample=Image.Resampling(resampling), fillcolor=fill)


def _mapped(image: Image.Image, values: Sequence[int]) -> Image.Image:
    """Each of the 256 values replaced, in every channel alike."""
    return image.point(list(values) * len(image.getbands()))


def _posterize(image: Image.Image, bits: float, *_: object) -> Image.Image:
    mask = 0xFF & ~(0xFF >> int(bits))
    return _mapped(image, [value & mask for value in range(256)])


def _solarize(image: Image.Image, threshold: float, *_: object) -> Image.Image:
    return _mapped(image, [value if value < threshold else 255 - value for value in range(256)])


def _solarize_add(image: Image.Image, added: float, *_: object) -> Image.Image:
    return _mapped(image, [min(255, value + int(added)) if value < 128 else value for value in range(256)])


OPERATIONS: dict[str, Callable[[Image.Image, float, Fill, int], Image.Image]] = {
    "AutoContrast": lambda image, *_: ImageOps.autocontrast(image),
    "Equalize": lambda image, *_: ImageOps.equalize(image),
    "Invert": lambda image, *_: ImageOps.invert(image),
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": lambda image, factor, *_: ImageEnhance.Color(image).enhance(factor),
    "Contrast": lambda image, factor, *_: ImageEnhance.Contrast(image).enhance(factor),
    "Brightness": lambda image, factor, *_: ImageEnhance.Brightness(image).enhance(factor),
    "Sharpness": lambda image, factor, *_: ImageEnhance.Sharpness(image).enhance(factor),
    "ShearX": lambda image, by, fill, how: _affine(image, (1, by, 0, 0, 1, 0), fill, how),
    "ShearY": lambda image, by, fill, how: _affine(image, (1, 0, 0, by, 1, 0), fill, how),
    "TranslateX": lambda image, by, fill, how: _affine(image, (1, 0, by * image.width, 0, 1, 0), fill, how),
    "TranslateY": lambda image, by, fill, how: _affine(image, (1, 0, 0, 0, 1, by * image.height), fill, how),
}

# ---- amounts: (level 0 … 10, sign ±1) → what the operation takes

Amount = Callable[[float, int], float]

SIGNED: dict[str, Amount] = {
    "Rotate": lambda level, sign: sign * 30 * level / MAX_LEVEL,  # degrees
    "ShearX": lambda level, sign: sign * 0.3 * level / MAX_LEVEL,
    "ShearY": lambda level, sign: sign * 0.3 * level / MAX_LEVEL,
    "TranslateX": lambda level, sign: sign * 0.45 * level / MAX_LEVEL,  # share of the width
    "TranslateY": lambda level, sign: sign * 0.45 * level / MAX_LEVEL,
}
WITHOUT: dict[str, Amount] = dict.fromkeys(("AutoContrast", "Equalize", "Invert"), lambda level, sign: 0.0)
ENHANCEMENTS = ("Color", "Contrast", "Brightness", "Sharpness")

#: A higher level changes the image more: `inc1`.
RISING: dict[str, Amount] = {
    **WITHOUT,
    **SIGNED,
    "Posterize": lambda level, sign: 4 - int(level / MAX_LEVEL * 4),  # bits kept
    "Solarize": lambda level, sign: 256 - int(level / MAX_LEVEL * 256),  # inverted from here on
    "SolarizeAdd": lambda level, sign: int(level / MAX_LEVEL * 110),
    **dict.fromkeys(ENHANCEMENTS, lambda level, sign: 1 + sign * 0.9 * level / MAX_LEVEL),
}
#: As RandAugment first had it: for some operations a higher level changes less, or level 5 changes nothing.
MIXED: dict[str, Amount] = {
    **RISING,
    "Posterize": lambda level, sign: int(level / MAX_LEVEL * 4),
    "Solarize": lambda level, sign: int(level / MAX_LEVEL * 256),
    **dict.fromkeys(ENHANCEMENTS, lambda level, sign: 0.1 + 1.8 * level / MAX_LEVEL),
}
#: As the AutoAugment paper's table of ranges: 4 to 8 bits.
PAPER: dict[str, Amount] = {**MIXED, "Posterize": lambda level, sign: 4 + int(level / MAX_LEVEL * 4)}

RANDAUGMENT = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
)

Step = tuple[str, float, float]  # operation, probability, level

#: The policy found on ImageNet: the AutoAugment paper's table 9. Five of its 25 rows occur twice.
IMAGENET_POLICY: tuple[tuple[Step, Step], ...] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
)

# ---- the grammar

WHOLE = ("n", "inc")


@dataclass(frozen=True)
class AutoAugmentSpec:
    """What a word such as `rand-m9-mstd0.5-inc1` or `original` asks for; see `parse_auto_augment`.

    Attributes:
        policy: "rand" (RandAugment) or "original" (AutoAugment's for ImageNet).
        m: magnitude, from 0 to 10 (RandAugment).
        n: operations an image (RandAugment).
        p: probability of each of them (RandAugment).
        mstd: standard deviation of the Gaussian noise on every operation's level; levels stay in [0, 10].
        inc: whether a higher level changes the image more in every operation (RandAugment).
    """

    policy: str = "rand"
    m: float = 10
    n: int = 2
    p: float = 0.5
    mstd: float = 0.0
    inc: int = 0

    def __str__(self) -> str:
        noise = f" ± {self.mstd:g}" if self.mstd else ""
        if self.policy != "rand":
            return f"AutoAugment for ImageNet{f', level{noise}' if noise else ''}"
        kind = f"magnitude {self.m:g}{noise}{', rising' if self.inc else ''}"
        return f"RandAugment ({kind}, {self.n} of {len(RANDAUGMENT)} operations, each p {self.p:g})"


def parse_auto_augment(text: str) -> AutoAugmentSpec:
    """Read `rand` or `original` and options behind dashes, in timm's grammar.

    `rand-m9-mstd0.5-inc1`, the paper's, is RandAugment of magnitude 9 with noise 0.5 and rising severities. Options
    of `rand`: m (magnitude, 0 to 10), n (operations an image), p (probability of each), mstd (noise), inc (0 or 1;
    timm takes inc0 for 1); of `original`: mstd.

    Raises:
        ConfigError: another policy or option, or a value out of its range.
    """
    policy, *options = text.split("-")
    allowed = {"rand": ("m", "n", "p", "mstd", "inc"), "original": ("mstd",)}.get(policy)
    if allowed is None:
        raise ConfigError(
            f"the augmentation {text!r} is unknown; use rand-m9-mstd0.5-inc1 (RandAugment), original (AutoAugment for "
            "ImageNet), or none"
        )
    values: dict[str, Any] = {}
    for option in options:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", option)
        name, number = match.groups() if match else (option, "")
        if name not in allowed or not number or name in values:
            why = "given twice" if name in values else "not an option with a number"
            raise ConfigError(
                f"the augmentation {text!r}: {option!r} is {why}; the options of {policy} are "
                f"{', '.join(f'{a}NUMBER' for a in allowed)}, as in rand-m9-mstd0.5-inc1"
            )
        if name in WHOLE and "." in number:
            raise ConfigError(f"the augmentation {text!r}: {option!r} needs a whole number")
        values[name] = int(number) if name in WHOLE else float(number)
    spec = AutoAugmentSpec(policy, **values)
    for name, good, wanted in (
        ("m", spec.m <= MAX_LEVEL, f"a magnitude from 0 to {MAX_LEVEL}"),
        ("n", spec.n >= 1, "at least 1 operation"),
        ("p", spec.p <= 1, "a probability from 0 to 1"),
        ("mstd", spec.mstd <= MAX_LEVEL, f"from 0 to {MAX_LEVEL}"),
        ("inc", spec.inc <= 1, "0 or 1"),
    ):
        if not good:
            raise ConfigError(f"the augmentation {text!r}: {name} is {getattr(spec, name):g}; give {wanted}")
    return spec


class AutoAugment:
    """RandAugment or AutoAugment, as a word of the grammar says.

    Args:
        spec: the word, or what `parse_auto_augment` made of it.
        fill: colour of what a geometric operation takes from outside the image: one number for greyscale, three
            for RGB, from 0 to 255.
        resampling: Pillow filters of the geometric operations; where there are several one is drawn each time.

    Raises:
        ConfigError: from the grammar.
    """

    def __init__(self, spec: str | AutoAugmentSpec, *, fill: Fill, resampling: Sequence[int]) -> None:
        self.spec = parse_auto_augment(spec) if isinstance(spec, str) else spec
        self.fill, self.resampling = fill, tuple(resampling)
        self._amounts = PAPER if self.spec.policy == "original" else RISING if self.spec.inc else MIXED

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """The image after the operations that were drawn."""
        for name, probability, level in self._steps(rng):
            if rng.random() < probability:
                image = self._apply(image, name, level, rng)
        return image

    def _steps(self, rng: np.random.Generator) -> Sequence[Step]:
        spec = self.spec
        if spec.policy == "original":
            return IMAGENET_POLICY[rng.integers(len(IMAGENET_POLICY))]
        return [(RANDAUGMENT[i], spec.p, spec.m) for i in rng.integers(len(RANDAUGMENT), size=spec.n)]

    def _apply(self, image: Image.Image, name: str, level: float, rng: np.random.Generator) -> Image.Image:
        level = min(max(rng.normal(level, self.spec.mstd), 0), MAX_LEVEL)
        amount = self._amounts[name](level, 1 if rng.random() < 0.5 else -1)
        filters = self.resampling
        how = filters[0] if len(filters) == 1 else filters[rng.integers(len(filters))]
        return OPERATIONS[name](image, amount, self.fill, how)

    def __str__(self) -> str:
        return str(self.spec)


class ColorJitter:
    """Brightness, contrast and saturation, each times a number from [1 − strength, 1 + strength], in random order.

    torchvision's `ColorJitter` without hue. Greyscale has no saturation; the rest is as for colour.

    Args:
        strength: 0 or more; the paper's recipe has 0.4, used only without RandAugment and AutoAugment.

    Raises:
        ConfigError: a negative or infinite strength.
    """

    OPERATIONS = ("Brightness", "Contrast", "Color")

    def __init__(self, strength: float) -> None:
        if not 0 <= strength < math.inf:
            raise ConfigError(f"color_jitter is {strength}; give a strength of 0 (none) or more, such as 0.4")
        self.strength = strength

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """The jittered image."""
        low, high = max(0.0, 1 - self.strength), 1 + self.strength
        for i in rng.permutation(len(self.OPERATIONS)):
            image = OPERATIONS[self.OPERATIONS[i]](image, rng.uniform(low, high), 0, 0)
        return image

    def __str__(self) -> str:
        return f"colour jitter {self.strength:g}"


class Patch(NamedTuple):
    """A rectangle of an image, in pixels, and what is put there: float32 [C, height, width] or [C, 1, 1]."""

    top: int
    left: int
    height: int
    width: int
    pixels: np.ndarray

    def paste(self, image: Any) -> None:
        """Into a normalised image, NumPy array or Paddle tensor [C, H, W], in place."""
        pixels: Any = self.pixels
        if not isinstance(image, np.ndarray):
            import paddle

            pixels = paddle.to_tensor(pixels, place=image.place)
        image[:, self.top : self.top + self.height, self.left : self.left + self.width] = pixels


class RandomErasing:
    """With some probability, replaces rectangles of a normalised image.

    Args:
        probability: of doing anything.
        mode: "pixel", standard normal noise, new for each number; "rand", one normal colour for the rectangle;
            "const", 0, which after normalisation is the mean colour.
        area: least and greatest share of the image's area, of all rectangles together.
        ratio: least and greatest height / width.
        count: most rectangles; how many is drawn from 1 to it.

    Raises:
        ConfigError: an unknown mode, an impossible number.
    """

    def __init__(
        self,
        probability: float = 0.25,
        *,
        mode: str = "pixel",
        area: tuple[float, float] = (0.02, 1 / 3),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
        count: int = 1,
    ) -> None:
        for name, value, good, wanted in (
            ("erasing_prob", probability, 0 <= probability <= 1, "a probability from 0 to 1"),
            ("erasing_mode", mode, mode in ERASING_MODES, f"one of {', '.join(ERASING_MODES)}"),
            (
                "erasing_area",
                area,
                0 < area[0] <= area[1] <= 1,
                "least and greatest share of the area in (0, 1]",
            ),
            ("erasing_ratio", ratio, 0 < ratio[0] <= ratio[1] < math.inf, "two ratios above 0, rising"),
            ("erasing_count", count, count >= 1, "at least 1"),
        ):
            if not good:
                raise ConfigError(f"{name} is {value!r}; give {wanted}")
        self.probability, self.mode, self.area, self.ratio, self.count = probability, mode, area, ratio, count

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`image`, float32 [C, H, W] after normalisation, changed in place."""
        for patch in self.draw(image.shape, rng):
            patch.paste(image)
        return image

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> list[Patch]:
        """What is to be put into an image of `shape` [C, H, W]; most often nothing."""
        if rng.random() >= self.probability:
            return []
        channels, height, width = shape
        count, patches = int(rng.integers(1, self.count, endpoint=True)), []
        for _ in range(count):
            top, left, h, w = self._rectangle(height, width, count, rng)
            if self.mode == "const":
                pixels = np.zeros((channels, 1, 1), dtype=np.float32)
            else:
                pixels = rng.standard_normal(
                    (channels, h, w) if self.mode == "pixel" else (channels, 1, 1), dtype=np.float32
                )
            patches.append(Patch(top, left, h, w, pixels))
        return patches

    def _rectangle(
        self, height: int, width: int, count: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """(top, left, height, width); without height and width if none of ten fits."""
        for _ in range(ERASING_TRIES):
            area = rng.uniform(*self.area) * height * width / count
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        return 0, 0, 0, 0

    def __str__(self) -> str:
        return f"erasing ({self.mode}) p {self.probability:g}"
