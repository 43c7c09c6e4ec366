"""Sheets of images, each with a text under it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyclemlp.errors import DataError
from cyclemlp.report.figures import BLUE, GREY, INK, ORANGE, PathLike, saved_figure
from cyclemlp.text import counted, shortened

#: With fewer images a sheet is as wide, for its title.
LEAST_COLUMNS = 4
#: Longer side of an image on a sheet, in pixels; a larger one is reduced.
THUMBNAIL_SIDE = 256
#: Right → how an image is framed, and what its text begins with.
FRAMES: dict[bool | None, tuple[str, float, str]] = {
    True: (BLUE, 1.0, "✓ "),
    False: (ORANGE, 3.5, "✗ "),
    None: (GREY, 1.0, ""),
}


def plot_samples(
    images: Sequence[Any],
    captions: Sequence[str],
    path: PathLike,
    *,
    columns: int = 8,
    title: str | None = None,
    right: Sequence[bool] | None = None,
) -> Path:
    """Sheet of images with a text under each.

    Args:
        images: PIL images, or arrays [H, W], [H, W, 1] or [H, W, 3], uint8 or floats in [0, 1].
        captions: the text of each, of any number of lines.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        columns: images a row.
        title: over the sheet, of any number of lines.
        right: whether each is right; a wrong one has a thick orange frame and a cross. None marks nothing.

    Raises:
        DataError: no image, or not as many texts or marks.
        MissingDependencyError: matplotlib is not installed.
    """
    marks = [None] * len(images) if right is None else [bool(mark) for mark in right]
    if not len(images) == len(captions) == len(marks) or not len(images):
        raise DataError(
            f"a sheet needs a caption an image, and at least one; found {counted(len(images), 'image')} and "
            f"{counted(len(captions), 'caption')}"
            + ("" if right is None else f", and {counted(len(marks), 'mark')} of right and wrong")
        )
    columns = min(columns, max(len(images), LEAST_COLUMNS if title else 1))
    rows = -(-len(images) // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    heading = title.count("\n") + 1 if title else 0
    height = (1.6 + 0.16 * lines) * rows + 0.2 * heading + 0.1
    with saved_figure(path, 1.6 * columns, height) as figure:
        grid = image_grid(figure, rows, columns).ravel()
        for axes, image, caption, mark in zip(grid, images, captions, marks, strict=False):
            colour, width, sign = FRAMES[mark]
            show_image(axes, image, caption=sign + caption)
            axes.spines[:].set(color=colour, linewidth=width)
            axes.xaxis.label.set(
                color=INK if mark is None else colour, fontweight="bold" if mark is False else "normal"
            )
            axes.set_anchor("N")  # the layout does not know of the room that a square leaves
        if title:
            sheet_title(figure, title)
    return Path(path)


def plot_predictions(
    images: Sequence[Any],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    path: PathLike,
    *,
    true: Sequence[str] | None = None,
    columns: int = 8,
    title: str | None = None,
) -> Path:
    """Sheet of images with what the network said; wrong answers have a thick orange frame and a cross.

    Args:
        images, path, columns, title: as for `plot_samples`.
        predicted: the predicted class name of each.
        probabilities: its probability, in [0, 1].
        true: the true class name of each; without it nothing is marked right or wrong.

    Raises:
        DataError: no image, or the sequences differ in length.
        MissingDependencyError: matplotlib is not installed.
    """
    lengths = {"images": len(images), "predicted": len(predicted), "probabilities": len(probabilities)}
    if true is not None:
        lengths["true"] = len(true)
    if len(set(lengths.values())) != 1 or not images:
        raise DataError(f"a sheet of predictions needs as many of each, at least one; found {lengths}")
    captions = [
        f"{shortened(str(name), 18)} ({100 * p:.0f} %)"
        for name, p in zip(predicted, probabilities, strict=True)
    ]
    right = None
    if true is not None:
        captions = [
            f"{words}\ntrue: {shortened(str(t), 18)}" for words, t in zip(captions, true, strict=True)
        ]
        right = [str(name) == str(t) for name, t in zip(predicted, true, strict=True)]
    return plot_samples(images, captions, path, columns=columns, title=title, right=right)


def image_grid(figure: Any, rows: int, columns: int) -> Any:
    """Axes [rows, columns] of a figure, of which those are seen that `show_image` draws on."""
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    return grid


def show_image(axes: Any, image: Any, *, title: str = "", caption: str = "", **colours: Any) -> None:
    """Draw an image without ticks, a line above and any number below.

    Args:
        axes: matplotlib's.
        image: as for `plot_samples`.
        title, caption: above and below it.
        colours: keywords of `Axes.imshow`, for values that are no image; default: grey, or the image's own colours.
    """
    pixels = np.squeeze(np.asarray(image))
    axes.axis("on")
    axes.imshow(
        pixels, **colours or {"cmap": "gray", "vmin": 0, "vmax": 255 if pixels.dtype == np.uint8 else 1}
    )
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True)
    axes.set_title(title, fontsize=8.5, fontweight="normal")
    axes.set_xlabel(caption, fontsize=8.5, linespacing=1.2)


def square_thumbnail(image: Image.Image) -> Image.Image:
    """The central square of an image, which is what evaluation looks at, of at most 256 pixels a side; grey or RGB."""
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return image


def sheet_title(figure: Any, title: str) -> None:
    """What stands over a sheet: a sentence or two, smaller than a figure's title."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, fontweight="normal")
