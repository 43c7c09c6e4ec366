"""Where the name of a box goes: inside the image, near the box, on no other name where that can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: x0 y0 x1 y1 in pixels.
Area = tuple[float, float, float, float]

#: How far a name is moved from its box to lie on no other, as a share of the image's longer side.
MOST_MOVED = 0.3
#: So many names near a box are looked at for room beside them.
MOST_BESIDE = 64


def free_place(
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


def leader(tag: Area, box: np.ndarray) -> Area | None:
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
