"""Average precision, thresholds and counts of labels, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from cyclemlp.data import Batch
from cyclemlp.errors import DataError
from cyclemlp.evaluation import MultiLabelResult, evaluate
from cyclemlp.evaluation.multilabel.measures import (
    Curve,
    as_thresholds,
    average_precisions,
    best_thresholds,
    binary_cross_entropy,
    labels_above,
    sigmoid,
)
from cyclemlp.evaluation.multilabel.run import Answers
from cyclemlp.evaluation.run import checked_label_sets

RNG = np.random.default_rng(0)
#: 200 images of 5 classes; scores are rounded, so that many are equal. No image has the last class.
LABELS = (RNG.random((200, 5)) < [0.5, 0.1, 0.02, 0.9, 0]).astype(np.uint8)
LOGITS = np.round(3 * RNG.normal(size=(200, 5)) + 2 * LABELS, 1).astype(np.float32)


def answers(logits=LOGITS, labels=LABELS):
    return Answers(logits, labels, np.arange(len(logits)), 2.0)


def test_the_average_precision_is_scikit_learns():
    found = average_precisions(LOGITS, LABELS)
    for k in range(4):
        assert found[k] == pytest.approx(100 * metrics.average_precision_score(LABELS[:, k], LOGITS[:, k]))
    assert np.isnan(found[4])
    result = MultiLabelResult.of(answers())
    assert result.map == pytest.approx(found[:4].mean())


def test_the_average_precision_by_hand():
    # Found in the order right, wrong, right: precision 1 at recall ½, 2/3 at recall 1.
    curve = Curve.of(np.array([3.0, 1.0, 2.0]), np.array([1, 1, 0]))
    assert curve.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve.recall.tolist() == [0.5, 0.5, 1]
    equal = Curve.of(np.array([1.0, 1.0]), np.array([1, 0]))  # of equal scores neither stands first
    assert equal.average_precision == 0.5


def test_precision_recall_and_f1_are_scikit_learns():
    limits = np.array([0.5, 0.3, 0.9, 0.2, 0.5])
    result = MultiLabelResult.of(answers(), limits)
    said = sigmoid(LOGITS) >= limits
    for average, found in (("macro", result.macro()), ("micro", result.micro())):
        columns = slice(0, 4) if average == "macro" else slice(None)
        expected = metrics.precision_recall_fscore_support(
            LABELS[:, columns], said[:, columns], average=average, zero_division=0
        )
        assert list(found.values()) == pytest.approx([100 * value for value in expected[:3]])
    one = metrics.precision_recall_fscore_support(LABELS[:, 1], said[:, 1], average="binary")
    found = (result.precision[1], result.recall[1], result.f1[1])
    assert found == pytest.approx([100 * value for value in one[:3]])
    assert result.exact_match() == pytest.approx(100 * metrics.accuracy_score(LABELS, said))
    assert np.isnan(result.recall[4])
    assert np.isnan(result.f1[4])


def test_the_loss_is_scikit_learns():
    by_class = [
        metrics.log_loss(LABELS[:, k], sigmoid(LOGITS[:, k].astype(float)), labels=[0, 1]) for k in range(5)
    ]
    assert binary_cross_entropy(LOGITS, LABELS).mean() == pytest.approx(np.mean(by_class))
    extreme = binary_cross_entropy(np.array([[1000.0, -1000.0]]), np.array([[0, 1]]))
    assert extreme.tolist() == [1000.0]


def test_the_best_threshold_gives_the_highest_f1_that_there_is():
    limits = best_thresholds(LOGITS, LABELS)
    probabilities = sigmoid(LOGITS)
    for k in range(4):
        f1 = [
            metrics.f1_score(LABELS[:, k], probabilities[:, k] >= t) for t in np.unique(probabilities[:, k])
        ]
        assert metrics.f1_score(LABELS[:, k], probabilities[:, k] >= limits[k]) == max(f1)
    assert limits[4] == 0.5
    result = MultiLabelResult.of(answers(), limits)
    assert result.macro()["f1"] > MultiLabelResult.of(answers()).macro()["f1"]


def test_the_best_threshold_lies_between_two_scores():
    logits = np.array([2.0, 1.0, -1.0])
    two = Curve.of(logits, np.array([1, 1, 0])).best_threshold()
    assert two == pytest.approx((sigmoid(logits[1]) + sigmoid(logits[2])) / 2)
    assert Curve.of(logits, np.array([0, 0, 1])).best_threshold() == pytest.approx(sigmoid(logits[2]) / 2)


def test_labels_are_those_from_the_threshold_on_the_most_probable_first():
    assert labels_above(np.array([0.5, 0.2, 0.9, 0.49]), as_thresholds(None, 4)) == [2, 0]
    assert labels_above(np.array([0.5, 0.2, 0.9, 0.49]), np.array([0.6, 0.2, 0.95, 0.1])) == [3, 1]
    assert labels_above(np.array([0.1]), as_thresholds(0.5, 1)) == []


def test_the_answers_of_several_processes_are_those_of_one():
    parts = [Answers(LOGITS[i::3], LABELS[i::3], np.arange(i, 200, 3), float(i)) for i in range(3)]
    joined = Answers.joined([parts[0], None, parts[1], parts[2]])
    assert (joined.logits == LOGITS).all()
    assert joined.seconds == 2.0
    whole, found = (MultiLabelResult.of(one) for one in (answers(), joined))
    assert (whole.map, whole.loss) == (found.map, found.loss)  # the same bits
    with pytest.raises(DataError, match="no image"):
        Answers.joined([None])


def test_no_figure_is_made_up_where_there_is_none():
    result = MultiLabelResult.of(answers(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8)), 0.9)
    values = result.to_dict()
    assert values["map"] is None
    assert values["macro_f1"] is None
    assert values["class_average_precision"] == [None, None]
    assert values["unlabelled_images"] == 2
    assert values["exact_match"] == 100


class _OneBatch:
    """A loader of a batch of two images."""

    num_workers, batch_size, source = 0, 2, ("a", "b")

    def __init__(self, labels):
        self._batch = Batch(np.zeros((2, 1, 4, 4), np.float32), labels, np.arange(2))

    def __len__(self):
        return 1

    def __iter__(self):
        return iter([self._batch])


def test_each_evaluation_refuses_the_labels_of_the_other():
    several = _OneBatch(np.array([[1.0, 0.0], [0.0, 0.0]], dtype=np.float32))
    with pytest.raises(DataError, match="several labels each"):
        evaluate(lambda images: np.zeros((2, 2)), several, progress=False)
    with pytest.raises(DataError, match="have no labels"):
        checked_label_sets(Batch(None, None, np.arange(2)), several, 2)
