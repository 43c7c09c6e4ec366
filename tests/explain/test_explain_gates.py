"""Gate weights against the gate asked directly, image by image."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.errors import DataError, ModelError
from cyclemlp.explain import gate_weights

SMALL = {"in_chans": 1, "embed_dims": (8, 8, 12, 12), "depths": (1, 1, 2, 1), "num_classes": 2}


@pytest.fixture(scope="module")
def model():
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", **SMALL)
    for parameter in model.parameters():
        parameter.set_value(parameter + paddle.randn(parameter.shape) * 0.3)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(5, 1, 32, 32)).astype("float32")


def test_weights_of_every_block(model, images):
    gates = gate_weights(model, [images])
    assert gates.branches == ("h", "w", "c")
    assert gates.images == 5
    assert [(block.stage, block.block) for block in gates.blocks] == [(1, 1), (2, 1), (3, 1), (3, 2), (4, 1)]
    for block in gates.blocks:
        assert block.mean.shape == block.spread.shape == (model.config.embed_dims[block.stage - 1], 3)
        np.testing.assert_allclose(block.mean.sum(axis=1), 1, rtol=1e-6)
        assert block.branch_mean.sum() == pytest.approx(1)
        assert block.over_images.min() > 0
        assert block.over_channels.min() > 0


def test_against_the_gate_itself(model, images):
    """In stage 1, where the mixer's input is that of its layers: the gate of the mean of the branches' sum."""
    model.eval()
    mixer, seen = model.network[0][0].attn, {}
    handle = mixer.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    with paddle.no_grad():
        model(paddle.to_tensor(images))
        handle.remove()
        x = seen["x"]
        weights = mixer.gate((mixer.sfc_h(x) + mixer.sfc_w(x) + mixer.mlp_c(x)).mean([1, 2])).numpy()
    found = gate_weights(model, [images[:2], paddle.to_tensor(images[2:])]).blocks[0]
    np.testing.assert_allclose(found.mean, weights.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.spread, weights.std(axis=0), rtol=1e-2, atol=1e-5)


def test_two_branches(images):
    model = cyclemlp.create_model("cyclemlp_nano", **SMALL, branches=("w", "c"))
    gates = gate_weights(model, [images])
    assert gates.branches == ("w", "c")
    assert gates.blocks[0].mean.shape == (8, 2)


def test_errors(model, images):
    with pytest.raises(DataError, match="no image"):
        gate_weights(model, [])
    with pytest.raises(ModelError, match="branch c only"):
        gate_weights(cyclemlp.create_model("cyclemlp_nano", **SMALL, branches=("c",)), [images])
    with pytest.raises(ModelError, match="no gates"):
        gate_weights(cyclemlp.create_model("cyclemlp_nano", **SMALL, gate=False), [images])
    with pytest.raises(FloatingPointError, match="not finite"):
        gate_weights(model, [images * np.nan])
