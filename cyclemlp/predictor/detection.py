"""Detectors as `cyclemlp det export` writes them: boxes with names and scores, and their masks.

Shapes: K classes, M candidates, N objects; h, w of the resized and H, W of the original image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from cyclemlp.data.images import to_channels, upright
from cyclemlp.data.resampling import as_array
from cyclemlp.data.transforms import Finish, Left
from cyclemlp.deploy import ExportError
from cyclemlp.errors import ConfigError
from cyclemlp.predictor.tasks import ImageSource, Network, Prepared, Wishes, encode_mask, scaled
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report import class_colour
from cyclemlp.text import counted

#: Objects with a smaller score are not given, unless another threshold is asked for.
LEAST_SCORE = 0.3
#: The value of a mask's pixels that belong to no object; so many objects an answer has at most.
NO_OBJECT = 255


class Detection:
    """Objects with boxes in the original image's pixels, turned upright as its EXIF data say; one image at a time.

    Args:
        model: its metadata are those of `cyclemlp det export`.
        class_names: in place of the model's own.

    Raises:
        ExportError: its images are prepared in a way unknown here.
        ConfigError: another number of class names.
    """

    has_maps = False
    channels, turned = 3, True

    def __init__(self, model: Network, class_names: Sequence[str] | None = None) -> None:
        metadata = model.metadata
        names = list(class_names or metadata.classes or [])
        if class_names and len(names) != metadata.num_classes:
            raise ConfigError(
                f"{counted(len(names), 'class name is', 'class names are')} given, and {model.path} has "
                f"{metadata.num_classes} classes"
            )
        self._model, self._names = model, names
        self.class_names: list[str] | None = names
        self._outputs = {output.kind: output.name for output in metadata.outputs}
        self._target, self._keep_ratio, self._stride, preprocessing = _preparation(model)
        self._finish = Finish(preprocessing)
        self.facts = {
            "name": metadata.model,
            "task": metadata.task,
            "runtime": model.runtime,
            "precision": model.precision,
            "classes": len(names),
            "preprocessing": metadata.extra["preparation"],
        }

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """As PaddleDetection's Resize: into the target's frame, or to the target."""
        low, high = min(self._target), max(self._target)
        if not self._keep_ratio:
            return self._target[1], self._target[0]
        return scaled(size, min(low / min(size), high / max(size)))

    def prepare(self, file: ImageSource) -> Prepared:
        """The whole image, upright and resized."""
        image = to_channels(upright(file.decode()), 3)
        seen = (0, 0, image.width, image.height)
        image = image.resize(self.resized(image.size), Image.Resampling.BILINEAR)
        return Prepared(as_array(image), seen)

    def run(self, batch: list[Prepared]) -> list[Mapping[str, np.ndarray]]:
        """`boxes` [N, 6] (class, score, x0, y0, x1, y1) and, if the detector gives them, `masks` [N, H, W]."""
        return [self._run_one(prepared) for prepared in batch]

    def _run_one(self, prepared: Prepared) -> Mapping[str, np.ndarray]:
        height, width, _ = prepared.pixels.shape
        image = self._finish(prepared.pixels[None], [Left()])
        below, right = -height % self._stride, -width % self._stride
        outputs = self._model(
            np.pad(image, ((0, 0), (0, 0), (0, below), (0, right))),
            im_shape=np.array([[height, width]], np.float32),
            scale_factor=np.array([[height / prepared.seen[3], width / prepared.seen[2]]], np.float32),
        )
        by_kind = {kind: outputs[name] for kind, name in self._outputs.items()}
        if "objects" in by_kind:
            objects = by_kind["objects"].reshape(-1, 6).copy()
        else:
            boxes, scores = by_kind["candidate boxes"][0], by_kind["candidate scores"][0]
            objects = suppressed(boxes, scores, **self._model.metadata.extra["nms"])
        objects[:, 2:] = objects[:, 2:].clip(0, np.array(prepared.seen[2:] * 2, np.float32))
        found = {"boxes": objects}
        if "object masks" in by_kind:
            found["masks"] = by_kind["object masks"][:, : int(prepared.seen[3]), : int(prepared.seen[2])]
        return found

    def answer(self, outputs: Mapping[str, np.ndarray], wishes: Wishes) -> dict[str, Any]:
        """`objects` by falling score; `mask`, whose values are their places in that list."""
        objects, masks = self.objects(outputs, wishes.threshold)
        objects = objects[:NO_OBJECT]
        for one in objects:
            one["colour"] = "#{:02x}{:02x}{:02x}".format(*class_colour(one["index"]))
        answer: dict[str, Any] = {"objects": objects}
        if masks is not None and objects:
            colours = [class_colour(one["index"]) for one in objects]
            places = mask_places(masks[:NO_OBJECT])
            numbers = np.where(places < 0, NO_OBJECT, places).astype(np.uint8)
            answer["mask"] = encode_mask(numbers, colours, transparent=NO_OBJECT)
        return answer

    def objects(
        self, outputs: Mapping[str, np.ndarray], threshold: float | None = None
    ) -> tuple[list[dict[str, Any]], np.ndarray | None]:
        """The objects by falling score, and their masks, bool [N, H, W], in the same order.

        Args:
            threshold: objects of a lower score are left out; None for 0.3.

        No masks where the detector gives none. Raises FloatingPointError if the boxes are not finite.
        """
        boxes = outputs["boxes"]
        if not np.isfinite(boxes).all():
            raise FloatingPointError("it gives boxes that are NaN or infinite; the weights may be broken")
        least = LEAST_SCORE if threshold is None else threshold
        ranked = np.argsort(-boxes[:, 1], kind="stable").tolist()
        order = [i for i in ranked if boxes[i, 0] >= 0 and boxes[i, 1] > 0 and boxes[i, 1] >= least]
        indices = [int(boxes[i, 0]) for i in order]
        objects = [
            {
                "index": index,
                "name": self._names[index] if index < len(self._names) else str(index),
                "score": float(boxes[i, 1]),
                "box": [round(float(edge), 2) for edge in boxes[i, 2:6]],
            }
            for i, index in zip(order, indices, strict=True)
        ]
        return objects, outputs["masks"][order] > 0 if "masks" in outputs else None


def mask_places(masks: np.ndarray) -> np.ndarray:
    """For each pixel the place of its object, the first of those that have it, or -1: bool [N, H, W] → int64 [H, W]."""
    places = np.full(masks.shape[1:], -1, np.int64)
    for place in reversed(range(len(masks))):  # the surest lie on top
        places[masks[place]] = place
    return places


def suppressed(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    score_threshold: float,
    nms_threshold: float,
    nms_top_k: int,
    keep_top_k: int,
) -> np.ndarray:
    """Multi-class non-maximum suppression.

    Args:
        boxes: [M, 4], x0 y0 x1 y1.
        scores: [K, M].
        score_threshold: candidates must have a higher score.
        nms_threshold: of two boxes of a class whose intersection over union is larger, the surer stays.
        nms_top_k: so many of the surest of each class are looked at; -1 for all.
        keep_top_k: so many objects are given at most; -1 for all.

    Returns:
        float32 [N, 6] by falling score: class, score, x0, y0, x1, y1.
    """
    rows = []
    for label, of_class in enumerate(scores):
        order = np.argsort(-of_class, kind="stable")
        order = order[of_class[order] > score_threshold][: nms_top_k if nms_top_k > 0 else None]
        while order.size:
            best, order = order[0], order[1:]
            rows.append([label, of_class[best], *boxes[best]])
            order = order[_overlap(boxes[best], boxes[order]) <= nms_threshold]
    found = np.array(rows, np.float32).reshape(-1, 6)
    return found[np.argsort(-found[:, 1], kind="stable")][: keep_top_k if keep_top_k > 0 else None]


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box [4] with others [M, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(0).prod(axis=1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - common
    return np.where(areas > 0, common / np.where(areas > 0, areas, 1), 0)


def _preparation(model: Network) -> tuple[tuple[int, int], bool, int, Preprocessing]:
    """Height and width of the target, whether the ratio is kept, the stride to pad to, the normalisation."""
    folder, reader = model.path, model.metadata.extra.get("preparation")
    if not isinstance(reader, Mapping):
        raise ExportError(f"{folder} says nothing of how images are prepared; export it again")
    target, keep_ratio, stride, preprocessing = None, True, 1, Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
    for transform in [*reader.get("sample_transforms", []), *reader.get("batch_transforms", [])]:
        ((name, how),) = transform.items()
        if name == "Resize":
            target, keep_ratio = how["target_size"], how.get("keep_ratio", True)
        elif name == "NormalizeImage" and how.get("is_scale", True):
            preprocessing = Preprocessing(mean=how["mean"], std=how["std"])
        elif name == "PadBatch":
            stride = max(1, how.get("pad_to_stride", 1))
        elif name not in ("Decode", "Permute"):
            raise ExportError(f"{folder} prepares images with {name}: {how}, which is unknown here")
    if target is None:
        raise ExportError(f"{folder} says no size to which images are resized; give TestReader a Resize")
    return (int(target[0]), int(target[1])), keep_ratio, stride, preprocessing
