"""Evaluate and predict with anything that turns a batch of images into logits.

Shapes: B images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from cyclemlp.data import Batch, Loader
from cyclemlp.data.sources import Label
from cyclemlp.errors import DataError, ModelError
from cyclemlp.evaluation.metrics import (
    class_outcomes,
    cross_entropy,
    label_ranks,
    log_softmax,
    top_classes,
)
from cyclemlp.evaluation.multilabel.measures import labels_above, sigmoid
from cyclemlp.report import Progress
from cyclemlp.text import counted

T = TypeVar("T")
#: Classes that are given of an image, of which each has one.
TOP = 5
#: From images [B, C, H, W], as the loader gives them, to logits [B, K]: anything that np.asarray takes.
Classifier = Callable[[Any], Any]


@dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` found.

    Attributes:
        accuracy: k → share of images, in percent, whose class is among the k most probable; 1 and 5 are always there.
        loss: mean cross entropy in nats, without label smoothing.
        images: number of images.
        classes: number of classes of the model.
        seconds: from the first batch asked for to the last answer, reading included.
        notes: what a reader of the figures should know.
        logits: float32 [images, K], labels, indices: int64 [images]; only with `keep=True`, else None.
        outcomes: int64 [3, K], see `class_outcomes`; None only in a result that `evaluate` did not make.
    """

    accuracy: dict[int, float]
    loss: float
    images: int
    classes: int
    seconds: float
    notes: tuple[str, ...] = ()
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None
    indices: np.ndarray | None = None
    outcomes: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def top1(self) -> float:
        """Percent of right answers."""
        return self.accuracy[1]

    @property
    def top5(self) -> float:
        """Percent of images whose class is among the five most probable; 100 if there are no more classes."""
        return self.accuracy[5]

    @property
    def images_per_second(self) -> float:
        """Images/s, reading included."""
        return self.images / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            **{f"top{k}": value for k, value in self.accuracy.items()},
            "loss": self.loss,
            "images": self.images,
            "classes": self.classes,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Prediction:
    """The classes that a model gives to one image.

    Attributes:
        name: the image's name in its source.
        index: its place there.
        indices: the most probable classes, best first.
        probabilities: theirs, in 0..1; they add up to 1 over all classes, not over these. Of a model of several labels
            an image each is by itself.
        label: the true class or classes, if the source knows them.
        scores: of a model of several labels an image, the probability of each class, float64 [K].
    """

    name: str
    index: int
    indices: tuple[int, ...]
    probabilities: tuple[float, ...]
    label: Label | None = None
    scores: np.ndarray | None = field(default=None, repr=False, compare=False)


def as_callable(model: Any) -> Classifier:
    """A Paddle layer as a function from images (NumPy or Paddle) to logits (NumPy float32).

    Each call runs in evaluation mode and without gradients, and leaves every sublayer's mode as it was.
    """
    import paddle

    def classify(images: Any) -> np.ndarray:
        training = [layer for layer in model.sublayers(include_self=True) if layer.training]
        model.eval()
        try:
            with paddle.no_grad():
                logits = model(images if isinstance(images, paddle.Tensor) else paddle.to_tensor(images))
            if not isinstance(logits, paddle.Tensor):
                raise ModelError(
                    f"the model gives a {type(logits).__name__}, not logits; is it made with features_only?"
                )
            return np.asarray(logits.astype("float32").numpy())  # NumPy has no bfloat16
        finally:
            for layer in training:
                layer.training = True

    return classify


def evaluate(
    fn: Classifier,
    loader: Loader,
    *,
    topk: Sequence[int] = (1, 5),
    progress: bool = True,
    keep: bool = False,
) -> EvaluationResult:
    """Accuracy and loss of `fn` over the loader's labelled images, each counted once.

    Args:
        fn: classifier; see `as_callable` for a Paddle layer.
        loader: of a source with labels. What it leaves out or repeats is not noticed here.
        topk: which k besides 1 and 5; a k above the number of classes counts as that number, and a note says so.
        progress: show a bar on stderr.
        keep: keep logits, labels and indices.

    Raises:
        DataError: no images, no labels, a label that the model has no class for.
        FloatingPointError: the model gives NaN or infinity; the message names the image.
        ValueError: `fn` does not give [B, K].
    """
    topk = sorted({1, 5, *topk})
    if topk[0] < 1:
        raise ValueError(f"topk is {topk}; each must be at least 1")
    images = classes = 0
    loss = 0.0
    hits = np.zeros(len(topk), dtype=np.int64)
    outcomes = np.zeros((3, 1), dtype=np.int64)  # of as many classes as there are, once the first batch tells
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    begin = time.perf_counter()
    bar = bar_of("evaluate", loader, progress)
    with bar, read_ahead(loader) as batches:
        for batch in batches:
            logits = checked_logits(fn, batch, loader)
            classes = logits.shape[1]
            labels = checked_labels(batch, loader, classes)
            ranks = label_ranks(logits, labels)
            hits += [(ranks < k).sum() for k in topk]
            outcomes = outcomes + class_outcomes(labels, logits.argmax(axis=1), classes)
            loss += float(cross_entropy(logits, labels).sum())
            images += len(labels)
            if keep:
                kept.append((logits, labels, batch.indices))
            bar.figures(top1=100 * hits[0] / images, loss=loss / images)
            bar.update(len(labels))
    if images == 0:
        raise DataError("there is no image to evaluate")
    seconds = time.perf_counter() - begin
    notes = tuple(
        f"top-{k} says nothing here: there are only {counted(classes, 'class')}, so it is top-{classes}, always 100 %"
        for k in topk
        if k > classes
    )
    accuracy = {k: 100 * int(hit) / images for k, hit in zip(topk, hits, strict=True)}
    arrays: list[Any] = [np.concatenate(part) for part in zip(*kept, strict=True)] if keep else [None] * 3
    arrays.append(outcomes)
    return EvaluationResult(accuracy, loss / images, images, classes, seconds, notes, *arrays)


def merge_results(parts: Sequence[EvaluationResult | None]) -> EvaluationResult:
    """What several processes found, each over its own share of the images, as one result.

    Args:
        parts: by the processes' ranks; None of one that had no image.

    Returns:
        The figures over all images; what was kept, in the order of the source. Counts are exact; the loss is the same
        sum in another order. The time is that of the slowest.

    Raises:
        DataError: none had an image.
    """
    found = [part for part in parts if part is not None]
    if not found:
        raise DataError("there is no image to evaluate")
    if len(found) == 1:
        return found[0]
    images = sum(part.images for part in found)
    accuracy = {
        k: 100 * sum(round(part.accuracy[k] * part.images / 100) for part in found) / images
        for k in found[0].accuracy
    }
    outcomes = [part.outcomes for part in found if part.outcomes is not None]
    kept: list[Any] = [None] * 3
    if found[0].indices is not None:
        columns = [[getattr(part, name) for part in found] for name in ("logits", "labels", "indices")]
        arrays = [np.concatenate(column) for column in columns]
        kept = [array[np.argsort(arrays[2], kind="stable")] for array in arrays]
    return replace(
        found[0],
        accuracy=accuracy,
        loss=sum(part.loss * part.images for part in found) / images,
        images=images,
        seconds=max(part.seconds for part in found),
        logits=kept[0],
        labels=kept[1],
        indices=kept[2],
        outcomes=np.sum(outcomes, axis=0) if outcomes else None,
    )


def predict(
    fn: Classifier,
    loader: Loader,
    *,
    topk: int | None = None,
    thresholds: np.ndarray | None = None,
    progress: bool = True,
) -> Iterator[Prediction]:
    """The most probable classes of each image, in the loader's order, as they are computed.

    Args:
        fn, loader, progress: as for `evaluate`; labels are not needed. Raises likewise, while iterating; what was
            yielded stands.
        topk: so many, 5 where it is None; with thresholds at most so many.
        thresholds: float [K], of a model of several labels an image: the classes with at least theirs.
    """
    if topk is not None and topk < 1:
        raise ValueError(f"topk is {topk}; it must be at least 1")
    bar = bar_of("predict", loader, progress)
    with bar, read_ahead(loader) as batches:
        for batch in batches:
            logits = checked_logits(fn, batch, loader)
            if thresholds is None:
                scores, best = np.exp(log_softmax(logits)), top_classes(logits, topk or TOP).tolist()
            else:
                scores = sigmoid(logits)
                best = [labels_above(row, thresholds)[:topk] for row in scores]
            for index, row, found in zip(batch.indices.tolist(), scores, best, strict=True):
                yield Prediction(
                    name=loader.source.name(index),
                    index=index,
                    indices=tuple(found),
                    probabilities=tuple(row[found].tolist()),
                    label=loader.source.label(index),
                    scores=None if thresholds is None else row,
                )
            bar.update(len(scores))


def read_ahead(loader: Loader) -> closing[Generator[Batch, None, None]]:
    """The loader's batches, one read ahead of the one at work; for a `with` statement, which ends the reading.

    By a thread of its own; worker processes read ahead by themselves, and can only be started from the main thread.
    """
    return closing(_ahead(loader) if loader.num_workers == 0 else (batch for batch in loader))


def _ahead(loader: Iterable[T]) -> Generator[T, None, None]:
    """What a loader gives, read in a thread of its own, one ahead: so images are decoded while the network works.

    Decoders and runtimes both leave Python while they work, so this needs no further process. What the loader raises
    is raised here, in its place.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=1)
    unwanted = threading.Event()

    def hand_over(item: T | None, error: BaseException | None = None) -> None:
        while not unwanted.is_set():
            try:
                made.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for item in loader:
                hand_over(item)
                if unwanted.is_set():
                    return
            hand_over(None)
        except BaseException as error:
            hand_over(None, error)

    thread = threading.Thread(target=read, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        unwanted.set()
        thread.join()


def bar_of(desc: str, loader: Loader, progress: bool) -> Progress[Any]:
    """A progress bar over a loader's images."""
    images = min(len(loader.source), len(loader) * loader.batch_size)
    return Progress(desc=desc, total=images, unit="image", disable=not progress)


def checked_logits(fn: Classifier, batch: Batch, loader: Loader) -> np.ndarray:
    """What `fn` gives for a batch of the loader, [B, K].

    Raises:
        ValueError: it is of another shape.
        FloatingPointError: NaN or infinity; the message names the image.
    """
    logits = np.asarray(fn(batch.images))
    if logits.ndim != 2 or logits.shape[0] != len(batch.indices) or logits.shape[1] == 0:
        raise ValueError(
            f"the model gives shape {logits.shape} for {counted(len(batch.indices), 'image')}; expected [B, classes]"
        )
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        index = int(batch.indices[bad[0]])
        raise FloatingPointError(
            f"{loader.source.location(index)}: the model gives NaN or infinity for {loader.source.name(index)!r}"
            + (f" and {counted(len(bad) - 1, 'other')} of its batch" if len(bad) > 1 else "")
            + "; the weights or the preprocessing (mean, std) may be broken"
        )
    return logits


def checked_labels(batch: Batch, loader: Loader, classes: int) -> np.ndarray:
    """The batch's labels, int [B]. Raises DataError: none, or one that a model of so many classes has no place for."""
    if batch.labels is None:
        raise DataError(
            "the images have no labels, so there is nothing to compare with; `predict` needs none"
        )
    labels = np.asarray(batch.labels)
    if labels.ndim == 2:
        raise DataError(
            "the images have several labels each, and this is for one class an image; `evaluate_multilabel` is for "
            "several"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        index = int(batch.indices[bad[0]])
        raise DataError(
            f"{loader.source.location(index)}: the label is {labels[bad[0]]}, but the model has "
            f"{counted(classes, 'class')}, 0 to {classes - 1}"
        )
    return labels


def checked_label_sets(batch: Batch, loader: Loader, classes: int) -> np.ndarray:
    """The batch's labels, 0 or 1 [B, K]. Raises DataError: none, one class an image, or another number of classes."""
    if batch.labels is None:
        raise DataError(
            "the images have no labels, so there is nothing to compare with; `predict` needs none"
        )
    labels = np.asarray(batch.labels)
    if labels.ndim != 2 or labels.shape[1] != classes:
        raise DataError(
            f"{loader.source.location(int(batch.indices[0]))}: the labels have the shape {list(labels.shape)}; "
            f"expected 0 or 1 for each of the model's {counted(classes, 'class')}: open the images with "
            "multi_label=True"
        )
    return labels
