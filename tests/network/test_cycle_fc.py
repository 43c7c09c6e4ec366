"""Cycle FC against its definition, computed by deformable convolution and by hand."""

import numpy as np
import paddle
import pytest
from paddle.vision.ops import deform_conv2d

from cyclemlp.errors import ModelError
from cyclemlp.network import CycleFC, CycleShift
from cyclemlp.offsets import cycle_offsets

CASES = [
    # channels in, out; step (S_H, S_W); height, width; groups; bias
    (64, 64, (1, 3), 14, 14, 1, True),
    (64, 64, (3, 1), 14, 14, 1, True),
    (7, 7, (1, 3), 9, 11, 1, True),
    (7, 21, (3, 1), 9, 11, 1, False),
    (10, 10, (3, 3), 5, 4, 1, True),
    (10, 20, (3, 3), 2, 2, 2, True),
    (12, 12, (2, 2), 6, 5, 3, True),
    (10, 20, (2, 5), 4, 3, 1, True),
    (6, 12, (4, 1), 1, 1, 2, False),
    (9, 9, (1, 7), 3, 2, 1, True),
    (11, 11, (9, 9), 12, 10, 1, True),
    (5, 5, (1, 1), 4, 6, 1, True),
    (1, 3, (1, 3), 3, 3, 1, True),
    (320, 320, (3, 1), 7, 5, 1, True),
]


def by_deformable_convolution(layer, x, grad):
    """Output and gradients of input, weight and bias, through paddle.vision.ops.deform_conv2d."""
    channels, (_, height, width, _) = layer.in_channels, x.shape
    x = paddle.to_tensor(x.transpose(0, 3, 1, 2), stop_gradient=False)
    offset = np.stack(cycle_offsets(channels, layer.step_size), axis=1).reshape(1, -1, 1, 1)
    offset = np.broadcast_to(offset, (x.shape[0], 2 * channels, height, width)).astype(x.numpy().dtype)
    weight = paddle.to_tensor(layer.weight.numpy(), stop_gradient=False)
    bias = None if layer.bias is None else paddle.to_tensor(layer.bias.numpy(), stop_gradient=False)
    y = deform_conv2d(
        x, paddle.to_tensor(offset), weight, bias, deformable_groups=channels, groups=layer.groups
    )
    y.backward(paddle.to_tensor(grad.transpose(0, 3, 1, 2)))
    gradients = [x.grad.numpy().transpose(0, 2, 3, 1), weight.grad.numpy()]
    return [
        y.numpy().transpose(0, 2, 3, 1),
        *gradients,
        *([] if bias is None else [bias.grad.numpy()]),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("c_in", "c_out", "step", "height", "width", "groups", "bias"), CASES)
def test_equals_deformable_convolution(c_in, c_out, step, height, width, groups, bias, dtype):
    rng = np.random.default_rng(0)
    paddle.set_default_dtype(dtype)
    try:
        layer = CycleFC(c_in, c_out, step, groups, bias)
    finally:
        paddle.set_default_dtype("float32")
    for parameter in layer.parameters():
        parameter.set_value(rng.standard_normal(parameter.shape).astype(dtype))
    data = rng.standard_normal((2, height, width, c_in)).astype(dtype)
    grad = rng.standard_normal((2, height, width, c_out)).astype(dtype)
    x = paddle.to_tensor(data, stop_gradient=False)
    y = layer(x)
    y.backward(paddle.to_tensor(grad))
    ours = [y.numpy(), x.grad.numpy(), layer.weight.grad.numpy()]
    if bias:
        ours.append(layer.bias.grad.numpy())
    expected = by_deformable_convolution(layer, data, grad)
    assert len(ours) == len(expected)
    for mine, reference in zip(ours, expected, strict=True):
        # The largest is at least 1: with one position and a border all around, a gradient may be all zero.
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-5 * max(np.abs(reference).max(), 1))


@pytest.mark.parametrize("step", [(1, 3), (3, 1), (3, 3), (2, 5), (4, 2), (1, 1)])
def test_shift_reads_where_the_definition_says(step):
    """Every value of the shift, position by position, straight from the formula."""
    channels, height, width = 13, 4, 5
    data = np.random.default_rng(1).standard_normal((1, height, width, channels)).astype(np.float32)
    shifted = CycleShift(channels, step)(paddle.to_tensor(data)).numpy()
    start = step[0] * step[1] // 2
    for c in range(channels):
        t = c + start
        dh, dw = t % step[0] - step[0] // 2, (t // step[0]) % step[1] - step[1] // 2
        for i in range(height):
            for j in range(width):
                inside = 0 <= i + dh < height and 0 <= j + dw < width
                assert shifted[0, i, j, c] == (data[0, i + dh, j + dw, c] if inside else 0)


def test_offsets_of_the_published_networks():
    assert cycle_offsets(7, (1, 3))[1].tolist() == [0, 1, -1, 0, 1, -1, 0]
    assert cycle_offsets(7, (3, 1))[0].tolist() == [0, 1, -1, 0, 1, -1, 0]
    assert not cycle_offsets(7, (1, 3))[0].any()
    assert not cycle_offsets(7, (3, 1))[1].any()


def test_a_shift_has_no_state():
    """The one-hot kernels follow from the step size; a weight file must not carry them."""
    assert list(CycleFC(6, 6, (3, 3)).state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("step", [(1, 3), (3, 3)])
def test_traced_equals_eager_at_any_size(step, tmp_path):
    layer = CycleFC(8, 8, step)
    layer.eval()
    spec = [paddle.static.InputSpec([None, None, None, 8], "float32")]
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec, full_graph=True), str(tmp_path / "fc"))
    loaded = paddle.jit.load(str(tmp_path / "fc"))
    for shape in ((1, 4, 4, 8), (3, 7, 2, 8), (2, 1, 9, 8)):
        x = paddle.randn(shape)
        np.testing.assert_array_equal(loaded(x).numpy(), layer(x).numpy())


@pytest.mark.parametrize(
    "arguments", [(0, 4), (4, 4, (0, 3)), (4, 4, (1, 3), 0), (4, 6, (1, 3), 4), (6, 4, (1, 3), 4)]
)
def test_impossible_sizes(arguments):
    with pytest.raises(ModelError, match="CycleFC"):
        CycleFC(*arguments)
