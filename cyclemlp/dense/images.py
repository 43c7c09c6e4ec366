"""Images as both engines see them: whole, upright as their EXIF data say, in RGB or greyscale.

The engines read them with OpenCV, whose formats are other ones than Pillow's, with other answers to EXIF data in some
of them. So that check, training, evaluation and prediction see one image, `cyclemlp.dense.compat` puts these readers in
OpenCV's place. JPEG and PNG decode to the same pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageFile

from cyclemlp.data.images import EncodedImage, to_channels, upright
from cyclemlp.errors import DataError


def read_image(path: Path, channels: int = 3) -> Image.Image:
    """An image file in RGB, or with one channel in greyscale.

    Raises:
        DataError: there is no such file, or it is not whole or no image.
    """
    return _decoded(path, None, channels)


def decode_image(content: bytes, name: str, channels: int = 3) -> Image.Image:
    """The same of a file's content; `name` is for messages."""
    return _decoded(Path(name), content, channels)


def _decoded(path: Path, content: bytes | None, channels: int) -> Image.Image:
    with _whole_files():
        image = upright(EncodedImage(path, str(path), content).decode())
    try:
        return to_channels(image, channels)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


@contextlib.contextmanager
def _whole_files() -> Iterator[None]:
    """Within it Pillow refuses files that are cut short, whatever PaddleDetection set on import."""
    tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant
