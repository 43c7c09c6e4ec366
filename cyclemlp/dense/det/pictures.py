"""Picture files as the engine's reader sees them: whole, in RGB, turned as their EXIF data say."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageFile, ImageOps

from cyclemlp.data.pictures import open_image
from cyclemlp.errors import DataError


def read_picture(path: Path) -> Image.Image:
    """A picture in RGB.

    Raises:
        DataError: there is no such file, or it is not whole or no picture.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False  # the engine sets it
    try:
        with open_image(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant
