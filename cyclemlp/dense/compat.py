"""Compatibility patches: where PaddleSeg 2.8 and PaddleDetection 2.6 break under Paddle 3, and what replaces it.

They are applied by importing `cyclemlp.dense.seg` or `.det`, or by `cyclemlp.dense.patch()`, only to the versions they
were written for, so that the engines' own loops and tools work too. Importing this module changes nothing.

Each patch says what it patches, for which version, and how to see that it is no longer needed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from cyclemlp.dense.versions import ENGINES, installed_version
from cyclemlp.text import counted

PADDLE_3 = SpecifierSet(">=3.0,<4")
_applied: dict[str, list[Patch]] = {}


@dataclass(frozen=True)
class Patch:
    """One place of an engine that breaks.

    Attributes:
        engine: "paddleseg" or "ppdet".
        place: module and function.
        what: what breaks without it, and what it does instead.
        until: how to see that it is no longer needed.
        apply: replaces the place; called once.
        versions: of the engine that it was written for.
        paddle: versions of Paddle under which the place breaks.
    """

    engine: str
    place: str
    what: str
    until: str
    apply: Callable[[], None]
    versions: SpecifierSet
    paddle: SpecifierSet = PADDLE_3

    @property
    def needed(self) -> bool:
        """Whether the installed versions are those it was written for."""
        engine = installed_version(ENGINES[self.engine].package)
        paddle = installed_version("paddlepaddle")
        if engine is None or paddle is None:
            return False
        return engine in self.versions and paddle.split("+")[0] in self.paddle


def apply_patches(engine: str) -> list[Patch]:
    """Apply an engine's patches that the installed versions need; a second call changes nothing more.

    Args:
        engine: "paddleseg" or "ppdet".

    Returns:
        Those in force, in the order of this file; our commands print them.
    """
    if engine not in _applied:
        _applied[engine] = [patch for patch in PATCHES if patch.engine == engine and patch.needed]
        for patch in _applied[engine]:
            patch.apply()
    return _applied[engine]


def in_words(patches: Sequence[Patch]) -> str:
    """Which patches of an engine are in force, as a sentence for people."""
    return (
        f"{ENGINES[patches[0].engine].title} with {counted(len(patches), 'compatibility patch')}: "
        + ", ".join(patch.place for patch in patches)
    )


# ---- both


class _Images:
    """Stands for OpenCV inside a module of the engine that reads images; they are read as everywhere else here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("cv2"), name)

    def imread(self, path: Any, flags: int = 1) -> Any:
        from cyclemlp.dense.images import read_image

        return self._blue_first(read_image, flags, Path(path))

    def imdecode(self, content: Any, flags: int) -> Any:
        from cyclemlp.dense.images import decode_image

        return self._blue_first(decode_image, flags, content.tobytes(), "image")

    def _blue_first(self, read: Callable[..., Any], flags: int, *given: Any) -> Any:
        import numpy as np

        grey = flags == self.IMREAD_GRAYSCALE
        pixels = np.asarray(read(*given, channels=1 if grey else 3))
        return pixels if grey else np.ascontiguousarray(pixels[..., ::-1])


def _images(module: str) -> None:
    """OpenCV reads other formats than Pillow does, and answers EXIF data otherwise in some of them."""
    place: Any = importlib.import_module(module)
    place.cv2 = _Images()


def _reader(engine: str, module: str, versions: SpecifierSet) -> Patch:
    return Patch(
        engine,
        f"{module}.cv2",
        "images are read by OpenCV, whose formats and EXIF differ from Pillow's; they are read as everywhere here",
        "a HEIC image trains",
        functools.partial(_images, module),
        versions,
        SpecifierSet(),
    )


# ---- PaddleSeg

_PADDLESEG_2_8 = SpecifierSet(">=2.8.0,<2.9")


def _seg_losses_of_one_element() -> None:
    """The training loop sums its log from `loss.numpy()[0]`; Paddle 3's losses have no axis."""
    module: Any = importlib.import_module("paddleseg.core.train")
    computed = module.loss_computation

    def loss_computation(*args: Any, **named: Any) -> list[Any]:
        return [loss.reshape([1]) if loss.ndim == 0 else loss for loss in computed(*args, **named)]

    module.loss_computation = loss_computation


def _seg_areas() -> None:
    """Counts of pixels by class were concatenated from scalars without an axis."""
    import paddle
    from paddleseg.utils import metrics

    def calculate_area(pred: Any, label: Any, num_classes: int, ignore_index: int = 255) -> tuple[Any, ...]:
        pred, label = pred.flatten().astype("int64"), label.flatten().astype("int64")
        if pred.shape != label.shape:
            raise ValueError(
                f"the prediction has {counted(pred.shape[0], 'pixel')} and the label {label.shape[0]}: they differ in "
                "size"
            )

        def count(values: Any) -> Any:  # [num_classes]; bincount takes no empty tensor
            known = values[paddle.logical_and(values >= 0, values < num_classes)]
            if known.shape[0] == 0:
                return paddle.zeros([num_classes], dtype="int64")
            return paddle.bincount(known, minlength=num_classes).astype("int64")

        valid = label != ignore_index
        return count(pred[paddle.logical_and(valid, pred == label)]), count(pred[valid]), count(label)

    metrics.calculate_area = calculate_area


def _seg_cross_entropy() -> None:
    """The mean over pixels multiplied a float mask by integer labels and integer ones."""
    import paddle
    from paddleseg.models.losses import cross_entropy_loss

    def mean_over_pixels(self: Any, logit: Any, label: Any, semantic_weights: Any, loss: Any) -> Any:
        # Shapes: logit [B, H, W, K], label [B, H, W], loss of each pixel [B, H, W] or [B, H, W, 1].
        counted = (label != self.ignore_index).astype("float32")
        mask = counted if self.avg_non_ignore else paddle.ones_like(counted)
        loss = loss.reshape(label.shape) * mask
        if semantic_weights is not None:
            loss = loss * semantic_weights
        weight = paddle.ones_like(mask)
        if self.weight is not None:
            classes = (label * mask.astype(label.dtype)).clip(0, len(self.weight) - 1)
            weight = paddle.gather(self.weight, classes.flatten()).reshape(label.shape)
        if self.top_k_percent_pixels == 1.0:
            return loss.mean() / ((mask * weight).mean() + self.EPS)
        hardest, where = paddle.topk(loss.flatten(), int(self.top_k_percent_pixels * loss.size))
        return hardest.mean() / (paddle.gather(weight.flatten(), where).mean() + self.EPS)

    cross_entropy_loss.CrossEntropyLoss._post_process_loss = mean_over_pixels


def _seg_crop() -> None:
    """With `category_max_ratio`, the label's crop took the image's place."""
    import numpy as np
    from paddleseg.transforms import functional, transforms

    cropping: Any = transforms.RandomPaddingCrop
    keep = cropping.__call__

    def crop(self: Any, data: dict[str, Any]) -> dict[str, Any]:
        if self.category_max_ratio >= 1 or data["img"].shape[:2] == self.crop_size or "label" not in data:
            whole: dict[str, Any] = keep(self, data)
            return whole
        data = self._padding(data)
        size = data["img"].shape[:2]
        for _ in range(self.loop_times):
            place = self._get_crop_coordinates(size)
            labels, counts = np.unique(functional.crop(data["label"], place), return_counts=True)
            counts = counts[labels != self.ignore_index]
            if len(counts) > 1 and counts.max() / counts.sum() < self.category_max_ratio:
                break
        for key in ("img", *data.get("gt_fields", [])):
            data[key] = functional.crop(data[key], place)
        return data

    cropping.__call__ = crop


class _Masks:
    """Stands for `PIL.Image` inside a module of the engine that opens masks: `open` gives their classes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("PIL.Image"), name)

    def open(self, path: Any) -> Any:
        return importlib.import_module("cyclemlp.dense.seg.masks").read_mask(path)


def _seg_masks(module: str) -> None:
    """Masks of 16 bits became zeros, 1-bit ones booleans, and colours broke somewhere later."""
    place: Any = importlib.import_module(module)
    place.Image = _Masks()


_PADDLESEG = tuple(
    Patch("paddleseg", place, what, until, apply, _PADDLESEG_2_8)
    for place, what, until, apply in (
        (
            "paddleseg.core.train.loss_computation",
            "losses without an axis break the log of the training loop; they get one",
            "a training run of more than `log_iters` steps ends without IndexError",
            _seg_losses_of_one_element,
        ),
        (
            "paddleseg.utils.metrics.calculate_area",
            "concat of tensors without an axis; the pixels are counted by bincount",
            "paddleseg.utils.metrics.calculate_area of two small tensors gives counts",
            _seg_areas,
        ),
        (
            "paddleseg.models.losses.CrossEntropyLoss._post_process_loss",
            "product of a float mask and integer labels; both are floats",
            "CrossEntropyLoss()(logits, labels) gives a number, with `weight` given too",
            _seg_cross_entropy,
        ),
        (
            "paddleseg.transforms.transforms.RandomPaddingCrop.__call__",
            "with category_max_ratio the label's crop takes the image's place; both are cropped",
            "RandomPaddingCrop(category_max_ratio=0.75) leaves the image its channels",
            _seg_crop,
        ),
    )
) + tuple(
    Patch(
        "paddleseg",
        f"{module}.Image",
        "masks of 16 bits are read as 0; they are read as their numbers, or refused",
        "a 16-bit PNG mask of ones trains as ones",
        functools.partial(_seg_masks, module),
        _PADDLESEG_2_8,
    )
    for module in ("paddleseg.transforms.transforms", "paddleseg.datasets.ade")
)
_PADDLESEG += (_reader("paddleseg", "paddleseg.transforms.transforms", _PADDLESEG_2_8),)


# ---- PaddleDetection

_PPDET_2_6 = SpecifierSet(">=2.6.0,<2.7")


class _ConcatOfScalars:
    """Stands for the module `paddle` inside a module of the engine: `concat` takes tensors without an axis too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("paddle"), name)

    def concat(self, x: Any, axis: Any = 0, name: Any = None) -> Any:
        import paddle

        if isinstance(x, list | tuple):  # and not the array of a traced loop, which has no end
            x = [t.reshape([1]) if t.ndim == 0 else t for t in x]
        return paddle.concat(x, axis, name)


def _det_concat(module: str) -> None:
    """Counts and scales, a scalar an image, are concatenated."""
    place: Any = importlib.import_module(module)
    place.paddle = _ConcatOfScalars()


def _det_proposals_for_export() -> None:
    """For one image, as in export, the number of proposals has no axis."""
    head: Any = importlib.import_module("ppdet.modeling.proposal_generator.rpn_head").RPNHead
    generate = head._gen_proposal

    def generate_proposals(self: Any, scores: Any, deltas: Any, anchors: Any, inputs: Any) -> Any:
        rois, count = generate(self, scores, deltas, anchors, inputs)
        return rois, count.reshape([-1])

    head._gen_proposal = generate_proposals


def _det_nms() -> None:
    """Non-maximum suppression adds its operator to a program of the old kind when it is traced."""
    import paddle

    ops: Any = importlib.import_module("ppdet.modeling.ops")

    def multiclass_nms(
        bboxes: Any,
        scores: Any,
        score_threshold: float,
        nms_top_k: int,
        keep_top_k: int,
        nms_threshold: float = 0.3,
        normalized: bool = True,
        nms_eta: float = 1.0,
        background_label: int = -1,
        return_index: bool = False,
        return_rois_num: bool = True,
        rois_num: Any = None,
        name: str | None = None,
    ) -> tuple[Any, Any, Any]:
        found, index, count = paddle._C_ops.multiclass_nms3(
            bboxes,
            scores,
            rois_num,
            float(score_threshold),
            nms_top_k,
            keep_top_k,
            float(nms_threshold),
            normalized,
            float(nms_eta),
            background_label,
        )
        return found, count if return_rois_num else None, index if return_index else None

    ops.multiclass_nms = paddle.jit.not_to_static(multiclass_nms)


def _det_rle() -> None:
    """The targets of masks are drawn from polygons only, although the readers pass COCO's run lengths on."""
    import numpy as np
    import paddle
    from pycocotools import mask as coco_mask

    target: Any = importlib.import_module("ppdet.modeling.proposal_generator.target")
    from_polygons = target.rasterize_polygons_within_box

    def rasterize(segmentation: Any, box: Any, resolution: int) -> Any:
        if not isinstance(segmentation, Mapping):
            return from_polygons(segmentation, box, resolution)
        if isinstance(segmentation["counts"], list):
            segmentation = coco_mask.frPyObjects(segmentation, *segmentation["size"])
        mask = coco_mask.decode(segmentation)
        # The pixel under the centre of each cell of the box, as polygons are drawn; nothing outside the image.
        cells = (np.arange(resolution) + 0.5) / resolution
        x, y = (np.floor(box[i] + cells * (box[i + 2] - box[i])).astype(int) for i in (0, 1))
        inside = ((y >= 0) & (y < mask.shape[0]))[:, None] & ((x >= 0) & (x < mask.shape[1]))
        drawn = mask[y.clip(0, mask.shape[0] - 1)][:, x.clip(0, mask.shape[1] - 1)] * inside
        return paddle.to_tensor(drawn, dtype="int32")

    target.rasterize_polygons_within_box = rasterize


_PPDET = (
    *(
        Patch(
            "ppdet",
            module,
            f"concat of tensors without an axis ({which}); they get one",
            f"{where} of Mask R-CNN ends without ValueError",
            functools.partial(_det_concat, module),
            _PPDET_2_6,
        )
        for module, which, where in (
            ("ppdet.modeling.proposal_generator.rpn_head", "numbers of proposals", "a training step"),
            ("ppdet.modeling.proposal_generator.target", "numbers of sampled proposals", "a training step"),
            ("ppdet.modeling.post_process", "numbers of finds, scales", "a prediction"),
        )
    ),
    Patch(
        "ppdet",
        "ppdet.modeling.proposal_generator.rpn_head.RPNHead._gen_proposal",
        "in export, a number of proposals without an axis; it gets one",
        "Mask R-CNN is exported without IndexError",
        _det_proposals_for_export,
        _PPDET_2_6,
    ),
    Patch(
        "ppdet",
        "ppdet.modeling.ops.multiclass_nms",
        "traced for export, its operator is added to a program of the old kind; it is called",
        "RetinaNet is exported without AttributeError",
        _det_nms,
        _PPDET_2_6,
    ),
    Patch(
        "ppdet",
        "ppdet.modeling.proposal_generator.target.rasterize_polygons_within_box",
        "masks given as COCO's run lengths (RLE) end in an error; targets are drawn from them too",
        "Mask R-CNN takes a training step on a data set whose masks are run lengths",
        _det_rle,
        _PPDET_2_6,
    ),
    _reader("ppdet", "ppdet.data.transform.operators", _PPDET_2_6),
)


# ---- the list

PATCHES: tuple[Patch, ...] = (*_PADDLESEG, *_PPDET)
