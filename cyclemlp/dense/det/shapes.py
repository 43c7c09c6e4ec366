"""Boxes and masks of a COCO file: what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cyclemlp.text import counted, shown

#: Boxes may reach so far outside of their image, in pixels: annotation programs round.
SLACK_PIXELS = 1.0
#: What PaddleDetection keeps an id in.
MAX_ID = 2**63


def faults_of_box(entry: Mapping[str, Any], size: tuple[float, float] | None) -> Iterator[tuple[str, bool]]:
    """What is wrong with an entry's `bbox` and `area`, and whether a model can be trained all the same."""
    box = entry["bbox"]
    if not (isinstance(box, list) and len(box) == 4 and all(is_number(v) for v in box)):
        yield f"its bbox is {shown(box)}; COCO has [x, y, width, height] in pixels", False
        return
    x, y, width, height = box
    if width <= 0 or height <= 0:
        yield f"its bbox {shown(box)} has no area, and is left out in training", True
    elif size and (
        min(x, y) < -SLACK_PIXELS or x + width > size[0] + SLACK_PIXELS or y + height > size[1] + SLACK_PIXELS
    ):
        outside = x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0
        where = "outside" if outside else "partly outside"
        yield (
            f"its bbox {shown(box)} lies {where} of the image, {size[0]}×{size[1]}; COCO has [x, y, width, height]",
            not outside,
        )
    if not is_number(entry["area"]):
        yield f"its area is {shown(entry['area'])}; expected a number of pixels", False
    elif entry["area"] <= 0:
        yield f"its area is {shown(entry['area'])}, and it is left out in training", True


def faults_of_mask(mask: Any, size: tuple[float, float] | None, *, needed: bool) -> Iterator[str]:
    """What is wrong with a `segmentation`, of an image of this width and height, if they are known.

    Args:
        needed: whether the architecture has masks.
    """
    if isinstance(mask, list) and mask and not any(mask):
        # Even without masks: the engine then takes this object out of one list and leaves it in the others.
        yield "its segmentation is a list of empty polygons; give their points, or an empty list"
    elif not needed:
        return
    elif isinstance(mask, list) and mask:
        for polygon in mask:
            if not (isinstance(polygon, list) and are_numbers(polygon)):
                yield "its segmentation is no list of polygons, each a list of numbers x, y, x, y, …"
                return
            if len(polygon) < 6 or len(polygon) % 2:
                yield f"a polygon of its segmentation has {counted(len(polygon), 'number')}; three points are 6"
                return
            if size and _lies_outside(polygon, size):
                yield (
                    f"a polygon of its segmentation lies outside of the image, {size[0]}×{size[1]}: "
                    f"{shown(polygon)}"
                )
                return
    elif isinstance(mask, Mapping):
        yield from _faults_of_runs(mask, size)
    else:
        yield f"it has no segmentation ({shown(mask, 40)}), which an architecture with masks needs"


def _lies_outside(polygon: list[float], size: tuple[float, float]) -> bool:
    xs, ys = polygon[::2], polygon[1::2]
    return max(xs) <= 0 or max(ys) <= 0 or min(xs) >= size[0] or min(ys) >= size[1]


def _faults_of_runs(mask: Mapping[str, Any], size: tuple[float, float] | None) -> Iterator[str]:
    counts, shape = mask.get("counts"), mask.get("size")
    if not (isinstance(shape, list) and len(shape) == 2 and all(is_number(v) for v in shape)):
        yield f"its segmentation's size is {shown(shape)}; expected [height, width] of the image"
        return
    if size and shape != [size[1], size[0]]:
        yield f"its segmentation's size is {shape}; [height, width] of the image is {[size[1], size[0]]}"
        return
    if isinstance(counts, str):
        counts = run_lengths(counts)
    if not isinstance(counts, list):
        yield f"its segmentation has no run lengths: counts is {shown(mask.get('counts'), 40)}"
    elif not all(type(c) is int and c >= 0 for c in counts) or sum(counts) != shape[0] * shape[1]:
        yield "the run lengths of its segmentation do not add up to the image's pixels"


def run_lengths(text: str) -> list[int] | None:
    """COCO's compressed run lengths as numbers; None for a text that is none.

    Each number is a signed one in groups of 5 bits, the lowest first, in characters from "0" on, of which bit 5 says
    that another follows; from the fourth on it is the difference to the one two before (`rleFrString` of cocoapi's
    maskApi.c, which reads beyond the end of a text that is cut short).
    """
    counts: list[int] = []
    value = bits = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or bits > 60:
            return None
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            if code & 16:
                value -= 1 << bits
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = bits = 0
    return None if bits else counts


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number that fits into 64 bits."""
    return type(value) in (int, float) and abs(value) < MAX_ID


def are_numbers(values: list[Any]) -> bool:
    """Whether all of a long list are finite numbers."""
    return set(map(type, values)) <= {int, float} and all(abs(v) < MAX_ID for v in values)
