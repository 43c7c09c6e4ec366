"""RetinaNet in operators that ONNX has: what paddle2onnx makes of the engine's own form, ONNX Runtime refuses.

The result is the engine's: the best anchors of each level, their boxes, and, unless it is left out, its multi-class
non-maximum suppression, which is written into the ONNX graph (paddle2onnx 2.1 gives other boxes).

Shapes: K classes, A anchors a position, M candidates, N objects; h and w of the prepared image.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn

from cyclemlp.deploy import ExportError

#: As the engine has it: exp of more would overflow.
LARGEST_LOG_SCALE = math.log(1000.0 / 16)


@dataclass(frozen=True)
class Nms:
    """Multi-class non-maximum suppression, as the configuration gives it.

    Attributes:
        score_threshold: candidates of a lower score are left out.
        nms_threshold: of two boxes of a class whose intersection over union is larger, the surer stays.
        nms_top_k: so many of the surest of each class are looked at; -1 for all.
        keep_top_k: so many objects are given at most; -1 for all.
    """

    score_threshold: float
    nms_threshold: float
    nms_top_k: int
    keep_top_k: int


class RetinaCandidates(nn.Layer):
    """A trained RetinaNet up to its non-maximum suppression, for one image.

    Args:
        model: the engine's.

    Raises:
        ExportError: it is another detector, or suppresses in a way that ONNX has not.
    """

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        if type(model).__name__ != "RetinaNet" or type(model.head).__name__ != "RetinaHead":
            raise ExportError(
                f"ONNX is written for RetinaNet; this is {type(model).__name__}, of which paddle2onnx does not "
                "translate every operator: use --format paddle"
            )
        nms = model.head.nms
        if type(nms).__name__ != "MultiClassNMS" or not nms.normalized or nms.nms_eta != 1:
            raise ExportError(
                "ONNX has non-maximum suppression as MultiClassNMS with normalized: true and nms_eta: 1 only; use "
                "--format paddle"
            )
        self.nms = Nms(
            float(nms.score_threshold), float(nms.nms_threshold), int(nms.nms_top_k), int(nms.keep_top_k)
        )
        self.model = model

    def forward(
        self, image: paddle.Tensor, scale_factor: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Candidates of an image.

        Args:
            image: float32 `[1, 3, h, w]`, prepared.
            scale_factor: float32 `[1, 2]`, of y and x, from the original image to the resized one.

        Returns:
            Boxes `[1, M, 4]`, x0 y0 x1 y1 in pixels of the original image, and scores `[1, K, M]`.
        """
        head = self.model.head
        all_logits, all_deltas = head(self.model.neck(self.model.backbone({"image": image})))
        generator = head.anchor_generator
        boxes, scores = [], []
        for level in range(len(all_logits)):  # zip(strict=True) does not trace
            logits, deltas = all_logits[level], all_deltas[level]
            anchors = _grid(logits, generator.strides[level], generator.offset, generator.cell_anchors[level])
            logits = logits.transpose([0, 2, 3, 1]).reshape([-1, head.num_classes])
            deltas = deltas.transpose([0, 2, 3, 1]).reshape([-1, 4])
            if head.nms_pre is not None:
                most = paddle.to_tensor(head.nms_pre, dtype="int64")
                _, best = paddle.topk(logits.max(axis=1), paddle.minimum(paddle.shape(logits)[0], most))
                logits, deltas, anchors = logits.gather(best), deltas.gather(best), anchors.gather(best)
            boxes.append(_boxes(deltas / paddle.to_tensor(head.weights, dtype="float32"), anchors))
            scores.append(nn.functional.sigmoid(logits))
        x_then_y = scale_factor.flip(axis=[1])
        found = paddle.concat(boxes) / paddle.concat([x_then_y, x_then_y], axis=1)
        return found.unsqueeze(0), paddle.concat(scores).transpose([1, 0]).unsqueeze(0)


def _grid(logits: paddle.Tensor, stride: float, offset: float, cell: paddle.Tensor) -> paddle.Tensor:
    """Anchors of a level, [h * w * A, 4], by rows; `cell` [A, 4] are those around a position."""
    height, width = paddle.shape(logits)[2], paddle.shape(logits)[3]
    xs = (paddle.arange(0, width, dtype="float32") + offset) * stride
    ys = (paddle.arange(0, height, dtype="float32") + offset) * stride
    x = paddle.tile(xs.reshape([1, -1]), [height, 1]).reshape([-1])
    y = paddle.tile(ys.reshape([-1, 1]), [1, width]).reshape([-1])
    return (paddle.stack([x, y, x, y], axis=1).reshape([-1, 1, 4]) + cell.reshape([1, -1, 4])).reshape(
        [-1, 4]
    )


def _boxes(deltas: paddle.Tensor, anchors: paddle.Tensor) -> paddle.Tensor:
    """Boxes [M, 4] from the head's deltas: centres in sizes of the anchor, sizes in logarithms."""
    sizes = anchors[:, 2:] - anchors[:, :2]
    centres = deltas[:, :2] * sizes + anchors[:, :2] + 0.5 * sizes
    halves = 0.5 * paddle.exp(paddle.clip(deltas[:, 2:], max=LARGEST_LOG_SCALE)) * sizes
    return paddle.concat([centres - halves, centres + halves], axis=1)


@contextlib.contextmanager
def translatable() -> Iterator[None]:
    """Within it, the engine's neck doubles its maps to a size; the float64 factor of its own ONNX does not take."""
    neck: Any = importlib.import_module("ppdet.modeling.necks.fpn")
    before, neck.F = neck.F, _Doubling()
    try:
        yield
    finally:
        neck.F = before


class _Doubling:
    """Stands for `paddle.nn.functional` in the neck's module."""

    def __getattr__(self, name: str) -> Any:
        return getattr(nn.functional, name)

    def interpolate(self, x: paddle.Tensor, scale_factor: float, mode: str) -> paddle.Tensor:
        size = [paddle.shape(x)[axis] * int(scale_factor) for axis in (2, 3)]
        return nn.functional.interpolate(x, size=size, mode=mode)


def add_nms(path: str, nms: Nms) -> None:
    """Give an ONNX file of `RetinaCandidates` the suppression.

    Its outputs are then the objects, float32 [N, 6] by falling score: class, score, x0, y0, x1, y1; and N, int64 [1].
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    boxes, scores = (output.name for output in graph.output)
    none = np.iinfo(np.int64).max
    constants = {
        "most_of_a_class": np.array(nms.nms_top_k if nms.nms_top_k > 0 else none, np.int64),
        "most": np.array([nms.keep_top_k if nms.keep_top_k > 0 else none], np.int64),
        "largest_overlap": np.array(nms.nms_threshold, np.float32),
        "least_score": np.array(nms.score_threshold, np.float32),
        "axis_0": np.array([0], np.int64),
        "class_column": np.array(1, np.int64),
        "box_column": np.array(2, np.int64),
        "class_and_box": np.array([1, 2], np.int64),
        "column": np.array([1], np.int64),
    }
    graph.initializer.extend(
        numpy_helper.from_array(value, f"nms.{name}") for name, value in constants.items()
    )

    def node(kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        names = [f"nms.{name}" if name not in (boxes, scores) else name for name in inputs]
        graph.node.append(
            helper.make_node(kind, names, [f"nms.{name}" if name else "" for name in outputs], **attributes)
        )

    thresholds = ["most_of_a_class", "largest_overlap", "least_score"]
    node("NonMaxSuppression", [boxes, scores, *thresholds], "chosen")  # [N', 3] of image, class, candidate
    # The score of each: from [K, M], by (class, candidate).
    node("Squeeze", [scores, "axis_0"], "all_scores")
    node("Gather", ["chosen", "class_and_box"], "places", axis=1)
    node("GatherND", ["all_scores", "places"], "chosen_scores")
    node("Shape", ["chosen_scores"], "there_are")
    node("Min", ["there_are", "most"], "count")
    node("TopK", ["chosen_scores", "count"], "best_scores", "best", axis=0)
    node("Gather", ["chosen", "best"], "best_chosen", axis=0)
    node("Gather", ["best_chosen", "class_column"], "classes", axis=1)
    node("Gather", ["best_chosen", "box_column"], "candidates", axis=1)
    node("Cast", ["classes"], "class_numbers", to=TensorProto.FLOAT)
    node("Squeeze", [boxes, "axis_0"], "all_boxes")
    node("Gather", ["all_boxes", "candidates"], "corners", axis=0)
    node("Unsqueeze", ["class_numbers", "column"], "class_numbers_column")
    node("Unsqueeze", ["best_scores", "column"], "scores_column")
    node("Concat", ["class_numbers_column", "scores_column", "corners"], "objects", axis=1)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("nms.objects", TensorProto.FLOAT, ["objects", 6]))
    graph.output.append(helper.make_tensor_value_info("nms.count", TensorProto.INT64, [1]))
    onnx.save(model, path)
