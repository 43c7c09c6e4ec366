"""Mixed precision, as far as a processor can show it: the loss scaler's every transition, skipped steps, what Paddle is
told of its lists of operators. No half-precision product was computed here: Paddle has none on processors."""

from __future__ import annotations

import math
import warnings

import numpy as np
import paddle
import pytest
from paddle import nn
from tiny_run import Some, tiny_recipe, tiny_train

from cyclemlp.errors import ConfigError
from cyclemlp.report import read_json_lines
from cyclemlp.training import TrainingFailedError, amp, trainer
from cyclemlp.training.amp import BLACK, WHITE, AmpConfig, MixedPrecision
from cyclemlp.training.checkpoint import training_state
from cyclemlp.training.optimizer import OptimizerConfig, build_optimizer


class PretendedTracer:
    """Paddle's tracer as on a GPU; what autocast tells it is noted, not done."""

    def __init__(self) -> None:
        self._expected_place = paddle.CUDAPlace(0) if paddle.is_compiled_with_cuda() else _GpuPlace()
        self.told: list[tuple[str, str, set[str], set[str]]] = []
        self._lists: tuple[set[str], set[str]] = (set(), set())
        self._amp_dtype, self._level, self._use_promote = "float32", paddle.base.core.AmpLevel.O0, False

    def _get_amp_op_list(self):
        return self._lists

    def _set_amp_op_list(self, white, black):
        self._lists = (white, black)

    @property
    def _amp_level(self):
        return self._level

    @_amp_level.setter
    def _amp_level(self, level):
        self._level = level

    def inside(self):
        return str(self._level), self._amp_dtype, *self._lists


class _GpuPlace:
    is_gpu_place = staticmethod(lambda: True)
    is_xpu_place = is_custom_place = staticmethod(lambda: False)


@pytest.fixture
def gpu(monkeypatch):
    """A processor that Paddle's scaler and autocast, and our check, take for a GPU."""
    import importlib

    tracer = PretendedTracer()
    for name in ("grad_scaler", "auto_cast"):
        module = importlib.import_module(f"paddle.amp.{name}")
        monkeypatch.setattr(module, "_dygraph_tracer", lambda: tracer)
    for name in ("_is_gpu_float16_supported", "_is_gpu_bfloat16_supported"):
        monkeypatch.setattr(importlib.import_module("paddle.amp.auto_cast"), name, lambda: True)
    for name in ("is_float16_supported", "is_bfloat16_supported"):
        monkeypatch.setattr(paddle.amp, name, lambda: True)
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    return tracer


def layer_and_optimizer(**part):
    paddle.seed(3)
    layer = nn.Linear(3, 2)
    return layer, build_optimizer(layer, OptimizerConfig(**part), lr=0.1)


def one_step(precision, layer, optimizer, *, spoilt: bool = False) -> bool:
    with precision.autocast():
        out = layer(paddle.ones([4, 3]))
    precision.backward(out.square().mean())
    if spoilt:
        spoil(layer.weight)
    done = precision.step(optimizer)
    optimizer.clear_grad()
    return done


def spoil(parameter) -> None:
    with paddle.no_grad():
        parameter.grad.scale_(math.inf)


def snapshot(layer, optimizer) -> dict[str, np.ndarray]:
    state = {k: v.numpy().copy() for k, v in optimizer.state_dict().items() if hasattr(v, "numpy")}
    return {**{n: p.numpy().copy() for n, p in layer.named_parameters()}, **state}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_the_scale_halves_at_an_overflow_and_doubles_after_good_steps(gpu):
    layer, optimizer = layer_and_optimizer()
    precision = MixedPrecision(AmpConfig(dtype="float16", init_loss_scaling=1024.0, growth_steps=3))
    seen = []
    for spoilt in (False, False, True, False, False, False, False, True, True):
        done = one_step(precision, layer, optimizer, spoilt=spoilt)
        seen.append((done, precision.scale))
    assert seen == [
        (True, 1024.0),
        (True, 1024.0),
        (False, 512.0),  # and the count of good steps begins anew
        (True, 512.0),
        (True, 512.0),
        (True, 1024.0),
        (True, 1024.0),
        (False, 512.0),
        (False, 256.0),
    ]


@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_overflow_changes_no_bit_of_parameters_and_optimizer(gpu, clip):
    layer, optimizer = layer_and_optimizer(clip_norm=clip)
    precision = MixedPrecision(AmpConfig(dtype="float16"))
    one_step(precision, layer, optimizer)
    before = snapshot(layer, optimizer)
    assert one_step(precision, layer, optimizer, spoilt=True) is False
    assert same(snapshot(layer, optimizer), before)
    assert one_step(precision, layer, optimizer) is True
    assert not same(snapshot(layer, optimizer), before)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_scaled_step_is_the_unscaled_one(gpu, parts):
    # Powers of two scale without rounding, so the bits are the same, in parts and clipped too.
    results = []
    for dtype in ("float16", None):
        layer, optimizer = layer_and_optimizer(clip_norm=0.1)
        precision = MixedPrecision(AmpConfig(dtype=dtype))
        for _ in range(2):
            for part in range(parts):
                out = layer(paddle.ones([2, 3]) * (part + 1))
                with precision.autocast():
                    pass  # tells Paddle the type; on a processor the product itself stays float32
                precision.backward(out.square().mean() / parts)
            assert precision.step(optimizer)
            optimizer.clear_grad()
        results.append({n: p.numpy() for n, p in layer.named_parameters()})
    assert same(*results)


def test_the_scalers_state_goes_on(gpu):
    layer, optimizer = layer_and_optimizer()
    precision = MixedPrecision(AmpConfig(dtype="float16", init_loss_scaling=64.0, growth_steps=3))
    for spoilt in (True, False, False):
        one_step(precision, layer, optimizer, spoilt=spoilt)
    state = precision.state_dict()
    assert state == {"scale": 32.0, "incr_count": 2, "decr_count": 0}
    other = MixedPrecision(AmpConfig(dtype="float16", init_loss_scaling=64.0, growth_steps=3))
    other.load_state_dict(state)
    one_step(other, layer, optimizer)  # the third good one
    assert other.scale == 64.0
    other.load_state_dict({})  # of a run in another precision
    assert other.scale == 64.0


def test_gradients_that_no_scale_saves_end_the_run(gpu):
    layer, optimizer = layer_and_optimizer()
    precision = MixedPrecision(AmpConfig(dtype="float16", init_loss_scaling=1.0))
    before = layer.weight.numpy().copy()
    for _ in range(14):
        assert one_step(precision, layer, optimizer, spoilt=True) is False
    with pytest.raises(FloatingPointError, match="even with the loss scaled by"):
        one_step(precision, layer, optimizer, spoilt=True)
    np.testing.assert_array_equal(layer.weight.numpy(), before)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_without_a_scaler_there_is_no_scale_to_keep(gpu, dtype):
    precision = MixedPrecision(AmpConfig(dtype=dtype))
    assert precision.state_dict() == {}
    assert precision.scale == 1.0
    assert one_step(precision, *layer_and_optimizer()) is True


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_paddle_is_told_which_operators_run_in_which_precision(gpu, dtype):
    precision = MixedPrecision(AmpConfig(dtype=dtype))
    with precision.autocast():
        level, told, white, black = gpu.inside()
    assert (level.rpartition(".")[2], told) == ("O1", dtype)  # the weights stay float32
    assert white.issuperset(WHITE)
    assert black.issuperset(BLACK)
    for name in ("layer_norm", "softmax", "mean"):
        assert name in black - white
    assert "matmul" in white - black
    assert gpu.inside()[0].endswith("O0")  # the loss is outside


def test_an_overflow_is_not_printed_where_results_go(gpu, capsys):
    layer, optimizer = layer_and_optimizer()
    one_step(MixedPrecision(AmpConfig(dtype="float16")), layer, optimizer, spoilt=True)
    assert capsys.readouterr().out == ""


def test_a_gpu_without_the_type_is_said(gpu, monkeypatch):
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: False)
    with pytest.raises(ConfigError, match="this GPU does not have; use float16"):
        MixedPrecision(AmpConfig(dtype="bfloat16"))


def test_on_a_processor_it_is_off_and_said_once(tmp_path):
    runs = {}
    for dtype in (None, "float16"):
        recipe = tiny_recipe(amp__dtype=dtype, run__epochs=1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runs[dtype] = tiny_train(tmp_path / str(dtype), recipe)
        told = [str(w.message) for w in caught if "PRECISION" in str(w.message) or "amp" in str(w.message)]
        assert len(told) == (dtype is not None), told
    assert told[0].startswith("MIXED PRECISION IS OFF: Paddle computes float16 on GPUs only")
    a, b = (run.output / "best.safetensors" for run in runs.values())
    assert a.read_bytes() == b.read_bytes()


class Spoiler:
    """Makes a gradient infinite at chosen calls of `backward`, of all runs together."""

    def __init__(self, monkeypatch, at: set[int]) -> None:
        self.calls, self.at = 0, at
        plain = MixedPrecision.backward

        def backward(precision, loss):
            plain(precision, loss)
            if self.calls in self.at:
                spoil(self.optimizer._parameter_list[0])
            self.calls += 1

        def remember(*args, **kwargs):
            self.optimizer = build_optimizer(*args, **kwargs)
            return self.optimizer

        monkeypatch.setattr(MixedPrecision, "backward", backward)
        monkeypatch.setattr("cyclemlp.training.step.build_optimizer", remember)


def float16(**more):
    return tiny_recipe(
        amp__dtype="float16",
        amp__init_loss_scaling=256.0,
        amp__growth_steps=3,
        optimizer__accumulate=1,
        **more,
    )


@pytest.mark.heavy
def test_a_run_skips_counts_and_goes_on_bit_for_bit(gpu, monkeypatch, tmp_path):
    # Steps 1 and 6 of 12 overflow. The third good step in a row doubles the scale.
    at = {1, 6}
    Spoiler(monkeypatch, at)
    whole = tiny_train(tmp_path / "whole", float16())
    epochs = [r for r in read_json_lines(tmp_path / "whole" / "log.jsonl") if r["event"] == "epoch"]
    assert [r["skipped_steps"] for r in epochs] == [1, 1, 0]
    assert [r["loss_scale"] for r in epochs] == [128.0, 128.0, 256.0]
    state = trainer.load_checkpoint(whole.output / "checkpoints/checkpoint_0003", _model(whole))
    assert (state.updates, state.skipped) == (10, 0)
    assert state.scaler["scale"] == 256.0

    Spoiler(monkeypatch, at)
    cut = Some("train", 34, {44: _interrupt})  # while the sixth step's images are read
    with pytest.raises(trainer.TrainingStoppedError):
        tiny_train(tmp_path / "cut", float16(), train_source=cut)
    resumed = tiny_train(tmp_path / "cut", float16(), resume="auto")
    for name in ("model", "ema", "optimizer"):
        file = f"checkpoints/checkpoint_0003/{name}.safetensors"
        assert (resumed.output / file).read_bytes() == (whole.output / file).read_bytes()
    assert [r["skipped_steps"] for r in resumed.epochs] == [1, 1, 0]


def test_a_skipped_step_leaves_the_average_alone(gpu, monkeypatch, tmp_path):
    Spoiler(monkeypatch, set(range(4)))  # all of them
    result = tiny_train(tmp_path / "run", float16(run__epochs=1))
    folder = result.output / "checkpoints/checkpoint_0001"
    import safetensors.numpy

    model, average = (
        safetensors.numpy.load_file(folder / name) for name in ("model.safetensors", "ema.safetensors")
    )
    for name in model:
        np.testing.assert_array_equal(model[name], average[name])
    assert result.epochs[0]["skipped_steps"] == 4


def test_a_bad_gradient_in_float32_stops_the_run_and_keeps_the_good_weights(monkeypatch, tmp_path):
    Spoiler(monkeypatch, {2})
    recipe = tiny_recipe(optimizer__accumulate=1)
    with pytest.raises(
        TrainingFailedError, match=r"the gradients are infinite.*epoch 1, step 3 of 4"
    ) as failed:
        tiny_train(tmp_path / "run", recipe)
    assert "checkpoint_0000_step000002" in str(failed.value)
    state = training_state(tmp_path / "run" / "checkpoints/checkpoint_0000_step000002")
    assert (state.epoch, state.step, state.updates) == (0, 2, 2)


def _interrupt():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGINT)


def _model(result):
    import cyclemlp

    return cyclemlp.load_model(result.output)


def test_the_scale_limit_is_reached_after_thirty_overflows():
    assert AmpConfig().init_loss_scaling == amp.LEAST_SCALE * 2**30
