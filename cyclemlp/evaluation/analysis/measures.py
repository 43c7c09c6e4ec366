"""An evaluation's intervals, accuracies by class, confusions, calibration and worst mistakes, as data.

B images, K classes, M bins. Accuracies and their intervals are in percent, probabilities in 0..1. Every interval is
one of 95 %: of many sets of images drawn like this one, 95 % give an interval that holds the true figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from cyclemlp.errors import DataError, MissingDependencyError
from cyclemlp.evaluation.metrics import confusion_matrix, label_ranks, log_softmax
from cyclemlp.evaluation.run import EvaluationResult
from cyclemlp.text import counted

LEVEL = 0.95
#: Of Guo et al., "On calibration of modern neural networks", ICML 2017.
BINS = 15
RESAMPLES = 2000
#: Images whose probabilities are computed at once, and resamples that are drawn at once: bounds of the memory.
_ROWS, _BATCH = 1024, 50

Interval = tuple[float, float]


@dataclass(frozen=True)
class Outcomes:
    """What became of each image, in the order of the evaluation; arrays [B].

    Attributes:
        labels: the true class.
        predicted: the most probable class.
        confidence: its probability.
        ranks: how many classes stand before the true one; 0 for a right answer.
        losses: −log of the true class's probability, in nats.
        brier: Σ over classes of (probability − 1 if it is the true one)², 0 to 2 (Brier 1950).
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    ranks: np.ndarray
    losses: np.ndarray
    brier: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether the answer is the true class: bool [B]."""
        return self.ranks == 0


class Confusion(NamedTuple):
    """Two classes of which one was taken for the other.

    Attributes:
        true, predicted: the classes.
        images: how often.
        share: of the images of the true class, in percent.
    """

    true: int
    predicted: int
    images: int
    share: float


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy class by class; arrays [K], NaN where nothing can be said.

    Attributes:
        images: how many there are of the class.
        right: how many of them were recognised.
        predicted: how many images were taken for the class.
        accuracy: right / images (the class's recall), in percent.
        interval: Wilson's, [K, 2], in percent.
        precision: right / predicted, in percent.
        mean: mean accuracy over the classes that have images, in percent: each class counts the same.
        mean_interval: of the mean, by the bootstrap, in percent.
    """

    images: np.ndarray
    right: np.ndarray
    predicted: np.ndarray
    accuracy: np.ndarray
    interval: np.ndarray
    precision: np.ndarray
    mean: float
    mean_interval: Interval


@dataclass(frozen=True)
class Calibration:
    """Whether the probability of the answer is the share of right answers.

    Attributes:
        counts: images in each of M equally wide bins of the answer's probability: (0, 1/M], … (1 − 1/M, 1]; [M].
        confidence: their mean probability, [M]; NaN in an empty bin.
        accuracy: their share of right answers, in 0..1, [M]; NaN in an empty bin.
        error: the expected calibration error, Σ counts / B · |accuracy − confidence|, in 0..1.
        error_interval: by the bootstrap.
        brier: mean Brier score over all classes, 0 to 2.
        loss: mean negative log-likelihood of the true class, in nats.
        overconfidence: mean probability of the answer minus the share of right answers.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float
    error_interval: Interval
    brier: float
    loss: float
    overconfidence: float


@dataclass(frozen=True)
class Analysis:
    """All of it; made by `analyse`.

    Attributes:
        outcomes: image by image.
        confusion: int [K, K], a row a true class, a column a predicted one.
        classes: class by class.
        calibration: of the probabilities.
        seed: of the bootstraps.
    """

    outcomes: Outcomes
    confusion: np.ndarray
    classes: ClassAccuracy
    calibration: Calibration
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values, but those of a class or an image, which are in CSV files."""
        calibration, classes = self.calibration, self.classes
        bins = len(calibration.counts)
        return {
            "level": LEVEL,
            "bootstrap": {"resamples": RESAMPLES, "seed": self.seed},
            "mean_class_accuracy": classes.mean,
            "mean_class_accuracy_interval": list(classes.mean_interval),
            "classes_without_images": int((classes.images == 0).sum()),
            "calibration": {
                "ece": calibration.error,
                "ece_interval": list(calibration.error_interval),
                "brier": calibration.brier,
                "nll": calibration.loss,
                "overconfidence": calibration.overconfidence,
                "binning": f"{counted(bins, 'equally wide bin')} of the answer's probability",
                "bins": [
                    {
                        "above": i / bins,
                        "to": (i + 1) / bins,
                        "images": int(count),
                        "confidence": float(confidence) if count else None,
                        "accuracy": float(accuracy) if count else None,
                    }
                    for i, (count, confidence, accuracy) in enumerate(
                        zip(calibration.counts, calibration.confidence, calibration.accuracy, strict=True)
                    )
                ],
            },
        }


def wilson_interval(right: Any, images: Any) -> np.ndarray:
    """Wilson's interval of a share of right answers, float64 [..., 2], in percent; NaN without images.

    Of the usual intervals of a share it is one that holds for few images and near 0 and 100 % too (Wilson 1927).

    Args:
        right, images: numbers, or arrays of the same shape.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    images = np.asarray(images, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.asarray(right, dtype=np.float64) / images
        centre = share + z**2 / (2 * images)
        half = z * np.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
        ends = np.stack([centre - half, centre + half], axis=-1) / (1 + z**2 / images)[..., None]
    return 100 * np.clip(ends, 0, 1)


def accuracy_intervals(result: EvaluationResult) -> dict[int, Interval]:
    """k → Wilson's interval of the top-k accuracy, in percent."""
    ends = {
        k: wilson_interval(round(value * result.images / 100), result.images)
        for k, value in result.accuracy.items()
    }
    return {k: (float(low), float(high)) for k, (low, high) in ends.items()}


def image_outcomes(result: EvaluationResult) -> Outcomes:
    """What became of each image of an evaluation.

    Args:
        result: of `evaluate(…, keep=True)`.

    Raises:
        ValueError: the logits were not kept.
    """
    logits, labels = result.logits, result.labels
    if logits is None or labels is None:
        raise ValueError("the logits were not kept: evaluate(…, keep=True)")
    parts = []
    for start in range(0, len(labels), _ROWS):
        rows, true = logits[start : start + _ROWS], labels[start : start + _ROWS]
        logs = log_softmax(rows)
        probabilities = np.exp(logs)
        confidence, own = probabilities.max(axis=1), (np.arange(len(true)), true)
        probabilities[own] -= 1  # now their errors
        brier = (probabilities**2).sum(axis=1)
        parts.append((rows.argmax(axis=1), confidence, label_ranks(rows, true), -logs[own], brier))
    return Outcomes(labels, *(np.concatenate(part) for part in zip(*parts, strict=True)))


def analyse(result: EvaluationResult, *, bins: int = BINS, seed: int = 0) -> Analysis:
    """All figures of an evaluation.

    Args:
        result: of `evaluate(…, keep=True)`.
        bins: of the calibration error.
        seed: of the bootstraps.

    Raises:
        DataError: there is one image only.
        MissingDependencyError: SciPy is not installed.
        ValueError: the logits were not kept.
    """
    outcomes = image_outcomes(result)
    if result.images < 2:
        raise DataError("there is one image only; intervals need at least two")
    matrix = confusion_matrix(outcomes.labels, outcomes.predicted, result.classes)
    return Analysis(
        outcomes, matrix, class_accuracy(matrix, seed=seed), calibration(outcomes, bins=bins, seed=seed), seed
    )


def class_accuracy(confusion: np.ndarray, *, seed: int = 0) -> ClassAccuracy:
    """Accuracy class by class, from a confusion matrix [K, K].

    The bootstrap of the mean draws the images of each class anew from that class, so that no resample lacks a class.
    How many of a class's n images are right in a resample is then binomial with n and its accuracy.
    """
    images, predicted, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion)
    with np.errstate(invalid="ignore"):
        accuracy, precision = 100 * right / images, 100 * right / predicted
    there = images > 0
    draws = np.random.default_rng(seed).binomial(
        images[there], right[there] / images[there], (RESAMPLES, int(there.sum()))
    )
    means = (100 * draws / images[there]).mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return ClassAccuracy(
        images=images,
        right=right,
        predicted=predicted,
        accuracy=accuracy,
        interval=wilson_interval(right, images),
        precision=precision,
        mean=float(accuracy[there].mean()),
        mean_interval=(float(low), float(high)),
    )


def calibration(outcomes: Outcomes, *, bins: int = BINS, seed: int = 0) -> Calibration:
    """Calibration of the answers' probabilities.

    The interval of the error is the basic bootstrap's: a sample's error is on average greater than that of all
    images, a resample's greater than the sample's, and this interval takes off what the percentile interval adds
    twice.
    """
    confidence, right = outcomes.confidence, outcomes.right
    counts, confidences, rights = _bin_sums(confidence, right, bins)
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = confidences / counts, rights / counts
    low, high = bootstrap_interval(
        np.arange(len(right)),
        lambda drawn: calibration_error(confidence[drawn], right[drawn], bins),
        method="basic",
        vectorized=False,
        seed=seed,
    )
    return Calibration(
        counts=counts,
        confidence=mean_confidence,
        accuracy=accuracy,
        error=calibration_error(confidence, right, bins),
        error_interval=(max(low, 0.0), min(high, 1.0)),
        brier=float(outcomes.brier.mean()),
        loss=float(outcomes.losses.mean()),
        overconfidence=float(confidence.mean() - right.mean()),
    )


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error over equally wide bins, in 0..1 (Naeini et al. 2015; Guo et al. 2017).

    Args:
        confidence: the answers' probabilities, [B].
        right: whether they are right, [B].
        bins: their number.
    """
    _, confidences, rights = _bin_sums(confidence, right, bins)
    return float(np.abs(rights - confidences).sum() / len(right))


def _bin_sums(
    confidence: np.ndarray, right: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bin's number of images, sum of probabilities, number of right answers: each [M]."""
    places = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    counts, confidences, rights = (
        np.bincount(places, weights, minlength=bins) for weights in (None, confidence, right)
    )
    return counts, confidences, rights


def bootstrap_interval(
    values: np.ndarray, statistic: Any, *, method: str, vectorized: bool, seed: int
) -> Interval:
    """The interval of a statistic over resamples of `values` [B], by `scipy.stats.bootstrap`.

    Raises:
        MissingDependencyError: SciPy is not installed.
    """
    found = scipy_stats().bootstrap(
        (values,),
        statistic,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        vectorized=vectorized,
        confidence_level=LEVEL,
        method=method,
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def scipy_stats() -> Any:
    """`scipy.stats`. Raises MissingDependencyError if it is not installed."""
    try:
        import scipy.stats
    except ImportError:
        raise MissingDependencyError(
            'the intervals and tests need SciPy, which is not installed: pip install "paddle-cyclemlp[statistics]"'
        ) from None
    return scipy.stats


def confused_pairs(confusion: np.ndarray, most: int | None = None) -> list[Confusion]:
    """Pairs of different classes by how often the first was taken for the second, the most frequent first.

    Args:
        confusion: [K, K].
        most: how many at most; None for all.
    """
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    totals = confusion.sum(axis=1)
    true, predicted = np.nonzero(wrong)
    order = np.argsort(-wrong[true, predicted], kind="stable")[:most]
    return [
        Confusion(int(t), int(p), int(wrong[t, p]), float(100 * wrong[t, p] / totals[t]))
        for t, p in zip(true[order], predicted[order], strict=True)
    ]


def worst_mistakes(outcomes: Outcomes, most: int) -> np.ndarray:
    """Positions of the wrong answers in which the network was most confident, the worst first: int [≤ most]."""
    wrong = np.flatnonzero(~outcomes.right)
    return wrong[np.argsort(-outcomes.confidence[wrong], kind="stable")[:most]]
