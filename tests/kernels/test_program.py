"""Programs: their memory, their products, several threads at once."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest

from cyclemlp import create_model
from cyclemlp.kernels.fused.gelu import bias_gelu
from cyclemlp.kernels.fused.program import Program, product


def tensor(*shape, dtype="float64", seed=0):
    return paddle.to_tensor(np.random.default_rng([seed, *shape]).standard_normal(shape), dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("several", [(), (1,), (3,)])
@pytest.mark.parametrize("across", [(False, False), (True, False), (False, True), (True, True)])
def test_products(across, several, dtype):
    a, b = tensor(*several, 4, 5, dtype=dtype), tensor(*several, 5, 3, dtype=dtype)
    added = tensor(*several, 4, 3, dtype=dtype)
    turn = [*range(len(several)), len(several) + 1, len(several)]
    given = [x.transpose(turn).contiguous() if flag else x for x, flag in zip((a, b), across, strict=True)]
    program = Program(added.dtype)
    first, second, zeros = (program.input(x.shape) for x in (*given, added))
    half = product(first, second, *across, alpha=0.5)
    total = product(first, second, *across, to=zeros)
    program.finish([half])
    (found,), _ = program([*given, added])
    assert total is zeros
    plain = paddle.matmul(a, b)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(found.numpy(), 0.5 * plain.numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        added.numpy(), plain.numpy() + tensor(*several, 4, 3, dtype=dtype).numpy(), atol=tolerance
    )


def chain(length, size):
    """`length` products one after the other, each of which needs the one before and the input."""
    program = Program(paddle.float64)
    first = x = program.input([size, size])
    for _ in range(length):
        x = product(x, first)
    return program.finish([x])


def test_arrays_that_are_not_needed_together_share_memory():
    x, program = tensor(16, 16) / 4, chain(9, 16)
    (y,), kept = program([x])
    assert kept is None
    np.testing.assert_allclose(y.numpy(), np.linalg.matrix_power(x.numpy(), 10), atol=1e-12)
    assert program.work_bytes == 2 * 16 * 16 * 8  # one is read while the next is written


def test_what_is_kept_is_taken_up_by_another_program():
    x, forward, backward = tensor(6, 6), Program(paddle.float64), Program(paddle.float64)
    given = forward.input([6, 6])
    square = product(given, given)
    cube = product(square, given)
    forward.finish([cube], [square, cube])
    again = backward.input([6, 6])
    (taken, _) = backward.taken_up(forward.kept)
    backward.finish([product(taken, again)])
    (y,), kept = forward([x])
    (z,), _ = backward([x], kept)
    assert np.array_equal(z.numpy(), y.numpy())


def test_a_program_can_be_watched_step_by_step():
    x, bias, seen = tensor(3, 4), tensor(3, seed=1), []
    program = Program(paddle.float64)
    array, row = program.input([3, 4]), program.input([3])
    program.finish([bias_gelu(product(array, array, transpose_b=True), row)])
    inputs = [x, bias]
    (whole,), _ = program(inputs)

    @contextlib.contextmanager
    def watch(name):
        seen.append(name)
        yield

    program.watch = watch
    (by_steps,), _ = program(inputs)
    assert seen == ["product", "gelu"]
    assert np.array_equal(by_steps.numpy(), whole.numpy())


def test_several_threads_run_one_network_at_once():
    model = create_model("cyclemlp_nano", num_classes=5)
    model.eval()
    images = [tensor(1 + i % 3, 3, 32, 32 + 8 * (i % 2), dtype="float32", seed=i) for i in range(24)]

    def logits(x):
        with paddle.no_grad():
            return model(x).numpy()

    alone = [logits(x) for x in images]
    with ThreadPoolExecutor(6) as pool:
        for one, other in zip(alone, pool.map(logits, images), strict=True):
            assert np.array_equal(one, other)
