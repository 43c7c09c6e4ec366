"""Small stand-ins of the robustness sets, laid out as they are published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32


def write_set(root: Path, images: Mapping[str, int], suffix: str = ".JPEG") -> Path:
    """So many images, all the same one, in each folder of `root`."""
    root.mkdir(parents=True, exist_ok=True)
    one = root / f".image{suffix}"  # what starts with a dot is passed over
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(one)
    for folder, count in images.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            os.link(one, root / folder / f"{number}{suffix}")
    return root
