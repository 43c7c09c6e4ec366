"""Which implementation runs: equal to the plain one, put in place and taken back without a trace."""

from __future__ import annotations

import copy

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.errors import ConfigError
from cyclemlp.kernels import chosen_kernels, select_kernels
from cyclemlp.kernels.selection import CPU_LAYERS, PLAIN_LAYERS
from cyclemlp.network import VARIANTS, CycleMLP


def make(name: str, **overrides: object) -> CycleMLP:
    """A float64 network with weights that are far from those of its start, so that every part tells."""
    paddle.seed(3)
    model = cyclemlp.create_model(name, num_classes=5, **overrides)
    model.to(dtype="float64")
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.1 * paddle.randn(parameter.shape, "float64"))
    return model


def outcome(model: CycleMLP) -> list[np.ndarray]:
    """Logits or maps, then the gradients of all parameters and of the image."""
    height, width = (model.config.min_size * factor + extra for factor, extra in ((1, 3), (2, 1)))
    x = np.random.default_rng(0).standard_normal((2, 3, height, width))
    image = paddle.to_tensor(x, stop_gradient=False)
    outputs = model(image)
    outputs = list(outputs) if isinstance(outputs, list) else [outputs]
    model.clear_gradients()
    paddle.add_n([(y * paddle.cos(y.detach())).sum() for y in outputs]).backward()
    with paddle.no_grad():
        again = model(image)
    again = again if isinstance(again, list) else [again]
    gradients = [parameter.grad.numpy() for parameter in model.parameters()]
    return [*(y.numpy() for y in (*outputs, *again)), image.grad.numpy(), *gradients]


CASES = [(name, {} if name == "cyclemlp_nano" else {"depths": (1, 1, 1, 1)}) for name in VARIANTS]
FORMS = [
    ("cyclemlp_nano", {"features_only": True}),
    ("cyclemlp_nano", {"gate": False, "downsample": "merge", "patch_norm": True}),
    ("cyclemlp_nano", {"branches": ("w", "c"), "step_size": [[3, 3], [1, 5]]}),
]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        pytest.param(name, overrides, marks=() if name == "cyclemlp_nano" else pytest.mark.heavy)
        for name, overrides in CASES + FORMS
    ],
)
def test_every_variant_is_the_plain_one(name, overrides):
    model = make(name, drop_path_rate=0.0, **overrides)
    assert {type(layer) for layer in model.sublayers()} & set(PLAIN_LAYERS)
    chosen = outcome(model)
    select_kernels(model, "plain")
    assert not {type(layer) for layer in model.sublayers()} & set(PLAIN_LAYERS)
    plain = outcome(model)
    assert len(chosen) == len(plain) > 20
    for mine, theirs in zip(chosen, plain, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-11 * max(np.abs(theirs).max(), 1))


def test_a_layer_stays_the_same_object_and_is_given_back_as_it_was():
    model = make("cyclemlp_nano")
    select_kernels(model, "plain")
    layers, state = dict(model.named_sublayers()), model.state_dict()
    buffers = [name for name, _ in model.named_buffers()]
    heard = []
    model.network[0][0].attn.proj.register_forward_post_hook(lambda *_: heard.append(1))
    model.network[0].eval()
    for kernels in ("auto", "auto", "plain"):
        select_kernels(model, kernels)
        assert {n: id(layer) for n, layer in model.named_sublayers()} == {n: id(v) for n, v in layers.items()}
        assert {n: id(t) for n, t in model.state_dict().items()} == {n: id(t) for n, t in state.items()}
        assert not model.network[0][0].training
        assert model.network[2][0].training
        model(paddle.randn([1, 3, 32, 32], "float64"))
    assert len(heard) == 3
    assert [name for name, _ in model.named_buffers()] == buffers


def test_copies_and_types_follow():
    model = make("cyclemlp_nano")
    x = paddle.randn([1, 3, 40, 32], "float64")
    model.eval()
    twin = copy.deepcopy(model)
    assert np.array_equal(twin(x).numpy(), model(x).numpy())
    twin.to(dtype="float32")
    assert twin(x.astype("float32")).dtype == paddle.float32


def test_other_layers_of_a_model_are_left_alone():
    whole = paddle.nn.Sequential(paddle.nn.Linear(4, 4), make("cyclemlp_nano"))
    select_kernels(whole)
    assert type(whole[0]) is paddle.nn.Linear
    assert type(whole[1].head) is CPU_LAYERS[paddle.nn.Linear]


def test_the_environment_chooses(monkeypatch):
    assert chosen_kernels() == "auto"
    monkeypatch.setenv("CYCLEMLP_KERNELS", "plain")
    assert not {type(layer) for layer in make("cyclemlp_nano").sublayers()} & set(PLAIN_LAYERS)
    monkeypatch.setenv("CYCLEMLP_KERNELS", "fast")
    with pytest.raises(
        ConfigError, match="the environment has CYCLEMLP_KERNELS=fast; expected auto or plain"
    ):
        make("cyclemlp_nano")
    monkeypatch.delenv("CYCLEMLP_KERNELS")
    with pytest.raises(ConfigError, match="kernels is 'all'"):
        select_kernels(make("cyclemlp_nano"), "all")
