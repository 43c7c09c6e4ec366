"""Images of a COCO data set with the objects that its file gives them, for looking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from cyclemlp.dense.det.configuration import Configuration, read_coco
from cyclemlp.dense.images import read_image
from cyclemlp.report import draw_detections


def draw_samples(config: Configuration, count: int, folder: Path) -> list[Path]:
    """Draw images of each data set with the objects that its file gives them, for looking.

    Args:
        count: how many of each, evenly spread over those that have objects.
        folder: existing; gets `TrainDataset_FILE.png` and so on.

    Returns:
        The files.

    Raises:
        DataError: an image or entry cannot be drawn; `check` says why.
    """
    written: list[Path] = []
    for key in ("TrainDataset", "EvalDataset"):
        if key not in config.values:
            continue
        files = config.data(key)
        content = read_coco(files.annotations)
        names = {c["id"]: str(c["name"]) for c in content["categories"]}
        classes = list(names)
        by_image = {
            image: list(entries)
            for image, entries in groupby(
                sorted(content["annotations"], key=lambda a: a["image_id"]), key=lambda a: a["image_id"]
            )
        }
        images = [image for image in content["images"] if image["id"] in by_image] or content["images"]
        step = max(len(images) / count, 1)
        for entry in (images[int(i * step)] for i in range(min(count, len(images)))):
            image = read_image(files.images / entry["file_name"])
            objects = [
                a for a in by_image.get(entry["id"], []) if not a["iscrowd"] and min(a["bbox"][2:]) > 0
            ]
            drawn = draw_detections(
                image,
                [
                    [a["bbox"][0], a["bbox"][1], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]]
                    for a in objects
                ],
                [classes.index(a["category_id"]) for a in objects],
                None,
                list(names.values()),
                _masks(objects, image) if config.has_masks() else None,
            )
            path = folder / f"{key}_{len(written):04d}_{Path(entry['file_name']).stem}.png"
            drawn.save(path)
            written.append(path)
    return written


def _masks(objects: Sequence[Mapping[str, Any]], image: Image.Image) -> list[Any] | None:
    from pycocotools import mask as coco_mask

    masks = []
    for entry in objects:
        runs = coco_mask.frPyObjects(entry["segmentation"], image.height, image.width)
        masks.append(coco_mask.decode(coco_mask.merge(runs) if isinstance(runs, list) else runs) == 1)
    return masks or None
