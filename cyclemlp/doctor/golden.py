"""Small networks whose logits and gradients are known in float64, to compare a device's with.

Weights, images and the direction of the loss follow from names by a formula, so that only results are stored:
`golden.npz`, which `python -m cyclemlp.doctor.golden` computes, with the plain layers on the CPU. The random numbers
are those of NumPy's `RandomState`, whose streams do not change between versions.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

import cyclemlp
from cyclemlp.kernels import select_kernels

FILE = Path(__file__).with_name("golden.npz")
#: A gradient is stored as its norm and its products with so many random directions.
DIRECTIONS = 4
#: Of a gradient that is smaller than this share of the median one, the error is taken relative to that share.
LEAST_SHARE = 0.01
#: The gradient of the images, among those of the parameters.
IMAGES = "images"


@dataclass(frozen=True)
class Case:
    """A small network and a batch for it.

    Attributes:
        shape: of the images, [B, C, H, W].
    """

    name: str
    variant: str
    shape: tuple[int, int, int, int]
    overrides: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("nano", "cyclemlp_nano", (4, 3, 32, 32), {"num_classes": 10}),
    # Two branches, a long step, an image that is not square.
    Case(
        "micro, branches h and c",
        "cyclemlp_micro",
        (2, 3, 40, 72),
        {"num_classes": 7, "branches": ("h", "c"), "step_size": 5},
    ),
    # No gate, Swin's embedding and merging, steps along both axes in one layer, greyscale.
    Case(
        "nano, no gate, merging",
        "cyclemlp_nano",
        (2, 1, 48, 36),
        {
            "num_classes": 5,
            "in_chans": 1,
            "gate": False,
            "step_size": ((2, 3), (3, 1)),
            "patch_size": 2,
            "patch_norm": True,
            "downsample": "merge",
        },
    ),
)


@dataclass(frozen=True)
class Result:
    """What a network gave, float64.

    Attributes:
        logits: [B, K].
        gradients: by parameter, and of the images.
    """

    logits: np.ndarray
    gradients: dict[str, np.ndarray]


@dataclass(frozen=True)
class Golden:
    """What it should give.

    Attributes:
        logits: [B, K].
        norms: of the gradients, in the order of the parameters; the images' comes last.
        products: of each with `DIRECTIONS` random directions: [parameters + 1, `DIRECTIONS`].
    """

    logits: np.ndarray
    norms: np.ndarray
    products: np.ndarray


@dataclass(frozen=True)
class Distance:
    """Errors relative to the expected values.

    Attributes:
        logits: largest difference over the largest logit.
        gradients: the greatest of any parameter's gradient, relative to its norm.
        worst: that parameter.
    """

    logits: float
    gradients: float
    worst: str

    @property
    def most(self) -> float:
        """The greater of both; infinite where something is no number."""
        return max(self.logits, self.gradients)


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normally distributed numbers that follow from a name."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def parameter_value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter in Paddle's layout, float32."""
    values = normal(name, shape)
    if name.endswith(".bias"):
        values = 0.1 * values
    elif len(shape) == 1:
        values = 1 + 0.1 * values
    else:
        values = values / np.sqrt(shape[0] if len(shape) == 2 else np.prod(shape[1:]))
    return values.astype(np.float32)


def build(case: Case, dtype: str, kernels: str | None = None) -> nn.Layer:
    """The network of a case on Paddle's device, with its weights, as in training but without anything random.

    Args:
        dtype: "float32" or "float64"; the weights are float32 numbers in both.
        kernels: as for `select_kernels`.
    """
    model = cyclemlp.create_model(case.variant, **case.overrides)
    model.to(dtype=dtype)
    for name, parameter in model.named_parameters():
        value = parameter_value(f"{case.name} {name}", tuple(parameter.shape))
        parameter.set_value(value.astype(dtype))
    model.eval()
    return select_kernels(model, kernels)


def compute(
    model: nn.Layer,
    case: Case,
    *,
    network: nn.Layer | None = None,
    part: tuple[int, int] = (0, 1),
    autocast: AbstractContextManager[Any] | None = None,
    scale: float = 1.0,
) -> Result:
    """Logits, and the gradients of their product with a fixed direction.

    Args:
        network: how the model is called, where something wraps it.
        part: (i, n): the i-th of n equal parts of the batch, whose gradients are n times as large, so that their mean
            over the parts is that of the whole batch.
        autocast: the precision of the forward pass.
        scale: the loss is multiplied by it, and the gradients are divided by it again.
    """
    dtype = next(iter(model.parameters())).dtype
    numpy_dtype = "float64" if dtype == paddle.float64 else "float32"
    number, parts = part
    size = case.shape[0] // parts
    rows = slice(number * size, (number + 1) * size)
    images = normal(f"{case.name} images", case.shape).astype(np.float32)[rows]
    x = paddle.to_tensor(images.astype(numpy_dtype), stop_gradient=False)
    with autocast or nullcontext():
        logits = (network or model)(x)
    direction = normal(f"{case.name} direction", (case.shape[0], logits.shape[1])).astype(np.float32)[rows]
    logits = logits.astype(dtype)
    loss = (logits * paddle.to_tensor(direction.astype(numpy_dtype))).sum()
    (loss * (parts * scale)).backward()
    tensors = {**dict(model.named_parameters()), IMAGES: x}
    gradients = {name: tensor.grad.numpy().astype(np.float64) / scale for name, tensor in tensors.items()}
    model.clear_gradients()
    return Result(logits.numpy().astype(np.float64), gradients)


def summary(result: Result) -> Golden:
    """What is stored of a result."""
    norms = [np.linalg.norm(gradient) for gradient in result.gradients.values()]
    products = [
        [np.vdot(normal(f"{name} {i}", gradient.shape), gradient) for i in range(DIRECTIONS)]
        for name, gradient in result.gradients.items()
    ]
    return Golden(result.logits, np.array(norms), np.array(products))


def golden(case: Case) -> Golden:
    """The stored results of a case."""
    with np.load(FILE) as arrays:
        return Golden(*(arrays[f"{case.name}/{what}"] for what in ("logits", "norms", "products")))


def distance_from_golden(result: Result, case: Case) -> Distance:
    """How far a device's result is from the stored one."""
    wanted, found = golden(case), summary(result)
    if found.products.shape != wanted.products.shape or found.logits.shape != wanted.logits.shape:
        raise ValueError(f"{FILE.name} does not fit the network {case.name}")
    errors = np.abs(found.products - wanted.products).max(axis=1)
    errors = np.maximum(errors, np.abs(found.norms - wanted.norms)) / _scales(wanted.norms)
    return _distance(found.logits, wanted.logits, dict(zip(result.gradients, errors, strict=True)))


def distance(result: Result, other: Result) -> Distance:
    """How far a result is from another one, which is the measure; of the gradients that both have."""
    names = [name for name in other.gradients if name in result.gradients]
    norms = _scales(np.array([np.linalg.norm(other.gradients[name]) for name in names]))
    errors = {
        name: float(np.linalg.norm(result.gradients[name] - other.gradients[name])) / norm
        for name, norm in zip(names, norms, strict=True)
    }
    return _distance(result.logits, other.logits, errors)


def _scales(norms: np.ndarray) -> np.ndarray:
    return np.maximum(norms, LEAST_SHARE * np.median(norms))


def _distance(logits: np.ndarray, wanted: np.ndarray, errors: Mapping[str, float]) -> Distance:
    errors = {name: float(error) if np.isfinite(error) else np.inf for name, error in errors.items()}
    worst = max(errors, key=lambda name: errors[name])
    of_logits = float(np.abs(logits - wanted).max() / np.abs(wanted).max())
    return Distance(of_logits if np.isfinite(of_logits) else np.inf, errors[worst], worst)


# ---- TF32, which Paddle has on for float32 products on GPUs; it has no public switch


def _switch_names() -> list[str]:
    return [name for name in ("cublas_switch", "cudnn_switch") if hasattr(paddle.base.core, f"set_{name}")]


def tf32_is_on() -> bool:
    """Whether a GPU that has TF32 computes float32 products in it."""
    return any(getattr(paddle.base.core, f"get_{name}")() for name in _switch_names())


@contextmanager
def without_tf32() -> Iterator[None]:
    """Within it, a GPU's float32 products are float32."""
    core = paddle.base.core
    before = {name: getattr(core, f"get_{name}")() for name in _switch_names()}
    try:
        for name in before:
            getattr(core, f"set_{name}")(False)
        yield
    finally:
        for name, value in before.items():
            getattr(core, f"set_{name}")(value)


# ---- the file


def main() -> int:
    """Compute and write `golden.npz`."""
    paddle.set_device("cpu")
    arrays: dict[str, np.ndarray] = {}
    for case in CASES:
        stored = summary(compute(build(case, "float64", "plain"), case))
        for what in ("logits", "norms", "products"):
            arrays[f"{case.name}/{what}"] = getattr(stored, what)
    np.savez_compressed(FILE, **arrays)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
