"""Opening one picture file, and its conversion to the channels that a network takes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from cyclemlp.errors import ConfigError, DataError

#: What is taken for a picture in folders, in any case of letters.
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MODE_OF_CHANNELS = {1: "L", 3: "RGB"}


def open_picture(path: Path, location: str) -> Image.Image:
    """Decode a whole picture, in its own mode.

    A rotation noted in EXIF data is not applied, as it was not when the published networks were trained.

    Args:
        path: the file.
        location: what to call it in a message, e.g. "val.txt:12".

    Raises:
        DataError: no such file, not a picture, truncated, or so large that it may be a decompression bomb
            (above `PIL.Image.MAX_IMAGE_PIXELS`).
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
        raise DataError(f"{location}: the picture {str(path)!r} {found}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Metadata that a decoder finds odd does not touch the pixels.
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            with Image.open(path) as image:
                image.load()
                return image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(
            f"{location}: the picture {str(path)!r} is too large ({error}); if you trust it, make it smaller first"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{location}: {str(path)!r} is not a picture that Pillow can read") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error …
        raise DataError(f"{location}: the picture {str(path)!r} cannot be decoded: {error}") from error


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """`image` as greyscale ("L", 1 channel) or RGB (3), 8 bits a channel.

    Transparency is dropped, as torchvision's loader does. 16-bit greyscale keeps its upper 8 bits.

    Raises:
        DataError: a picture of 32-bit numbers, whose range nobody knows.
        ConfigError: `channels` is neither 1 nor 3.
    """
    if channels not in MODE_OF_CHANNELS:
        raise ConfigError(f"pictures are read with 1 channel (greyscale) or 3 (RGB), not {channels}")
    mode = MODE_OF_CHANNELS[channels]
    if image.mode == mode:
        return image
    if image.mode.startswith(
        "I"
    ):  # I;16 in its byte orders; I is 32 bits wide, but holds 16 where a PNG was read
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 0xFFFF):
            raise DataError(
                f"holds 32-bit numbers from {values.min()} to {values.max()}; convert it to 8 bits first"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise DataError("holds floating-point numbers of unknown range; convert it to 8 bits first")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without Pillow's warning
    return image if image.mode == mode else image.convert(mode)
