"""The network's layers as they are computed eagerly on a CPU: subclasses of the plain ones, with the same parameters.

Each takes `kernels.operations` where `on_cpu` says so, and is the plain layer everywhere else: traced, exported, on
other devices, in other types.

Shapes: B batch, H height, W width, C channels, K branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.kernels import operations
from cyclemlp.kernels.operations import add_row, linear, mean_of_rows, on_cpu, scale_by_row, wants_gradient
from cyclemlp.network.cyclemlp import CycleFC, CycleMixer, CycleShift, Mlp

_LayerClass = TypeVar("_LayerClass", bound=type)


def traced_whole(layer: _LayerClass) -> _LayerClass:
    """Decorator of a layer: Paddle's symbolic tracer (`paddle.jit.to_static` with its defaults) takes it as a whole.

    Looked into, its Python would be simulated instruction by instruction on tensors without a place, which is more
    than the tracer can do. As a whole it is called in static mode, as it is everywhere else where it is traced.
    """
    marker = getattr(paddle.jit, "marker", None)  # of Paddle 3.1 and later
    return layer if marker is None else marker.unified(layer, for_ast=False)


@traced_whole
class CPULinear(nn.Linear):
    """The gradient of the bias as a product."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[…, C]` → `[…, O]`."""
        return linear(x, self.weight, self.bias) if on_cpu(x) else super().forward(x)


@traced_whole
class CPULayerNorm(nn.LayerNorm):
    """Over the last axis, with scale and bias; its gradient as that of a batch norm over rows."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[…, C]` → `[…, C]`."""
        if wants_gradient(x) and on_cpu(x):
            return operations.layer_norm(x, self.weight, self.bias, self._epsilon)
        return super().forward(x)


@traced_whole
class CPUConv2D(nn.Conv2D):
    """The bias added as a product."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, C, H, W]` → `[B, O, H', W']`."""
        if self.bias is None or not on_cpu(x):
            return super().forward(x)
        y = F.conv2d(x, self.weight, None, self._stride, self._padding, self._dilation, self._groups)
        return operations.add_channel_bias(y, self.bias)


class MovedShift(CycleShift):
    """The map moved as a whole by each offset, times 0 or 1 by channel, summed.

    Moving is copying, and operations on equal shapes are fast: a third of the convolution's time, and half with the
    gradient.
    """

    def prepare(self) -> None:
        """Keep, for each offset, the row of 0 and 1 by channel; as buffers, so that they follow the network's type."""
        for name, step in zip("hw", self.step_size, strict=True):
            kernel = getattr(self, f"kernel_{name}")
            for tap in range(step if step > 1 else 0):
                row = kernel.reshape([self.channels, step])[:, tap].reshape([1, -1])
                self.register_buffer(f"row_{name}{tap}", row, persistable=False)

    def forget(self) -> None:
        """Remove what `prepare` kept."""
        for name in [name for name in self._buffers if name.startswith("row_")]:
            delattr(self, name)

    def shift(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`: each channel at its offset."""
        if not on_cpu(x):
            return super().shift(x)
        for axis, (name, step) in enumerate(zip("hw", self.step_size, strict=True), 1):
            if step > 1:
                rows = [getattr(self, f"row_{name}{tap}") for tap in range(step)]
                x = operations.shift(x, [(tap - step // 2, row) for tap, row in enumerate(rows)], axis)
        return x


@traced_whole
class CPUCycleShift(MovedShift):
    """See `MovedShift`."""


@traced_whole
class CPUCycleFC(MovedShift, CycleFC):
    """The shift of `MovedShift`, then a product with the bias as a product."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C_in]` → `[B, H, W, C_out]`."""
        if self.groups == 1 and on_cpu(x):
            return linear(self.shift(x), self.weight.flatten(1), self.bias, transpose=True)
        return CycleFC.forward(self, x)


@traced_whole
class CPUMlp(Mlp):
    """GELU by the error function in place, with a gradient that is one product."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[…, C]` → `[…, out]`."""
        if not on_cpu(x):
            return super().forward(x)
        return self.drop(self.fc2(self.drop(operations.gelu(self.fc1(x)))))


@traced_whole
class CPUCycleMixer(CycleMixer):
    """Two forms, equal but for rounding:

    * branch by branch: the equation of `CycleMixer` in operations that are fast on a CPU.
    * one product: the gate is linear up to its softmax, so its input follows from the means of the shifted inputs,
      before any large product. With the weights a₁…a_K of an image known, Σₖ aₖ ⊙ (Wₖ xₖ + bₖ), then the projection P,
      is Σₖ (P diag(aₖ) Wₖ) xₖ plus one bias: K products with matrices of the image's own in place of K + 1 and the
      weighting, and no branch's output is ever stored. Making the matrices takes K·C³, and saves H·W·C² MACs,
      so this form runs where H·W ≥ K·C: at 224² pixels in stages 1 and 2.

    Without the gate the branches are summed. This too is K products, Σₖ xₖ (Wₖ P) plus one bias, where making the
    matrices, one set for all images, pays: B·H·W ≥ K·C.
    """

    def mix(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        return self._form(x, layers)(x, layers)

    def _form(
        self, x: paddle.Tensor, layers: list[nn.Layer]
    ) -> Callable[[paddle.Tensor, list[nn.Layer]], paddle.Tensor]:
        """The form that is fastest for this shape."""
        if not on_cpu(x):
            return super().mix
        positions = x.shape[1] * x.shape[2] * (1 if self.gated else x.shape[0])
        if positions >= len(layers) * x.shape[3] and _are_ours([*layers, self.proj]):
            return self._one_product if self.gated else self._sum_as_products
        return self._branch_by_branch if self.gated else super().mix

    def _branch_by_branch(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        outputs = [layer(x).flatten(1, 2) for layer in layers]
        weights = self.gate(paddle.add_n([mean_of_rows(y) for y in outputs]).squeeze(1)).unsqueeze(1)
        weighted = [scale_by_row(y, weights[..., k]) for k, y in enumerate(outputs)]
        return self.proj(paddle.add_n(weighted).reshape(x.shape))

    def _one_product(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        products = [_product_of(layer, x) for layer in layers]
        means = [linear(mean_of_rows(y).squeeze(1), weight, bias) for y, weight, bias in products]
        weights = self.gate(paddle.add_n(means))
        batch, channels, _ = weights.shape
        proj = self.proj.weight.expand([batch, channels, channels])
        total, bias_sum = [], paddle.zeros([batch, channels], x.dtype)
        for k, (y, weight, bias) in enumerate(products):
            of_branch = weights[:, :, k]
            total.append(paddle.matmul(y, paddle.matmul(weight, proj * of_branch.unsqueeze(2))))
            if bias is not None:
                bias_sum = bias_sum + of_branch * bias
        return add_row(paddle.add_n(total), self.proj(bias_sum).unsqueeze(1)).reshape(x.shape)

    def _sum_as_products(self, x: paddle.Tensor, layers: list[nn.Layer]) -> paddle.Tensor:
        products = [_product_of(layer, x) for layer in layers]
        total = [
            paddle.matmul(y.flatten(0, 1), paddle.matmul(weight, self.proj.weight))
            for y, weight, _ in products
        ]
        biases = [bias for _, _, bias in products if bias is not None]
        bias_sum = paddle.add_n(biases) if biases else paddle.zeros(x.shape[-1:], x.dtype)
        return add_row(paddle.add_n(total), self.proj(bias_sum.unsqueeze(0))).reshape(x.shape)


def _product_of(
    layer: nn.Layer, x: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor | None]:
    """A branch as the product that it is: input `[B, H·W, C]`, weight `[C, C]`, and bias `[C]`."""
    if isinstance(layer, CycleFC):
        return layer.shift(x).flatten(1, 2), layer.weight.flatten(1).t(), layer.bias
    return x.flatten(1, 2), layer.weight, layer.bias


def _are_ours(layers: list[nn.Layer]) -> bool:
    """Whether these are the network's own layers without hooks, so that they need not be called."""
    return all(
        type(layer) in (CPULinear, CPUCycleFC)
        and not layer._forward_pre_hooks
        and not layer._forward_post_hooks
        for layer in layers
    )
