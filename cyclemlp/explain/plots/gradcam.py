"""Grad-CAM: images with what speaks for a class laid over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cyclemlp.errors import DataError
from cyclemlp.explain.plots.common import PathLike, show_image
from cyclemlp.report.plots import ORANGE, _figure, _rgb, _save, _style

#: Side in pixels below which an image is enlarged before something is laid over it.
OVERLAY_SIDE = 224


@dataclass(frozen=True)
class CamPanel:
    """One overlay: heat [h, w] in [0, 1], and what stands above and below it."""

    heat: np.ndarray
    title: str
    caption: str


def overlay_heat(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image with heat in orange over it: uint8 [H', W', 3], enlarged by a whole factor if it is small.

    Args:
        pixels: uint8 [H, W, 1] or [H, W, 3].
        heat: [h, w] in [0, 1], spread over the image by linear interpolation.
    """
    factor = max(1, round(OVERLAY_SIDE / min(pixels.shape[:2])))
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    image = Image.fromarray(pixels.squeeze()).convert("RGB").resize(size, Image.Resampling.NEAREST)
    spread = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    share = 0.8 * np.clip(np.asarray(spread), 0, 1)[..., None]
    return np.rint((1 - share) * np.asarray(image) + share * 255 * _rgb(ORANGE)).astype(np.uint8)


def plot_cams(
    images: Sequence[tuple[str, np.ndarray, Sequence[CamPanel]]], path: PathLike, *, title: str
) -> Path:
    """Images, each followed by its overlays.

    Args:
        images: (caption, uint8 [H, W, C], overlays) each; all with as many overlays.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no image.
        MissingDependencyError: matplotlib is not installed.
    """
    if not images:
        raise DataError("no image to draw")
    width = 1 + len(images[0][2])
    side_by_side = max(1, min(len(images), 10 // width))
    rows = -(-len(images) // side_by_side)
    with _style():
        figure = _figure(1.7 * width * side_by_side, 2.25 * rows + 0.4)
        grid = figure.subplots(rows, width * side_by_side, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for i, (caption, pixels, panels) in enumerate(images):
            first = (i % side_by_side) * width
            row = grid[i // side_by_side][first : first + width]
            show_image(row[0], pixels, "", caption)
            for axes, panel in zip(row[1:], panels, strict=True):
                show_image(axes, overlay_heat(pixels, panel.heat), panel.title, panel.caption)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
        return _save(figure, path)
