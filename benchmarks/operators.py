"""What do the parts of a block take in Paddle's own operations, and in the fused kernels?

    CYCLEMLP_TUNE=1 python benchmarks/operators.py          tuned as our commands are
    CYCLEMLP_TUNE=0 python benchmarks/operators.py          Paddle as installed

Prints milliseconds by the clock, medians, on a map of stage 1 for eight images (8×56×56×64, 6.4 MB, or four times as
wide where the MLP is): forward alone, and forward with the gradient. Set OMP_NUM_THREADS for the number of threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import cyclemlp  # first: with CYCLEMLP_TUNE=1 it tunes before Paddle is imported

# isort: split
import paddle
import paddle.nn.functional as F

from cyclemlp.kernels.fused.gelu import bias_gelu, bias_gelu_backward
from cyclemlp.kernels.fused.norm import layer_norm, layer_norm_backward
from cyclemlp.kernels.fused.residual import add_residual, add_residual_backward
from cyclemlp.kernels.fused.shift import Moves, shift, shift_backward
from cyclemlp.kernels.fused.unfold import Window, fold, unfold
from cyclemlp.kernels.fused.weighting import weighted_sum, weighted_sum_backward, weighted_sum_gradients
from cyclemlp.network import CycleShift

BATCH, SIDE, CHANNELS = 8, 56, 64
ROWS = BATCH * SIDE * SIDE


def median(work: Callable[[], Any], rounds: int) -> float:
    """Milliseconds by the clock."""
    times = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[2:])


def measure(
    name: str,
    plain: Callable[..., Any],
    inputs: list[paddle.Tensor],
    fused: Callable[[], Any],
    fused_backward: Callable[[], Any],
    rounds: int,
) -> None:
    """Prints milliseconds forward, and forward with the gradient, of Paddle's operations and of the kernels."""
    with paddle.no_grad():
        forward = median(lambda: plain(*inputs), rounds)
        ours = median(fused, rounds)
        ours_both = ours + median(fused_backward, rounds)
    tensors = [x.detach() for x in inputs]
    for tensor in tensors:
        tensor.stop_gradient = False
    outputs = plain(*tensors)
    outputs = list(outputs) if isinstance(outputs, list) else [outputs]
    grads = [paddle.ones_like(y) for y in outputs]

    def step() -> None:
        outputs = plain(*tensors)
        paddle.grad(list(outputs) if isinstance(outputs, list) else [outputs], tensors, grads)

    both = median(step, rounds)
    print(f"{name:44} {forward:9.2f} {both:9.2f} {ours:9.2f} {ours_both:9.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="default: %(default)s")
    rounds = parser.parse_args().rounds
    x, grad = paddle.randn([ROWS, CHANNELS]), paddle.randn([ROWS, CHANNELS])
    wide, wide_grad = paddle.randn([ROWS, 4 * CHANNELS]), paddle.randn([ROWS, 4 * CHANNELS])
    row, other, wide_row = (paddle.randn([n * CHANNELS]) for n in (1, 1, 4))
    square = x.reshape([BATCH, SIDE, SIDE, CHANNELS])
    print(f"{'milliseconds':44} {'Paddle':>9} {'with grad':>9} {'fused':>9} {'with grad':>9}")

    _, mean, scale = layer_norm(x, row, other, 1e-5)
    measure(
        "layer norm",
        lambda x, w, b: F.layer_norm(x, [CHANNELS], w, b),
        [x, row, other],
        lambda: layer_norm(x, row, other, 1e-5),
        lambda: layer_norm_backward(grad, x, row, mean, scale),
        rounds,
    )
    measure(
        "bias and GELU, 4C",
        lambda x, b: F.gelu(x + b),
        [wide, wide_row],
        lambda: bias_gelu(wide, wide_row),
        lambda: bias_gelu_backward(wide_grad, wide, wide_row),
        rounds,
    )
    steps = ((1, 1), (1, 3), (3, 1))
    moves, shifts = Moves.of(CHANNELS, steps), [CycleShift(CHANNELS, step) for step in steps[1:]]
    maps = [paddle.empty_like(x) for _ in steps]
    addresses = [y.data_ptr() for y in maps]
    measure(
        "both shifts",
        lambda x: [layer(x) for layer in shifts],
        [square],
        lambda: shift(x.data_ptr(), square, moves, [0, *addresses[1:]], (CHANNELS, CHANNELS)),
        lambda: shift_backward(addresses, square, moves, CHANNELS, None),
        rounds,
    )
    weights, rows = paddle.rand([BATCH, 3, CHANNELS]), paddle.rand([BATCH, CHANNELS])
    branches = [paddle.randn([ROWS, CHANNELS]) for _ in steps]

    def weigh(a: paddle.Tensor, b: paddle.Tensor, c: paddle.Tensor, weights: paddle.Tensor) -> paddle.Tensor:
        parts = [y.reshape([BATCH, -1, CHANNELS]) * weights[:, k : k + 1] for k, y in enumerate((a, b, c))]
        return paddle.add_n(parts)

    measure(
        "three branches weighted",
        weigh,
        [*branches, weights],
        lambda: weighted_sum(branches, weights, rows),
        lambda: [
            weighted_sum_gradients(grad, branches, BATCH),
            weighted_sum_backward(grad, weights, rows),
        ],
        rounds,
    )
    target = paddle.zeros_like(x)
    measure(
        "bias and residual",
        lambda x, y, b: x + (y + b),
        [x, grad, row],
        lambda: add_residual(x, target, row, BATCH),
        lambda: add_residual_backward(grad, BATCH),
        rounds,
    )
    weight, window = paddle.randn([2 * CHANNELS, CHANNELS, 3, 3]), Window((3, 3), (2, 2), (1, 1), (28, 28))
    flat = weight.transpose([2, 3, 1, 0]).reshape([-1, 2 * CHANNELS])
    small = paddle.randn([BATCH * 28 * 28, 2 * CHANNELS])

    def convolution_backward() -> None:
        columns = unfold(square, window, channels_first=False)
        paddle.matmul(columns, small, transpose_x=True)
        fold(paddle.matmul(small, flat, transpose_y=True), window, square.shape)

    measure(
        "downsampling: convolution, 3×3, stride 2",
        lambda x, w: F.conv2d(x.transpose([0, 3, 1, 2]), w, stride=2, padding=1).transpose([0, 2, 3, 1]),
        [square, weight],
        lambda: paddle.matmul(unfold(square, window, channels_first=False), flat),
        convolution_backward,
        rounds,
    )


if __name__ == "__main__":
    print(f"paddle-cyclemlp {cyclemlp.__version__}, Paddle {paddle.__version__}")
    main()
