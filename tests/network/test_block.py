"""The parts of a block, and initialisation by its statistics."""

import numpy as np
import paddle
import pytest

from cyclemlp import create_model
from cyclemlp.network import CycleMixer, DropPath
from cyclemlp.network.init import init_xavier


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    paddle.seed(0)
    layer = DropPath(0.25)
    out = layer(paddle.ones([4000, 2, 3, 1])).numpy().reshape(4000, -1)
    assert set(np.unique(out)) == {0, np.float32(1 / 0.75)}
    assert (out == out[:, :1]).all()
    assert abs((out[:, 0] == 0).mean() - 0.25) < 0.03
    layer.eval()
    assert (layer(paddle.ones([8, 2, 3, 1])).numpy() == 1).all()


def test_drop_path_rises_from_zero_to_its_rate():
    model = create_model("cyclemlp_b1", drop_path_rate=0.18)
    rates = [layer.rate for layer in model.sublayers() if isinstance(layer, DropPath)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.18, 10))


def test_gate_weights_sum_to_one_over_the_branches():
    mixer = CycleMixer(8)
    gate = mixer.gate(paddle.randn([5, 8])).numpy()
    assert gate.shape == (5, 8, 3)
    np.testing.assert_allclose(gate.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("branches", [("h",), ("w", "c"), ("h", "w", "c")])
def test_branches_are_weighted_in_order(branches):
    """The gate's logits are channel by channel, branch innermost: [c₀b₀, c₀b₁, …]."""
    mixer = CycleMixer(4, branches=branches)
    bias = np.zeros((4, len(branches)), np.float32)
    bias[:, -1] = 50  # all weight to the last branch
    mixer.reweight.fc2.weight.set_value(np.zeros(mixer.reweight.fc2.weight.shape, np.float32))
    mixer.reweight.fc2.bias.set_value(bias.reshape(-1))
    x = paddle.randn([2, 3, 3, 4])
    last = {"h": "sfc_h", "w": "sfc_w", "c": "mlp_c"}[branches[-1]]
    expected = mixer.proj(getattr(mixer, last)(x)).numpy()
    np.testing.assert_allclose(mixer(x).numpy(), expected, atol=1e-6)


def test_initialisation_really_happens():
    paddle.seed(0)
    model = create_model("cyclemlp_b1")
    for name, parameter in model.named_parameters():
        value = parameter.numpy()
        layer, kind = name.rsplit(".", 1)
        if layer.endswith(("patch_embed.proj", *(f"network.{i}.proj" for i in (1, 3, 5)))):
            weight = dict(model.named_parameters())[layer + ".weight"]
            bound = 1 / np.sqrt(np.prod(weight.shape[1:]))
            assert np.abs(value).max() <= bound
            assert abs(value.std() - bound / np.sqrt(3)) < 0.25 * bound, name
        elif "norm" in layer:
            assert (value == (1 if kind == "weight" else 0)).all(), name
        elif kind == "bias":
            assert (value == 0).all(), name
        else:
            assert abs(value.std() - 0.02) < 0.002, name
            assert abs(value.mean()) < 5 * 0.02 / np.sqrt(value.size), name


def test_xavier_weights_are_as_wide_as_inputs_and_outputs_ask_for():
    paddle.seed(0)
    model = create_model("cyclemlp_nano")
    init_xavier(model)
    for name, parameter in model.named_parameters():
        value = parameter.numpy()
        if value.ndim > 1:  # [in, out], or [out, in, height, width]
            bound = np.sqrt(6 / ((value.shape[0] + value.shape[1]) * np.prod(value.shape[2:])))
            assert 0.9 * bound < np.abs(value).max() <= bound, name
            assert abs(value.std() - bound / np.sqrt(3)) < 0.1 * bound, name
        else:
            assert (value == ("norm" in name and name.endswith("weight"))).all(), name


def test_two_seeds_give_two_networks_and_one_seed_one():
    weights = []
    for seed in (1, 2, 1):
        paddle.seed(seed)
        weights.append(create_model("cyclemlp_nano").head.weight.numpy())
    assert not np.array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], weights[2])
