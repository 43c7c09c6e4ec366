"""The fused kernels give the plain operations' results and gradients; so do the layers made of them."""

import os
import subprocess
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from cyclemlp import create_model
from cyclemlp.errors import ModelError
from cyclemlp.kernels import select_kernels
from cyclemlp.kernels.averaging import average
from cyclemlp.kernels.finite import are_finite
from cyclemlp.kernels.fused import functions
from cyclemlp.kernels.fused.gate import gate, gate_backward
from cyclemlp.kernels.fused.gelu import bias_gelu, bias_gelu_backward
from cyclemlp.kernels.fused.mlp import rows_of_a_chunk
from cyclemlp.kernels.fused.norm import layer_norm, layer_norm_backward
from cyclemlp.kernels.fused.residual import add_residual, add_residual_backward
from cyclemlp.kernels.fused.scaling import scaled, scaled_backward
from cyclemlp.kernels.fused.shift import Moves, shift, shift_backward
from cyclemlp.kernels.fused.unfold import turned
from cyclemlp.kernels.fused.weighting import (
    mean_of_sum,
    weighted_sum,
    weighted_sum_backward,
    weighted_sum_gradients,
)
from cyclemlp.kernels.muon import MOMENTUM, MuonUpdate, muon_step, orthogonal
from cyclemlp.network.cyclemlp import CycleBlock, CycleShift
from cyclemlp.network.embedding import merge_patches

#: Equal implementations agree to this share of the largest value: in float64 strictly; float32 only shows that the
#: type is taken, since how its sums round differs between processors.
RELATIVE = {"float64": 1e-12, "float32": 1e-5}
DTYPES = pytest.mark.parametrize("dtype", RELATIVE)
#: Rows and channels: one of each, odd ones, more than one chunk.
SHAPES = pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 37), (1501, 96)])
MAPS = pytest.mark.parametrize("shape", [(1, 1, 1, 5), (2, 3, 5, 7), (3, 9, 4, 64), (2, 40, 41, 33)])


def tensor(shape, dtype, seed=0):
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return paddle.to_tensor(2 * values, dtype=dtype, stop_gradient=False)


def assert_same(mine, theirs):
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        a, b = a.numpy(), b.numpy()
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=0, atol=RELATIVE[b.dtype.name] * max(np.abs(b).max(), 1))


# ---- kernels


@DTYPES
@SHAPES
def test_layer_norm(shape, dtype):
    x, weight, bias = tensor(shape, dtype), tensor(shape[1:], dtype, 1), tensor(shape[1:], dtype, 2)
    grad, residual = tensor(shape, dtype, 3), tensor(shape, dtype, 4)

    plain = F.layer_norm(x, shape[1:], weight, bias, 1e-3)
    gradients = paddle.grad(plain, [x, weight, bias], grad)
    with paddle.no_grad():
        y, *statistics = layer_norm(x, weight, bias, 1e-3)
        assert_same([y], [plain])
        assert_same(layer_norm_backward(grad, x, weight, *statistics), gradients)
        with_residual = layer_norm_backward(grad, x, weight, *statistics, residual)[0]
        assert_same([with_residual], [gradients[0] + residual])


@DTYPES
@SHAPES
def test_bias_gelu(shape, dtype):
    x, bias, grad = tensor(shape, dtype), tensor(shape[1:], dtype, 1), tensor(shape, dtype, 2)
    plain = F.gelu(x + bias)
    gradients = paddle.grad(plain, [x, bias], grad)
    with paddle.no_grad():
        assert_same([bias_gelu(x, bias)], [plain])
        dx, d_bias, y = bias_gelu_backward(grad.clone(), x, bias)
        assert_same([y, dx, d_bias], [plain, *gradients])
        assert_same([bias_gelu(x.clone(), bias, in_place=True)], [plain])


@DTYPES
def test_gelu_far_from_zero(dtype):
    values = [-np.inf, -1e30, -40, -6, -5.8, -1e-30, 0, 1e-30, 5.8, 6, 40, 1e30, np.inf, np.nan]
    x, bias = paddle.to_tensor([values], dtype=dtype), paddle.zeros([len(values)], dtype)
    x.stop_gradient = False
    plain = F.gelu(x)
    (gradient,) = paddle.grad(plain, [x], paddle.ones_like(x))
    with paddle.no_grad():
        y = bias_gelu(x, bias)
        dx = bias_gelu_backward(paddle.ones_like(x), x, bias)[0]
    np.testing.assert_allclose(
        y.numpy(), plain.numpy(), rtol=RELATIVE[dtype], atol=2e-6 if dtype == "float32" else 1e-15
    )
    # At the infinities Paddle's own gradient is not a number: infinity times a density of 0.
    np.testing.assert_allclose(dx.numpy()[0, 1:-2], gradient.numpy()[0, 1:-2], rtol=0, atol=RELATIVE[dtype])
    assert np.isnan(dx.numpy()[0, -1])


@DTYPES
@MAPS
@pytest.mark.parametrize(
    "steps", [((1, 1), (1, 3), (3, 1)), ((1, 2), (5, 1)), ((3, 3), (1, 1), (2, 7)), ((6, 4),)]
)
def test_shift(shape, steps, dtype):
    x, channels = tensor(shape, dtype), shape[-1]
    grads = [tensor(shape, dtype, 5 + k) for k in range(len(steps))]
    rows = tensor((shape[0], len(steps), channels), dtype, 4)
    layers = [CycleShift(channels, step) for step in steps]
    for layer in layers:
        layer.to(dtype=dtype)
    plain = [layer(x) for layer in layers]
    (gradient,) = paddle.grad(plain, [x], grads, retain_graph=True)
    (with_rows,) = paddle.grad(plain, [x], [g + rows[:, k].unsqueeze([1, 2]) for k, g in enumerate(grads)])
    with paddle.no_grad():
        moves, outputs = Moves.of(channels, steps), [paddle.empty_like(x) for _ in steps]
        targets = [y.data_ptr() for y in outputs]
        shift(x.data_ptr(), x, moves, targets, (channels, channels))
        for y, expected in zip(outputs, plain, strict=True):
            assert np.array_equal(y.numpy(), expected.numpy())
        sources = [grad.data_ptr() for grad in grads]
        assert_same([shift_backward(sources, x, moves, channels, None)], [gradient])
        assert_same([shift_backward(sources, x, moves, channels, rows)], [with_rows])


@DTYPES
@MAPS
def test_merging_patches(shape, dtype):
    """Odd heights and widths too, which are filled up."""
    x = tensor(shape, dtype)
    plain = merge_patches(x)
    grad = tensor(tuple(plain.shape), dtype, 1)
    (gradient,) = paddle.grad(plain, [x], grad)
    for view in (x, x.transpose([0, 2, 1, 3]).contiguous().transpose([0, 2, 1, 3])):
        mine = functions.Merge.run([view])
        assert np.array_equal(mine.numpy(), plain.numpy())
        assert np.array_equal(paddle.grad(mine, [x], grad)[0].numpy(), gradient.numpy())


def test_the_shift_copies_what_is_not_finite():
    """Each value goes where it belongs; the plain layer's convolution also spoils its neighbours (0 · ∞)."""
    x = paddle.zeros([1, 4, 5, 7], "float64")
    x[0, 2, 2] = float("inf")
    y, moves = paddle.empty_like(x), Moves.of(7, ((1, 3),))
    shift(x.data_ptr(), x, moves, [y.data_ptr()], (7, 7))
    assert np.isfinite(y.numpy()).sum() == y.size - 7


@DTYPES
@MAPS
@pytest.mark.parametrize("depth", [False, True])
def test_residual(shape, depth, dtype):
    images, channels = shape[0], shape[-1]
    x, y, bias = tensor(shape, dtype), tensor(shape, dtype, 1), tensor((images, 1, 1, channels), dtype, 2)
    grad, scale = tensor(shape, dtype, 3), paddle.arange(images).astype(dtype)
    plain = x + (scale.reshape([-1, 1, 1, 1]) if depth else 1) * (y + bias)
    gradients = paddle.grad(plain, [y, bias], grad)
    with paddle.no_grad():
        flat = [t.reshape([-1, channels]) for t in (x, y.clone(), grad)]
        factor, rows = scale if depth else None, bias.reshape([images, channels])
        assert_same([add_residual(flat[0], flat[1], rows, images, factor)], [plain.reshape([-1, channels])])
        dy, sums = add_residual_backward(flat[2], images, factor)
        assert_same([dy.reshape(shape), sums.reshape(bias.shape)], gradients)
        alone = add_residual(None, y.reshape([-1, channels]).clone(), rows[0], 1)
        assert_same([alone.reshape(shape)], [y + rows[0]])


@DTYPES
@MAPS
def test_weighting(shape, dtype):
    images, channels = shape[0], shape[-1]
    ys = [tensor(shape, dtype, k) for k in range(3)]
    weights, row = tensor((images, 3, channels), dtype, 3), tensor((images, channels), dtype, 4)
    more, grad = tensor((images, channels), dtype, 5), tensor(shape, dtype, 6)
    plain = row.unsqueeze([1, 2])
    for k, y in enumerate(ys):
        plain = plain + y * weights[:, k].unsqueeze([1, 2])
    *d_ys, d_weights, d_row = paddle.grad(plain, [*ys, weights, row], grad)
    with paddle.no_grad():
        flat = [y.reshape([-1, channels]) for y in ys]
        assert_same([weighted_sum(flat, weights, row).reshape(shape)], [plain])
        sums = weighted_sum_gradients(grad.reshape([-1, channels]), flat, images)
        assert_same(sums, [d_weights, d_row])
        mine = weighted_sum_backward(grad.reshape([-1, channels]), weights, more, 0.25)
        theirs = [d + 0.25 * more.unsqueeze([1, 2]) for d in d_ys]
        assert_same([d.reshape(shape) for d in mine], theirs)


BITS = """
import hashlib, numpy as np, paddle
from cyclemlp.kernels import select_kernels
from cyclemlp.kernels.fused.norm import layer_norm, layer_norm_backward
from cyclemlp.kernels.selection import why_not_fused
assert why_not_fused() is None
x = paddle.to_tensor(np.random.default_rng(0).standard_normal((9000, 48)), dtype="float32")
y, *statistics = layer_norm(x, x[0], x[1], 1e-5)
parts = [y, *statistics, *layer_norm_backward(x[::-1].contiguous(), x, x[2], *statistics)]
print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts[:4])).hexdigest())
"""


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (5, 2, 37), (3, 3, 64)])
def test_scaled_matrices(shape, dtype):
    images, branches, channels = shape
    matrix, weights = tensor((branches * channels, channels), dtype), tensor(shape, dtype, 1)
    grad = tensor((images, branches * channels, channels), dtype, 2)
    plain = matrix.reshape([1, branches, channels, channels]) * weights.unsqueeze(2)
    plain = plain.reshape(grad.shape)
    gradients = paddle.grad(plain, [matrix, weights], grad)
    with paddle.no_grad():
        assert_same([scaled(matrix, weights)], [plain])
        assert_same(scaled_backward(grad, matrix, weights), gradients)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (40, 2, 37), (3, 3, 320)])
def test_gate(shape, dtype):
    images, branches, channels = shape
    logits, bias = tensor((images, channels * branches), dtype), tensor((channels * branches,), dtype, 1)
    biases, grads = (
        tensor((branches, channels), dtype, 2),
        [tensor(shape, dtype, 3), tensor((images, channels), dtype)],
    )
    weights = F.softmax((logits + bias).reshape([images, channels, branches]), -1).transpose([0, 2, 1])
    plain = [weights, (weights * biases).sum(axis=1)]
    gradients = paddle.grad(plain, [logits, biases], grads)
    with paddle.no_grad():
        found = gate(logits, bias, biases)
        assert_same(found, plain)
        assert_same(gate_backward(*grads, found[0], biases), gradients)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 700, 96), (2, 5, 7)])
def test_mean_of_sum(shape, dtype):
    maps = [tensor((shape[0] * shape[1], shape[2]), dtype, seed) for seed in range(3)]
    for count in (1, 3):
        plain = paddle.add_n(maps[:count]).reshape(shape).mean(axis=1)
        with paddle.no_grad():
            assert_same([mean_of_sum(maps[:count], shape[0])], [plain])


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 49), (64, 320, 9)])
def test_a_weights_channels_and_positions_change_places(shape, dtype):
    weight = tensor(shape, dtype)
    with paddle.no_grad():
        assert_same([turned(weight), turned(turned(weight))], [weight.transpose([0, 2, 1]), weight])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_average_of_parameters_of_many_shapes_and_types(share):
    shapes = [((1,), "float32"), ((300, 331), "float32"), ((7, 5), "float64")]
    averages = [tensor(shape, dtype).detach() for shape, dtype in shapes]
    values = [tensor(shape, dtype, 1) for shape, dtype in shapes]
    views = tensor((6, 4), "float32").detach().t(), tensor((6, 4), "float32", 1).detach().t()
    averages, values = [*averages, views[0]], [*values, views[1]]
    plain = [a + share * (v.detach() - a) for a, v in zip(averages, values, strict=True)]
    average(averages, values, share)
    assert_same(averages, plain)


@DTYPES
def test_a_step_of_muon_for_weights_of_many_shapes(dtype):
    shapes = [(5, 5), (24, 6), (6, 24), (8, 3, 3, 3), (7, 1), (300, 200)]
    updates, plain = [], []
    for i, shape in enumerate(shapes):
        tensors = [tensor(shape, dtype, seed).detach() for seed in range(3)]
        updates.append(MuonUpdate(*tensors, 0.9, 0.1 * (i + 1)))
        copies = [t.clone() for t in tensors]
        plain.append(MuonUpdate(*copies, 0.9, 0.1 * (i + 1)))
    view = tensor((4, 6), dtype).detach().t()
    updates.append(MuonUpdate(view.clone(), view, view.clone(), 1.0, 0.5))  # a gradient with strides
    muon_step(updates)
    for (weight, _, momentum, *_), (w, g, v, kept, rate) in zip(updates, plain, strict=False):
        v = MOMENTUM * v + g
        moved = orthogonal((g + MOMENTUM * v).reshape([g.shape[0], -1])).reshape(g.shape)
        assert_same([momentum, weight], [v, kept * w - rate * moved])
    assert_same([updates[-1].weight], [view - 0.5 * orthogonal(view + MOMENTUM * (1 + MOMENTUM) * view)])


def test_a_kernels_bits_do_not_depend_on_the_number_of_threads():
    digests = set()
    for threads in ("1", "2", "5"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", BITS],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.split()[-1])
    assert len(digests) == 1


# ---- layers


def outcome(layer, x, wanted=()):
    """Output and the gradients of the input and of the parameters."""
    x = x.detach()
    x.stop_gradient = False
    y = layer(x)
    grad = paddle.cos(paddle.arange(y.size).astype(y.dtype)).reshape(y.shape)
    return [y, *paddle.grad(y, [x, *wanted], grad)]


def both(layer, x):
    """The outcome as chosen and as plain, from the same state of Paddle's random generator."""
    outcomes = []
    for kernels in ("auto", "plain"):
        select_kernels(layer, kernels)
        paddle.seed(7)
        outcomes.append(outcome(layer, x, layer.parameters()))
    return outcomes


def block(channels=8, dtype="float64", **more):
    paddle.seed(3)
    layer = CycleBlock(channels, **more)
    layer.to(dtype=dtype)
    for i, parameter in enumerate(layer.parameters()):
        parameter.set_value(parameter + 0.1 * tensor(tuple(parameter.shape), dtype, i))
    return layer


FORMS = [
    {},
    {"branches": ("h", "w")},
    {"branches": ("c",)},
    {"branches": ("w", "c"), "gate": False},
    {"step_sizes": ((3, 3), (1, 7))},
    {"drop_path": 0.5},
    {"drop": 0.3},
]


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (2, 5, 5, 8), (2, 4, 4, 8), (3, 2, 9, 8)])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_block_and_its_gradients(shape, form):
    """25 positions are at least 3 branches times 8 channels: one product; 16 are not: branch by branch."""
    mine, theirs = both(block(**form), tensor(shape, "float64"))
    assert_same(mine, theirs)


@pytest.mark.parametrize("form", [{}, {"drop_path": 0.5}], ids=str)
@pytest.mark.parametrize("shape", [(3, 37, 38, 64), (2, 41, 27, 128)])
def test_a_block_whose_mlp_goes_by_chunks(shape, form):
    """Where there are many rows; the last chunk is shorter, and images end within chunks."""
    rows = shape[0] * shape[1] * shape[2]
    assert rows % rows_of_a_chunk(rows, shape[3], 4 * shape[3])
    layer = block(shape[3], **form)
    mine, theirs = both(layer, tensor(shape, "float64"))
    assert_same(mine, theirs)
    for kernels in ("auto", "plain"):
        select_kernels(layer, kernels)
        paddle.seed(7)
        with paddle.no_grad():
            assert_same([layer(tensor(shape, "float64"))], theirs[:1])


def test_mlps_by_chunks_on_the_threads_of_a_processor_with_avx2():
    """Whose products allocate memory of their own, beside that of the chunks."""
    environment = {
        **os.environ,
        "MKL_DEBUG_CPU_TYPE": "5",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OMP_NUM_THREADS": "2",
    }
    test = f"{__file__}::{test_a_block_whose_mlp_goes_by_chunks.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_block_in_float32():
    mine, theirs = both(block(dtype="float32"), tensor((2, 5, 5, 8), "float32"))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-4 * float(b.abs().max()))


def test_a_view_with_strides_is_read_as_it_is():
    layer, x = select_kernels(block()), tensor((2, 8, 5, 6), "float64").transpose([0, 2, 3, 1])
    assert not x.is_contiguous()
    assert_same(outcome(layer, x, layer.parameters()), outcome(layer, x.contiguous(), layer.parameters()))


@pytest.mark.parametrize(
    ("more", "size"), [({"padding": 2, "stride": 4}, 7), ({"padding": 1, "stride": 2}, 3), ({"stride": 2}, 2)]
)
@pytest.mark.parametrize("last", [False, True])
def test_convolution(more, size, last):
    whole = create_model("cyclemlp_nano")
    whole.patch_embed.proj = nn.Conv2D(3, 10, size, **more)
    layer = whole.patch_embed.proj
    layer.to(dtype="float64")
    x = tensor((2, 3, 13, 18), "float64")
    if last:
        x = x.transpose([0, 2, 3, 1]).contiguous().transpose([0, 3, 1, 2])
    outcomes = []
    for kernels in ("auto", "plain"):
        select_kernels(whole, kernels)
        outcomes.append(outcome(layer, x, layer.parameters()))
    assert_same(*outcomes)


@pytest.mark.parametrize(
    "more",
    [{"dilation": 2}, {"groups": 3}, {"padding": "SAME"}, {"bias_attr": False}, {"padding": [1, 2, 0, 1]}],
)
def test_a_convolution_of_another_kind(more):
    whole = create_model("cyclemlp_nano")
    whole.patch_embed.proj = nn.Conv2D(3, 9, 3, **more)
    layer, outcomes = whole.patch_embed.proj, []
    layer.to(dtype="float64")
    for kernels in ("auto", "plain"):
        select_kernels(whole, kernels)
        outcomes.append(outcome(layer, tensor((2, 3, 13, 18), "float64"), layer.parameters()))
    assert_same(*outcomes)


@pytest.mark.parametrize(
    "which", ["norm1", "attn", "attn.sfc_h", "attn.mlp_c", "attn.proj", "mlp.fc1", "mlp"]
)
def test_a_hook_inside_a_block_is_called(which):
    layer, called = select_kernels(block()), []
    x, other = tensor((1, 9, 9, 8), "float64"), select_kernels(block(), "plain")
    plain = outcome(other, x, other.parameters())
    dict(layer.named_sublayers())[which].register_forward_post_hook(lambda *_: called.append(which))
    assert_same(outcome(layer, x, layer.parameters()), plain)
    assert called == [which]


def test_a_layer_put_in_a_branchs_place_is_used():
    layer, x = select_kernels(block()), tensor((1, 9, 9, 8), "float64")
    before = layer(x)
    layer.attn.mlp_c = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    layer.to(dtype="float64")
    assert float((layer(x) - before).abs().max()) > 1e-6


def test_a_mixer_with_other_steps_put_in_place_is_used():
    layer, x = block(), tensor((2, 5, 5, 8), "float64")
    both(layer, x)
    layer.attn = block(step_sizes=((3, 3), (1, 7))).attn
    assert_same(*both(layer, x))


def network():
    model = create_model("cyclemlp_nano", num_classes=5)
    model.to(dtype="float64")
    return model


@pytest.mark.parametrize(
    "form",
    [{}, {"downsample": "merge"}, {"features_only": True}, {"gate": False, "depths": (2, 1, 1, 3)}],
    ids=str,
)
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (3, 3, 53, 70)])
def test_without_gradients_the_stages_are_one_program(form, shape, monkeypatch):
    paddle.seed(1)
    model = create_model("cyclemlp_nano", drop_path_rate=0.3, **form)
    model.to(dtype="float64")
    model.eval()
    x, runs, outcomes = tensor(shape, "float64"), [], []
    run = functions.run_parts
    monkeypatch.setattr(functions, "run_parts", lambda *a: runs.append(len(a[1])) or run(*a))
    for kernels in ("auto", "plain"):
        select_kernels(model, kernels)
        with paddle.no_grad():
            outcomes.append(model.forward_stages(x))
    assert runs == [len(model.network) // 2 + sum(model.config.depths)]
    assert_same(*outcomes)


def test_in_training_mode_without_gradients_images_are_dropped_as_in_the_plain_layers():
    model, x, outcomes = network(), tensor((8, 3, 32, 32), "float64"), []
    for block in model.network[0]:
        block.drop_path.rate = 0.5
    for kernels in ("auto", "plain"):
        select_kernels(model, kernels)
        paddle.seed(7)
        with paddle.no_grad():
            outcomes.append(model(x))
    assert_same(outcomes[:1], outcomes[1:])


@pytest.mark.parametrize(
    "which", ["network.0", "network.2.0", "network.2.0.attn.proj", "network.3", "network.3.proj"]
)
def test_a_hook_is_called_without_gradients_too(which):
    model, x, called = network(), tensor((1, 3, 32, 32), "float64"), []
    with paddle.no_grad():
        before = model(x)
        hook = dict(model.named_sublayers())[which].register_forward_post_hook(
            lambda *_: called.append(which)
        )
        assert_same([model(x)], [before])
        hook.remove()
        model(x)
    assert called == [which]


def test_a_gradient_for_the_image_alone():
    """As explanations want it."""
    model, x = network(), paddle.randn([1, 3, 64, 64], "float64")
    x.stop_gradient = False
    (alone,) = paddle.grad(model(x).sum(), [x])
    model(x).sum().backward()
    assert_same([alone], [x.grad])


def test_gradients_twice_through_one_graph():
    """As the receptive field wants them: `paddle.grad` with `retain_graph`."""
    model, x = network(), paddle.randn([1, 3, 64, 64], "float64")
    x.stop_gradient = False
    y = model(x)
    first, again = (paddle.grad(y.sum(), [x], retain_graph=True)[0] for _ in range(2))
    assert_same([again], [first])


@pytest.mark.parametrize(
    "part", ["patch_embed.proj.bias", "network.2.0.attn.sfc_w.weight", "network.4.0.norm2.bias"]
)
def test_a_gradient_for_one_parameter_alone(part):
    model, x = network(), paddle.randn([1, 3, 64, 64], "float64")
    parameter = dict(model.named_parameters())[part]
    (alone,) = paddle.grad(model(x).sum(), [parameter])
    model(x).sum().backward()
    assert_same([alone], [parameter.grad])


def test_frozen_parameters_get_no_gradient_and_the_others_theirs():
    """Those of a network without frozen ones. (Paddle's own layer norm with a frozen weight gives x a wrong one.)"""
    model, x, gradients = network(), paddle.randn([2, 3, 64, 64], "float64"), []
    for frozen in (False, True):
        model.clear_gradients(set_to_zero=False)  # while all are trained: it leaves out the frozen ones
        for name, parameter in model.named_parameters():
            last = name.endswith(("norm1.weight", "sfc_h.weight", "fc2.bias"))
            parameter.stop_gradient = frozen and (name.startswith("network.0") or last)
        model(x).square().sum().backward()
        gradients.append(
            {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
        )
    trained = [name for name, p in model.named_parameters() if not p.stop_gradient]
    assert all(gradients[1][name] is None for name in gradients[1] if name not in trained)
    assert_same([gradients[1][name] for name in trained], [gradients[0][name] for name in trained])


def test_gradients_lie_in_memory_as_their_parameters():
    """`DataParallel` averages the memory of a gradient, not the view that it may be."""
    model = network()
    model(paddle.randn([2, 3, 64, 64], "float64")).square().sum().backward()
    assert all(parameter.grad.is_contiguous() for parameter in model.parameters())


def test_second_derivatives_are_refused():
    layer, x = select_kernels(block()), tensor((1, 9, 9, 8), "float64")
    with pytest.raises((ModelError, OSError), match="take the plain layers"):
        paddle.grad(layer(x).sum(), [x], create_graph=True)


def test_what_is_not_a_number_stays_in_its_image():
    model, x = network(), paddle.randn([3, 3, 64, 64], "float64")
    x[1, 0, 5, 5] = float("nan")
    y = model(x).numpy()
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.heavy
def test_the_traced_network_is_the_eager_one(tmp_path):
    """A traced graph holds Paddle's own layers and any height and width; eager results differ by rounding."""
    model = create_model("cyclemlp_nano", features_only=True)
    model.eval()
    model.to(dtype="float64")
    spec = [paddle.static.InputSpec([None, 3, None, None], "float64")]
    paddle.jit.save(paddle.jit.to_static(model, input_spec=spec, full_graph=True), str(tmp_path / "net"))
    loaded = paddle.jit.load(str(tmp_path / "net"))
    for shape in ((1, 3, 33, 47), (3, 3, 64, 32)):
        x = paddle.randn(shape, "float64")
        assert_same(list(model(x)), list(loaded(x)))


@pytest.mark.heavy
def test_gradients_also_flow_in_a_traced_network():
    model = network()
    traced = paddle.jit.to_static(create_model("cyclemlp_nano", num_classes=5), full_graph=True)
    traced.to(dtype="float64")
    traced.set_state_dict(model.state_dict())
    x = paddle.randn([2, 3, 32, 40], "float64")
    gradients = []
    for net in (model, traced):
        net(x).square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    assert_same(*gradients)


@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize("dtype", [*RELATIVE, "bfloat16"])
def test_what_is_not_finite_is_found_wherever_it_is(dtype, kernels, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_KERNELS", kernels)
    loss = paddle.ones([], "float64")
    shapes = (3, 5), (1,), (300, 301), (7,)  # the third is more than one chunk
    for which, place in ((None, 0), (0, 14), (1, 0), (2, 0), (2, 90_299), (3, 3)):
        tensors = [paddle.ones(shape, "float32") for shape in shapes]
        if which is not None:
            for value in (np.nan, np.inf, -np.inf):
                bad = tensors[which].flatten()
                bad[place] = value
                tensors[which] = bad.reshape(shapes[which])
                assert not are_finite(loss, [tensor.astype(dtype) for tensor in tensors])
        else:
            assert are_finite(loss, [tensor.astype(dtype) for tensor in tensors])
    assert are_finite(loss, [])
    assert not are_finite(loss * np.nan, tensors[:0])
