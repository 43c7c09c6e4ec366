"""Masks of segmentation, read in one way by the check, by training and by evaluation.

A mask holds the number of a class for each pixel. Pillow gives arrays of seven kinds for what people save as masks, and
PaddleSeg takes whichever comes: of 16 bits, which Paddle takes for the bits of bfloat16, it makes zeros. Here a mask
is 8-bit numbers or refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyclemlp.data.images import pil_open
from cyclemlp.errors import DataError
from cyclemlp.text import counted, listed, printable

#: Formats that keep numbers as they are.
LOSSLESS = ("PNG", "TIFF", "BMP", "GIF", "PPM")
#: By what Pillow multiplies grey values of 2 and 4 bits, so that they fill 8.
_STRETCH = {"L;2": 85, "L;4": 17}
MOST = 255
_EXPECTED = "expected an image of one number a pixel, the class: an 8-bit grey or palette PNG"


class MaskError(DataError):
    """A mask that cannot be read as classes; the message names the file and what to do."""


def read_mask(path: str | Path) -> np.ndarray:
    """The classes of a mask's pixels, uint8 [H, W].

    Read are greyscale and palettes of up to 8 bits (the numbers that the file holds), 1 bit as 0 and 1, 16 and 32 bits
    where no number is above 255, and colours where all channels are equal and nothing is transparent.

    Raises:
        MaskError: anything else, JPEG and WebP too, which may change the numbers.
    """
    try:
        with pil_open(path) as image:
            if image.format not in LOSSLESS:
                raise MaskError(
                    f"{_shown(path)} is a {image.format}, which may change the numbers; {_EXPECTED}"
                )
            if getattr(image, "n_frames", 1) > 1:
                raise MaskError(f"{_shown(path)} has {counted(image.n_frames, 'image')} in it; {_EXPECTED}")
            return _classes(image, path)
    except MaskError:
        raise
    except Exception as error:  # Pillow raises several kinds
        raise MaskError(f"{_shown(path)} cannot be read: {error}") from error


def read_labels(path: str | Path, dataset: str) -> np.ndarray:
    """The labels of a mask, uint8 [H, W], for a `type` of dataset: those of ADE20K count from 1, with 0 to ignore.

    Raises:
        MaskError: see `read_mask`.
    """
    labels = read_mask(path)
    return labels - 1 if dataset == "ADE20K" else labels  # 8 bits: 0 becomes 255


def _classes(image: Image.Image, path: str | Path) -> np.ndarray:
    # What Pillow makes of the file's own numbers is known before it reads them only.
    arguments = image.tile[0][3] if image.tile else ""
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    stored = arguments[0] if isinstance(arguments[0], str) else ""
    if ";16" in stored and not stored.startswith("I"):
        raise MaskError(f"{_shown(path)} has colours of 16 bits a channel, which are read as 8; {_EXPECTED}")
    if stored.startswith(("L;", "1;")) and "I" in stored:  # of 1 bit, PBM too
        raise MaskError(
            f"{_shown(path)} is stored with 0 for white, so that its numbers are turned; {_EXPECTED}"
        )
    mode, values = image.mode, np.asarray(image)
    if image.format == "PPM" and mode != "1" and len(arguments) == 2:
        # Pillow has multiplied by 255 or 65535 over the largest value that the file's head names.
        most = 65535 if mode == "I" else 255
        values = np.rint(values.astype(np.float64) * arguments[1] / most).astype(np.int64)
    values = values // _STRETCH[stored] if stored in _STRETCH else values
    if mode == "1":
        return values.astype(np.uint8)
    if mode in ("LA", "RGBA", "RGB"):
        grey = values[..., 0]
        alpha = values[..., -1] if mode.endswith("A") else np.array(MOST)
        colours = values[..., :-1] if mode.endswith("A") else values
        if (colours != grey[..., None]).any() or (alpha != MOST).any():
            raise MaskError(
                f"{_shown(path)} is an image of mode {mode}, in {_colours(values)}, not a mask: {_EXPECTED}. Turn "
                "each colour into the number of its class first"
            )
        return grey
    if values.ndim != 2 or values.dtype.kind not in "ui":
        raise MaskError(f"{_shown(path)} is an image of mode {mode}, not a mask: {_EXPECTED}")
    if values.size and (values.min() < 0 or values.max() > MOST):
        raise MaskError(
            f"{_shown(path)} is an image of mode {mode} with numbers from {values.min()} to {values.max()}; {_EXPECTED}"
        )
    return values.astype(np.uint8)


def _colours(values: np.ndarray) -> str:
    found = np.unique(values.reshape(-1, values.shape[-1])[:1_000_000], axis=0)
    return f"the colours {listed([str(tuple(map(int, colour))) for colour in found], 3)}"


def _shown(path: str | Path) -> str:
    return printable(str(path), lines=False)


def check_labels(labels: np.ndarray, classes: int, ignore: int, path: str | Path) -> None:
    """Whether all labels are classes, or ignored.

    Args:
        labels: [H, W].
        classes: how many there are.
        ignore: the label of pixels that count for nothing.

    Raises:
        MaskError: with the values, how often each occurs, and what to do.
    """
    values, counts = np.unique(labels, return_counts=True)
    wrong = [
        (int(v), int(n)) for v, n in zip(values, counts, strict=True) if v != ignore and not 0 <= v < classes
    ]
    if wrong:
        listed = ", ".join(f"{value} ({counted(count, 'pixel')})" for value, count in wrong[:5])
        more = " …" if len(wrong) > 5 else ""
        raise MaskError(
            f"{_shown(path)} has labels {listed}{more}; expected 0 to {classes - 1}, or {ignore} for pixels to ignore"
        )


class LabelChecked:
    """PaddleSeg's transforms of a dataset, before which a mask's labels are checked.

    Args:
        transforms: PaddleSeg's `Compose`.
        classes, ignore: as for `check_labels`.
    """

    def __init__(
        self, transforms: Callable[[dict[str, Any]], dict[str, Any]], classes: int, ignore: int
    ) -> None:
        self._transforms, self._classes, self._ignore = transforms, classes, ignore

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        label = data.get("label")
        if label is not None:
            path = label if isinstance(label, str) else data.get("img", "a mask")
            labels = read_mask(label) if isinstance(label, str) else np.asarray(label)
            check_labels(labels, self._classes, self._ignore, path)
            data["label"] = labels
        return self._transforms(data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled
            raise AttributeError(name)
        return getattr(self._transforms, name)
