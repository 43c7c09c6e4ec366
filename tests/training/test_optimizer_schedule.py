"""What is decayed and clipped, and the learning rate at every position."""

from __future__ import annotations

import itertools
import math

import numpy as np
import paddle
import pytest
from paddle import nn

from cyclemlp.network import CycleMLP, CycleMLPConfig
from cyclemlp.training.optimizer import OptimizerConfig, build_optimizer
from cyclemlp.training.recipe import Recipe
from cyclemlp.training.schedule import Schedule


def test_only_parameters_with_more_than_one_dimension_are_decayed():
    model = CycleMLP(CycleMLPConfig(num_classes=3, embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1)))
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.5), lr=0.1)
    for p in model.parameters():
        p.grad = paddle.zeros_like(p)  # so that decay is all that happens
    optimizer.step()
    decayed = set()
    for name, p in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if p.ndim > 1 else 1.0
        np.testing.assert_allclose(
            p.numpy(), before[name] * np.float32(factor), rtol=1e-6, atol=0, err_msg=name
        )
        decayed |= {name} if p.ndim > 1 else set()
    assert "network.0.0.attn.sfc_h.weight" in decayed
    assert "network.0.0.norm1.weight" not in decayed


def test_a_step_is_pytorchs_adamw():
    # By hand, after one step: m̂ = g, v̂ = g², so p ← p · (1 − lr · decay) − lr · g / (|g| + eps).
    layer = nn.Linear(2, 1, bias_attr=False)
    layer.weight.set_value(np.array([[1.0], [-2.0]], dtype=np.float32))
    optimizer = build_optimizer(layer, OptimizerConfig(weight_decay=0.2, eps=0.5), lr=0.1)
    gradient = np.array([[0.5], [-0.25]], dtype=np.float32)
    layer.weight.grad = paddle.to_tensor(gradient)
    optimizer.step()
    expected = np.array([[1.0], [-2.0]]) * (1 - 0.1 * 0.2) - 0.1 * gradient / (np.abs(gradient) + 0.5)
    np.testing.assert_allclose(layer.weight.numpy(), expected, rtol=1e-6)


def test_clipping_is_by_the_norm_of_all_gradients_together():
    def step(clip_norm, scale):
        layer = nn.Linear(2, 1)
        layer.weight.set_value(np.zeros((2, 1), dtype=np.float32))
        layer.bias.set_value(np.zeros(1, dtype=np.float32))
        # A large eps makes the step almost proportional to the gradient.
        optimizer = build_optimizer(
            layer, OptimizerConfig(weight_decay=0, eps=1e6, clip_norm=clip_norm), lr=1e6
        )
        layer.weight.grad = paddle.to_tensor(np.array([[3.0], [0.0]], dtype=np.float32) * scale)
        layer.bias.grad = paddle.to_tensor(np.array([4.0], dtype=np.float32) * scale)
        optimizer.step()
        return -np.concatenate([layer.weight.numpy().ravel(), layer.bias.numpy()])

    np.testing.assert_allclose(step(1.0, 1), [0.6, 0, 0.8], rtol=1e-4)
    np.testing.assert_allclose(step(1.0, 0.1), [0.3, 0, 0.4], rtol=1e-4)
    np.testing.assert_allclose(step(None, 1), [3, 0, 4], rtol=1e-4)


def test_by_epoch_is_the_authors_schedule():
    # Stepped after epoch e with e: the second epoch still has the rate of position 0.
    schedule = Schedule(base_lr=1e-3, epochs=300)
    by_epoch = [schedule.lr(epoch, 7, 10) for epoch in range(300)]
    assert by_epoch[0] == by_epoch[1] == 1e-6
    assert by_epoch[2] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 5)
    assert by_epoch[6] == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * 5 / 300)) / 2)
    assert by_epoch[299] == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * 298 / 300)) / 2)
    assert {schedule.lr(3, step, 10) for step in range(10)} == {by_epoch[3]}


def test_by_step_moves_at_each_step():
    schedule = Schedule(base_lr=1.0, epochs=10, by="step", warmup_epochs=2, warmup_lr=0.1, min_lr=0.01)
    rates = [schedule.lr(epoch, step, 4) for epoch in range(10) for step in range(4)]
    assert rates[0] == 0.1
    assert rates[4] == pytest.approx(0.1 + 0.9 / 2)
    assert rates[20] == pytest.approx(0.01 + 0.99 / 2)
    assert all(a < b for a, b in itertools.pairwise(rates[:8]))
    assert all(a > b for a, b in itertools.pairwise(rates[8:]))
    assert schedule.at(10) == pytest.approx(0.01)


def test_warm_up_start_and_floor_never_exceed_the_base_rate():
    schedule = Schedule(base_lr=1e-8, epochs=10)  # below both 1e-6 and 1e-5
    assert {schedule.lr(epoch, 0, 1) for epoch in range(10)} == {1e-8}


def test_no_warm_up_begins_at_the_base_rate():
    assert Schedule(base_lr=0.5, epochs=3, warmup_epochs=0).lr(0, 0, 1) == 0.5


def test_the_recipes_rate_is_scaled_to_its_batch():
    recipe = Recipe().updated({"data.batch_size": 64})
    assert Schedule.from_recipe(recipe).base_lr == pytest.approx(5e-4 * 64 / 512)
    assert Schedule.from_recipe(recipe.updated({"optimizer.lr_for_batch": None})).base_lr == 5e-4


def test_the_cool_down_is_the_end_of_the_run_at_the_lowest_rate():
    recipe = Recipe().updated({"schedule.by": "step", "run.epochs": 20, "schedule.cooldown_epochs": 5})
    schedule = Schedule.from_recipe(recipe)
    assert schedule.epochs == 15
    rates = [schedule.lr(epoch, 0, 10) for epoch in range(20)]
    assert rates[15:] == [1e-5] * 5
    assert rates[14] > 1e-5
    without = Schedule.from_recipe(recipe.updated({"schedule.cooldown_epochs": 0}))
    assert without.lr(19, 9, 10) > 1e-5  # the authors' cool-down lies past the end, so there is none


def test_a_cosine_may_be_longer_or_shorter_than_the_run():
    base = Recipe().updated({"schedule.by": "step", "schedule.warmup_epochs": 0, "run.epochs": 2})
    long = Schedule.from_recipe(base.updated({"schedule.cosine_epochs": 300}))
    assert long.lr(1, 9, 10) > 0.999 * long.base_lr
    short = Schedule.from_recipe(base.updated({"schedule.cosine_epochs": 1}))
    assert short.lr(1, 0, 10) == short.lr(1, 9, 10) == 1e-5


def test_the_rate_is_scaled_to_all_devices_together():
    assert Schedule.from_recipe(Recipe(), devices=8).base_lr == pytest.approx(1e-3)
