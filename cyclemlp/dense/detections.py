"""The objects that a detector found, and files of them: drawings, COCO's JSON, a table. Without the engine, so that
exported detectors need none.

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

from cyclemlp.dense.images import read_image
from cyclemlp.errors import DataError, MissingDependencyError
from cyclemlp.files import write_text
from cyclemlp.predictor import Predictor
from cyclemlp.report import draw_detections


@dataclass(frozen=True)
class Category:
    """A class of objects.

    Attributes:
        id: its number in COCO files.
        name: for people.
    """

    id: int
    name: str


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


class ExportedDetector:
    """A detector that `cyclemlp det export` wrote, as a callable from an image to its objects.

    Args:
        predictor: of such a model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predict = predictor
        self._has_masks = predictor.task == "instance segmentation"

    def __call__(self, image: np.ndarray) -> Detections:
        """What is in an image, RGB uint8 [H, W, 3] of any size.

        Raises:
            FloatingPointError: the model gives boxes that are not finite.
        """
        objects = self._predict(image).objects
        boxes = np.array([one.box for one in objects], np.float32).reshape(-1, 4)
        labels = np.array([one.index for one in objects], np.int64)
        scores = np.array([one.score for one in objects], np.float32)
        masks = None
        if self._has_masks:
            masks = np.array([one.mask for one in objects], bool).reshape(-1, *image.shape[:2])
        good = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return Detections(boxes[good], labels[good], scores[good], None if masks is None else masks[good])


def exported_categories(predictor: Predictor) -> list[Category]:
    """The classes of an exported detector, with their ids in COCO files, from 1 where it does not say them."""
    names, said = predictor.classes or [], predictor.metadata.extra.get("categories")
    entries = said if isinstance(said, list) else []
    ids = [one["id"] for one in entries if isinstance(one, Mapping) and type(one.get("id")) is int]
    if len(ids) != len(names) or len(set(ids)) != len(ids):
        ids = list(range(1, len(names) + 1))
    return [Category(number, name) for number, name in zip(ids, names, strict=True)]


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


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask, bool [H, W], as COCO's compressed run lengths.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    try:
        from pycocotools import mask as coco_mask
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "pycocotools is not installed, which writes masks in COCO's form: `pip install pycocotools`"
        ) from error
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": runs["size"], "counts": runs["counts"].decode("ascii")}


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
        entry["segmentation"] = run_lengths(found.masks[i])
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
