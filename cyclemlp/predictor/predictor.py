"""`Predictor`: a model, its preprocessing and its classes behind one call.

Shapes: B images, C channels, H height, W width of the network's input.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Union, overload

import numpy as np
from PIL import Image

from cyclemlp.data.images import DecodedImage, EncodedImage
from cyclemlp.deploy import ExportedModel, ExportMetadata, Output, is_exported, load_exported
from cyclemlp.errors import ConfigError, DataError, ModelError
from cyclemlp.predictor.detection import Detection, mask_places
from cyclemlp.predictor.tasks import (
    ImageSource,
    Prepared,
    Segmentation,
    Wishes,
    check_threshold,
    open_task,
)

#: A path, a Pillow image, or an array uint8 [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (RGBA).
ImageLike = Union[str, "os.PathLike[str]", Image.Image, np.ndarray]


@dataclass(frozen=True)
class NamedClass:
    """A class that a model gives to an image.

    Attributes:
        index: its number.
        name: its name, or its number as text where the model knows no names.
        probability: in 0..1, of a classifier.
        share: of all pixels, in 0..1, of a segmentation model.
    """

    index: int
    name: str
    probability: float | None = None
    share: float | None = None

    def __str__(self) -> str:
        amount = self.probability if self.probability is not None else self.share
        return f"{self.name} {amount:.1%}"


@dataclass(frozen=True)
class NamedObject:
    """An object that a detector found.

    Attributes:
        index, name: of its class.
        score: in 0..1.
        box: left, upper, right, lower, in pixels of the image.
        mask: of a detector with masks its pixels, bool [height, width] of the image, those under other objects too.
    """

    index: int
    name: str
    score: float
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.name} {self.score:.1%} at {', '.join(f'{edge:.0f}' for edge in self.box)}"


@dataclass(frozen=True)
class ImagePrediction:
    """What a model says of one image; `str` of it is for people.

    Attributes:
        image: the image's path, or "image 3" for the third that was given without one.
        classes: the most probable classes, best first; of a model of several labels an image its labels, perhaps none;
            of a segmentation model, those in the image, by falling share.
        objects: of a detector, by falling score.
        mask: of a segmentation model, the class of each pixel, int64 [height, width] of the image; of a detector with
            masks, the place in `objects` of each pixel's object, the surest of several, or -1.
        is_detection: whether the model gives objects, and no classes.
    """

    image: str
    classes: tuple[NamedClass, ...] = ()
    objects: tuple[NamedObject, ...] = ()
    mask: np.ndarray | None = None
    is_detection: bool = field(default=False, repr=False)

    @property
    def best(self) -> NamedClass:
        """The most probable class, or the largest. IndexError where there is none."""
        return self.classes[0]

    def __str__(self) -> str:
        return f"{self.image}: " + (", ".join(map(str, self.classes or self.objects)) or "nothing found")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without masks."""
        classes = [
            {key: value for key, value in vars(one).items() if value is not None} for one in self.classes
        ]
        values: dict[str, Any] = {"image": self.image}
        if not self.is_detection:
            values["classes"] = classes
        else:
            values["objects"] = [
                {"index": one.index, "name": one.name, "score": one.score, "box": list(one.box)}
                for one in self.objects
            ]
        return values


class Predictor:
    """A model with its preprocessing and class names.

    Args:
        source: a run's folder of `cyclemlp train`, a checkpoint in it or a weight file of ours, or what `cyclemlp
            export`, `cyclemlp seg export` or `cyclemlp det export` wrote.
        top: classes that a classifier gives for each image: None for 5; of a model of several labels an image at most
            so many, and None for all.
        threshold: of a model of several labels an image, in place of its own: the probability from which on a class
            counts as a label; of a detector the score from which on an object is given, None for 0.3.
        batch_size: images in one step.
        classes: class names in place of the model's own.
        tta: test-time augmentation of a classifier: "flip" averages the probabilities over an image and its mirror
            image, "crops" over five crops and theirs; it takes 2 or 10 times the time.
        runtime, precision, threads: of an exported model, as for `load_exported`.

    Attributes:
        task: "classification", "multi-label classification", "segmentation", "detection" or "instance segmentation".
        classes: the class names in order, or None where the model knows none.
        metadata: what the model says of itself, with its name as `model`.
        runtime, precision: what runs it, "paddle" or a runtime of `load_exported`, and in which precision.
        threshold: as above; it may be changed.

    Raises:
        WeightsError, ExportError, ConfigError: the source cannot be opened, with what to do.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        top: int | None = None,
        threshold: float | None = None,
        batch_size: int = 32,
        classes: Sequence[str] | None = None,
        tta: str = "none",
        runtime: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
    ) -> None:
        for name, value in (("top", top), ("batch_size", batch_size)):
            if name == "top" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is {value!r}; give a whole number from 1")
        self._batch_size = batch_size
        network = _open_network(Path(source), runtime, precision, threads)
        self._task = open_task(network, classes, tta=tta)
        self._wishes = Wishes(top, maps=False)
        self.threshold = threshold
        self.task: str = self._task.facts["task"]
        self.classes: list[str] | None = self._task.class_names
        self.metadata: ExportMetadata = network.metadata
        self.runtime, self.precision = network.runtime, network.precision

    @property
    def threshold(self) -> float | None:
        """As above. Setting it raises ConfigError for a number that is not from 0 to 1, and for a model without one."""
        return self._wishes.threshold

    @threshold.setter
    def threshold(self, value: float | None) -> None:
        check_threshold(self._task, value)
        self._wishes = replace(self._wishes, threshold=value)

    @overload
    def __call__(self, images: ImageLike) -> ImagePrediction: ...
    @overload
    def __call__(self, images: Sequence[ImageLike]) -> list[ImagePrediction]: ...
    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> ImagePrediction | list[ImagePrediction]:
        """What is in an image, or in each of a list of images.

        Args:
            images: a path, a Pillow image or an array uint8 [H, W] or [H, W, 1 or 3], RGB; or a list of them.

        Raises:
            DataError: an image cannot be read; the message names it.
            FloatingPointError: the model gives NaN or infinity.
        """
        if isinstance(images, str | os.PathLike | Image.Image | np.ndarray):
            return next(self._predict([images]))
        return list(self._predict(images))

    def _predict(self, images: Sequence[ImageLike]) -> Iterator[ImagePrediction]:
        sources = iter(_opened(image, number) for number, image in enumerate(images, 1))
        while batch := list(islice(sources, self._batch_size)):
            prepared = [self._task.prepare(source) for _, source in batch]
            for (name, source), outputs in zip(batch, self._run(prepared), strict=True):
                size = source.upright_size if self._task.turned else source.size
                yield self._named(name, size, outputs)

    def _run(self, prepared: Sequence[Prepared]) -> list[Any]:
        """Images of one size run together."""
        results: list[Any] = [None] * len(prepared)
        shapes: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(prepared):
            shapes.setdefault(one.pixels.shape, []).append(place)
        for places in shapes.values():
            for place, outputs in zip(places, self._task.run([prepared[i] for i in places]), strict=True):
                results[place] = outputs
        return results

    def _named(self, name: str, size: tuple[int, int], outputs: Any) -> ImagePrediction:
        task = self._task
        if isinstance(task, Detection):
            found, masks = task.objects(outputs, self._wishes.threshold)
            objects = tuple(
                NamedObject(
                    one["index"],
                    one["name"],
                    one["score"],
                    tuple(one["box"]),
                    None if masks is None else masks[place],
                )
                for place, one in enumerate(found)
            )
            places = None if masks is None else mask_places(masks)
            return ImagePrediction(name, objects=objects, mask=places, is_detection=True)
        answer = task.answer(outputs, self._wishes)
        keys = ("index", "name", "probability", "share")
        classes = tuple(
            NamedClass(**{key: one[key] for key in keys if key in one}) for one in answer["classes"]
        )
        if not isinstance(task, Segmentation):
            return ImagePrediction(name, classes)
        return ImagePrediction(name, classes, mask=task.class_map(outputs, size).astype(np.int64))


def _opened(image: ImageLike, number: int) -> tuple[str, ImageSource]:
    """What to call an image, and what decodes it."""
    name = f"image {number}"
    if isinstance(image, Image.Image):
        return str(getattr(image, "filename", "") or name), DecodedImage(image)
    if isinstance(image, np.ndarray):
        channels = image.shape[2] if image.ndim == 3 else 1
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4) or not image.size:
            raise DataError(
                f"{name} is a {image.dtype} array of shape {image.shape}; expected uint8 [height, width] or "
                "[height, width, 1, 3 (RGB) or 4 (RGBA)]"
            )
        return name, DecodedImage(
            Image.fromarray(image[..., 0] if image.ndim == 3 and channels == 1 else image)
        )
    if isinstance(image, str | os.PathLike):
        return os.fspath(image), EncodedImage(Path(image), f"image {number}")
    raise DataError(f"{name} is a {type(image).__name__}; expected a path, a Pillow image or a uint8 array")


def _open_network(
    path: Path, runtime: str | None, precision: str | None, threads: int | None
) -> ExportedModel | _PaddleModel:
    if is_exported(path):
        return load_exported(path, runtime, precision, threads)
    for option, given in (("runtime", runtime), ("precision", precision), ("threads", threads)):
        if given is not None:
            raise ConfigError(f"{option} is for an exported model; {path} runs in Paddle")
    return _PaddleModel(path)


class _PaddleModel:
    """A run's or a file's model, as the tasks want a network."""

    runtime, precision = "paddle", "float32"

    def __init__(self, path: Path) -> None:
        from cyclemlp.models import load_model

        self.path, self._model = path, load_model(path)
        config, about = self._model.config, self._model.metadata
        if config.features_only or not config.num_classes:
            raise ModelError(f"{path} has no classification head, so it gives no classes")
        self.metadata = ExportMetadata(
            model=about.model,
            preprocessing=about.preprocessing,
            classes=about.classes,
            num_classes=config.num_classes,
            task=about.task,
            thresholds=about.thresholds,
            outputs=[Output("logits", "logits")],
            min_size=config.min_size,
        )

    def __call__(self, images: np.ndarray, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        import paddle

        with paddle.no_grad():
            return {"logits": self._model(paddle.to_tensor(images)).numpy()}

    def output(self, kind: str) -> str | None:
        return kind if kind == "logits" else None
