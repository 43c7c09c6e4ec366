"""What several of these figures need."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

PathLike = str | os.PathLike[str]


def show_image(axes: Any, pixels: np.ndarray, title: str, caption: str) -> None:
    """Draw uint8 pixels [H, W, C] with a line above and one below."""
    axes.axis("on")
    axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.set_title(title, fontsize=8.5, fontweight="normal")
    axes.set_xlabel(caption, fontsize=8.5, linespacing=1.2)
