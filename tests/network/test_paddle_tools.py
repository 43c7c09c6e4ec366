"""Paddle's own tools on a model: tracing with default settings, paddle.flops, paddle.hub."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.network import count_macs

ROOT = Path(__file__).parents[2]


def pair(**overrides):
    """The same float64 network twice."""
    one, other = (cyclemlp.create_model("cyclemlp_nano", num_classes=5, **overrides) for _ in range(2))
    other.set_state_dict(one.state_dict())
    for model in (one, other):
        model.to(dtype="float64")
    return one, other


@pytest.mark.heavy
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"step_size": 3},
        {"gate": False, "downsample": "merge", "patch_norm": True},
    ],
)
def test_traced_with_paddles_defaults(overrides):
    """The symbolic tracer, of which `full_graph=True` of the other tests is the opposite: gradients, then two sizes."""
    eager, other = pair(drop_path_rate=0.0, **overrides)
    traced = paddle.jit.to_static(other)
    x = paddle.randn([2, 3, 32, 40], "float64")
    for network in (eager, traced):
        network(x).square().mean().backward()
    for (name, mine), theirs in zip(eager.named_parameters(), other.parameters(), strict=True):
        scale = max(1e-30, float(mine.grad.abs().max()))
        np.testing.assert_allclose(
            theirs.grad.numpy(), mine.grad.numpy(), rtol=0, atol=1e-10 * scale, err_msg=name
        )
    eager.eval()
    traced.eval()
    for shape in ((1, 3, 32, 32), (3, 3, 64, 33)):
        x = paddle.randn(shape, "float64")
        np.testing.assert_allclose(traced(x).numpy(), eager(x).numpy(), rtol=0, atol=1e-10)


@pytest.mark.heavy
def test_feature_maps_traced_with_paddles_defaults():
    backbone = cyclemlp.create_model("cyclemlp_nano", features_only=True)
    backbone.eval()
    x = paddle.randn([1, 3, 32, 64])
    expected = [m.numpy() for m in backbone(x)]
    for mine, theirs in zip(paddle.jit.to_static(backbone)(x), expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("name", ["cyclemlp_nano", "cyclemlp_t_inferred"])
def test_paddle_flops_counts_every_layer(name):
    model, said = cyclemlp.create_model(name), io.StringIO()
    with contextlib.redirect_stdout(said):
        counted = paddle.flops(model, [1, 3, 64, 64])
    assert "Cannot find" not in said.getvalue()
    assert counted == pytest.approx(count_macs(model.config, 64, 64), rel=0.01)


def test_paddle_hub_has_every_model():
    repository = str(ROOT)
    assert set(cyclemlp.list_models()) <= set(paddle.hub.list(repository, source="local"))
    assert "num_classes" in paddle.hub.help(repository, "cyclemlp_b1", source="local")
    model = paddle.hub.load(repository, "cyclemlp_nano", source="local", num_classes=7)
    assert model.num_classes == 7
