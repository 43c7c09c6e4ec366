"""Predictions drawn onto their images: class masks with a legend; boxes with names, scores and masks.

Arrays in, a Pillow image out; neither matplotlib nor an engine is needed. A small image is enlarged by a whole
factor before anything is written on it, so that words are legible at any size.

Shapes: N objects, H and W the image's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from cyclemlp.errors import ConfigError, DataError
from cyclemlp.report.lettering import Font, Words, font_size, line_height, line_width, pad, text_size
from cyclemlp.report.palette import GREY, INK, PAPER, Colour, class_colour, ink_on
from cyclemlp.report.tags import Area, free_place, leader
from cyclemlp.text import counted

#: The longer side in pixels from which an image is drawn on as it is.
LEGIBLE_SIDE = 480
#: A legend names every class up to this many; of more, those that the mask holds.
MOST_ABSENT_CLASSES = 12
#: Names of the class that is left in the image's own colours.
BACKGROUND_NAMES = ("background", "_background_")


def overlay_masks(
    image: Any,
    mask: Any,
    classes: Sequence[str],
    *,
    ignore: int | None = 255,
    opacity: float = 0.5,
) -> Image.Image:
    """An image with its class mask in colours, the regions' outlines, and a legend with their shares of pixels.

    A class called "background" keeps the image's own colours; pixels to ignore are hatched. The legend stands
    beside the image, or below a wide one. It names all classes up to 12, of more those that the mask holds.

    Args:
        image: a PIL image, or an array [H, W], [H, W, 1] or [H, W, 3], uint8 or floats in [0, 1].
        mask: integers [H, W], each a class from 0 or `ignore`; an array or a PIL image.
        classes: names of the classes, in class order.
        ignore: the value of pixels without a class; None for none.
        opacity: of the colours, from 0 (outlines only) to 1 (the image does not show through).

    Returns:
        An RGB image, larger than `image` by the legend and by the whole factor that makes its longer side at least
        480 pixels.

    Raises:
        DataError: the mask is not of the image's size, or holds a value that is neither a class nor `ignore`.
    """
    if not 0 <= opacity <= 1:
        raise ConfigError(f"the opacity is {opacity}; give a number from 0 to 1")
    photo = _as_photo(image)
    values = _checked_mask(mask, photo, len(classes), ignore)
    words = Words(classes)
    canvas, scale = _enlarged(photo)
    enlarged = values.repeat(scale, axis=0).repeat(scale, axis=1)
    pixels = np.asarray(canvas, dtype=np.float32).copy()

    entries = []
    counts = {int(v): int(n) for v, n in zip(*np.unique(values, return_counts=True), strict=True)}
    shown = range(len(classes)) if len(classes) <= MOST_ABSENT_CLASSES else sorted(counts.keys() - {ignore})
    for index in shown:
        plain = classes[index].strip().lower() in BACKGROUND_NAMES
        if index in counts and not plain:
            _paint(pixels, enlarged == index, class_colour(index), opacity, line_width(canvas))
        swatch = None if plain else class_colour(index)
        entries.append(_Entry(swatch, f"{words.name(index)}  {_share(counts.get(index, 0), values.size)}"))
    if ignore in counts:
        _hatch(pixels, enlarged == ignore, 4 * line_width(canvas))
        entries.append(_Entry(GREY, f"ignored  {_share(counts[ignore], values.size)}", hatched=True))
    return _with_legend(_to_image(pixels), entries, words.font(font_size(canvas)))


def draw_detections(
    image: Any,
    boxes: Any,
    labels: Any,
    scores: Any | None,
    classes: Sequence[str],
    masks: Any | None = None,
) -> Image.Image:
    """An image with objects: a box, a name and a score each, in the colour of the class, and its mask if given.

    Objects are drawn by rising score, so that the surest lie on top; names move aside for each other, with a line to
    their box where they do not touch it.

    Args:
        image: a PIL image, or an array [H, W], [H, W, 1] or [H, W, 3], uint8 or floats in [0, 1].
        boxes: float [N, 4], x0 y0 x1 y1 in pixels; what lies outside the image is cut off.
        labels: int [N], classes from 0.
        scores: float [N] in [0, 1]; None for the truth, which has none.
        classes: names of the classes, in class order.
        masks: bool [N, H, W]; None for boxes only.

    Returns:
        An RGB image, larger than `image` by the whole factor that makes its longer side at least 480 pixels.

    Raises:
        DataError: shapes that do not fit, a label that is no class, a box with a coordinate that is not finite or
            that ends before it begins.
    """
    photo = _as_photo(image)
    found = _checked_objects(photo, boxes, labels, scores, masks, len(classes))
    words = Words(classes)
    canvas, scale = _enlarged(photo)
    order = range(len(found.labels)) if found.scores is None else np.argsort(found.scores, kind="stable")
    width = line_width(canvas)
    if found.masks is not None:
        pixels = np.asarray(canvas, dtype=np.float32).copy()
        for i in order:
            region = found.masks[i].repeat(scale, axis=0).repeat(scale, axis=1)
            _paint(pixels, region, class_colour(found.labels[i]), 0.45, width)
        canvas = _to_image(pixels)

    draw, font = ImageDraw.Draw(canvas), words.font(font_size(canvas))
    limits = np.array([canvas.width, canvas.height] * 2)
    areas = np.clip(found.boxes * scale, 0, limits - 1)
    for i in order:
        draw.rectangle(tuple(areas[i]), outline=class_colour(found.labels[i]), width=width)
    taken: list[Area] = []
    tags = []
    for i in reversed(order):  # the surest chooses its place first
        text = words.name(found.labels[i])
        if found.scores is not None:
            text += f" {found.scores[i]:.2f}"
        place = free_place(areas[i], text_size(text, font), canvas.size, taken)
        tags.append((place, text, found.labels[i]))
        taken.append(place)
        if line := leader(place, areas[i]):
            draw.line(line, fill=class_colour(found.labels[i]), width=width)
    for area, text, label in reversed(tags):
        colour, ink = class_colour(label), ink_on(class_colour(label))
        draw.rectangle(area, fill=colour, outline=ink)
        draw.text((area[0] + pad(font), area[1]), text, font=font, fill=ink)
    return canvas


def image_sheet(
    images: Sequence[Image.Image], captions: Sequence[str] | None = None, *, columns: int = 2
) -> Image.Image:
    """Images side by side on white, each with a line of words below it.

    Args:
        images: of any sizes; a column is as wide as its widest, a row as high as its highest.
        captions: the words of each; None for none.
        columns: images a row.

    Raises:
        DataError: no image, or not as many captions.
    """
    if not images or (captions is not None and len(captions) != len(images)):
        raise DataError(
            f"a sheet needs at least one image and a caption for each; found {counted(len(images), 'image')} and "
            f"{'no' if captions is None else len(captions)} captions"
        )
    words = Words(captions or [])
    font = words.font(max(font_size(image) for image in images))
    below = line_height(font) if captions else 0
    gap = font.size // 2
    columns = min(columns, len(images))
    widths = [max(p.width for p in images[c::columns]) + gap for c in range(columns)]
    starts = range(0, len(images), columns)
    heights = [max(p.height for p in images[s : s + columns]) + gap + below for s in starts]
    sheet = Image.new("RGB", (sum(widths) + gap, sum(heights) + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        corner = gap + sum(widths[:column]), gap + sum(heights[:row])
        sheet.paste(image, corner)
        if captions:
            draw.text((corner[0], corner[1] + image.height), words.name(i), font=font, fill=INK)
    return sheet


# ---- what was given → what is drawn


class _Objects(NamedTuple):
    boxes: np.ndarray
    labels: list[int]
    scores: np.ndarray | None
    masks: np.ndarray | None


class _Entry(NamedTuple):
    """A line of the legend; without a colour its swatch is hollow."""

    colour: Colour | None
    text: str
    hatched: bool = False


def _as_photo(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size:
        raise DataError(
            f"the image is an array of shape {list(np.shape(image))}; expected [H, W], [H, W, 1] or [H, W, 3]"
        )
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating) or not (array.min() >= 0 and array.max() <= 1):
            raise DataError(
                f"the image is an array of {array.dtype} from {array.min()} to {array.max()}; expected uint8, or "
                "floats from 0 to 1"
            )
        array = np.rint(array * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3))))


def _checked_mask(mask: Any, image: Image.Image, count: int, ignore: int | None) -> np.ndarray:
    values = np.asarray(mask)
    if values.shape != (image.height, image.width):
        raise DataError(
            f"the mask has shape {list(values.shape)}; expected [{image.height}, {image.width}], the image's "
            "height and width"
        )
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"the mask is of {values.dtype}; expected integers, the classes' numbers")
    strange = (values < 0) | (values >= count)
    if ignore is not None:
        strange &= values != ignore
    if strange.any():
        raise DataError(
            f"the mask holds {values[strange].flat[0]} ({counted(int(strange.sum()), 'pixel')} of no class); expected "
            f"0 to {count - 1} for {counted(count, 'class')}, or {ignore} for pixels to ignore"
        )
    return values.astype(np.int64)


def _checked_objects(
    image: Image.Image, boxes: Any, labels: Any, scores: Any | None, masks: Any | None, classes: int
) -> _Objects:
    numbers = np.asarray(labels)
    count = numbers.size
    given = {"boxes": (np.asarray(boxes), [count, 4]), "labels": (numbers, [count])}
    if scores is not None:
        given["scores"] = np.asarray(scores), [count]
    if masks is not None:
        given["masks"] = np.asarray(masks), [count, image.height, image.width]
    for name, (array, expected) in given.items():
        # No objects: an empty list has shape [0].
        if list(array.shape) != expected and (count or array.size):
            raise DataError(
                f"{name}: shape {list(array.shape)}; expected {expected} for {counted(count, 'label')} on an image of "
                f"{image.width} × {image.height}"
            )
    corners = np.asarray(boxes, dtype=np.float64).reshape(count, 4)
    for i, (x0, y0, x1, y1) in enumerate(corners):
        if not np.isfinite(corners[i]).all() or x1 < x0 or y1 < y0:
            raise DataError(
                f"box {i} is {corners[i].tolist()}; expected x0 y0 x1 y1 with x0 <= x1 and y0 <= y1"
            )
        if numbers[i] not in range(classes):
            raise DataError(
                f"label {i} is {numbers[i]}; expected 0 to {classes - 1} for {counted(classes, 'class')}"
            )
    return _Objects(
        corners,
        [int(number) for number in numbers.flat],
        None if scores is None else np.asarray(scores, dtype=np.float64),
        None if masks is None or not count else np.asarray(masks).astype(bool),
    )


def _enlarged(image: Image.Image) -> tuple[Image.Image, int]:
    """The image on which to draw, and how many times as large it is."""
    scale = max(1, -(-LEGIBLE_SIDE // max(image.size)))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC), scale


# ---- colours and regions


def _paint(pixels: np.ndarray, region: np.ndarray, colour: Colour, opacity: float, width: int) -> None:
    """Tint a region [H, W] of pixels [H, W, 3] and draw its outline on its inner side."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not rows.size:
        return
    # One object covers little of a large image, and a pixel more tells its edge from the image's.
    part = np.s_[max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    pixels, region = pixels[part], region[part]
    pixels[region] += opacity * (np.array(colour, dtype=np.float32) - pixels[region])
    pixels[region & ~_eroded(region, width)] = colour


def _eroded(region: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a region that lie `width` or more from its end; the image's edge is no end."""
    inner = region.copy()
    for _ in range(width):
        padded = np.pad(inner, 1, mode="edge")
        inner = (
            padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        )
    return inner


def _hatch(pixels: np.ndarray, region: np.ndarray, period: int) -> None:
    rows, columns = np.indices(region.shape)
    stripes = (rows + columns) % period < period // 2
    pixels[region & stripes] = GREY


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _share(count: int, of: int) -> str:
    percent = 100 * count / of
    return "<0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def _with_legend(canvas: Image.Image, entries: Sequence[_Entry], font: Font) -> Image.Image:
    """The image with the legend at its right, or below if it is more than twice as wide as high."""
    line, gap = line_height(font), font.size // 2
    width = max(round(font.getlength(entry.text)) for entry in entries) + 3 * line
    beside = canvas.width <= 2 * canvas.height
    if beside:
        rows = max((canvas.height - 2 * gap) // line, 1)
    else:
        rows = -(-len(entries) // max((canvas.width - gap) // width, 1))
    columns = -(-len(entries) // rows)
    legend = (columns * width + gap, min(rows, len(entries)) * line + 2 * gap)
    if beside:
        size, corner = (canvas.width + legend[0], max(canvas.height, legend[1])), (canvas.width, 0)
    else:
        size, corner = (max(canvas.width, legend[0]), canvas.height + legend[1]), (0, canvas.height)
    whole = Image.new("RGB", size, PAPER)
    whole.paste(canvas, (0, 0))
    draw = ImageDraw.Draw(whole)
    for i, entry in enumerate(entries):
        column, row = divmod(i, rows)
        x, y = corner[0] + gap + column * width, corner[1] + gap + row * line
        inset = line // 8
        swatch = (x, y + inset, x + line, y + line - inset - 1)
        if entry.hatched:
            pixels = np.full((line - 2 * inset, line + 1, 3), 255, dtype=np.uint8)
            _hatch(pixels, np.ones(pixels.shape[:2], dtype=bool), line // 2)
            whole.paste(Image.fromarray(pixels), swatch[:2])
        draw.rectangle(swatch, fill=None if entry.hatched else entry.colour, outline=entry.colour or GREY)
        draw.text((x + line + gap, y), entry.text, font=font, fill=INK)
    return whole
