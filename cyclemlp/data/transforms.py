"""From a decoded image to a network's input, as torchvision does it with Pillow.

Shapes: C channels, H height, W width. Evaluation is bit-exact to torchvision's `Resize`, `CenterCrop`, `ToTensor`
and `Normalize`; training takes `RandomResizedCrop`, `RandomHorizontalFlip` and what `augment` has from a NumPy
generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cyclemlp.data.augment import Augmentation, AutoAugment, ColorJitter, Patch, RandomErasing
from cyclemlp.data.images import EncodedImage, to_channels, upright
from cyclemlp.data.resampling import as_array, as_image, resampled
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.preprocessing import Preprocessing, Size, sides

Transform = Callable[[Image.Image, "np.random.Generator | None"], np.ndarray]
"""From an image and what draws at random (None in evaluation) to the network's input, float32 [C, H, W]."""

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
RANDOM_INTERPOLATION = "random"  # bilinear or bicubic, drawn each time
CROP_TRIES = 10
CROPS = ("centre", "upper left", "upper right", "lower left", "lower right")
JPEG_SCALES = (1, 2, 4, 8)


def evaluation_transform(preprocessing: Preprocessing) -> EvaluationTransform:
    """The fixed transform of evaluation and prediction; its second argument is ignored."""
    return EvaluationTransform(preprocessing)


class EvaluationTransform:
    """Resize so that the crop fits, crop the centre, normalise: float32 [C, input_height, input_width]."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.finish = Finish(preprocessing)

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        """Raises DataError for an image whose numbers or proportions cannot be handled."""
        return self.finish.one(self.begin(image, rng))

    def begin(self, image: Image.Image, rng: np.random.Generator | None = None) -> Begun:
        """All but the normalisation, which is `finish`."""
        p = self.preprocessing
        image = prepared(image, p)
        return Begun(
            self._cropped(resize_to_cover(image, p.resize_size, RESAMPLING[p.interpolation])), Left()
        )

    def _cropped(self, image: Image.Image) -> np.ndarray:
        """From the resized image to uint8 [input_height, input_width, C]."""
        return as_array(center_crop(image, self.preprocessing.input_size))


class FiveCropsTransform(EvaluationTransform):
    """As `EvaluationTransform`, with the crops `CROPS` of the resized image, one below the other: float32
    [C, 5 · input_height, input_width]."""

    views = len(CROPS)

    def _cropped(self, image: Image.Image) -> np.ndarray:
        """From the resized image to uint8 [5 · input_height, input_width, C]."""
        width, height = self.preprocessing.input_width, self.preprocessing.input_height
        right, lower = image.width - width, image.height - height
        corners = [
            as_array(image.crop((left, top, left + width, top + height)))
            for top in (0, lower)
            for left in (0, right)
        ]
        return np.concatenate([super()._cropped(image), *corners])


class TrainingTransform:
    """Crop at random, resize, mirror at random, augment, normalise, erase: float32 [C, input_height, input_width].

    `str()` of it says in words what it does.

    Args:
        preprocessing: size, interpolation, mean and standard deviation; `crop_pct` has no part in training.
        scale: least and greatest area of the crop, as a share of the image's.
        ratio: least and greatest width / height of the crop for a square input; for another, times its own
            width / height, so that images are distorted as little as for a square.
        padding: instead of a crop that is resized: the image covers the input as in evaluation, gets so many black
            pixels on each side, and a part of the input's size is cut out; None for the resized crop.
        hflip: probability of mirroring left and right; 0 where left and right mean something, as in digits.
        interpolation: instead of the preprocessing's: nearest, bilinear, bicubic, or random (bilinear or bicubic).
        auto_augment: `rand-m9-mstd0.5-inc1`, `original`, …: see `parse_auto_augment`; None for none.
        color_jitter: strength of the colour jitter, used only where `auto_augment` is None; 0 for none.
        erasing_prob, erasing_mode, erasing_count: see `RandomErasing`.

    Raises:
        ConfigError: an impossible range or probability, an unknown word.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        padding: int | None = None,
        hflip: float = 0.5,
        interpolation: str | None = None,
        auto_augment: str | None = None,
        color_jitter: float = 0.0,
        erasing_prob: float = 0.0,
        erasing_mode: str = "pixel",
        erasing_count: int = 1,
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"scale is {scale}; give least and greatest share of the area, both in (0, 1]")
        if not 0 < ratio[0] <= ratio[1] < math.inf:
            raise ConfigError(f"ratio is {ratio}; give least and greatest width / height, both above 0")
        if padding is not None and padding < 0:
            raise ConfigError(f"padding is {padding}; give a number of pixels, or None for resized crops")
        if not 0 <= hflip <= 1:
            raise ConfigError(f"hflip is {hflip}; give a probability from 0 to 1")
        self.preprocessing, self.scale, self.ratio, self.hflip = preprocessing, scale, ratio, hflip
        self.padding = padding
        proportion = preprocessing.input_width / preprocessing.input_height
        self._ratio = (ratio[0] * proportion, ratio[1] * proportion)
        self.interpolation = interpolation or preprocessing.interpolation
        self._filters = training_filters(self.interpolation)
        jitter = ColorJitter(color_jitter)
        self.augmentation: Augmentation | None = jitter if color_jitter else None
        if auto_augment is not None:
            fill = tuple(min(255, round(255 * value)) for value in preprocessing.mean)
            self.augmentation = AutoAugment(
                auto_augment, fill=fill if len(fill) > 1 else fill[0], resampling=self._filters
            )
        erasing = RandomErasing(erasing_prob, mode=erasing_mode, count=erasing_count)
        self.erasing = erasing if erasing_prob else None
        self.finish = Finish(preprocessing)

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        """All randomness comes from `rng`, which must be given. Raises DataError as evaluation does."""
        return self.finish.one(self.begin(image, rng))

    def begin(self, image: Image.Image, rng: np.random.Generator | None = None) -> Begun:
        """All but the normalisation, the erasing and a mirroring before it, which are `finish`."""
        if rng is None:
            raise TypeError("the training transform is random: it needs a numpy.random.Generator")
        image = prepared(image, self.preprocessing)
        if self.padding is None:
            return self._resized(as_array(image.crop(self._box(image.size, rng))), rng)
        how, size = self._filter(rng), self.preprocessing.input_size
        return self._moved(as_array(center_crop(resize_to_cover(image, size, how), size)), rng)

    def begin_file(self, file: EncodedImage, rng: np.random.Generator) -> Begun:
        """As `begin`, from a file, decoding no more than the crop needs.

        A JPEG of which the crop is at least twice as wide and high as the result is decoded at ½, ¼ or ⅛ of its size.
        Smaller ones give the very same as decoded first.
        """
        p = self.preprocessing
        turned = p.exif == "apply" and file.orientation != 1
        if self.padding is not None and not turned and file.size == (p.input_width, p.input_height):
            self._filter(rng)  # drawn as `begin` does
            return self._moved(file.part((0, 0, *file.size), p.channels), rng)
        if self.padding is not None or (turned and not file.is_jpeg):  # decoded whole in any case
            return self.begin(file.decode(), rng)
        left, upper, right, lower = box = self._box(file.upright_size if turned else file.size, rng)
        room = min((right - left) // p.input_width, (lower - upper) // p.input_height)
        scale = max(scale for scale in JPEG_SCALES if scale <= max(room, 1))
        return self._resized((file.upright_part if turned else file.part)(box, p.channels, scale), rng)

    def _box(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        return random_resized_crop_box(*size, self.scale, self._ratio, rng)

    def _filter(self, rng: np.random.Generator) -> Image.Resampling:
        filters = self._filters
        return filters[0] if len(filters) == 1 else filters[rng.integers(len(filters))]

    def _moved(self, pixels: np.ndarray, rng: np.random.Generator) -> Begun:
        """From an image of the input's size, moved by up to `padding` pixels, to what is to be finished."""
        assert self.padding is not None
        padding, (height, width, channels) = self.padding, pixels.shape
        left, top = (int(rng.integers(2 * padding + 1)) for _ in "xy")
        padded = np.zeros((height + 2 * padding, width + 2 * padding, channels), np.uint8)
        padded[padding : padding + height, padding : padding + width] = pixels
        return self._augmented(padded[top : top + height, left : left + width], rng)

    def _resized(self, pixels: np.ndarray, rng: np.random.Generator) -> Begun:
        """From a crop of any size, uint8 [H, W, C], to what is to be finished."""
        return self._augmented(resampled(pixels, self.preprocessing.input_size, self._filter(rng)), rng)

    def _augmented(self, pixels: np.ndarray, rng: np.random.Generator) -> Begun:
        """From a crop of the input's size, uint8 [H, W, C], to what is to be finished."""
        mirrored = rng.random() < self.hflip
        if self.augmentation is not None:
            image = as_image(pixels)
            if mirrored:
                image, mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), False
            pixels = as_array(self.augmentation(image, rng))
        height, width, channels = pixels.shape
        patches = [] if self.erasing is None else self.erasing.draw((channels, height, width), rng)
        return Begun(pixels, Left(mirrored, patches))

    def __str__(self) -> str:
        size = self.preprocessing.size_text
        if self.padding is None:
            steps = [f"{100 * self.scale[0]:g} to {100 * self.scale[1]:g} % of the image at {size}"]
        else:
            steps = [f"moved by up to {self.padding} pixels at {size}"]
        steps.append(self.interpolation)
        if self.hflip:
            steps.append(f"mirrored p {self.hflip:g}")
        return ", ".join(
            [*steps, *(str(part) for part in (self.augmentation, self.erasing) if part is not None)]
        )


training_transform = TrainingTransform
"""The random transform of training, by the name that goes with `evaluation_transform`."""


def training_filters(interpolation: str) -> tuple[Image.Resampling, ...]:
    """Pillow's filters of a word: one, or for "random" those it is drawn from.

    Raises:
        ConfigError: an unknown word.
    """
    if interpolation == RANDOM_INTERPOLATION:
        return Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
    if interpolation not in RESAMPLING:
        raise ConfigError(
            f"interpolation is {interpolation!r}; use one of {', '.join([*RESAMPLING, RANDOM_INTERPOLATION])}"
        )
    return (RESAMPLING[interpolation],)


class Left(NamedTuple):
    """What is left to do in one image: mirroring it (which costs nothing while it is normalised), then erasing."""

    mirrored: bool = False
    patches: Sequence[Patch] = ()


class Begun(NamedTuple):
    """An image that wants `Finish`: uint8 [H, W, C], and what is left to do in it."""

    pixels: np.ndarray
    left: Left


class Finish:
    """The last part of both transforms, on a whole batch: (value / 255 − mean) / std, and what is left to do.

    So 8-bit pixels go from process to process, and to a GPU, a quarter of what the floats would be.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._mean = np.asarray(preprocessing.mean, dtype=np.float32)[:, None]
        self._std = np.asarray(preprocessing.std, dtype=np.float32)[:, None]
        # A channel has only 256 values, so their results are computed once, in float32 as torchvision computes them.
        self._table = (
            np.arange(256, dtype=np.float32)[None] / np.float32(255) - self._mean
        ) / self._std  # [C, 256]

    def one(self, begun: Begun) -> np.ndarray:
        """float32 [C, H, W]."""
        return self(begun.pixels[None], [begun.left])[0]

    def __call__(
        self, pixels: np.ndarray, left: Sequence[Left], *, out: np.ndarray | None = None
    ) -> np.ndarray:
        """uint8 [B, H, W, C] → float32 [B, C, H, W], in `out` if it is given."""
        batch, height, width, channels = pixels.shape
        images = np.empty((batch, channels, height, width), dtype=np.float32) if out is None else out
        for image, source, (mirrored, _) in zip(images, pixels, left, strict=True):
            if mirrored:
                source = source[:, ::-1]
            for c, values in enumerate(self._table):
                # Every 8-bit value is an index: "clip" only spares NumPy the check.
                values.take(source[..., c], out=image[c], mode="clip")
        return self._erased(images, left)

    def on_device(self, pixels: Any, left: Sequence[Left]) -> Any:
        """The same, computed by Paddle where the pixels are: a uint8 tensor [B, H, W, C] → float32 [B, C, H, W]."""
        import paddle

        mean, std = (
            paddle.to_tensor(values[..., None], place=pixels.place) for values in (self._mean, self._std)
        )
        images = (pixels.transpose([0, 3, 1, 2]).astype("float32") / 255.0 - mean) / std
        if any(mirrored for mirrored, _ in left):
            which = paddle.to_tensor([[[[mirrored]]] for mirrored, _ in left], place=pixels.place)
            images = paddle.where(which, images.flip(3), images)
        return self._erased(images, left)

    def _erased(self, images: Any, left: Sequence[Left]) -> Any:
        for i, (_, patches) in enumerate(left):
            for patch in patches:
                image = images[i]
                patch.paste(image)
                images[i] = image  # Paddle's slice is a copy
        return images


def prepared(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """A decoded image with the network's channels, and upright if the preprocessing applies EXIF data.

    Raises:
        DataError: see `to_channels`.
    """
    if preprocessing.exif == "apply":
        image = upright(image)
    return to_channels(image, preprocessing.channels)


def resize_to_cover(image: Image.Image, size: Size, resampling: Image.Resampling) -> Image.Image:
    """Resize to at least `size`, and to no more than it in one direction; proportions are kept.

    For a square the shorter side gets `size` pixels. The other side is rounded down, as torchvision does.

    Raises:
        DataError: the image is so long and thin that the result would pass Pillow's limit on pixels.
    """
    height, width = sides(size)
    if image.width * height >= image.height * width:
        new = int(height * image.width / image.height), height
    else:
        new = width, int(width * image.height / image.width)
    if new == image.size:
        return image
    if Image.MAX_IMAGE_PIXELS is not None and new[0] * new[1] > Image.MAX_IMAGE_PIXELS:
        raise DataError(
            f"the image is {image.width}×{image.height} pixels; resized to cover {width}×{height} it would have "
            f"{new[0] * new[1]:,}, more than Pillow's limit of {Image.MAX_IMAGE_PIXELS:,}"
        )
    return image.resize(new, resampling)


def center_crop(image: Image.Image, size: Size) -> Image.Image:
    """The central part of `size`; where the image is smaller, black is added around it.

    Margins are rounded as torchvision rounds them: half to even when cropping, down at left and top when adding.
    """
    height, width = sides(size)
    left, top = (
        round((side - wanted) / 2) if side >= wanted else -((wanted - side) // 2)
        for side, wanted in zip(image.size, (width, height), strict=True)
    )
    return image.crop((left, top, left + width, top + height))


def random_resized_crop_box(
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Box (left, upper, right, lower) of a random part of the image, in pixels.

    The area is uniform in `scale`, width / height log-uniform in `ratio` (Szegedy et al. 2015, arXiv 1409.4842,
    section 6). After ten boxes that do not fit: the largest central one within `ratio`.
    """
    area = width * height
    for _ in range(CROP_TRIES):
        target = area * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    aspect = width / height
    w = min(width, max(1, round(height * ratio[1]))) if aspect > ratio[1] else width
    h = min(height, max(1, round(width / ratio[0]))) if aspect < ratio[0] else height
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
