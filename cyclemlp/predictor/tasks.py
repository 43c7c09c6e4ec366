"""What is done for each kind of model: from an image to the network's input, from outputs to an answer.

Shapes: C channels, H height, W width of the input; h, w of maps; K classes; N objects.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from cyclemlp.data import imagenet_classes
from cyclemlp.data.resampling import as_array
from cyclemlp.data.transforms import Finish, Left, prepared
from cyclemlp.deploy import ExportError, ExportMetadata
from cyclemlp.deploy.runtimes import DETECTION_TASKS
from cyclemlp.errors import ConfigError
from cyclemlp.evaluation.metrics import log_softmax, top_classes
from cyclemlp.evaluation.multilabel.measures import as_thresholds, labels_above, sigmoid
from cyclemlp.evaluation.run import TOP
from cyclemlp.evaluation.tta import choose_views
from cyclemlp.metadata import CLASSIFICATION_TASKS, MULTI_LABEL
from cyclemlp.report import class_colour
from cyclemlp.text import counted

#: What an 8-bit mask can hold.
MOST_MASK_CLASSES = 256

Box = tuple[float, float, float, float]  # left, upper, right, lower
Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Prepared:
    """An image as the network gets it.

    Attributes:
        pixels: uint8 [H, W, C].
        seen: the part of the image that this is, in its pixels; beyond the image where black was added.
    """

    pixels: np.ndarray
    seen: Box


@dataclass(frozen=True)
class Wishes:
    """What a request asks for.

    Attributes:
        top: how many classes; None for 5, or of a model of several labels an image for all.
        maps: whether with their maps.
        threshold: of a model of several labels an image, in place of its own: the probability from which on a class
            counts as a label; of a detector the score from which on an object is given, None for 0.3.
    """

    top: int | None
    maps: bool
    threshold: float | None = None


class ImageSource(Protocol):
    """An image that can be decoded, such as `EncodedImage`.

    Attributes:
        size: width and height in pixels.
        upright_size: the same of the image as its EXIF data turn it.
    """

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def upright_size(self) -> tuple[int, int]: ...

    def decode(self) -> Image.Image:
        """The whole image, in its own mode."""


class Network(Protocol):
    """What computes: an `ExportedModel`, or a Paddle model that looks like one."""

    @property
    def path(self) -> object: ...
    @property
    def metadata(self) -> ExportMetadata: ...
    @property
    def runtime(self) -> str: ...
    @property
    def precision(self) -> str: ...

    def __call__(self, images: np.ndarray, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """float32 `[B, C, H, W]`, and a detector's further inputs → the outputs by name."""

    def output(self, kind: str) -> str | None:
        """The name of the first output of a kind, or None."""


class Task(Protocol):
    """One kind of model.

    Attributes:
        has_maps: whether it gives class maps.
        facts: what `/model` says of it.
        class_names: in class order, if it knows them.
        channels: of the image, 1 or 3.
        turned: whether images are turned as their EXIF data say.
    """

    channels: int
    turned: bool
    has_maps: bool
    facts: dict[str, Any]
    class_names: list[str] | None

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height to which an image of this size is resized, before any crop."""

    def prepare(self, file: ImageSource) -> Prepared:
        """Decode an image and bring it to the network's size. Raises DataError if it is damaged."""

    def run(self, batch: list[Prepared]) -> list[Outputs]:
        """The outputs for each of some images whose pixels have one shape."""

    def answer(self, outputs: Outputs, wishes: Wishes) -> dict[str, Any]:
        """JSON values from the outputs for one image. Raises FloatingPointError if they are not finite."""


def open_task(model: Network, class_names: Sequence[str] | None = None, *, tta: str = "none") -> Task:
    """What a model is for.

    Args:
        model: its metadata say it.
        class_names: in place of the model's own.
        tta: test-time augmentation of a classifier, see `choose_views`.

    Raises:
        ConfigError: an unknown `tta`, or one for a model that is no classifier.
        ExportError: it is for something that is not served, or prepares images in a way unknown here.
    """
    metadata = model.metadata
    if metadata.task in CLASSIFICATION_TASKS and model.output("logits"):
        return Classification(model, class_names, tta=tta)
    if tta != "none":
        raise ConfigError(f"tta is {tta!r}, which is for classification; {model.path} is for {metadata.task}")
    if metadata.task == "segmentation":
        return Segmentation(model, class_names)
    if metadata.task in DETECTION_TASKS:
        from cyclemlp.predictor.detection import Detection

        return Detection(model, class_names)
    raise ExportError(
        f"{model.path} is a model for {metadata.task} that gives {', '.join(o.kind for o in metadata.outputs)}; served "
        "are classification, segmentation and detection"
    )


def check_threshold(task: Task, threshold: float | None) -> None:
    """Raise ConfigError for a threshold that is not from 0 to 1, or that a task has no use for."""
    if threshold is None:
        return
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ConfigError(f"threshold is {threshold!r}; give a number from 0 to 1")
    if task.facts["task"] not in (MULTI_LABEL, *DETECTION_TASKS):
        raise ConfigError(
            f"threshold is {threshold:g}; it is for models of several labels an image and for detectors, and this is "
            f"one for {task.facts['task']}"
        )


class _OneModel:
    """What the tasks of a model with one input share."""

    def __init__(self, model: Network, class_names: Sequence[str] | None) -> None:
        metadata = model.metadata
        names = class_names or metadata.classes
        if names is None and metadata.num_classes == 1000:
            names = imagenet_classes()
        if class_names and metadata.num_classes not in (None, len(class_names)):
            raise ConfigError(
                f"{counted(len(class_names), 'class name is', 'class names are')} given, and {model.path} has "
                f"{metadata.num_classes} classes"
            )
        self._model, self._names = model, names
        self.class_names = list(names) if names else None
        self._preprocessing = metadata.preprocessing
        self.channels = metadata.preprocessing.channels
        self.turned = metadata.preprocessing.exif == "apply"
        self._finish = Finish(metadata.preprocessing)
        self.facts = {
            "name": metadata.model,
            "task": metadata.task,
            "runtime": model.runtime,
            "precision": model.precision,
            "classes": metadata.num_classes or (len(names) if names else None),
            "preprocessing": metadata.preprocessing.to_dict(),
        }

    def run(self, batch: list[Prepared]) -> list[Outputs]:
        """The outputs for each of some images whose pixels have one shape."""
        pixels = np.stack([prepared.pixels for prepared in batch])
        outputs = self._model(self._finish(pixels, [Left()] * len(batch)))
        return [{name: array[i] for name, array in outputs.items()} for i in range(len(batch))]

    def _name(self, index: int) -> str:
        return self._names[index] if self._names and index < len(self._names) else str(index)


class Classification(_OneModel):
    """Classes with probabilities; where the model has class maps, where it saw each of them.

    Of a model of several labels an image, all classes whose probability reaches their threshold.

    With test-time augmentation, `Prepared.pixels` are the crops one below the other, and there are no maps.
    """

    def __init__(self, model: Network, class_names: Sequence[str] | None, *, tta: str = "none") -> None:
        super().__init__(model, class_names)
        self._views = choose_views(tta)
        self._transform = self._views.transform(self._preprocessing)
        self._logits = str(model.output("logits"))
        self._maps = model.output("class maps") if tta == "none" else None
        self._thresholds: np.ndarray | None = None
        if model.metadata.task == MULTI_LABEL:
            self._thresholds = as_thresholds(model.metadata.thresholds, model.metadata.num_classes or 0)
            self.facts["thresholds"] = self._thresholds.tolist()
        self._averaged = self._views.classifier(
            lambda images: model(images)[self._logits], multi_label=self._thresholds is not None
        )
        self.has_maps = self._maps is not None

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """As the model's preprocessing says."""
        return scaled(size, self._scale(size))

    def prepare(self, file: ImageSource) -> Prepared:
        """As for evaluation, so that the answers are those of `cyclemlp predict`."""
        pixels = self._transform.begin(file.decode()).pixels
        # The crop in the image's own pixels: the middle, of the size that was resized to the input's.
        width, height = file.upright_size if self.turned else file.size
        scale = self._scale((width, height))
        across, down = (
            side / scale / 2 for side in (self._preprocessing.input_width, self._preprocessing.input_height)
        )
        seen = (width / 2 - across, height / 2 - down, width / 2 + across, height / 2 + down)
        return Prepared(pixels, seen)

    def run(self, batch: list[Prepared]) -> list[Outputs]:
        """The outputs for each of some images; with test-time augmentation the logits alone."""
        if self._views.name == "none":
            return super().run(batch)
        pixels = np.stack([prepared.pixels for prepared in batch])
        logits = np.asarray(self._averaged(self._finish(pixels, [Left()] * len(batch))))
        return [{self._logits: row} for row in logits]

    def _scale(self, size: tuple[int, int]) -> float:
        """By what an image of this width and height is resized."""
        p = self._preprocessing
        return max(p.resize_width / size[0], p.resize_height / size[1])

    def answer(self, outputs: Outputs, wishes: Wishes) -> dict[str, Any]:
        """`classes`, best first; a `map` [h][w] for each, if they are wanted and there are some."""
        logits = _finite(outputs[self._logits])[None]
        if self._thresholds is None:
            best = top_classes(logits, wishes.top or TOP)[0].tolist()
            probabilities = np.exp(log_softmax(logits))[0]
        else:
            probabilities = sigmoid(logits)[0]
            limits = (
                self._thresholds
                if wishes.threshold is None
                else np.full(len(probabilities), wishes.threshold)
            )
            best = labels_above(probabilities, limits)[: wishes.top]
        classes: list[dict[str, Any]] = [
            {"index": i, "name": self._name(i), "probability": float(probabilities[i])} for i in best
        ]
        if wishes.maps and self._maps is not None:
            for entry in classes:
                values = _finite(outputs[self._maps][entry["index"]])
                entry["map"] = [[float(f"{value:.4g}") for value in row] for row in values]
        return {"classes": classes}


class Segmentation(_OneModel):
    """A class for every pixel, as a mask in colours."""

    has_maps = False

    def __init__(self, model: Network, class_names: Sequence[str] | None) -> None:
        super().__init__(model, class_names)
        metadata = model.metadata
        self._least = metadata.min_size
        self._output = metadata.outputs[0]
        self._fixed: Sequence[int] | None = metadata.extra.get("size")  # height, width
        self._transforms = list(metadata.extra.get("transforms", []))
        for transform in self._transforms:
            if transform.get("type") not in (*_RESIZE, "Normalize"):
                raise ExportError(
                    f"{model.path} prepares images with {transform.get('type')}, which is unknown here; known are "
                    f"{', '.join(_RESIZE)} and Normalize: change val_dataset's transforms and export it again"
                )
        if self._names and len(self._names) > MOST_MASK_CLASSES:
            raise ExportError(
                f"{model.path} has {counted(len(self._names), 'class')}; masks are served with up to "
                f"{MOST_MASK_CLASSES}"
            )

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """As the model's validation images were."""
        for transform in self._transforms:
            resize = _RESIZE.get(transform["type"])
            size = resize(size, transform) if resize else size
        if self._fixed:
            size = (self._fixed[1], self._fixed[0])
        if min(size) < self._least:
            size = scaled(size, self._least / min(size))
        return size

    def prepare(self, file: ImageSource) -> Prepared:
        """The whole image, resized."""
        image = prepared(file.decode(), self._preprocessing)
        seen, size = (0, 0, image.width, image.height), self.resized(image.size)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        return Prepared(as_array(image), seen)

    def answer(self, outputs: Outputs, wishes: Wishes) -> dict[str, Any]:
        """`classes` by falling share of pixels, and `mask`, which is of the input's size."""
        classes = self.class_map(outputs)
        numbers, counts = np.unique(classes, return_counts=True)
        entries: list[dict[str, Any]] = []
        for index, count in sorted(
            zip(numbers.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1]
        ):
            colour = "#{:02x}{:02x}{:02x}".format(*class_colour(index))
            entries.append(
                {"index": index, "name": self._name(index), "share": count / classes.size, "colour": colour}
            )
        return {
            "classes": entries,
            "mask": encode_mask(classes, [class_colour(i) for i in range(MOST_MASK_CLASSES)]),
        }

    def class_map(self, outputs: Outputs, size: tuple[int, int] | None = None) -> np.ndarray:
        """The class of every pixel of the input, [H, W], or of an image of another width and height.

        Logits and probabilities are interpolated to that size, those of the classes that occur in the input; of a model
        that gives classes, the nearest one is taken. Raises FloatingPointError if they are not finite.
        """
        values = outputs[self._output.name]
        classes = values if values.ndim == 2 else _finite(values).argmax(axis=0)
        if size is None or size == (classes.shape[1], classes.shape[0]):
            return classes
        if values.ndim == 2:
            image = Image.fromarray(classes.astype(np.int32))
            return np.asarray(image.resize(size, Image.Resampling.NEAREST))
        found = np.zeros((size[1], size[0]), np.int64)
        highest = np.full(found.shape, -np.inf, np.float32)
        for index in np.unique(classes).tolist():  # one at a time: all of them may not fit into memory
            layer = Image.fromarray(np.asarray(values[index], np.float32))
            enlarged = np.asarray(layer.resize(size, Image.Resampling.BILINEAR))
            higher = enlarged > highest
            found[higher], highest[higher] = index, enlarged[higher]
        return found


def encode_mask(
    numbers: np.ndarray, colours: Sequence[tuple[int, int, int]], transparent: int | None = None
) -> dict[str, Any]:
    """Numbers [H, W] as a PNG with a palette, in base64."""
    height, width = numbers.shape
    image = Image.fromarray(numbers.astype(np.uint8))
    palette = [value for colour in colours for value in colour]
    image.putpalette(
        palette + [0] * (3 * MOST_MASK_CLASSES - len(palette))
    )  # every number must have a colour
    file = io.BytesIO()
    image.save(file, "PNG", **({} if transparent is None else {"transparency": transparent}))
    return {"width": width, "height": height, "png": base64.b64encode(file.getvalue()).decode()}


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise FloatingPointError(
            "it gives NaN or infinity; the weights or the preprocessing (mean, std) may be broken"
        )
    return values


# ---- PaddleSeg's transforms that change the size: (width, height) → (width, height)


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Both sides times a factor, at least 1."""
    width, height = (max(1, round(side * factor)) for side in size)
    return width, height


def _by_target(size: tuple[int, int], transform: Mapping[str, Any]) -> tuple[int, int]:
    width, height = transform.get("target_size", (512, 512))
    if not transform.get("keep_ratio", False):
        return int(width), int(height)
    # The target is a frame, in whichever direction the image lies.
    factor = min(max(width, height) / max(size), min(width, height) / min(size))
    return scaled(size, factor)


_RESIZE = {
    "Resize": _by_target,
    "ResizeByShort": lambda size, transform: scaled(size, transform["short_size"] / min(size)),
    "ResizeByLong": lambda size, transform: scaled(size, transform["long_size"] / max(size)),
}
