"""A trained detector as a callable from an image to the objects in it, and files of what was found.

Shapes: N objects, H and W the image's height and width.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from ppdet.core.workspace import create

from cyclemlp.dense.det.configuration import Category, Configuration
from cyclemlp.dense.det.engine import load_all, make_trainer, refusals
from cyclemlp.dense.images import read_image
from cyclemlp.errors import DataError
from cyclemlp.files import write_text
from cyclemlp.report import draw_detections


@dataclass(frozen=True)
class Detections:
    """The objects that were found in an image, the surest first.

    Attributes:
        boxes: float32 [N, 4], x0 y0 x1 y1 in pixels, inside the image.
        labels: int64 [N], classes from 0.
        scores: float32 [N] in [0, 1].
        masks: bool [N, H, W], or None from a detector without masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None

    def above(self, threshold: float) -> Detections:
        """Those with at least this score."""
        keep = self.scores >= threshold
        masks = None if self.masks is None else self.masks[keep]
        return Detections(self.boxes[keep], self.labels[keep], self.scores[keep], masks)


class Preparation:
    """How an image becomes the engine's input: "TestReader" of the active configuration, without its decoding."""

    def __init__(self) -> None:
        reader = create("TestReader")
        self._each = [t for t in reader._sample_transforms.transforms_cls if type(t).__name__ != "Decode"]
        self._batch = reader._batch_transforms

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """RGB uint8 [H, W, 3] → `image` [1, 3, h, w], `im_shape` [1, 2] and `scale_factor` [1, 2], float32."""
        height, width = image.shape[:2]
        sample: dict[str, Any] = {
            "image": image,
            "im_id": np.array([0]),
            "h": height,
            "w": width,
            "im_shape": np.array([height, width], dtype=np.float32),
            "scale_factor": np.ones(2, dtype=np.float32),
        }
        for transform in self._each:
            sample = transform(sample)
        batch = self._batch([sample])
        return {name: np.asarray(batch[name], np.float32) for name in ("image", "im_shape", "scale_factor")}


class Detector:
    """A detector with its weights.

    Args:
        config: its configuration, which is made the active one.
        weights: a .pdparams file with all its tensors, or a run's folder or checkpoint.
        device: what Paddle computes on.

    Raises:
        ConfigError, WeightsError: from building it and from its weights.
    """

    def __init__(self, config: Configuration, weights: Path, *, device: str = "cpu") -> None:
        self.config = config
        self.trainer = make_trainer(config, "test", device=device, pretrained=False)
        load_all(self.trainer.model, weights)
        self.trainer.model.eval()
        with refusals(config, "TestReader"):
            self._prepare = Preparation()

    def __call__(self, image: np.ndarray) -> Detections:
        """What is in an image, RGB uint8 [H, W, 3] of any size."""
        batch = {name: paddle.to_tensor(value) for name, value in self._prepare(image).items()}
        with paddle.no_grad():
            outputs = self.trainer.model(batch)
        return to_detections({k: v.numpy() for k, v in outputs.items()}, image.shape[:2])


def to_detections(outputs: Mapping[str, np.ndarray], size: tuple[int, ...]) -> Detections:
    """The engine's outputs for one image → objects.

    Args:
        outputs: `bbox` [N, 6] of class, score, x0, y0, x1, y1 in the image's pixels, and perhaps `mask` [N, H, W],
            1 in the object. A class of -1 or a score of 0 stands for no object.
        size: (H, W).
    """
    rows = outputs["bbox"].reshape([-1, 6])
    height, width = size
    boxes = rows[:, 2:].clip(0, np.array([width, height, width, height], dtype=np.float32))
    good = (rows[:, 0] >= 0) & (rows[:, 1] > 0) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = np.flatnonzero(good)[np.argsort(-rows[good, 1], kind="stable")]
    masks = outputs["mask"][order, :height, :width] == 1 if "mask" in outputs else None
    return Detections(boxes[order], rows[order, 0].astype(np.int64), rows[order, 1], masks)


def predict_files(
    detector: Callable[[np.ndarray], Detections],
    categories: Sequence[Category],
    paths: Sequence[Path],
    output: Path,
    *,
    threshold: float,
    draw: bool = True,
    on_file: Callable[[], object] = lambda: None,
    on_failure: Callable[[DataError], object] | None = None,
) -> dict[str, int]:
    """Find the objects in images; write the images with them drawn in, predictions.json and predictions.csv.

    The JSON is in COCO's form, `images`, `categories` and `annotations`, each of which has a `score` besides; masks
    are run lengths.

    Args:
        detector: image → its objects.
        categories: the classes in the order of its outputs.
        paths: the images.
        output: an existing folder.
        threshold: objects of a lower score are left out.
        on_file: called after each image.
        on_failure: takes the error of an image that cannot be read, which is left out; None raises it.

    Returns:
        Class name → number of objects.

    Raises:
        DataError: an image cannot be read.
    """
    names = [category.name for category in categories]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (path, drawn) in enumerate(zip(paths, _names_for(paths), strict=True), start=1):
        try:
            image = read_image(path)
        except DataError as error:
            if on_failure is None:
                raise
            on_failure(error)
            on_file()
            continue
        found = detector(np.asarray(image)).above(threshold)
        width, height = image.size
        images.append({"id": number, "file_name": str(path), "width": width, "height": height})
        for i in range(len(found.labels)):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, **_annotation(found, i, categories)}
            )
        if draw:
            drawing = draw_detections(image, found.boxes, found.labels, found.scores, names, found.masks)
            drawing.save(output / drawn)
        on_file()
    content = {
        "images": images,
        "categories": [{"id": c.id, "name": c.name} for c in categories],
        "annotations": annotations,
    }
    write_text(output / "predictions.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    write_text(output / "predictions.csv", _table(images, annotations, categories))
    names_by_id = {c.id: c.name for c in categories}
    counts = dict.fromkeys(names, 0)
    for annotation in annotations:
        counts[names_by_id[annotation["category_id"]]] += 1
    return counts


def _annotation(found: Detections, i: int, categories: Sequence[Category]) -> dict[str, Any]:
    x0, y0, x1, y1 = (round(float(v), 2) for v in found.boxes[i])
    entry: dict[str, Any] = {
        "category_id": categories[found.labels[i]].id,
        "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
        "score": round(float(found.scores[i]), 5),
        "area": round((x1 - x0) * (y1 - y0), 2),
        "iscrowd": 0,
    }
    if found.masks is not None:
        from pycocotools import mask as coco_mask

        runs = coco_mask.encode(np.asfortranarray(found.masks[i], dtype=np.uint8))
        entry["segmentation"] = {"size": runs["size"], "counts": runs["counts"].decode("ascii")}
        entry["area"] = int(found.masks[i].sum())
    return entry


def _table(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Category],
) -> str:
    names, files = {c.id: c.name for c in categories}, {i["id"]: i["file_name"] for i in images}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "class", "score", "x", "y", "width", "height"])
    writer.writerows(
        [files[a["image_id"]], names[a["category_id"]], a["score"], *a["bbox"]] for a in annotations
    )
    return text.getvalue()


def _names_for(paths: Sequence[Path]) -> list[str]:
    """A file name for each drawing: the image's own, with a number where two images have the same."""
    taken: set[str] = set()
    names = []
    for path in paths:
        name, again = f"{path.stem}.png", 1
        while name in taken:
            again += 1
            name = f"{path.stem}_{again}.png"
        taken.add(name)
        names.append(name)
    return names
