"""A trained model over images, by PaddleSeg's own inference: whole, by a sliding window, at several scales.

Shapes: B batch, K classes, H height, W width of the image.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddleseg.core import evaluate as engine_evaluate
from paddleseg.core import infer
from paddleseg.transforms import Compose
from paddleseg.utils import metrics

from cyclemlp.dense.seg.config import Builder, SegConfig
from cyclemlp.dense.seg.masks import check_labels, read_labels
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.models import fill
from cyclemlp.report import Progress
from cyclemlp.weights import read_weights


@dataclass(frozen=True)
class Inference:
    """How an image goes through the model.

    Attributes:
        window: width and height of the sliding window, in pixels of the prepared image; None for the whole image
            at once.
        stride: how far the window moves, in the same way; None for two thirds of the window.
        scales: factors at which the image is seen; the logits are averaged.
        flip: see the mirrored image too.

    Raises:
        ConfigError: a value that is not possible.
    """

    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if self.window is not None and self.stride is None:
            width, height = self.window
            object.__setattr__(self, "stride", (max(1, width * 2 // 3), max(1, height * 2 // 3)))
        if self.stride is not None and self.window is None:
            raise ConfigError("a stride of the sliding window is given, but no window")
        if self.window is not None and self.stride is not None:
            for size, step in zip(self.window, self.stride, strict=True):
                if not 0 < step <= size:
                    raise ConfigError(
                        f"a window of {self.window} pixels cannot move by {self.stride}: give from 1 to its size"
                    )
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"the scales are {list(self.scales)}; give numbers above 0")

    @classmethod
    def from_config(cls, config: SegConfig) -> Inference:
        """As the key `test_config` says."""
        test = config.test_config
        slides, augments = test.get("is_slide", False), test.get("aug_eval", False)
        scales = test.get("scales", 1.0)
        return cls(
            window=tuple(test["crop_size"]) if slides else None,
            stride=tuple(test["stride"]) if slides else None,
            scales=tuple(scales if isinstance(scales, Sequence) else (scales,)) if augments else (1.0,),
            flip=bool(augments and test.get("flip_horizontal", False)),
        )

    @property
    def augments(self) -> bool:
        """Whether an image is seen more than once, or not in its own size."""
        return self.flip or self.scales != (1.0,)

    def options(self) -> dict[str, Any]:
        """What PaddleSeg's functions take."""
        return {"is_slide": self.window is not None, "crop_size": self.window, "stride": self.stride}

    def augmentation(self) -> dict[str, Any]:
        """What they take besides if `augments`."""
        return {"scales": list(map(float, self.scales)), "flip_horizontal": self.flip}

    def __str__(self) -> str:
        words = ["the whole image at once"]
        if self.window is not None and self.stride is not None:
            words = [f"window {self.window[0]}×{self.window[1]}, stride {self.stride[0]}×{self.stride[1]}"]
        if self.scales != (1.0,):
            words.append("scales " + ", ".join(f"{scale:g}" for scale in self.scales))
        return ", ".join([*words, "mirrored too"] if self.flip else words)


def trained_model(config: SegConfig, weights: Path, say: Callable[[str], None]) -> paddle.nn.Layer:
    """Build a configuration's model with the weights of a trained one, which must fit wholly.

    Args:
        config: from `open_config`.
        weights: a .pdparams of PaddleSeg, or a run's folder or checkpoint, see `cyclemlp.run.find_weights`.
        say: takes the report of what was loaded.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: the model cannot be built.
        WeightsError: there are no weights, or they do not fit.
    """
    file = read_weights(weights, layout="paddle")
    with contextlib.redirect_stdout(io.StringIO()):  # a backbone tells that it starts from random weights
        model = Builder(config.for_trained_weights()).model
    say(f"model: {fill(model, file)}")
    model.eval()
    return model


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`, over all pixels of all images but those to ignore.

    Attributes:
        mean_iou: mean over all classes, in [0, 1], as PaddleSeg computes it: a class that is neither in the labels
            nor predicted counts as 0.
        pixel_accuracy, kappa: of all pixels.
        class_iou, class_precision, class_recall: [K].
        class_pixels: [K] int, pixels of each class in the labels.
        images: how many.
    """

    mean_iou: float
    pixel_accuracy: float
    kappa: float
    class_iou: np.ndarray
    class_precision: np.ndarray
    class_recall: np.ndarray
    class_pixels: np.ndarray
    images: int

    @property
    def absent(self) -> list[int]:
        """Classes without a pixel in the labels."""
        return [int(k) for k in np.flatnonzero(self.class_pixels == 0)]

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """As JSON values."""
        rows = zip(
            classes, self.class_iou, self.class_precision, self.class_recall, self.class_pixels, strict=True
        )
        return {
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "kappa": self.kappa,
            "images": self.images,
            "classes": [
                {
                    "name": name,
                    "iou": float(iou),
                    "precision": float(precision),
                    "recall": float(recall),
                    "pixels": int(pixels),
                }
                for name, iou, precision, recall, pixels in rows
            ],
        }


def evaluate(
    config: SegConfig,
    weights: Path,
    how: Inference,
    *,
    workers: int = 0,
    show_progress: bool = True,
    say: Callable[[str], None] = print,
) -> Evaluation:
    """Evaluate a trained model on the configuration's `val_dataset`, by PaddleSeg's own `evaluate`.

    Args:
        config: from `open_config`.
        weights: as `trained_model` takes them.
        how: whole images or a window, scales.
        workers: processes that read images.
        show_progress: a progress bar on stderr.
        say: takes the report of what was loaded.

    Raises:
        ConfigError, DataError, WeightsError: something of the user's is at fault.
    """
    dataset = Builder(config).val_dataset
    if dataset is None:
        raise ConfigError(f"{config.path}: no val_dataset to evaluate on")
    model = trained_model(config, weights, say)
    areas = np.zeros((3, config.num_classes), np.int64)  # right, predicted, labelled
    bar: Progress[Any] = Progress(desc="evaluate", total=len(dataset), unit="img", disable=not show_progress)
    with bar, _counting(areas, bar):
        mean_iou, accuracy, class_iou, precision, kappa = engine_evaluate(
            model,
            dataset,
            aug_eval=how.augments,
            **how.augmentation(),
            **how.options(),
            num_workers=workers,
            print_detail=False,
        )
    return Evaluation(
        mean_iou=float(mean_iou),
        pixel_accuracy=float(accuracy),
        kappa=float(kappa),
        class_iou=np.asarray(class_iou),
        class_precision=np.asarray(precision),
        class_recall=areas[0] / np.maximum(areas[2], 1),
        class_pixels=areas[2],
        images=len(dataset),
    )


def evaluate_exported(
    config: SegConfig, segment: Callable[[Path], np.ndarray], *, show_progress: bool = True
) -> Evaluation:
    """Evaluate a model that prepares images itself on the configuration's `val_dataset`, with PaddleSeg's measures.

    Args:
        config: from `open_config`; its transforms have no part.
        segment: image file → the class of each pixel, int [H, W], in the image's own size.
        show_progress: a progress bar on stderr.

    Raises:
        ConfigError, DataError: something of the user's is at fault.
    """
    dataset = Builder(config).val_dataset
    if dataset is None:
        raise ConfigError(f"{config.path}: no val_dataset to evaluate on")
    kind = config.val_dataset_cfg["type"]
    areas = np.zeros((3, config.num_classes), np.int64)  # right, predicted, labelled
    bar: Progress[Any] = Progress(dataset.file_list, desc="evaluate", unit="img", disable=not show_progress)
    for image, mask in bar:
        predicted, labels = segment(Path(image)), read_labels(mask, kind)
        check_labels(labels, config.num_classes, config.ignore_index, mask)
        if predicted.shape != labels.shape:
            raise DataError(
                f"{image} is {predicted.shape[1]}×{predicted.shape[0]} pixels (width×height), its mask {mask} "
                f"{labels.shape[1]}×{labels.shape[0]}; they must be the same"
            )
        counts = labels != config.ignore_index
        for place, values in enumerate(
            (labels[counts & (labels == predicted)], predicted[counts], labels[counts])
        ):
            areas[place] += np.bincount(values, minlength=config.num_classes)
    tensors = [paddle.to_tensor(area) for area in areas]
    class_iou, mean_iou = metrics.mean_iou(*tensors)
    accuracy, precision, recall = metrics.class_measurement(*tensors)
    return Evaluation(
        mean_iou=float(mean_iou),
        pixel_accuracy=float(accuracy),
        kappa=float(metrics.kappa(*tensors)),
        class_iou=np.asarray(class_iou),
        class_precision=np.asarray(precision),
        class_recall=np.asarray(recall),
        class_pixels=areas[2],
        images=len(dataset),
    )


@contextlib.contextmanager
def _counting(areas: np.ndarray, bar: Progress[Any]) -> Iterator[None]:
    """Within it, what PaddleSeg counts of each image is added to `areas` too, and moves the bar."""
    count = metrics.calculate_area

    def count_and_tell(*args: Any, **named: Any) -> Any:
        found = count(*args, **named)
        areas[:] += np.stack([area.numpy() for area in found])
        bar.update()
        return found

    metrics.calculate_area = count_and_tell
    try:
        yield
    finally:
        metrics.calculate_area = count


class Predictor:
    """A trained model that segments image files.

    Args:
        config: from `open_config`.
        weights: as `trained_model` takes them.
        how: whole images or a window, scales.
        say: takes the report of what was loaded.

    Attributes:
        classes: names of the K classes.
    """

    def __init__(
        self, config: SegConfig, weights: Path, how: Inference, *, say: Callable[[str], None] = print
    ) -> None:
        self.classes, self._how = config.class_names(), how
        channels = int(config.val_dataset_cfg.get("img_channels", 3))
        self._prepare = Compose(Builder(config).transforms, img_channels=channels)
        self._model = trained_model(config, weights, say)

    def __call__(self, path: Path) -> np.ndarray:
        """The class of each pixel, uint8 (or uint16 for more than 256 classes) `[H, W]`, in the image's own size.

        The image is turned as its EXIF data say, as in training.

        Raises:
            DataError: it cannot be read or prepared.
        """
        data: dict[str, Any] = {"img": str(path), "trans_info": [], "gt_fields": []}
        try:
            data = self._prepare(data)
        except DataError:
            raise
        except Exception as error:  # PaddleSeg raises several kinds, some of them without a reason
            raise DataError(f"{path}: PaddleSeg cannot prepare this image: {error}") from error
        image = paddle.to_tensor(data["img"][np.newaxis])
        run = infer.aug_inference if self._how.augments else infer.inference
        more = self._how.augmentation() if self._how.augments else {}
        with paddle.no_grad():
            classes, _ = run(self._model, image, trans_info=data["trans_info"], **more, **self._how.options())
        return classes.squeeze().numpy().astype(np.uint8 if len(self.classes) <= 256 else np.uint16)
