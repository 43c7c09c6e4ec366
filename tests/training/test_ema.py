"""The weights' average: its formula, its warm-up, and that it is a model of its own."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
import safetensors.numpy
from paddle import nn
from tiny_run import Some, tiny_recipe, tiny_train

import cyclemlp
from cyclemlp import create_model
from cyclemlp.training import TrainingStoppedError
from cyclemlp.training.ema import Ema, EmaConfig


def constant(value: float) -> nn.Layer:
    layer = nn.Linear(2, 2)
    for parameter in layer.parameters():
        parameter.set_value(np.full(parameter.shape, value, dtype=np.float32))
    return layer


def set_to(layer: nn.Layer, value: float) -> None:
    for parameter in layer.parameters():
        parameter.set_value(np.full(parameter.shape, value, dtype=np.float32))


def test_the_formula():
    layer = constant(1.0)
    ema = Ema(layer, 0.9, warmup=False)
    expected = 1.0
    for update, value in enumerate((3.0, -2.0, 0.5)):
        set_to(layer, value)
        ema.update(layer, update)
        expected = 0.9 * expected + 0.1 * value
        np.testing.assert_allclose(ema.model.weight.numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(ema.model.bias.numpy(), expected, rtol=1e-6)
        np.testing.assert_array_equal(layer.weight.numpy(), np.float32(value))  # which is not touched


def test_the_warm_up_of_the_decay():
    ema = Ema(constant(0.0), 0.99996)
    assert [ema.decay_at(n) for n in (0, 1, 8, 90)] == [0.1, 2 / 11, 0.5, 0.91]
    assert ema.decay_at(224989) < 0.99996
    assert ema.decay_at(225000) == 0.99996
    assert Ema(constant(0.0), 0.99996, warmup=False).decay_at(0) == 0.99996


def test_a_short_runs_average_is_not_its_initial_weights():
    layer = constant(0.0)
    warm, cold = Ema(layer, 0.99996), Ema(layer, 0.99996, warmup=False)
    set_to(layer, 1.0)
    for update in range(100):
        warm.update(layer, update)
        cold.update(layer, update)
    assert float(warm.model.bias[0]) > 0.999
    assert float(cold.model.bias[0]) < 0.005


def test_equal_weights_stay_equal_to_the_bit():
    layer = constant(1 / 3)
    ema = Ema(layer, 0.99996, warmup=False)
    for update in range(50):
        ema.update(layer, update)
    np.testing.assert_array_equal(ema.model.weight.numpy(), layer.weight.numpy())


def test_it_is_a_model_of_its_own_for_evaluation_only():
    model = create_model("cyclemlp_nano", num_classes=3, drop_path_rate=0.5)
    model.train()
    ema = Ema(model, 0.5)
    assert model.training
    assert not ema.model.training
    assert all(p.stop_gradient for p in ema.model.parameters())
    assert not any(p.stop_gradient for p in model.parameters())
    assert ema.model.metadata == model.metadata
    assert list(ema.model.state_dict()) == list(model.state_dict())
    images = paddle.ones([1, 3, 32, 32])
    model.eval()
    with paddle.no_grad():  # with a gradient to come, the same is computed in another order
        np.testing.assert_array_equal(ema.model(images).numpy(), model(images).numpy())


def test_a_recipe_without_it_has_none(tmp_path):
    assert Ema.from_config(constant(0.0), EmaConfig(decay=None)) is None
    result = tiny_train(tmp_path / "run", tiny_recipe(ema__decay=None, run__epochs=1))
    assert not (result.output / "best_ema.safetensors").exists()
    assert not (result.output / "checkpoints/checkpoint_0001" / "ema.safetensors").exists()
    assert "ema_top1" not in result.epochs[0]


def test_a_runs_average_is_that_of_its_steps(tmp_path, monkeypatch):
    seen = []
    plain = Ema.update

    def update(ema, model, count):
        before = {n: p.numpy().copy() for n, p in ema.model.named_parameters()}
        plain(ema, model, count)
        seen.append((count, before, {n: p.numpy().copy() for n, p in model.named_parameters()}))

    monkeypatch.setattr(Ema, "update", update)
    result = tiny_train(tmp_path / "run", tiny_recipe(run__epochs=2))
    assert [count for count, *_ in seen] == list(range(8))  # 4 steps an epoch, whatever parts they have
    average = seen[0][1]
    for count, _, weights in seen:
        d = min(0.9, (1 + count) / (10 + count))
        average = {name: d * average[name] + (1 - d) * weights[name] for name in weights}
    saved = safetensors.numpy.load_file(result.output / "checkpoints/checkpoint_0002" / "ema.safetensors")
    for name in saved:
        np.testing.assert_allclose(saved[name], average[name], atol=1e-6, err_msg=name)


def test_the_best_average_is_whole_by_itself(tmp_path):
    result = tiny_train(tmp_path / "run")
    best = max(result.epochs, key=lambda r: r["ema_top1"])
    file = cyclemlp.weights.read_weights(result.output / "best_ema.safetensors")
    assert file.metadata["figures"]["ema_top1"] == best["ema_top1"]
    assert cyclemlp.load_model(file).metadata.classes == [str(i) for i in range(10)]


@pytest.mark.heavy
def test_an_average_that_begins_in_the_middle_says_so(tmp_path):
    import os
    import signal

    source = Some("train", 34, {44: lambda: os.kill(os.getpid(), signal.SIGINT)})
    with pytest.raises(TrainingStoppedError):
        tiny_train(tmp_path / "run", tiny_recipe(ema__decay=None), train_source=source)
    with pytest.warns(UserWarning, match="has no average of the weights: it begins with its weights"):
        result = tiny_train(tmp_path / "run", tiny_recipe(), resume="auto")
    assert "ema_top1" not in result.epochs[0]
    assert "ema_top1" in result.epochs[1]
