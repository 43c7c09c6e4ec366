"""Stops a run whose numbers are no longer numbers, and says where that began.

The engines go on when a loss is NaN: PaddleDetection then trains "successfully" to an AP of 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn

from cyclemlp.training import TrainingFailedError


class FiniteGuard:
    """Checks losses and gradients of a model's training step.

    It keeps the arguments of the model's last forward pass, so that on a failure the pass can be repeated layer by
    layer to name the first tensor that is not finite.

    Args:
        model: the whole model as the engine trains it.
    """

    def __init__(self, model: nn.Layer) -> None:
        self._model = model
        self._last: tuple[Any, ...] = ()
        model.register_forward_pre_hook(self._keep)

    def _keep(self, layer: nn.Layer, inputs: tuple[Any, ...]) -> None:
        self._last = inputs

    def check_losses(self, losses: Mapping[str, Any], step: int) -> None:
        """Raise TrainingFailedError if one of the losses is infinite or no number.

        Args:
            losses: name → tensor of one element, or float.
            step: optimizer step from 1, for the message.
        """
        bad = [f"{name} is {float(value)}" for name, value in losses.items() if not _finite(value)]
        if bad:
            self._fail(step, ", ".join(bad))

    def check_gradients(self, step: int) -> None:
        """Raise TrainingFailedError if a gradient is infinite or no number; names the first such parameter.

        To be called between the backward pass and the optimizer's step, so that the weights are still good.
        """
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None and not _finite(parameter.grad):
                self._fail(step, f"the gradient of {name} {parameter.shape} is not finite")

    def _fail(self, step: int, what: str) -> None:
        where = self._first_bad()
        raise TrainingFailedError(
            f"step {step}: {what}. {where} Nothing of this step was saved: lower the learning rate, clip gradients, "
            "or look at the batch's annotations, and go on with --resume"
        )

    def _first_bad(self) -> str:
        """A sentence on the first tensor that is not finite: a parameter, an input, or a layer's output."""
        for name, parameter in self._model.named_parameters():
            if not _finite(parameter):
                return f"The parameter {name} {parameter.shape} is not finite."
        for path, tensor in _tensors(self._last, "input"):
            if not _finite(tensor):
                return f"The batch is not finite: {path} {tensor.shape}."
        found: list[str] = []
        hooks = [
            layer.register_forward_post_hook(_reporter(name, found))
            for name, layer in self._model.named_sublayers()
        ]
        try:
            with paddle.no_grad():
                self._model(*self._last)
        finally:
            for hook in hooks:
                hook.remove()
        if found:
            return f"The first tensor that is not finite is the output of {found[0]}."
        return "Every layer's output is finite: it happens in the loss or in its gradient."


def _reporter(name: str, found: list[str]) -> Any:
    def report(layer: nn.Layer, inputs: Any, output: Any) -> None:
        for path, tensor in _tensors(output, ""):
            if not found and not _finite(tensor):
                found.append(f"{name}{path} ({type(layer).__name__}, {tensor.shape})")

    return report


def _tensors(value: Any, path: str) -> list[tuple[str, paddle.Tensor]]:
    """Every tensor in nested lists and dicts, with its path."""
    if isinstance(value, paddle.Tensor):
        return [(path, value)]
    if isinstance(value, Mapping):
        return [found for key, item in value.items() for found in _tensors(item, f"{path}[{key!r}]")]
    if isinstance(value, list | tuple):
        return [found for i, item in enumerate(value) for found in _tensors(item, f"{path}[{i}]")]
    return []


def _finite(value: Any) -> bool:
    tensor = value if isinstance(value, paddle.Tensor) else paddle.to_tensor(float(value))
    return not paddle.is_floating_point(tensor) or bool(paddle.isfinite(tensor).all())
