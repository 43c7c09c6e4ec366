"""The stored results are what the plain network gives, and whatever changes the network is noticed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cyclemlp.doctor import golden
from cyclemlp.doctor.golden import (
    CASES,
    FILE,
    IMAGES,
    build,
    compute,
    distance,
    distance_from_golden,
    summary,
)
from cyclemlp.network.cyclemlp import CycleShift

NANO = CASES[0]


def test_the_file_is_what_the_program_computes(tmp_path, monkeypatch):
    stored = dict(np.load(FILE))
    monkeypatch.setattr(golden, "FILE", tmp_path / "golden.npz")
    assert golden.main() == 0
    made = dict(np.load(tmp_path / "golden.npz"))
    assert made.keys() == stored.keys()
    assert len(made) == 3 * len(CASES)
    for name, array in stored.items():
        assert array.dtype == np.float64
        np.testing.assert_allclose(made[name], array, rtol=0, atol=1e-12 * np.abs(array).max(), err_msg=name)
    assert FILE.stat().st_size < 100_000


def test_every_parameter_has_a_gradient_that_counts():
    for case in CASES:
        model = build(case, "float64")
        stored = golden.golden(case)
        assert len(stored.norms) == len(list(model.named_parameters())) + 1
        assert stored.norms.min() > golden.LEAST_SHARE * np.median(stored.norms)


def test_the_numbers_of_the_formula_stay():
    """NumPy keeps the streams of `RandomState`; another formula would need another file."""
    value = golden.parameter_value("nano head.bias", (3,))
    np.testing.assert_array_equal(value, (0.1 * golden.normal("nano head.bias", (3,))).astype(np.float32))
    np.testing.assert_allclose(
        golden.normal("doctor", (2,)), [0.15347296187993775, 1.4533291715414887], rtol=1e-14
    )


def test_a_weight_that_is_a_thousandth_off_is_noticed(monkeypatch):
    formula = golden.parameter_value
    changed = "nano network.2.0.attn.sfc_h.weight"
    monkeypatch.setattr(
        golden,
        "parameter_value",
        lambda name, shape: formula(name, shape) * (1.001 if name == changed else 1),
    )
    error = distance_from_golden(compute(build(NANO, "float64"), NANO), NANO)
    assert error.logits > 1e-6
    assert error.gradients > 1e-6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_that_does_not_shift_is_noticed(case, monkeypatch):
    monkeypatch.setattr(CycleShift, "shift", lambda self, x: x)
    error = distance_from_golden(compute(build(case, "float32", "plain"), case), case)
    assert error.logits > 0.01
    assert error.gradients > 0.01


def test_the_parameter_whose_gradient_is_wrong_is_named():
    result = compute(build(NANO, "float64"), NANO)
    name = "network.4.1.mlp.fc2.weight"
    wrong = {**result.gradients, name: 1.1 * result.gradients[name]}
    other = dataclasses.replace(result, gradients=wrong)
    for error in (distance_from_golden(other, NANO), distance(other, result)):
        assert error.worst == name
        assert error.logits < 1e-12
    assert distance(other, result).gradients == pytest.approx(0.1)


def test_what_is_no_number_is_infinitely_far():
    result = compute(build(NANO, "float64"), NANO)
    nan = dataclasses.replace(result, logits=np.full_like(result.logits, np.nan))
    assert distance_from_golden(nan, NANO).logits == np.inf
    gradients = {**result.gradients, IMAGES: np.full_like(result.gradients[IMAGES], np.nan)}
    error = distance_from_golden(dataclasses.replace(result, gradients=gradients), NANO)
    assert (error.worst, error.most) == (IMAGES, np.inf)


def test_parts_of_a_batch_and_a_scaled_loss_have_its_gradients():
    model = build(NANO, "float64")
    whole = compute(model, NANO)
    halves = [compute(model, NANO, part=(i, 2), scale=1024.0) for i in range(2)]
    np.testing.assert_allclose(np.concatenate([half.logits for half in halves]), whole.logits, atol=1e-12)
    for name in whole.gradients.keys() - {IMAGES}:
        mean = np.mean([half.gradients[name] for half in halves], axis=0)
        np.testing.assert_allclose(mean, whole.gradients[name], atol=1e-10)
    assert summary(whole).products.shape[1] == golden.DIRECTIONS
