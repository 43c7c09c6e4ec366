"""Metrics against numbers worked out by hand and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score, log_loss, top_k_accuracy_score

from cyclemlp.evaluation import (
    class_outcomes,
    confusion_matrix,
    cross_entropy,
    label_ranks,
    log_softmax,
    macro_f1,
    top_classes,
)


@pytest.fixture
def random():
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 7)).astype(np.float32), rng.integers(0, 7, 200)


def test_cross_entropy_by_hand():
    losses = cross_entropy(np.array([[0.0, math.log(3)], [0.0, 0.0]]), np.array([1, 0]))
    assert losses == pytest.approx([-math.log(3 / 4), math.log(2)], abs=1e-15)
    assert losses.dtype == np.float64


def test_cross_entropy_of_extreme_logits():
    assert cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1])) == pytest.approx([2e4])
    assert np.isfinite(log_softmax(np.array([[-1e30, 1e30]]))).all()


def test_against_scikit_learn(random):
    logits, labels = random
    probabilities = np.exp(log_softmax(logits))
    assert cross_entropy(logits, labels).mean() == pytest.approx(log_loss(labels, probabilities), abs=1e-12)
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(labels, probabilities, k=k)
        assert (label_ranks(logits, labels) < k).mean() == expected
        assert (top_classes(logits, k) == labels[:, None]).any(axis=1).mean() == expected
    predicted = top_classes(logits, 1)[:, 0]
    assert np.array_equal(confusion_matrix(labels, predicted, 7), sklearn_confusion(labels, predicted))


def test_ties_go_to_the_lower_class():
    logits = np.array([[1.0, 2.0, 2.0, 0.0, 2.0]])
    assert top_classes(logits, 4).tolist() == [[1, 2, 4, 0]]
    assert [int(label_ranks(logits, np.array([label]))[0]) for label in range(5)] == [3, 0, 1, 4, 2]


def test_constant_logits_are_right_no_more_often_than_chance():
    ranks = label_ranks(np.zeros((10, 10)), np.arange(10))
    assert (ranks < 1).sum() == 1
    assert (ranks < 5).sum() == 5


def test_macro_f1_by_hand():
    outcomes = class_outcomes(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 3]), 5)
    assert outcomes.tolist() == [[2, 1, 1, 0, 0], [1, 2, 0, 1, 0], [1, 1, 0, 0, 0]]
    # Classes 3 and 4 have no images: they do not count, but an image that was taken for one is missed by its own.
    assert macro_f1(outcomes) == pytest.approx(100 * (2 / 3 + 2 / 3 + 0) / 3)


def test_macro_f1_against_scikit_learn(random):
    logits, labels = random
    predicted = top_classes(logits, 1)[:, 0]
    expected = 100 * f1_score(labels, predicted, average="macro")
    assert macro_f1(class_outcomes(labels, predicted, 7)) == pytest.approx(expected)


def test_confusion_matrix_by_hand():
    matrix = confusion_matrix([0, 0, 1, 2], [0, 1, 1, 0], 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="from 0 to 2; expected 0 to 1"):
        confusion_matrix([0, 2], [0, 0], 2)
    with pytest.raises(ValueError, match="-1"):
        confusion_matrix([0, 1], [0, -1], 2)
    with pytest.raises(ValueError, match="labels"):
        confusion_matrix([0, 1], [0], 2)
