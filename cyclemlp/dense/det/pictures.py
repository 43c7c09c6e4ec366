"""Picture files as the engine's reader sees them: whole, in RGB, turned as their EXIF data say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

from cyclemlp.data.pictures import open_image
from cyclemlp.errors import DataError


def read_picture(path: Path) -> Image.Image:
    """A picture in RGB.

    Raises:
        DataError: there is no such file, or it is not whole or no picture.
    """
    if not path.is_file():  # reading a pipe may never end
        found = "is no regular file" if path.exists() else "does not exist"
        raise DataError(f"{path} {found}")
    tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False  # the engine sets it
    try:
        with open_image(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant


def engine_reads(path: Path, size: tuple[int, int]) -> bool:
    """Whether the engine's reader sees an image of this width and height: OpenCV knows fewer formats than Pillow."""
    import cv2

    with open_image(path) as image:
        if image.format in ("JPEG", "PNG", "BMP", "WEBP"):  # it reads these, and decoding takes long
            return True
    found = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
    return found is not None and found.shape[:2] == (size[1], size[0])
