"""What do the parts of a block take in Paddle's own operations, and in ours?

    CYCLEMLP_TUNE=1 python benchmarks/operators.py          tuned as our commands are
    CYCLEMLP_TUNE=0 python benchmarks/operators.py          Paddle as installed

Prints milliseconds of processor time, the least of several runs, on a map of stage 1 for eight images (8×56×56×64,
6.4 MB, or four times as wide where the MLP is): forward alone, and forward with the gradient. Set OMP_NUM_THREADS=1
for figures of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cyclemlp  # first: with CYCLEMLP_TUNE=1 it tunes before Paddle is imported

# isort: split
import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.kernels import operations, select_kernels
from cyclemlp.kernels.cpu import CPULayerNorm
from cyclemlp.network import VARIANTS, CycleShift

BATCH, SIDE, CHANNELS = 8, 56, 64
ROWS = SIDE * SIDE


def least(work: Callable[[], Any], rounds: int) -> float:
    """Milliseconds of processor time."""
    best = float("inf")
    for _ in range(rounds + 2):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return 1000 * best


def measure(
    name: str, work: Callable[..., paddle.Tensor], inputs: list[paddle.Tensor], rounds: int
) -> tuple[float, float]:
    """Prints and returns milliseconds forward, and forward with the gradient."""
    with paddle.no_grad():
        forward = least(lambda: work(*inputs), rounds)
    tensors = [x.detach() for x in inputs]
    for tensor in tensors:
        tensor.stop_gradient = False
    grad = paddle.ones_like(work(*tensors))
    both = least(lambda: paddle.grad(work(*tensors), tensors, grad), rounds)
    print(f"{name:52} {forward:8.2f} {both:8.2f}", flush=True)
    return forward, both


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="default: %(default)s")
    rounds = parser.parse_args().rounds
    x = paddle.randn([BATCH, ROWS, CHANNELS])
    wide = paddle.randn([BATCH * ROWS, 4 * CHANNELS])
    row, wide_row = paddle.randn([BATCH, 1, CHANNELS]), paddle.randn([4 * CHANNELS])
    weight = paddle.randn([CHANNELS, 4 * CHANNELS])
    square = x.reshape([BATCH, SIDE, SIDE, CHANNELS])
    kernel = paddle.ones([CHANNELS, 1, 1, 3])
    kernel.stop_gradient = True
    ours, paddles = CPULayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)

    def convolve(x: paddle.Tensor) -> paddle.Tensor:
        return F.conv2d(x, kernel, padding=[0, 0, 1, 1], groups=CHANNELS, data_format="NHWC")

    def temporal(x: paddle.Tensor) -> paddle.Tensor:  # along W, channels taken as already in its order
        return F.temporal_shift(x.reshape([-1, 1, 1, CHANNELS]), SIDE, 0.33, data_format="NHWC")

    flat = x.flatten(0, 1)
    print(f"{'milliseconds':52}  forward  with gradient")
    measure("addition of two maps", lambda x, y: x + y, [x, x], rounds)
    measure("product C → 4C", paddle.matmul, [flat, weight], rounds)
    measure("product C → 4C with bias: Paddle's linear", F.linear, [flat, weight, wide_row], rounds)
    measure("product C → 4C with bias: ours", operations.linear, [flat, weight, wide_row], rounds)
    measure("layer norm: Paddle's", paddles, [x], rounds)
    measure("layer norm: ours", ours, [x], rounds)
    measure("GELU, 4C: Paddle's", F.gelu, [wide], rounds)
    measure("GELU, 4C: ours", operations.gelu, [wide], rounds)
    measure("weight by image and channel: Paddle's broadcast", lambda x, r: x * r, [x, row], rounds)
    measure("weight by image and channel: ours", operations.scale_by_row, [x, row], rounds)
    measure("mean over positions: Paddle's", lambda x: x.mean(axis=1), [x], rounds)
    measure("mean over positions: ours", operations.mean_of_rows, [x], rounds)
    measure("shift along W: depthwise convolution", convolve, [square], rounds)
    measure("shift along W: temporal_shift", temporal, [square], rounds)
    measure("shift along W: ours", select_kernels(CycleShift(CHANNELS, (1, 3))), [square], rounds)
    measure("shift along H: ours", select_kernels(CycleShift(CHANNELS, (3, 1))), [square], rounds)
    config = VARIANTS["cyclemlp_b1"].config
    total = 0.0
    for stage, (channels, depth) in enumerate(zip(config.embed_dims, config.depths, strict=True)):
        x = paddle.randn([BATCH, SIDE >> stage, SIDE >> stage, channels])
        for step in config.step_sizes:
            name = f"shift by {step} in stage {stage + 1}, {depth} of them"
            total += depth * measure(name, select_kernels(CycleShift(channels, step)), [x], rounds)[1]
    print(f"all shifts of a training step of B1, eight images: {total:.0f}")


if __name__ == "__main__":
    print(f"paddle-cyclemlp {cyclemlp.__version__}, Paddle {paddle.__version__}")
    main()
