"""Figures of a classifier, in NumPy and float64. B images, K classes; logits are [B, K], labels int [B]."""

from __future__ import annotations

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the class probabilities, float64 [B, K]."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """−log of the true class's probability, per image: float64 [B], in nats."""
    return -log_softmax(logits)[np.arange(len(labels)), labels]


def label_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the true one: int [B], 0 for a right answer.

    Among equal logits the lower class stands first, as a stable sort has it.
    """
    true = logits[np.arange(len(labels)), labels][:, None]
    before = (logits > true) | ((logits == true) & (np.arange(logits.shape[1]) < np.asarray(labels)[:, None]))
    return before.sum(axis=1)


def top_classes(logits: np.ndarray, k: int) -> np.ndarray:
    """The `k` classes with the largest logits, best first: int [B, min(k, K)]; ties as in `label_ranks`."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :k]


def class_outcomes(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Of each class its images, the images that were taken for it, and those of both: int64 [3, K].

    Args:
        labels, predicted: int [B], in 0 … `num_classes` − 1.
    """
    parts = (labels, predicted, labels[labels == predicted])
    return np.stack([np.bincount(part, minlength=num_classes) for part in parts])


def macro_f1(outcomes: np.ndarray) -> float:
    """Mean of the F1 of the classes that have images, in percent.

    The F1 of a class is 2 · right / (its images + images taken for it), the harmonic mean of precision and recall.

    Args:
        outcomes: of `class_outcomes`, [3, K]; at least one class has images.
    """
    images, predicted, right = outcomes[:, outcomes[0] > 0]
    return float((200 * right / (images + predicted)).mean())


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts, int64 [K, K]: a row a true class, a column a predicted one.

    Raises:
        ValueError: lengths differ, or a class is not in 0 … `num_classes` − 1.
    """
    labels, predicted = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if labels.shape != predicted.shape:
        raise ValueError(f"there are {labels.shape} labels and {predicted.shape} predictions")
    both = np.concatenate([labels, predicted])
    if both.size and not (both.min() >= 0 and both.max() < num_classes):
        raise ValueError(f"classes go from {both.min()} to {both.max()}; expected 0 to {num_classes - 1}")
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)
