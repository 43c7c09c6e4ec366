"""Images to explain a network with: as it gets them, and as they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from PIL import Image

from cyclemlp.data import Source, evaluation_transform, label_text
from cyclemlp.data.resampling import as_array
from cyclemlp.data.transforms import RESAMPLING, Finish, Left, prepared, resize_to_cover
from cyclemlp.errors import DataError
from cyclemlp.preprocessing import Preprocessing


class Shown(NamedTuple):
    """One image.

    Attributes:
        name: what its source calls it.
        true: name of its class, if the source knows it.
        pixels: uint8 [H, W, C], resized as the network gets it.
        image: float32 [C, H, W], the same normalised.
    """

    name: str
    true: str | None
    pixels: np.ndarray
    image: np.ndarray


def read_images(
    source: Source, preprocessing: Preprocessing, count: int, *, whole: bool = False
) -> Iterator[Shown]:
    """Some images of a source, taken at equal distances from its first to its last.

    Args:
        source: any of `cyclemlp.data`.
        preprocessing: the network's own.
        count: how many; all, if there are fewer.
        whole: not the centre, but all of the image, resized so that the network's input just fits in.

    Raises:
        DataError: an image that cannot be read or resized; it says which.
    """
    spaced = np.linspace(0, len(source) - 1, min(count, len(source)))
    for index in np.unique(spaced.round()).astype(int):
        yield _read(source, int(index), preprocessing, whole)


def _read(source: Source, index: int, preprocessing: Preprocessing, whole: bool) -> Shown:
    sample = source[index]
    try:
        pixels = (
            _whole(sample.image, preprocessing)
            if whole
            else evaluation_transform(preprocessing).begin(sample.image).pixels
        )
    except DataError as error:  # a transform does not know the image's place
        raise DataError(f"{source.location(index)}: {error}") from error
    image = Finish(preprocessing)(pixels[None], [Left()])[0]
    true = None if source.classes is None else label_text(sample.label, source.classes)
    return Shown(source.name(index), true, pixels, image)


def _whole(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    image = prepared(image, preprocessing)
    filter = RESAMPLING[preprocessing.interpolation]
    return as_array(resize_to_cover(image, preprocessing.input_size, filter))


def batches(shown: Iterable[Shown], size: int = 16) -> Iterator[np.ndarray]:
    """float32 [B, C, H, W], `size` images each and the rest; the images must be of one size."""
    images = (one.image for one in shown)
    while batch := list(islice(images, size)):
        yield np.stack(batch)
