"""The loss, against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from cyclemlp.errors import ConfigError
from cyclemlp.training.losses import ClassCounts, LossConfig, SoftTargetCrossEntropy, build_base_loss

# softmax([ln 1, ln 2, ln 5]) is (1, 2, 5) / 8; softmax([ln 3, ln 3, ln 2]) is (3, 3, 2) / 8
LOGITS = np.log(np.array([[1, 2, 5], [3, 3, 2]], dtype=np.float64))


def loss(targets, smoothing, logits=LOGITS):
    return float(SoftTargetCrossEntropy(smoothing)(paddle.to_tensor(logits), paddle.to_tensor(targets)))


def test_class_numbers_without_smoothing():
    assert loss([2, 0], 0.0) == pytest.approx((math.log(8 / 5) + math.log(8 / 3)) / 2, rel=1e-12)


def test_smoothing_spreads_over_all_classes_the_true_one_included():
    on, off = 1 - 0.3 + 0.1, 0.1  # s = 0.3, K = 3
    first = on * math.log(8 / 5) + off * (math.log(8) + math.log(8 / 2))
    second = on * math.log(8 / 3) + off * (math.log(8 / 3) + math.log(8 / 2))
    assert loss([2, 0], 0.3) == pytest.approx((first + second) / 2, rel=1e-12)


def test_soft_targets_and_smoothing_commute_with_mixing():
    soft = np.array([[0.25, 0, 0.75], [1, 0, 0]])
    by_hand = (0.25 * math.log(8) + 0.75 * math.log(8 / 5) + math.log(8 / 3)) / 2
    assert loss(soft, 0.0) == pytest.approx(by_hand, rel=1e-12)
    mixed = 0.25 * loss([0, 0], 0.1) + 0.75 * loss([2, 2], 0.1)
    same = np.array([[0.25, 0, 0.75], [0.25, 0, 0.75]])
    assert loss(same, 0.1) == pytest.approx(mixed, rel=1e-12)


def test_a_one_hot_row_is_its_class_number():
    for smoothing in (0.0, 0.1):
        assert loss(np.eye(3)[[2, 0]], smoothing) == loss([2, 0], smoothing)


def test_extreme_and_half_logits_stay_finite_in_float32():
    extreme = np.array([[1e4, -1e4, 0], [0, 0, 0]], dtype=np.float32)
    assert loss([1, 0], 0.1, extreme) == pytest.approx(
        (0.9 * 2e4 + 0.1 / 3 * 3e4 + math.log(3)) / 2, rel=1e-6
    )
    half = paddle.to_tensor(LOGITS).astype("bfloat16")
    value = SoftTargetCrossEntropy(0.1)(half, paddle.to_tensor([2, 0]))
    assert value.dtype == paddle.float32
    assert float(value) == pytest.approx(loss([2, 0], 0.1), rel=1e-2)


def test_the_gradient_is_softmax_minus_target():
    logits = paddle.to_tensor(LOGITS, stop_gradient=False)
    SoftTargetCrossEntropy(0.3)(logits, paddle.to_tensor([2, 0])).backward()
    targets = np.full((2, 3), 0.1)
    targets[0, 2] = targets[1, 0] = 0.8
    np.testing.assert_allclose(logits.grad.numpy(), (np.exp(LOGITS) / 8 - targets) / 2, atol=1e-12)


def test_an_impossible_smoothing_is_refused():
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="label_smoothing"):
            SoftTargetCrossEntropy(smoothing)


def weighted(targets, weights, smoothing=0.0):
    fn = SoftTargetCrossEntropy(smoothing, class_weights=weights)
    return float(fn(paddle.to_tensor(LOGITS), paddle.to_tensor(targets)))


def test_an_image_counts_by_the_weights_of_its_target():
    # Of class 2, then of class 0; divided by the two images, not by the weights.
    by_hand = (5 * math.log(8 / 5) + 0.5 * math.log(8 / 3)) / 2
    assert weighted([2, 0], [0.5, 1, 5]) == pytest.approx(by_hand, rel=1e-12)
    assert weighted([2, 0], [1, 1, 1]) == pytest.approx(loss([2, 0], 0.0), rel=1e-12)


def test_a_mixed_image_counts_by_the_shares_of_its_classes():
    soft = np.array([[0.25, 0, 0.75], [1, 0, 0]])
    first = 0.25 * math.log(8) + 0.75 * math.log(8 / 5)
    by_hand = ((0.25 * 0.5 + 0.75 * 5) * first + 0.5 * math.log(8 / 3)) / 2
    assert weighted(soft, [0.5, 1, 5]) == pytest.approx(by_hand, rel=1e-12)
    smoothed = soft * 0.7 + 0.1  # in a run they are smoothed before; here by the loss itself
    assert weighted(smoothed, [0.5, 1, 5]) == pytest.approx(weighted(soft, [0.5, 1, 5], 0.3), rel=1e-12)


def test_balanced_weights_let_the_classes_count_alike():
    counts = np.array([1, 10, 100])
    weights = np.array(ClassCounts(counts, 111).weights("class_weights", "balanced"))
    assert weights == pytest.approx([111 / 3, 111 / 30, 111 / 300])
    assert np.ptp(counts * weights) == pytest.approx(0, abs=1e-9)
    assert (counts * weights).sum() / counts.sum() == pytest.approx(1)
    fn = build_base_loss(LossConfig(class_weights="balanced"), ClassCounts(counts, 111))
    assert fn.class_weights.numpy() == pytest.approx(weights)


@pytest.mark.parametrize(
    ("weights", "counts", "message"),
    [
        ("balanced", [3, 0, 1], r"loss.class_weights is balanced.* no training images of 'dog'.* as a list"),
        ([1.0, 2.0], [3, 1, 1], "loss.class_weights has 2 numbers, and there are 3 classes: give one number"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(weights, counts, message):
    config = LossConfig(class_weights=weights)
    with pytest.raises(ConfigError, match=message):
        build_base_loss(config, ClassCounts(np.array(counts), sum(counts), ["cat", "dog", "emu"]))
