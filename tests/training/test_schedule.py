"""The learning rate at every position of a run."""

from __future__ import annotations

import itertools
import math

import pytest

from cyclemlp.training.recipe import Recipe
from cyclemlp.training.schedule import Schedule


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
