"""Binary cross entropy and asymmetric loss, by hand and beside PyTorch's formulas in float64."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from cyclemlp.errors import ConfigError
from cyclemlp.training import Recipe
from cyclemlp.training.losses import (
    AsymmetricLoss,
    BinaryCrossEntropy,
    ClassCounts,
    LossConfig,
    SoftTargetCrossEntropy,
    build_base_loss,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=2, size=(4, 3))
TARGETS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0.3, 0.7, 1]])
P = 1 / (1 + np.exp(-LOGITS))


def value(fn, logits=LOGITS, targets=TARGETS):
    return float(fn(paddle.to_tensor(logits), paddle.to_tensor(targets)))


def test_binary_cross_entropy_is_the_mean_over_images_and_classes():
    losses = -(TARGETS * np.log(P) + (1 - TARGETS) * np.log(1 - P))
    assert value(BinaryCrossEntropy()) == pytest.approx(losses.mean(), rel=1e-12)
    weights, positive = np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 9.0])
    weighted = -weights * (positive * TARGETS * np.log(P) + (1 - TARGETS) * np.log(1 - P))
    assert value(BinaryCrossEntropy(weights, positive)) == pytest.approx(weighted.mean(), rel=1e-12)


def test_the_asymmetric_loss_is_the_papers():
    shifted = np.maximum(P - 0.05, 0)
    losses = -(TARGETS * (1 - P) ** 1.5 * np.log(P) + (1 - TARGETS) * shifted**4 * np.log(1 - shifted))
    assert value(AsymmetricLoss(4, 1.5, 0.05)) == pytest.approx(losses.mean(), rel=1e-6)
    plain = AsymmetricLoss(0, 0, 0)
    assert value(plain) == pytest.approx(value(BinaryCrossEntropy()), rel=1e-12)


@pytest.mark.parametrize(
    "fn", [BinaryCrossEntropy(), AsymmetricLoss(), AsymmetricLoss(0.5, 0.5, 0.0), AsymmetricLoss(2, 1, 0.1)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loss_and_gradient_stay_finite_however_sure_the_model_is(fn, dtype):
    logits = paddle.to_tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 30.0]], dtype=dtype, stop_gradient=False)
    loss = fn(logits, paddle.to_tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
    loss.backward()
    assert np.isfinite(float(loss))
    assert np.isfinite(logits.grad.numpy()).all()
    assert float(loss) > 10


def test_the_gradient_of_the_asymmetric_loss_is_that_of_its_value():
    fn = AsymmetricLoss(4, 1, 0.05)
    logits = paddle.to_tensor(LOGITS, stop_gradient=False)
    fn(logits, paddle.to_tensor(TARGETS)).backward()
    for place in np.ndindex(LOGITS.shape):
        step = np.zeros_like(LOGITS)
        step[place] = 1e-5
        slope = (value(fn, LOGITS + step) - value(fn, LOGITS - step)) / 2e-5
        assert float(logits.grad[place]) == pytest.approx(slope, abs=1e-7)


def test_the_config_chooses():
    counts = ClassCounts(np.array([25, 50, 10]), 100, ["cat", "dog", "emu"])
    fn = build_base_loss(LossConfig(pos_weight="balanced"), counts, multi_label=True)
    assert type(fn) is BinaryCrossEntropy
    assert fn.pos_weight.tolist() == [3, 1, 9]
    fn = build_base_loss(LossConfig(kind="asymmetric", gamma_neg=2.0, clip=0.0), multi_label=True)
    assert (fn.gamma_neg, fn.gamma_pos, fn.clip) == (2, 0, 0)
    assert type(build_base_loss(LossConfig())) is SoftTargetCrossEntropy


@pytest.mark.parametrize(
    ("given", "counts", "message"),
    [
        ("balanced", [5, 0, 1], r"loss.pos_weight is balanced.* no training images of 'dog'"),
        ("balanced", [5, 9, 1], r"loss.pos_weight is balanced, but every training image has 'dog'"),
        ([1.0], [5, 3, 1], r"loss.pos_weight has 1 number, and there are 3 classes"),
    ],
)
def test_weights_that_do_not_fit_are_refused(given, counts, message):
    counts = ClassCounts(np.array(counts), 9, ["cat", "dog", "emu"])
    with pytest.raises(ConfigError, match=message):
        build_base_loss(LossConfig(pos_weight=given), counts, multi_label=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss.kind": "bce"}, r"loss.kind is 'bce' and data.labels is single: .* \(--labels multi\)"),
        ({"loss.pos_weight": "balanced"}, "loss.pos_weight .* use loss.class_weights"),
        ({"run.best_metric": "map"}, "run.best_metric is 'map' and data.labels is single"),
        ({"data.labels": "multi", "loss.kind": "cross_entropy"}, "use bce or asymmetric"),
        ({"data.labels": "multi", "loss.class_weights": "balanced"}, "use loss.pos_weight=balanced"),
        (
            {"data.labels": "multi", "data.sampling": "balanced", "augment.repeats": 1},
            "no one share of the draws",
        ),
        ({"data.labels": "multi", "distillation.kind": "soft"}, "distillation.kind is 'soft' .* use none"),
        ({"data.labels": "multi", "run.best_metric": "accuracy"}, "use map, macro_f1 or loss"),
    ],
)
def test_what_does_not_go_with_the_kind_of_labels_is_refused_with_the_way_out(values, message):
    with pytest.raises(ConfigError, match=message):
        Recipe().updated(values)


def test_null_stands_for_what_suits_the_labels():
    single, multi = Recipe(), Recipe().updated({"data.labels": "multi"})
    assert (single.label_smoothing, single.best_metric) == (0.1, "accuracy")
    assert (multi.label_smoothing, multi.best_metric) == (0.0, "map")
    assert multi.updated({"loss.label_smoothing": 0.2}).label_smoothing == 0.2
