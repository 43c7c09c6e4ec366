"""Figures of an evaluation against numbers worked out by hand, scikit-learn and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    log_loss,
    precision_score,
    recall_score,
)

from cyclemlp.errors import DataError
from cyclemlp.evaluation import (
    EvaluationResult,
    accuracy_intervals,
    analyse,
    calibration_error,
    confused_pairs,
    log_softmax,
    wilson_interval,
)
from cyclemlp.evaluation.analysis.measures import class_accuracy, image_outcomes, worst_mistakes


def kept(logits, labels):
    """A result as `evaluate(…, keep=True)` gives it."""
    logits, labels = np.asarray(logits, dtype=np.float32), np.asarray(labels)
    right = 100 * float((logits.argmax(axis=1) == labels).mean())
    count, classes = logits.shape
    return EvaluationResult(
        {1: right, 5: 100.0}, 0.0, count, classes, 1.0, (), logits, labels, np.arange(count)
    )


@pytest.fixture(scope="module")
def random():
    """1500 images (more than are computed at once), 6 classes, the last without an image; half are right."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1500)
    logits = rng.normal(size=(1500, 6)) + 1.5 * np.eye(6)[labels]
    return kept(logits, labels)


@pytest.fixture(scope="module")
def analysis(random):
    return analyse(random)


@pytest.mark.parametrize(("right", "images"), [(0, 9), (9, 9), (1, 7), (394, 500), (39394, 50000)])
def test_wilson_is_scipys(right, images):
    expected = binomtest(right, images).proportion_ci(method="wilson")
    assert wilson_interval(right, images) / 100 == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_wilson_of_arrays_and_of_no_image():
    ends = wilson_interval([3, 0], [4, 0])
    assert ends[0].tolist() == wilson_interval(3, 4).tolist()
    assert np.isnan(ends[1]).all()


def test_intervals_of_every_top_k():
    result = EvaluationResult({1: 100 / 3, 5: 100.0}, 1.0, 3, 9, 1.0)
    assert accuracy_intervals(result)[1] == tuple(wilson_interval(1, 3))
    assert accuracy_intervals(result)[5] == tuple(wilson_interval(3, 3))


def test_outcomes_by_hand():
    # Probabilities ¼ ¼ ½ and 0.1 0.9 0: the first is wrong (2 instead of 0), the second right.
    result = kept(np.log([[0.25, 0.25, 0.5], [0.1, 0.9, 1e-30]]), [0, 1])
    found = image_outcomes(result)
    assert found.predicted.tolist() == [2, 1]
    assert found.confidence == pytest.approx([0.5, 0.9])
    assert found.ranks.tolist() == [1, 0]
    assert found.right.tolist() == [False, True]
    assert found.losses == pytest.approx([math.log(4), -math.log(0.9)], rel=1e-6)
    assert found.brier == pytest.approx([0.75**2 + 0.25**2 + 0.5**2, 0.1**2 + 0.1**2], rel=1e-6)


def test_scores_are_scikit_learns(random, analysis):
    probabilities, labels = np.exp(log_softmax(random.logits)), random.labels
    found, every = analysis.calibration, list(range(6))
    assert found.brier == pytest.approx(
        brier_score_loss(labels, probabilities, labels=every, scale_by_half=False), abs=1e-12
    )
    assert found.loss == pytest.approx(log_loss(labels, probabilities, labels=every), abs=1e-9)
    right, confidence = probabilities.argmax(axis=1) == labels, probabilities.max(axis=1)
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    filled = found.counts > 0
    assert found.accuracy[filled] == pytest.approx(accuracy)
    assert found.confidence[filled] == pytest.approx(mean)
    weights = found.counts[filled] / 1500
    assert found.error == pytest.approx((weights * np.abs(accuracy - mean)).sum(), abs=1e-12)
    assert found.overconfidence == pytest.approx(confidence.mean() - right.mean(), abs=1e-12)


def test_classes_are_scikit_learns(random, analysis):
    labels, predicted = random.labels, random.logits.argmax(axis=1)
    found, there = analysis.classes, slice(0, 5)
    assert found.mean / 100 == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.accuracy[there] / 100 == pytest.approx(
        recall_score(labels, predicted, average=None, labels=range(5))
    )
    assert found.precision[there] / 100 == pytest.approx(
        precision_score(labels, predicted, average=None, labels=range(5))
    )
    assert np.isnan(found.accuracy[5])
    assert np.isnan(found.interval[5]).all()
    assert found.precision[5] == 0  # taken for by some, and never rightly
    assert found.images.sum() == found.predicted.sum() == 1500
    assert found.interval[2].tolist() == wilson_interval(found.right[2], found.images[2]).tolist()


def test_interval_of_the_class_mean_is_the_normal_one_for_many_images():
    # Two classes of 1000 at 80 and 50 %: the mean's variance is a quarter of the sum of p (1 − p) / n.
    confusion = np.array([[800, 200], [500, 500]])
    low, high = class_accuracy(confusion).mean_interval
    deviation = 100 * math.sqrt((0.8 * 0.2 + 0.5 * 0.5) / 1000) / 2
    assert low == pytest.approx(65 - 1.96 * deviation, abs=0.2)
    assert high == pytest.approx(65 + 1.96 * deviation, abs=0.2)


def test_bins_are_closed_above():
    # With 4 bins 0.5 is in the second, (0.25, 0.5]: errors |1 − 0.5| and |0 − 0.75|, a half each.
    assert calibration_error(np.array([0.5, 0.75]), np.array([True, False]), 4) == pytest.approx(0.625)
    # In one bin they compensate: |1 − 1.25| / 2.
    assert calibration_error(np.array([0.5, 0.75]), np.array([True, False]), 1) == pytest.approx(0.125)


def test_a_calibrated_network_has_no_calibration_error_and_a_sharpened_one_has():
    # The label is drawn with the probabilities themselves, and of k in 20 images at k / 20 exactly k are right.
    confidence = np.repeat(np.arange(11, 21) / 20, 200)
    right = np.concatenate([np.arange(200) < 10 * k for k in range(11, 21)])
    assert calibration_error(confidence, right) == pytest.approx(0, abs=1e-12)

    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 5)) * 2
    probabilities = np.exp(log_softmax(logits))
    labels = (rng.random((4000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    drawn = analyse(kept(logits, labels)).calibration
    assert drawn.error < 0.02
    assert drawn.error_interval[0] < 0.01  # 0, as nearly as 4000 images tell
    sharpened = analyse(kept(3 * logits, labels)).calibration
    assert sharpened.error > 0.1
    assert sharpened.error_interval[0] > 0.1
    assert sharpened.overconfidence == pytest.approx(sharpened.error, abs=0.02)


def test_intervals_repeat_with_their_seed(random, analysis):
    again, other = analyse(random), analyse(random, seed=1)
    assert again.to_dict() == analysis.to_dict()
    assert other.calibration.error == analysis.calibration.error
    assert other.calibration.error_interval != analysis.calibration.error_interval
    assert other.classes.mean_interval != analysis.classes.mean_interval


def test_confusions_and_worst_mistakes():
    confusion = np.array([[5, 1, 4], [0, 9, 1], [2, 0, 0]])
    pairs = confused_pairs(confusion)
    assert [(p.true, p.predicted, p.images) for p in pairs] == [(0, 2, 4), (2, 0, 2), (0, 1, 1), (1, 2, 1)]
    assert [p.share for p in pairs] == [40, 100, 10, 10]
    assert confused_pairs(confusion, 1) == pairs[:1]
    logits = np.log([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    outcomes = image_outcomes(kept(logits, [1, 0, 1, 1]))
    assert worst_mistakes(outcomes, 9).tolist() == [1, 3, 0]
    assert worst_mistakes(outcomes, 1).tolist() == [1]


def test_json_values(analysis):
    values = analysis.to_dict()
    assert values["classes_without_images"] == 1
    assert values["calibration"]["binning"].startswith("15 equally wide bins")
    bins = values["calibration"]["bins"]
    assert sum(entry["images"] for entry in bins) == 1500
    assert bins[0] == {"above": 0.0, "to": 1 / 15, "images": 0, "confidence": None, "accuracy": None}


def test_what_cannot_be_analysed():
    with pytest.raises(DataError, match="one image only"):
        analyse(kept([[1, 2]], [0]))
    with pytest.raises(ValueError, match="keep=True"):
        analyse(EvaluationResult({1: 1.0}, 1.0, 2, 3, 1.0))
