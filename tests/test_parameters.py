"""`cyclemlp.param_groups`: what Paddle's AdamW makes of the groups is what our own training does."""

from __future__ import annotations

import doctest

import numpy as np
import paddle
import pytest
from paddle import nn

import cyclemlp
import cyclemlp.parameters
from cyclemlp.errors import ConfigError
from cyclemlp.training.optimizer import OptimizerConfig, build_optimizer


def small():
    paddle.seed(0)
    sizes = {"embed_dims": (8, 8, 8, 8), "depths": (1, 2, 1, 1)}
    return cyclemlp.create_model("cyclemlp_nano", num_classes=3, **sizes)


def test_the_example_of_the_docstring():
    failed, tried = doctest.testmod(cyclemlp.parameters)
    assert tried > 5
    assert failed == 0


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_steps_are_those_of_training(layer_decay):
    """Two steps with gradients that are the parameters themselves."""
    ours, other = small(), small()
    config = OptimizerConfig(weight_decay=0.3, layer_decay=layer_decay)
    groups = cyclemlp.param_groups(other, 0.3, layer_decay)
    assert {len(group) for group in groups} == {3}
    for model, optimizer in (
        (ours, build_optimizer(ours, config, lr=0.01)),
        (other, paddle.optimizer.AdamW(0.01, parameters=groups)),
    ):
        for _ in range(2):
            for parameter in model.parameters():
                parameter.grad = parameter.detach().clone()
            optimizer.step()
    start = dict(small().named_parameters())
    for (name, one), (_, two) in zip(ours.named_parameters(), other.named_parameters(), strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-5, atol=1e-7, err_msg=name)
        if np.any(start[name].numpy()):
            assert not np.array_equal(one.numpy(), start[name].numpy()), name


def test_every_trainable_parameter_is_in_one_group():
    model = small()
    model.patch_embed.proj.weight.stop_gradient = True
    for layer_decay in (None, 0.7):
        found = [
            p for group in cyclemlp.param_groups(model, layer_decay=layer_decay) for p in group["params"]
        ]
        expected = [p for p in model.parameters() if not p.stop_gradient]
        assert sorted(p.name for p in found) == sorted(p.name for p in expected)
    (frozen_head,) = cyclemlp.param_groups(nn.LayerNorm(4))
    assert frozen_head["weight_decay"] == 0.0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match=r"weight_decay is -0\.1; give a number from 0"):
        cyclemlp.param_groups(small(), -0.1)
    for decay in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"layer_decay is .*; give a number in \(0, 1\]"):
            cyclemlp.param_groups(small(), layer_decay=decay)
    with pytest.raises(ConfigError, match="needs a CycleMLP; this is a Linear"):
        cyclemlp.param_groups(nn.Linear(2, 2), layer_decay=0.5)
