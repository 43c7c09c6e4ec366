"""A step that is not finite stops the run and names the tensor."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from cyclemlp.dense.guard import FiniteGuard
from cyclemlp.training import TrainingFailedError


class Model(nn.Layer):
    """Two layers and a logarithm in between; takes a dict, as PaddleDetection's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)

    def forward(self, batch: dict[str, paddle.Tensor]) -> paddle.Tensor:
        return self.second(paddle.log(self.first(batch["image"]) + batch["offset"]))


def batch(offset: float = 100.0, bad: bool = False) -> dict[str, paddle.Tensor]:
    image = np.ones((2, 3), dtype=np.float32)
    if bad:
        image[1, 2] = np.nan
    return {"image": paddle.to_tensor(image), "offset": paddle.to_tensor(np.float32(offset))}


@pytest.fixture
def model() -> Model:
    return Model()


def test_a_good_step_passes(model: Model) -> None:
    guard = FiniteGuard(model)
    loss = model(batch()).mean()
    loss.backward()
    guard.check_losses({"loss": loss, "loss_cls": 1.5}, step=1)
    guard.check_gradients(step=1)


def test_a_layer_s_output_is_named(model: Model) -> None:
    guard = FiniteGuard(model)
    loss = model(batch(offset=-100.0)).mean()  # the logarithm of a number below zero
    with pytest.raises(
        TrainingFailedError, match=r"step 7: loss_box is nan\. The first .* output of second \(Linear"
    ):
        guard.check_losses({"loss_cls": paddle.to_tensor(0.5), "loss_box": loss}, step=7)


def test_a_bad_parameter_is_named(model: Model) -> None:
    model.first.weight.set_value(np.full((3, 4), np.inf, dtype=np.float32))
    guard = FiniteGuard(model)
    with pytest.raises(TrainingFailedError, match=r"The parameter first\.weight"):
        guard.check_losses({"loss": model(batch()).mean()}, step=1)


def test_a_bad_batch_is_named(model: Model) -> None:
    guard = FiniteGuard(model)
    with pytest.raises(TrainingFailedError, match=r"The batch is not finite: input\[0\]\['image'\]"):
        guard.check_losses({"loss": model(batch(bad=True)).mean()}, step=1)


def test_a_bad_gradient_is_named_before_the_weights_change(model: Model) -> None:
    guard = FiniteGuard(model)
    output = model(batch())
    loss = paddle.sqrt((output - output.detach()).square().sum())  # 0, whose root has no derivative
    loss.backward()
    guard.check_losses({"loss": loss}, step=3)
    with pytest.raises(
        TrainingFailedError, match=r"step 3: the gradient of first\.weight.*in the loss or in its"
    ):
        guard.check_gradients(step=3)
