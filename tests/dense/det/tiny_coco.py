"""A data set in COCO's form small enough for tests: coloured rectangles on grey, three classes by colour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 230)}
#: Not 0, 1, 2, so that ids and class numbers cannot be mixed up unseen.
IDS = {"red": 3, "green": 7, "blue": 11}


def make_tiny_coco(
    folder: Path, *, count: int = 6, size: tuple[int, int] = (96, 64), rle: bool = False
) -> Path:
    """Write `images/`, `annotations/train.json` and `annotations/val.json`, which hold the same.

    Args:
        count: how many images; the last has no object in it.
        size: width and height in pixels.
        rle: the masks as run lengths instead of polygons.
    """
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    width, height = size
    for number in range(count):
        pixels = rng.integers(100, 140, (height, width, 3)).astype(np.uint8)
        for i in range(0 if number == count - 1 else 2):
            name = list(COLOURS)[(number + i) % 3]
            w, h = (int(v) for v in rng.integers(20, 32, 2))
            x, y = i * width // 2 + int(rng.integers(0, width // 2 - w)), int(rng.integers(0, height - h))
            pixels[y : y + h, x : x + w] = COLOURS[name]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 10,
                    "category_id": IDS[name],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": _runs(x, y, w, h, size)
                    if rle
                    else [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        images.append({"id": number + 10, "file_name": f"{number}.png", "width": width, "height": height})
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for name, id_ in IDS.items()],
    }
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder


def _runs(x: int, y: int, w: int, h: int, size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    counts = [x * height + y]  # by columns, in turn of zeros and ones
    for column in range(w):
        counts += [h, height - h if column < w - 1 else (width - x - w) * height + height - y - h]
    return {"size": [height, width], "counts": counts}
