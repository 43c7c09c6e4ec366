"""Distillation in a training run, from a teacher that another run made."""

from __future__ import annotations

import signal

import pytest
from tiny_run import Some, same_weights, tiny_recipe, tiny_train

from cyclemlp.errors import ConfigError, WeightsError
from cyclemlp.training import TrainingStoppedError


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory):
    return tiny_train(tmp_path_factory.mktemp("teacher") / "run").output


def distilled(teacher_run, **assignments):
    assignments = {"kind": "soft", "teacher": str(teacher_run), **assignments}
    return tiny_recipe(**{f"distillation__{key}": value for key, value in assignments.items()})


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_run_learns_from_its_teacher(teacher_run, tmp_path, kind):
    said = []
    result = tiny_train(tmp_path / "run", distilled(teacher_run, kind=kind), say=said.append)
    assert result.epochs[-1]["train_loss"] < result.epochs[0]["train_loss"]
    assert not same_weights(
        result.output / "checkpoints/checkpoint_0003", teacher_run / "checkpoints/checkpoint_0003"
    )
    assert f"teacher cyclemlp_nano: 88 tensors loaded from {teacher_run}" in "\n".join(said)
    readme = (result.output / "README.md").read_text()
    assert f"| teacher | {teacher_run}, {kind}, α 0.5, τ 1 |" in readme


def test_the_students_start_does_not_depend_on_the_teacher(teacher_run, tmp_path):
    """With the teacher's share 0 a run is, bit for bit, one without a teacher."""
    alone = teacher_run / "checkpoints/checkpoint_0003"  # the same recipe, without one
    result = tiny_train(tmp_path / "run", distilled(teacher_run, alpha=0.0))
    assert same_weights(result.output / "checkpoints/checkpoint_0003", alone)


@pytest.mark.heavy
def test_a_distilled_run_that_is_stopped_and_resumed_ends_the_same(teacher_run, tmp_path):
    recipe = distilled(teacher_run, tau=2.0)
    whole = tiny_train(tmp_path / "whole", recipe).output
    stop = Some("train", 34, {50: lambda: signal.raise_signal(signal.SIGTERM)})
    with pytest.raises(TrainingStoppedError):
        tiny_train(tmp_path / "run", recipe, train_source=stop)
    tiny_train(tmp_path / "run", recipe, resume="auto")
    assert same_weights(
        tmp_path / "run" / "checkpoints/checkpoint_0003", whole / "checkpoints/checkpoint_0003"
    )


def test_a_run_without_its_teachers_file_does_not_start(tmp_path):
    missing = tmp_path / "RegNetX_4GF_pretrained.pdparams"
    recipe = tiny_recipe(distillation__kind="soft", distillation__weights=str(missing))
    with pytest.raises(WeightsError, match=r"RegNetX_4GF_pretrained\.pdparams: .* PaddleClas publishes"):
        tiny_train(tmp_path / "run", recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "warm", "distillation.kind is 'warm'; expected one of: none, soft, hard"),
        ("alpha", 2, "distillation.alpha is 2; expected a number in"),
        ("tau", 0, "distillation.tau is 0; expected a number above 0"),
        ("temperature", 2, "unknown key distillation.temperature"),
    ],
)
def test_the_recipe_refuses_what_is_impossible(key, value, message):
    with pytest.raises(ConfigError, match=message):
        tiny_recipe(**{f"distillation__{key}": value})
