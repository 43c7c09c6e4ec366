"""The formula behind the golden figures: parameters and images from names and seeds."""

from __future__ import annotations

import zlib

import numpy as np
import paddle


def param(name: str, shape: tuple[int, ...], salt: int) -> np.ndarray:
    """A parameter in the published layout (Linear weights `[out, in]`), float32."""
    z = np.random.default_rng([zlib.crc32(name.encode()), salt]).standard_normal(shape)
    if name.endswith(".bias"):
        z = 0.1 * z
    elif len(shape) == 1:
        z = 1 + 0.1 * z
    else:
        z = z / np.sqrt(np.prod(shape[1:]))
    return z.astype(np.float32)


def image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """An image, float32 `[B, 3, H, W]`."""
    return np.random.default_rng([seed]).standard_normal(shape).astype(np.float32)


def fill(model: paddle.nn.Layer, salt: int) -> None:
    """Give every parameter its formula-made value; 2-D weights are transposed into Paddle's layout."""
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        value = param(name, shape[::-1], salt).T if len(shape) == 2 else param(name, shape, salt)
        parameter.set_value(np.ascontiguousarray(value))


def fill_batch_norm_network(model: paddle.nn.Layer, salt: int) -> None:
    """`fill` for a network with batch norm: running variances are positive, and residual branches are tame."""
    fill(model, salt)
    for name, tensor in model.state_dict().items():
        if name.endswith("._variance"):
            tensor.set_value(1 + 0.1 * np.abs(param(name, tuple(tensor.shape), salt)))
        elif name.endswith("._mean"):
            tensor.set_value(0.1 * param(name, tuple(tensor.shape), salt))
        elif name.endswith("conv2._batch_norm.weight"):
            tensor.set_value(0.2 * param(name, tuple(tensor.shape), salt))
