"""Figures of a classifier that gives each class a probability by itself, in NumPy and float64.

N images, K classes; logits are [N, K], labels 0 or 1 [N, K].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Of a probability, from which on a class counts as a label where no better threshold is known.
DEFAULT_THRESHOLD = 0.5


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """The probability of each class, float64."""
    return np.exp(log_sigmoid(logits))


def log_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities, float64; of −logits those of 1 − probability."""
    return -np.logaddexp(0, -np.asarray(logits, dtype=np.float64))


def binary_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """−log of the probability of what is true of each class, their mean over the classes: float64 [N], in nats."""
    signed = np.where(np.asarray(labels) > 0, logits, -np.asarray(logits))
    return -log_sigmoid(signed).mean(axis=1)


def as_thresholds(thresholds: object, num_classes: int) -> np.ndarray:
    """A threshold for each class, float64 [K]; None is `DEFAULT_THRESHOLD` and one number is that of all."""
    values = np.asarray(DEFAULT_THRESHOLD if thresholds is None else thresholds, dtype=np.float64)
    return np.broadcast_to(values, (num_classes,)).copy()


def labels_above(probabilities: np.ndarray, thresholds: np.ndarray) -> list[int]:
    """The classes of one image, the most probable first: those with at least their threshold.

    Args:
        probabilities, thresholds: [K].
    """
    found = np.flatnonzero(probabilities >= thresholds)
    return [int(i) for i in found[np.argsort(-probabilities[found], kind="stable")]]


@dataclass(frozen=True)
class Curve:
    """What would be found of one class by each threshold, from the highest on: a point for each different score.

    Attributes:
        cuts: the scores, falling; a threshold as high as one finds the images with this score and above.
        found: how many images each finds, int64.
        right: how many of these have the class, int64.
        positives: how many have it in all.
    """

    cuts: np.ndarray
    found: np.ndarray
    right: np.ndarray
    positives: int

    @classmethod
    def of(cls, scores: np.ndarray, labels: np.ndarray) -> Curve:
        """Of scores [N], logits or probabilities, and labels 0 or 1 [N]."""
        order = np.argsort(-scores, kind="stable")
        falling, right = scores[order], np.cumsum(labels[order] > 0)
        last = np.flatnonzero(np.diff(falling, append=-np.inf))  # of equal scores
        return cls(falling[last], last + 1, right[last], int(right[-1]) if len(right) else 0)

    @property
    def precision(self) -> np.ndarray:
        """Share of the found images that have the class."""
        return self.right / self.found

    @property
    def recall(self) -> np.ndarray:
        """Share of the images with the class that are found."""
        return self.right / self.positives

    @property
    def average_precision(self) -> float:
        """Σ precision · rise of recall, in 0..1, without interpolation; NaN where no image has the class."""
        if not self.positives:
            return float("nan")
        return float((self.precision * np.diff(self.recall, prepend=0)).sum())

    def best_threshold(self) -> float:
        """The threshold that maximises F1; `DEFAULT_THRESHOLD` where no image has the class.

        It lies in the middle between the probability of the last image that it finds and the next lower one, so that a
        runtime that computes a little otherwise finds the same. Of equal F1 the highest.
        """
        if not self.positives:
            return DEFAULT_THRESHOLD
        best = int(np.argmax(2 * self.right / (self.found + self.positives)))
        cut, *below = sigmoid(self.cuts[best : best + 2]).tolist()
        return (cut + (below[0] if below else 0.0)) / 2


def average_precisions(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The average precision of each class in percent, float64 [K]; NaN of a class that no image has."""
    return np.array(
        [100 * Curve.of(*columns).average_precision for columns in zip(logits.T, labels.T, strict=True)]
    )


def best_thresholds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The threshold of each class that maximises its F1 on these images, float64 [K], in 0..1."""
    return np.array([Curve.of(*columns).best_threshold() for columns in zip(logits.T, labels.T, strict=True)])


def label_outcomes(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Of each class its images, the images that it was predicted for, and those of both: int64 [3, K].

    Args:
        labels, predicted: 0 or 1, or bool, [N, K].
    """
    true, said = np.asarray(labels) > 0, np.asarray(predicted) > 0
    return np.stack([part.sum(axis=0, dtype=np.int64) for part in (true, said, true & said)])


def mean_of_known(values: np.ndarray) -> float:
    """Mean over the classes of which there is a figure; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
