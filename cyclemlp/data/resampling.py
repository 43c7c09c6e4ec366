"""Resizing the crops of training: the filters of Pillow, computed by a faster library where it is installed.

With `cykooz-resizer` (the extra `fast`, over the Rust library fast_image_resize) the same antialiased convolution as
Pillow's takes a quarter of the time, one axis after the other too, but perhaps in the other order: about one value in
six differs by 1 of 255, hardly any by more. Evaluation is Pillow's to the bit and does not come here.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Size, sides

try:
    import cykooz_resizer as fast
except ImportError:
    fast = None
else:
    FILTERS = {  # Pillow's bicubic is the Catmull-Rom spline, a = −½
        Image.Resampling.BILINEAR: fast.FilterType.bilinear,
        Image.Resampling.BICUBIC: fast.FilterType.catmull_rom,
    }
    OPTIONS = {
        ours: fast.ResizeOptions(fast.ResizeAlg.convolution(theirs), use_alpha=False)
        for ours, theirs in FILTERS.items()
    }
    PIXELS = {1: fast.PixelType.U8, 3: fast.PixelType.U8x3}
    RESIZER = fast.Resizer()


#: What decodes JPEG files and resizes training crops: the libraries of the extra `fast`, or Pillow alone.
DECODERS = ("fast", "pillow")
_chosen = "pillow" if fast is None else "fast"


def choose_decoder(name: str | None) -> str:
    """Decode and resize by one of `DECODERS` from now on, in this process and its workers, and return its name.

    Args:
        name: None takes what is installed.

    Raises:
        ConfigError: "fast" is not installed.
    """
    global _chosen
    if name == "fast" and fast is None:
        raise ConfigError(
            "data.decoder is fast, whose libraries are not installed: pip install 'paddle-cyclemlp[fast]'; or "
            "`--set data.decoder=pillow`, with which training crops differ by 1/255 in some values"
        )
    _chosen = name or ("pillow" if fast is None else "fast")
    return _chosen


def is_fast() -> bool:
    """Whether the libraries of the extra `fast` are to be used where they can."""
    return _chosen == "fast"


def resampled(pixels: np.ndarray, size: Size, how: Image.Resampling) -> np.ndarray:
    """An image at another size.

    Args:
        pixels: uint8 [H, W, C], C 1 or 3; any strides.
        size: of the result.
        how: Pillow's filter, which is made wider where the image becomes smaller (antialiasing).

    Returns:
        uint8 [height, width, C] of that size, perhaps read-only; the very pixels if they have that size.
    """
    height, width, channels = pixels.shape
    new_height, new_width = sides(size)
    if (height, width) == (new_height, new_width):
        return pixels
    pixels = np.ascontiguousarray(pixels)
    if not is_fast() or how not in OPTIONS:
        return as_array(as_image(pixels).resize((new_width, new_height), how))
    source = fast.ImageData(width, height, PIXELS[channels], pixels.tobytes())
    result = fast.ImageData(new_width, new_height, PIXELS[channels])
    RESIZER.resize(source, result, OPTIONS[how])
    return np.frombuffer(result.get_buffer(), dtype=np.uint8).reshape(new_height, new_width, channels)


def as_array(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, C] of an image in mode "L" or "RGB"."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def as_image(pixels: np.ndarray) -> Image.Image:
    """The opposite."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
