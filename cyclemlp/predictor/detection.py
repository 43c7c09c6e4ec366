"""Detectors as `cyclemlp det export --format onnx` writes them: boxes with names and scores, and their masks.

Shapes: N objects; h, w of the resized and H, W of the original picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyclemlp.data.pictures import to_channels
from cyclemlp.data.resampling import as_array
from cyclemlp.data.transforms import Finish, Left
from cyclemlp.deploy import ExportError
from cyclemlp.deploy.runtimes import require
from cyclemlp.errors import ConfigError
from cyclemlp.predictor.tasks import ImageSource, Prepared, Wishes, encode_mask, scaled
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report import class_colour

TASKS = ("detection", "instance segmentation")
#: Objects with a smaller score are not given.
LEAST_SCORE = 0.3
#: The value of a mask's pixels that belong to no object.
NO_OBJECT = 255


def detector_facts(folder: Path) -> dict[str, Any] | None:
    """What an exported detector says of itself; None if a folder holds none."""
    path = folder / "metadata.json"
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ExportError(f"{path} is damaged ({error}); export the model again") from error
    return facts if isinstance(facts, dict) and facts.get("task") in TASKS else None


class Detection:
    """Objects with boxes in the original picture's pixels; one picture at a time, as detectors are exported.

    Args:
        folder: with model.onnx and metadata.json.
        facts: from `detector_facts`.
        runtime: only ONNX Runtime.
        threads: how many it may use; None for its own choice.

    Raises:
        ExportError: there is no model.onnx, it cannot be read, or its pictures are prepared in a way unknown here.
        ConfigError: another runtime.
    """

    has_maps = False
    channels, turned = 3, False

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], runtime: str | None, threads: int | None
    ) -> None:
        if runtime not in (None, "onnxruntime"):
            raise ConfigError(f"detectors are served by onnxruntime, not by {runtime}; leave --runtime out")
        if not (folder / "model.onnx").is_file():
            raise ExportError(
                f"{folder} has no model.onnx; detectors are served from `cyclemlp det export --format onnx`"
            )
        require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a kind for each cause
            raise ExportError(f"{folder / 'model.onnx'}: ONNX Runtime cannot read it: {error}") from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._names = [category["name"] for category in facts["categories"]]
        self.class_names: list[str] | None = self._names
        self._target, self._keep_ratio, self._stride, preprocessing = _preparation(
            folder, facts["preparation"]
        )
        self._finish = Finish(preprocessing)
        self.facts = {
            "name": facts["architecture"],
            "task": facts["task"],
            "runtime": "onnxruntime",
            "precision": "float32",
            "classes": len(self._names),
            "preprocessing": facts["preparation"],
        }

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """As PaddleDetection's Resize: into the target's frame, or to the target."""
        low, high = min(self._target), max(self._target)
        if not self._keep_ratio:
            return self._target[1], self._target[0]
        return scaled(size, min(low / min(size), high / max(size)))

    def prepare(self, file: ImageSource) -> Prepared:
        """The whole picture, resized."""
        image = to_channels(file.decode(), 3)
        image = image.resize(self.resized(image.size), Image.Resampling.BILINEAR)
        return Prepared(as_array(image), (0, 0, file.size[0], file.size[1]))

    def run(self, batch: list[Prepared]) -> list[Mapping[str, np.ndarray]]:
        """`boxes` [N, 6] (class, score, x0, y0, x1, y1) and, if the detector gives them, `masks` [N, H, W]."""
        return [self._run_one(prepared) for prepared in batch]

    def _run_one(self, prepared: Prepared) -> Mapping[str, np.ndarray]:
        height, width, _ = prepared.pixels.shape
        image = self._finish(prepared.pixels[None], [Left()])
        below, right = -height % self._stride, -width % self._stride
        values = {
            "image": np.pad(image, ((0, 0), (0, 0), (0, below), (0, right))),
            "im_shape": np.array([[height, width]], np.float32),
            "scale_factor": np.array([[height / prepared.seen[3], width / prepared.seen[2]]], np.float32),
        }
        outputs = self._session.run(None, {name: values[name] for name in self._inputs})
        found = {"boxes": next(output for output in outputs if output.ndim == 2)}
        if masks := [output for output in outputs if output.ndim == 3]:
            found["masks"] = masks[0]
        return found

    def answer(self, outputs: Mapping[str, np.ndarray], wishes: Wishes) -> dict[str, Any]:
        """`objects` by falling score; `mask`, whose values are their places in that list."""
        objects, places = self.objects(outputs)
        for one in objects:
            one["colour"] = "#{:02x}{:02x}{:02x}".format(*class_colour(one["index"]))
        answer: dict[str, Any] = {"objects": objects}
        if places is not None and objects:
            colours = [class_colour(one["index"]) for one in objects]
            numbers = np.where(places < 0, NO_OBJECT, places).astype(np.uint8)
            answer["mask"] = encode_mask(numbers, colours, transparent=NO_OBJECT)
        return answer

    def objects(self, outputs: Mapping[str, np.ndarray]) -> tuple[list[dict[str, Any]], np.ndarray | None]:
        """The objects by falling score, and for each pixel, int64 [H, W], the place of its object, or -1.

        No places where the detector gives no masks. Raises FloatingPointError if the boxes are not finite.
        """
        boxes = outputs["boxes"]
        if not np.isfinite(boxes).all():
            raise FloatingPointError("it gives boxes that are NaN or infinite; the weights may be broken")
        ranked = np.argsort(-boxes[:, 1], kind="stable").tolist()
        order = [i for i in ranked if boxes[i, 0] >= 0 and boxes[i, 1] >= LEAST_SCORE][:NO_OBJECT]
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
        if "masks" not in outputs:
            return objects, None
        masks = outputs["masks"]
        places = np.full(masks.shape[1:], -1, np.int64)
        for place in reversed(range(len(order))):  # the surest lie on top
            places[masks[order[place]] > 0] = place
        return objects, places


def _preparation(folder: Path, reader: Mapping[str, Any]) -> tuple[tuple[int, int], bool, int, Preprocessing]:
    """Height and width of the target, whether the ratio is kept, the stride to pad to, the normalisation."""
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
            raise ExportError(f"{folder} prepares pictures with {name}: {how}, which is unknown here")
    if target is None:
        raise ExportError(f"{folder} says no size to which pictures are resized; give TestReader a Resize")
    return (int(target[0]), int(target[1])), keep_ratio, stride, preprocessing
