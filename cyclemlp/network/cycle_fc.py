"""Cycle FC: a channel FC whose input channels are read at cyclically shifted positions.

Shapes: B batch, H height, W width, C channels; S step size.

Source of the definition: CycleMLP (Chen et al., ICLR 2022, arXiv 2107.10224), with the offsets that the
published weights were trained with: for channel c, start = (S_H·S_W) // 2 and t = c + start,

    δ_h(c) = (t mod S_H) − S_H // 2        δ_w(c) = (⌊t / S_H⌋ mod S_W) − S_W // 2

and channel c of the output at (i, j) reads its input at (i + δ_h(c), j + δ_w(c)), zero outside the picture.
(The paper's formula and figure start the cycle at −1 instead; the weights do not.)

Equivalent forms, all exact because every offset is a whole number:

* deformable convolution with integer offsets: what others run. It interpolates where nothing lies between
  pixels, and no exporter likes it. Used here only by the tests, as the reference.
* slices of the channels, padded and concatenated, then a product: exportable, but the channels of one
  offset are not contiguous, and cutting them out costs more than the product itself.
* **a depthwise convolution with one-hot kernels, then a product: the traced and exported form, and a GPU's.** The
  shift is one standard operator, keeps the published channel order, has a gradient, takes any step size, batch,
  height and width.
* **the map moved as a whole by each offset, times 0 or 1 by channel, summed: the form on a CPU.** Moving is copying,
  and operations on equal shapes are fast: a third of the convolution's time, and half with the gradient.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.errors import ModelError
from cyclemlp.network import layers
from cyclemlp.network.init import trunc_normal_, zeros_
from cyclemlp.network.layers import linear, rewritten, traced_whole
from cyclemlp.offsets import cycle_offsets


@traced_whole
class CycleShift(nn.Layer):
    """Moves each channel by its Cycle FC offset; zeros come in at the border.

    A value that is not finite makes its neighbours not finite too: 0 · ∞ is not a number.

    Args:
        channels: number of channels, C.
        step_size: (S_H, S_W).
    """

    def __init__(self, channels: int, step_size: tuple[int, int]) -> None:
        super().__init__()
        self.channels, self.step_size = channels, step_size
        # A step in both directions is one shift along H and one along W: S_H + S_W taps, not S_H · S_W.
        for name, step, offsets in zip("hw", step_size, cycle_offsets(channels, step_size), strict=True):
            one_hot = np.eye(step)[offsets + step // 2]  # [C, S]
            shape = (-1, 1, step, 1) if name == "h" else (-1, 1, 1, step)
            self._keep(f"kernel_{name}", one_hot.reshape(shape) if step > 1 else None)
            for tap in range(step if step > 1 else 0):
                self._keep(f"row_{name}{tap}", one_hot[:, tap].reshape(1, -1))

    def _keep(self, name: str, value: np.ndarray | None) -> None:
        """A buffer that is not persistable: it follows from the step size and is in no published weight file."""
        tensor = None if value is None else paddle.to_tensor(value, dtype=paddle.get_default_dtype())
        self.register_buffer(name, tensor, persistable=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`."""
        return self.shift(x)

    def shift(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C]` → `[B, H, W, C]`: each channel at its offset."""
        step_h, step_w = self.step_size
        if rewritten(x):
            for axis, (name, step) in enumerate(zip("hw", self.step_size, strict=True), 1):
                if step > 1:
                    rows = [getattr(self, f"row_{name}{tap}") for tap in range(step)]
                    x = layers.shift(x, [(tap - step // 2, row) for tap, row in enumerate(rows)], axis)
            return x
        if step_h > 1:
            x = self._convolve(x, self.kernel_h, [step_h // 2, step_h - 1 - step_h // 2, 0, 0])
        if step_w > 1:
            x = self._convolve(x, self.kernel_w, [0, 0, step_w // 2, step_w - 1 - step_w // 2])
        return x

    def _convolve(self, x: paddle.Tensor, kernel: paddle.Tensor, padding: list[int]) -> paddle.Tensor:
        if paddle.in_dynamic_mode():
            return F.conv2d(x, kernel, padding=padding, groups=self.channels, data_format="NHWC")
        # Traced it must also be what exporters know: paddle2onnx 2.1 ends the process on a convolution over channels
        # that are last.
        y = F.conv2d(x.transpose([0, 3, 1, 2]), kernel, padding=padding, groups=self.channels)
        return y.transpose([0, 2, 3, 1])

    def extra_repr(self) -> str:
        return f"{self.channels}, step_size={self.step_size}"


@traced_whole
class CycleFC(CycleShift):
    """Cycle fully-connected layer: shift each channel by its offset, then a channel FC.

    One layer, not a layer of two: so `paddle.flops` counts it, which looks at layers without others inside.

    The weight has the published layout, `[out_channels, in_channels / groups, 1, 1]`.

    Args:
        in_channels, out_channels: C_in and C_out, any numbers; neither need be divisible by the step.
        step_size: (S_H, S_W), both at least 1. (1, 3) shifts along W, (3, 1) along H.
        groups: blocks of the channel FC that do not see each other; must divide both channel counts.
        bias: whether the channel FC adds one.

    Raises:
        ModelError: for a size below 1, or groups that do not divide the channels.

    Source: equation 2 of the paper; offsets as in this module's head.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        step_size: tuple[int, int] = (1, 3),
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        if min(in_channels, out_channels, groups, *step_size) < 1 or len(step_size) != 2:
            raise ModelError(
                f"CycleFC({in_channels}, {out_channels}, step_size={step_size}, groups={groups}): "
                "channels, groups and both steps (S_H, S_W) must be at least 1"
            )
        if in_channels % groups or out_channels % groups:
            raise ModelError(
                f"CycleFC: groups={groups} must divide in_channels={in_channels} and {out_channels=}"
            )
        super().__init__(in_channels, (int(step_size[0]), int(step_size[1])))
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.weight = self.create_parameter([out_channels, in_channels // groups, 1, 1])
        self.bias = self.create_parameter([out_channels], is_bias=True) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight from a normal distribution of standard deviation 0.02, truncated; bias zero."""
        trunc_normal_(self.weight)
        if self.bias is not None:
            zeros_(self.bias)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """`[B, H, W, C_in]` → `[B, H, W, C_out]`."""
        x = self.shift(x)
        weight = self.weight.flatten(1)
        if self.groups == 1:
            return linear(x, weight, self.bias, transpose=True)
        parts, weights = x.chunk(self.groups, axis=-1), weight.chunk(self.groups)
        products = [paddle.matmul(parts[i], weights[i], transpose_y=True) for i in range(self.groups)]
        x = paddle.concat(products, axis=-1)
        return x if self.bias is None else x + self.bias

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, step_size={self.step_size}, groups={self.groups}, "
            f"bias={self.bias is not None}"
        )
