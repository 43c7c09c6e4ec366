"""What is decayed and clipped."""

from __future__ import annotations

import copy

import numpy as np
import paddle
from paddle import nn

from cyclemlp.network import CycleMLP, CycleMLPConfig
from cyclemlp.training.optimizer import OptimizerConfig, build_optimizer, layer_ratios


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


def test_muon_makes_updates_of_weights_orthogonal_and_leaves_the_ends_to_adamw():
    paddle.seed(0)
    model = CycleMLP(CycleMLPConfig(num_classes=3, embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1)))
    by_muon, by_adamw = copy.deepcopy(model), copy.deepcopy(model)
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    gradients = {name: paddle.randn(p.shape) for name, p in model.named_parameters()}
    for network, name in ((by_muon, "muon"), (by_adamw, "adamw")):
        optimizer = build_optimizer(network, OptimizerConfig(name=name, weight_decay=0), lr=0.1)
        for key, p in network.named_parameters():
            p.grad = gradients[key]
        optimizer.step()
    adamw = dict(by_adamw.named_parameters())
    same = set()
    for name, p in by_muon.named_parameters():
        if np.array_equal(p.numpy(), adamw[name].numpy()):
            same.add(name)
            continue
        update = (before[name] - p.numpy()).reshape(p.shape[0], -1)
        singular = np.linalg.svd(update / (0.1 * 0.2 * max(update.shape) ** 0.5), compute_uv=False)
        assert 0.3 < singular.min() < singular.max() < 1.3, name
        # The direction is the gradient's polar factor: same singular vectors.
        u, _, v = np.linalg.svd(gradients[name].numpy().reshape(p.shape[0], -1), full_matrices=False)
        inside = u.T @ update @ v.T / (0.1 * 0.2 * max(update.shape) ** 0.5)
        np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-3, err_msg=name)
    assert same == {
        name
        for name, p in model.named_parameters()
        if p.ndim == 1 or name.startswith(("patch_embed", "head"))
    }


def test_muon_decays_follows_layer_decay_and_goes_on_after_a_zero_gradient():
    paddle.seed(0)
    model = CycleMLP(CycleMLPConfig(num_classes=3, embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1)))
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    config = OptimizerConfig(name="muon", weight_decay=0.5, layer_decay=0.5)
    optimizer = build_optimizer(model, config, lr=0.1)
    for p in model.parameters():
        p.grad = paddle.zeros_like(p)
    optimizer.step()
    ratios = layer_ratios(model, 0.5)
    for name, p in model.named_parameters():
        factor = 1 - 0.1 * 0.5 * ratios[name] if p.ndim > 1 else 1.0
        np.testing.assert_allclose(p.numpy(), before[name] * np.float32(factor), rtol=1e-5, err_msg=name)
