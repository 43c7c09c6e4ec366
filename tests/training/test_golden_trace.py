"""25 training steps of the authors' network and of PyTorch's AdamW, computed in float64, step by step.

The figures, and the formula that makes parameters and images, come from the authors' PyTorch code; see the
fixture's `config`. What is compared is this project's own network, loss and optimizer.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from golden import fill, image, param

from cyclemlp.network import CycleMLP, CycleMLPConfig
from cyclemlp.training.losses import SoftTargetCrossEntropy
from cyclemlp.training.optimizer import OptimizerConfig, build_optimizer

FIXTURE = Path(__file__).parents[1] / "fixtures" / "training" / "train_trace.npz"


def published(name: str, array: np.ndarray) -> np.ndarray:
    """To and from the published layout: Linear weights are [out, in] there and [in, out] in Paddle."""
    return array.T if name.endswith("weight") and array.ndim == 2 else array


@pytest.fixture(scope="module")
def trace():
    with np.load(FIXTURE) as arrays:
        return {**arrays, "config": json.loads(str(arrays["config"]))}


@pytest.fixture(scope="module")
def ours(trace):
    c = trace["config"]
    model = CycleMLP(
        CycleMLPConfig(**{k: c[k] for k in ("embed_dims", "depths", "mlp_ratios", "num_classes")})
    )
    fill(model, c["salt"])
    loss_fn = SoftTargetCrossEntropy(c["label_smoothing"])
    part = OptimizerConfig(
        lr=c["lr"],
        weight_decay=c["weight_decay"],
        beta1=c["betas"][0],
        beta2=c["betas"][1],
        eps=c["eps"],
    )
    optimizer = build_optimizer(model, part, lr=c["lr"])
    model.train()
    losses, norms = [], []
    for step in range(c["steps"]):
        images = image(c["seed"] + step, (c["batch"], 3, *c["hw"]))
        labels = np.random.default_rng([c["seed"] + step, 1]).integers(0, c["num_classes"], c["batch"])
        loss = loss_fn(model(paddle.to_tensor(images)), paddle.to_tensor(labels))
        loss.backward()
        norms.append(np.sqrt(sum(float((p.grad.astype("float64") ** 2).sum()) for p in model.parameters())))
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    return {"losses": losses, "norms": norms, "parameters": dict(model.named_parameters())}


def test_every_loss_is_the_authors(trace, ours):
    np.testing.assert_allclose(ours["losses"], trace["losses"], rtol=0, atol=1e-5)


def test_every_gradient_norm_is_the_authors(trace, ours):
    np.testing.assert_allclose(ours["norms"], trace["grad_norms"], rtol=1e-4)


def test_the_parameters_end_where_the_authors_do(trace, ours):
    finals = [key.removeprefix("final_") for key in trace if key.startswith("final_")]
    assert len(finals) == 4
    lr = trace["config"]["lr"]
    for name in finals:
        # A parameter has moved by up to 25 · lr; a hundredth of one step is the rounding of the smallest gradients.
        got = published(name, ours["parameters"][name].numpy())
        np.testing.assert_allclose(got, trace[f"final_{name}"], rtol=0, atol=0.01 * lr, err_msg=name)
        moved = np.abs(got - param(name, got.shape, trace["config"]["salt"])).max()
        assert moved > 4 * lr  # else the comparison above would say nothing
