"""A short table of speed: two networks, one image, a batch, a training step. `cyclemlp bench` measures in earnest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import paddle

import cyclemlp
from cyclemlp.training.amp import AmpConfig, MixedPrecision
from cyclemlp.training.losses import LossConfig, build_base_loss
from cyclemlp.training.optimizer import OptimizerConfig, build_optimizer

#: For all rows together, after which no further one is begun; in seconds.
SECONDS = 50.0
#: For one row.
ROW_SECONDS = 5.0
#: Variant, side of the image, batch on a CPU and on a GPU.
MODELS = (("cyclemlp_nano", 32, 64, 256), ("cyclemlp_b1", 224, 8, 64))
WORK = ("one image", "a batch", "training step")
CLASSES = 1000


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        precision: of the products: "float32", or "float16" by mixed precision.
        images_per_second: None where nothing was measured, as `note` says.
        milliseconds: the median of a batch.
    """

    model: str
    size: int
    work: str
    precision: str
    batch: int
    images_per_second: float | None
    milliseconds: float | None
    note: str = ""


def measure_speed(device: str, seconds: float = SECONDS) -> Iterator[Row]:
    """The rows, each as soon as it is measured; what fails is a row that says so."""
    end = time.perf_counter() + seconds
    gpu = device.startswith("gpu")
    for model, size, small, large in MODELS:
        ways: list[tuple[str, Literal["float16"] | None]] = [(work, None) for work in WORK]
        if gpu:
            ways += [(work, "float16") for work in WORK[1:]]
        for work, dtype in ways:
            batch = 1 if work == WORK[0] else large if gpu else small
            row = model, size, work, dtype or "float32", batch
            left = end - time.perf_counter()
            if left <= 0:
                yield Row(*row, None, None, f"not measured: {seconds:g} s had passed")
                continue
            try:
                run = _prepare(model, size, work, dtype, batch)
                times = _times(run, min(ROW_SECONDS, left))
            except Exception as error:  # memory that runs out, say
                yield Row(*row, None, None, f"failed: {type(error).__name__}")
            else:
                yield Row(*row, batch * len(times) / sum(times), 1000 * float(np.median(times)))


def _prepare(
    name: str, size: int, work: str, dtype: Literal["float16"] | None, batch: int
) -> Callable[[], Any]:
    """What does the work once, and returns when the device has done it."""
    paddle.seed(0)
    model = cyclemlp.create_model(name, num_classes=CLASSES)
    shape = (batch, 3, size, size)
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    amp = MixedPrecision(AmpConfig(dtype=dtype))
    if work != WORK[2]:
        model.eval()

        def evaluate() -> None:
            with paddle.no_grad(), amp.autocast():
                logits = model(images)
            logits.numpy()

        return evaluate
    loss_fn = build_base_loss(LossConfig())
    optimizer = build_optimizer(model, OptimizerConfig(), lr=1e-4)
    targets = paddle.eye(CLASSES)[:batch]
    last = model.parameters()[-1]

    def train() -> None:
        with amp.autocast():
            logits = model(images)
        amp.backward(loss_fn(logits.astype("float32"), targets))
        amp.step(optimizer)
        optimizer.clear_grad()
        last.numpy()

    return train


def _times(run: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each run, the first ones left out; where the first takes all of the time, of that one."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return times[min(2, len(times) - 1) :]
