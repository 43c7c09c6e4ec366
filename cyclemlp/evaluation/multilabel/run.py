"""Evaluate anything that turns a batch of images into logits, of images with any number of labels.

Shapes: N images, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cyclemlp.data import Loader
from cyclemlp.errors import DataError
from cyclemlp.evaluation.metrics import macro_f1
from cyclemlp.evaluation.multilabel.measures import (
    as_thresholds,
    average_precisions,
    best_thresholds,
    binary_cross_entropy,
    label_outcomes,
    mean_of_known,
    sigmoid,
)
from cyclemlp.evaluation.run import Classifier, bar_of, checked_label_sets, checked_logits, read_ahead


@dataclass(frozen=True)
class Answers:
    """What a model says of images, and what is true.

    Attributes:
        logits: float32 [N, K].
        labels: uint8 [N, K], 0 or 1.
        indices: int64 [N], the images' places in the source.
        seconds: from the first batch asked for to the last answer, reading included.
    """

    logits: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    seconds: float

    @classmethod
    def joined(cls, parts: Sequence[Answers | None]) -> Answers:
        """Those of several processes, in the order of the source; the time is that of the slowest.

        Args:
            parts: None of a process that had no image.

        Raises:
            DataError: none had an image.
        """
        found = [part for part in parts if part is not None]
        if not found:
            raise DataError("there is no image to evaluate")
        logits, labels, indices = (
            np.concatenate([getattr(part, name) for part in found])
            for name in ("logits", "labels", "indices")
        )
        order = np.argsort(indices, kind="stable")
        return cls(logits[order], labels[order], indices[order], max(part.seconds for part in found))


@dataclass(frozen=True)
class MultiLabelResult:
    """What `evaluate_multilabel` found. Macro figures are means over the classes that images have; micro figures count
    all labels of all images together. Percent, but for `loss` and `thresholds`.

    Attributes:
        map: mean average precision: the mean of `average_precision` over the classes that images have.
        average_precision: of each class, float64 [K]; NaN of a class that no image has.
        loss: mean binary cross entropy in nats, over images and classes, without smoothing and weights.
        thresholds: the probability from which on a class counts as a label, float64 [K].
        best_thresholds: those that would maximise each class's F1 on these images, float64 [K].
        outcomes: int64 [3, K], see `label_outcomes`, by `thresholds`.
        answers: of the model.
    """

    map: float
    average_precision: np.ndarray
    loss: float
    thresholds: np.ndarray
    best_thresholds: np.ndarray
    outcomes: np.ndarray
    answers: Answers

    @classmethod
    def of(cls, answers: Answers, thresholds: object = None) -> MultiLabelResult:
        """Of a model's answers.

        Args:
            thresholds: one for all, or one a class; None for 0.5.
        """
        logits, labels = answers.logits, answers.labels
        limits = as_thresholds(thresholds, logits.shape[1])
        precisions = average_precisions(logits, labels)
        return cls(
            map=mean_of_known(precisions),
            average_precision=precisions,
            loss=float(binary_cross_entropy(logits, labels).mean()),
            thresholds=limits,
            best_thresholds=best_thresholds(logits, labels),
            outcomes=label_outcomes(labels, sigmoid(logits) >= limits),
            answers=answers,
        )

    def with_best_thresholds(self) -> MultiLabelResult:
        """The same answers with `best_thresholds`; a class that no image has keeps its own threshold.

        Its figures are too high: the thresholds are chosen on the images that they are measured on.
        """
        chosen = np.where(self.outcomes[0] > 0, self.best_thresholds, self.thresholds)
        return MultiLabelResult.of(self.answers, chosen)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.answers.labels)

    @property
    def classes(self) -> int:
        """Number of classes of the model."""
        return int(self.outcomes.shape[1])

    @property
    def images_per_second(self) -> float:
        """Images/s, reading included."""
        return self.images / self.answers.seconds

    @property
    def precision(self) -> np.ndarray:
        """Of each class, [K]; NaN of one that was never predicted."""
        return _percent(self.outcomes[2], self.outcomes[1])

    @property
    def recall(self) -> np.ndarray:
        """Of each class, [K]; NaN of one that no image has."""
        return _percent(self.outcomes[2], self.outcomes[0])

    @property
    def f1(self) -> np.ndarray:
        """Of each class, [K]; NaN of one that no image has."""
        return np.where(
            self.outcomes[0] > 0, _percent(2 * self.outcomes[2], self.outcomes[0] + self.outcomes[1]), np.nan
        )

    def macro(self) -> dict[str, float]:
        """Means of precision, recall and F1; a class that was never predicted has the precision 0."""
        there = self.outcomes[0] > 0
        if not there.any():
            return dict.fromkeys(("precision", "recall", "f1"), float("nan"))
        return {
            "precision": float(np.nan_to_num(self.precision[there]).mean()),
            "recall": float(self.recall[there].mean()),
            "f1": macro_f1(self.outcomes),
        }

    def micro(self) -> dict[str, float]:
        """Precision, recall and F1 of all labels together."""
        true, said, right = self.outcomes.sum(axis=1)
        values = (right, said), (right, true), (2 * right, true + said)
        names = ("precision", "recall", "f1")
        return {name: float(_percent(a, b)) for name, (a, b) in zip(names, values, strict=True)}

    def exact_match(self) -> float:
        """Share of the images of which all labels, and no others, are predicted."""
        predicted = sigmoid(self.answers.logits) >= self.thresholds
        return 100 * float((predicted == (self.answers.labels > 0)).all(axis=1).mean())

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values; null for what is not defined."""
        return {
            "map": _known(self.map),
            "loss": self.loss,
            **{f"macro_{name}": _known(value) for name, value in self.macro().items()},
            **{f"micro_{name}": _known(value) for name, value in self.micro().items()},
            "exact_match": self.exact_match(),
            "images": self.images,
            "classes": self.classes,
            "unlabelled_images": int((self.answers.labels.sum(axis=1) == 0).sum()),
            "seconds": self.answers.seconds,
            "images_per_second": self.images_per_second,
            "thresholds": self.thresholds.tolist(),
            "best_thresholds": self.best_thresholds.tolist(),
            "class_average_precision": [_known(value) for value in self.average_precision.tolist()],
            "class_f1": [_known(value) for value in self.f1.tolist()],
        }


def collect_answers(fn: Classifier, loader: Loader, *, progress: bool = True) -> Answers:
    """What a model says of the loader's images.

    Args:
        fn: from a batch to logits; see `as_callable` for a Paddle layer.
        loader: of a source whose images have several labels each.
        progress: show a bar on stderr.

    Raises:
        DataError: no images, or another kind of labels than the model's.
        FloatingPointError: the model gives NaN or infinity; the message names the image.
    """
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    begin = time.perf_counter()
    bar = bar_of("evaluate", loader, progress)
    with bar, read_ahead(loader) as batches:
        for batch in batches:
            logits = checked_logits(fn, batch, loader)
            labels = checked_label_sets(batch, loader, logits.shape[1])
            kept.append((logits.astype(np.float32), labels.astype(np.uint8), batch.indices))
            bar.update(len(labels))
    if not kept:
        raise DataError("there is no image to evaluate")
    logits, labels, indices = (np.concatenate(part) for part in zip(*kept, strict=True))
    return Answers(logits, labels, indices, time.perf_counter() - begin)


def evaluate_multilabel(
    fn: Classifier, loader: Loader, *, thresholds: object = None, progress: bool = True
) -> MultiLabelResult:
    """Evaluate `fn` over the loader's images, which have any number of labels each.

    Args:
        thresholds: from which probability on a class counts as a label: one for all, or one a class; None for 0.5.
        fn, loader, progress: as for `collect_answers`, which says what is raised.
    """
    return MultiLabelResult.of(collect_answers(fn, loader, progress=progress), thresholds)


def _percent(part: Any, whole: Any) -> np.ndarray:
    """NaN where the whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return 100 * np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
