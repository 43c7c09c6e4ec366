"""The network gives the authors' published network's outputs and gradients."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from golden import fill, image

from cyclemlp import create_model

FIXTURES = Path(__file__).parents[1] / "fixtures" / "network"
TOLERANCE = 2e-5  # absolute, float32 against float64


@pytest.mark.parametrize(
    "number",
    [number if number == 1 else pytest.param(number, marks=pytest.mark.heavy) for number in range(1, 6)],
)
def test_logits_and_features(number):
    golden = np.load(FIXTURES / f"cyclemlp_b{number}.npz")
    classifier = create_model(f"cyclemlp_b{number}")
    backbone = create_model(f"cyclemlp_b{number}", features_only=True)
    for model in (classifier, backbone):
        fill(model, salt=0)
        model.eval()
    logits_seen = maps_seen = 0
    with paddle.no_grad():
        for key in (k for k in golden if k.startswith("logits_")):
            case = key.removeprefix("logits_")
            shape, seed = case.split("_seed")
            batch, height, width = map(int, shape.split("x"))
            x = paddle.to_tensor(image(int(seed), (batch, 3, height, width)))
            np.testing.assert_allclose(classifier(x).numpy(), golden[key], rtol=0, atol=TOLERANCE)
            logits_seen += 1
            if f"feat0_{case}_shape" not in golden:
                continue
            for k, feature in enumerate(backbone(x)):
                assert tuple(feature.shape) == tuple(golden[f"feat{k}_{case}_shape"])
                values = feature.numpy().reshape(-1)[golden[f"feat{k}_{case}_index"]]
                np.testing.assert_allclose(values, golden[f"feat{k}_{case}_value"], rtol=0, atol=TOLERANCE)
                maps_seen += 1
    assert (logits_seen, maps_seen) == (4, 8)


def test_gradients():
    golden = np.load(FIXTURES / "gradients_b1.npz")
    model = create_model("cyclemlp_b1")
    fill(model, salt=0)
    model.eval()
    x = paddle.to_tensor(image(150, (1, 3, 64, 96)), stop_gradient=False)
    (model(x) * paddle.cos(paddle.arange(1000, dtype="float32"))).sum().backward()
    gradients = {"grad_input_1x64x96": x.grad.numpy()}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad.numpy()
        gradients[f"grad_{name}"] = gradient.T if gradient.ndim == 2 else gradient
    names = [k for k in golden if not k.endswith("_max")]
    assert len(names) == 6
    for name in names:
        flat = gradients[name].reshape(-1)
        step = -(-flat.size // golden[name].size)
        limit = 1e-5 * golden[name + "_max"]
        np.testing.assert_allclose(flat[::step], golden[name], rtol=0, atol=limit, err_msg=name)
        assert abs(np.abs(flat).max() - golden[name + "_max"]) <= limit, name
