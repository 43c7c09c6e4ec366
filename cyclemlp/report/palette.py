"""A colour for each class, which readers tell apart, and the ink that is legible on it. Colours are RGB, 0..255."""

from __future__ import annotations

import functools

import numpy as np

Colour = tuple[int, int, int]

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


def class_colour(index: int) -> Colour:
    """Of a class: Okabe and Ito's seven, then colours far from all before them."""
    return _palette()[index % PALETTE_SIZE]


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


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is the better legible on the colour."""
    luminance = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    return INK if luminance > 115 else PAPER
