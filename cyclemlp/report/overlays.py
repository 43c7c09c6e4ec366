"""Predictions drawn onto their images: class masks with a legend; boxes with names, scores and masks.

Arrays in, a Pillow image out; neither matplotlib nor an engine is needed. A small image is enlarged by a whole
factor before anything is written on it, so that words are legible at any size.

Shapes: N objects, H and W the image's height and width.
"""

from __future__ import annotations

import functools
import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cyclemlp.errors import ConfigError, DataError

Colour = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont
Area = tuple[float, float, float, float]

INK, PAPER, GREY = (34, 38, 43), (255, 255, 255), (138, 143, 152)
#: Okabe and Ito's, which colour-blind readers tell apart, without black; the first classes get these.
OKABE_ITO: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
#: Colours before they begin anew: as many as an 8-bit mask has values.
PALETTE_SIZE = 256
#: The longer side in pixels from which an image is drawn on as it is.
LEGIBLE_SIDE = 480
#: How far a name is moved from its box to lie on no other, as a share of the image's longer side.
MOST_MOVED = 0.3
#: So many names near a box are looked at for room beside them.
MOST_BESIDE = 64
#: A legend names every class up to this many; of more, those that the mask holds.
MOST_ABSENT_CLASSES = 12
#: Names of the class that is left in the image's own colours.
BACKGROUND_NAMES = ("background", "_background_")
#: Environment variable that names a font file.
FONT_VARIABLE = "CYCLEMLP_FONT"
#: Pillow's own font has the letters of English only. For other names, the first of these that is installed and has
#: their letters.
FONT_FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "Arial Unicode.ttf",
)


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
    words = _Words(classes)
    canvas, scale = _enlarged(photo)
    enlarged = values.repeat(scale, axis=0).repeat(scale, axis=1)
    pixels = np.asarray(canvas, dtype=np.float32).copy()

    entries = []
    counts = {int(v): int(n) for v, n in zip(*np.unique(values, return_counts=True), strict=True)}
    shown = range(len(classes)) if len(classes) <= MOST_ABSENT_CLASSES else sorted(counts.keys() - {ignore})
    for index in shown:
        plain = classes[index].strip().lower() in BACKGROUND_NAMES
        if index in counts and not plain:
            _paint(pixels, enlarged == index, class_colour(index), opacity, _line_width(canvas))
        swatch = None if plain else class_colour(index)
        entries.append(_Entry(swatch, f"{words.name(index)}  {_share(counts.get(index, 0), values.size)}"))
    if ignore in counts:
        _hatch(pixels, enlarged == ignore, 4 * _line_width(canvas))
        entries.append(_Entry(GREY, f"ignored  {_share(counts[ignore], values.size)}", hatched=True))
    return _with_legend(_to_image(pixels), entries, words.font(_font_size(canvas)))


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
    words = _Words(classes)
    canvas, scale = _enlarged(photo)
    order = range(len(found.labels)) if found.scores is None else np.argsort(found.scores, kind="stable")
    width = _line_width(canvas)
    if found.masks is not None:
        pixels = np.asarray(canvas, dtype=np.float32).copy()
        for i in order:
            region = found.masks[i].repeat(scale, axis=0).repeat(scale, axis=1)
            _paint(pixels, region, class_colour(found.labels[i]), 0.45, width)
        canvas = _to_image(pixels)

    draw, font = ImageDraw.Draw(canvas), words.font(_font_size(canvas))
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
        place = _free_place(areas[i], _text_size(text, font), canvas.size, taken)
        tags.append((place, text, found.labels[i]))
        taken.append(place)
        if line := _leader(place, areas[i]):
            draw.line(line, fill=class_colour(found.labels[i]), width=width)
    for area, text, label in reversed(tags):
        colour, ink = class_colour(label), _ink_on(class_colour(label))
        draw.rectangle(area, fill=colour, outline=ink)
        draw.text((area[0] + _pad(font), area[1]), text, font=font, fill=ink)
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
            f"a sheet needs at least one image and a caption for each; found {len(images)} images and "
            f"{'no' if captions is None else len(captions)} captions"
        )
    words = _Words(captions or [])
    font = words.font(max(_font_size(image) for image in images))
    below = _line_height(font) if captions else 0
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


def class_colour(index: int) -> Colour:
    """Red, green and blue (0..255) of a class: Okabe and Ito's seven, then colours far from all before them."""
    return _palette()[index % PALETTE_SIZE]


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
            f"the mask holds {values[strange].flat[0]} ({int(strange.sum()):,} pixels are no class); expected 0 to "
            f"{count - 1} for {count} classes, or {ignore} for pixels to ignore"
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
                f"{name}: shape {list(array.shape)}; expected {expected} for {count} labels on an image of "
                f"{image.width} × {image.height}"
            )
    corners = np.asarray(boxes, dtype=np.float64).reshape(count, 4)
    for i, (x0, y0, x1, y1) in enumerate(corners):
        if not np.isfinite(corners[i]).all() or x1 < x0 or y1 < y0:
            raise DataError(
                f"box {i} is {corners[i].tolist()}; expected x0 y0 x1 y1 with x0 <= x1 and y0 <= y1"
            )
        if numbers[i] not in range(classes):
            raise DataError(f"label {i} is {numbers[i]}; expected 0 to {classes - 1} for {classes} classes")
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


@functools.cache
def _palette() -> tuple[Colour, ...]:
    """Okabe and Ito's colours, then each time the one of a grid that is farthest from all chosen ones."""
    levels = np.linspace(0, 255, 9)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    # Neither near black nor near white: both are met in images, and paper is white.
    grid = grid[(grid.max(axis=1) >= 90) & (grid.min(axis=1) <= 200)]
    chosen = [np.array(colour, dtype=float) for colour in OKABE_ITO]
    distance = np.min([_colour_distance(grid, colour) for colour in chosen], axis=0)
    while len(chosen) < PALETTE_SIZE:
        chosen.append(grid[np.argmax(distance)])
        distance = np.minimum(distance, _colour_distance(grid, chosen[-1]))
    return tuple((int(r), int(g), int(b)) for r, g, b in chosen)


def _colour_distance(colours: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Difference as the eye sees it, by the "redmean" approximation (compuphase.com/cmetric.htm)."""
    red = (colours[:, 0] + one[0]) / 2
    weights = np.stack([2 + red / 256, np.full_like(red, 4), 3 - red / 256], axis=1)
    return np.sqrt((weights * (colours - one) ** 2).sum(axis=1))


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is the better legible on the colour."""
    luminance = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    return INK if luminance > 115 else PAPER


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


# ---- words


class _Words:
    """Names as they can be drawn: in the first font that has their letters, else by their number."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [unicodedata.normalize("NFC", " ".join(str(name).split())) for name in names]
        letters = set("".join(self._names))
        self._file, missing = _find_font(frozenset(letters), os.environ.get(FONT_VARIABLE))
        if missing:
            lost = [name for name in self._names if missing & set(name)]
            warnings.warn(
                f"no font here has the letters of {', '.join(map(repr, lost[:5]))}{' …' if lost[5:] else ''}; these "
                f"classes are drawn by their numbers. Install a font that has them (for Chinese, Japanese and Korean: "
                f"fonts-noto-cjk), or name its file in the environment variable {FONT_VARIABLE}",
                stacklevel=3,
            )
        self._missing = missing

    def name(self, index: int) -> str:
        name = self._names[index]
        return f"class {index}" if self._missing & set(name) else name

    def font(self, size: int) -> Font:
        return _open_font(self._file, size)


@functools.cache
def _find_font(letters: frozenset[str], named: str | None) -> tuple[str | None, frozenset[str]]:
    """The font's file (None: Pillow's own) that lacks the fewest of the letters, and those it lacks; `named` first."""
    best: tuple[str | None, frozenset[str]] | None = None
    for file in _font_files(named):
        try:
            font = _open_font(file, 20)
        except OSError:  # not installed
            continue
        missing = frozenset(letter for letter in letters if not _has_glyph(font, letter))
        if best is None or len(missing) < len(best[1]):
            best = file, missing
        if not missing:
            break
    assert best is not None  # Pillow's own is always there
    return best


def _font_files(named: str | None) -> Iterator[str | None]:
    if named:
        try:
            _open_font(named, 20)
        except OSError as error:
            raise ConfigError(
                f"{FONT_VARIABLE} is {named!r}, which is no font that can be read: {error}"
            ) from None
        yield named
    yield None
    yield from FONT_FILES


@functools.lru_cache(maxsize=64)
def _open_font(file: str | None, size: int) -> Font:
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


def _has_glyph(font: Font, letter: str) -> bool:
    """Whether a font draws a letter otherwise than one that no font has."""
    if letter.isspace():
        return True
    drawn, nothing = font.getmask(letter), font.getmask("\uffff")
    return drawn.size != nothing.size or bytes(drawn) != bytes(nothing)


def _font_size(canvas: Image.Image) -> int:
    return max(14, round(max(canvas.size) / 45))


def _line_width(canvas: Image.Image) -> int:
    return max(2, round(max(canvas.size) / 350))


def _line_height(font: Font) -> int:
    return round(1.3 * font.size)


def _pad(font: Font) -> int:
    return max(2, round(font.size / 5))


def _text_size(text: str, font: Font) -> tuple[int, int]:
    """Width and height in pixels of a tag with this text."""
    return round(font.getlength(text)) + 2 * _pad(font), _line_height(font)


def _free_place(
    box: np.ndarray, size: tuple[int, int], limits: tuple[int, int], taken: Sequence[Area]
) -> Area:
    """Where the tag of a box goes, inside the image and on no other tag where that can be.

    At a corner of the box; else beside another tag, as near to the box's upper left corner as there is room; else at
    the corner with the fewest other tags under it.
    """
    (x0, y0, x1, y1), (width, height) = box, size
    corners = [(x0, y0 - height), (x0, y0), (x0, y1), (x1 - width, y0 - height), (x0, y1 - height), (x1, y0)]
    places, covered = _inside(corners, size, limits, taken)
    if covered.min() == 0:
        return _area(places[np.argmin(covered)], size)
    # Beside other tags: a pixel of air between them, so that their frames do not touch.
    near = np.array(taken)
    near = near[np.argsort(np.hypot(*(near[:, :2] - corners[0]).T))[:MOST_BESIDE]]
    left, upper, right, lower = near.T
    xs = np.concatenate([left - width - 1, right + 1, left, np.full_like(left, x0)])
    beside = [*zip(xs, np.tile(upper, 4), strict=True)]
    for y in (upper - height - 1, lower + 1):
        beside += [*zip(left, y, strict=True), *((x0, one) for one in y)]
    others, over = _inside(beside, size, limits, taken)
    away = np.hypot(*(others - corners[0]).T)
    away[(over > 0) | (away > MOST_MOVED * max(limits))] = np.inf
    if np.isfinite(away.min()):
        return _area(others[np.argmin(away)], size)
    return _area(places[np.argmin(covered)], size)


def _inside(
    corners: Sequence[tuple[float, float]],
    size: tuple[int, int],
    limits: tuple[int, int],
    taken: Sequence[Area],
) -> tuple[np.ndarray, np.ndarray]:
    """Upper left corners [M, 2] moved into the image, and how many pixels of other tags each would cover [M]."""
    room = np.maximum(np.subtract(limits, size), 0)
    places = np.clip(np.array(corners, dtype=np.float64), 0, room)
    if not taken:
        return places, np.zeros(len(places))
    areas = np.array(taken)
    sides = np.minimum(places[:, None] + size, areas[None, :, 2:]) - np.maximum(
        places[:, None], areas[None, :, :2]
    )
    return places, sides.clip(0).prod(axis=2).sum(axis=1)


def _area(corner: np.ndarray, size: tuple[int, int]) -> Area:
    x, y = (float(v) for v in corner)
    return (x, y, x + size[0], y + size[1])


def _leader(tag: Area, box: np.ndarray) -> Area | None:
    """The shortest line from a tag to its box, as x0 y0 x1 y1; None where they touch."""
    ends = []
    for low in (0, 1):
        tag_low, tag_high, box_low, box_high = tag[low], tag[low + 2], box[low], box[low + 2]
        if tag_high < box_low:
            ends.append((tag_high, box_low))
        elif tag_low > box_high:
            ends.append((tag_low, box_high))
        else:
            middle = (max(tag_low, box_low) + min(tag_high, box_high)) / 2
            ends.append((middle, middle))
    (x0, x1), (y0, y1) = ends
    return (x0, y0, x1, y1) if max(abs(x1 - x0), abs(y1 - y0)) > 1 else None


def _share(count: int, of: int) -> str:
    percent = 100 * count / of
    return "<0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def _with_legend(canvas: Image.Image, entries: Sequence[_Entry], font: Font) -> Image.Image:
    """The image with the legend at its right, or below if it is more than twice as wide as high."""
    line, gap = _line_height(font), font.size // 2
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
