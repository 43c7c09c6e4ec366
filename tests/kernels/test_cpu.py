"""The layers as they are computed on a CPU give the plain ones' results and gradients; so does every variant whole."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from cyclemlp import create_model
from cyclemlp.kernels import select_kernels
from cyclemlp.kernels.cpu import CPUConv2D, CPUCycleMixer, CPULayerNorm, CPULinear
from cyclemlp.kernels.operations import add_row, gelu, mean_of_rows, scale_by_row
from cyclemlp.network import CycleMixer, CycleShift

LAYERS = [
    (CPULinear(6, 10), nn.Linear(6, 10), (2, 3, 4, 6)),
    (CPULinear(6, 10, bias_attr=False), nn.Linear(6, 10, bias_attr=False), (5, 6)),
    (CPULayerNorm(12, epsilon=1e-5), nn.LayerNorm(12, epsilon=1e-5), (2, 3, 4, 12)),
    (CPUConv2D(3, 8, 7, 4, padding=2), nn.Conv2D(3, 8, 7, 4, padding=2), (2, 3, 17, 12)),
    (CPUConv2D(4, 6, 3, 2, padding=1), nn.Conv2D(4, 6, 3, 2, padding=1), (3, 4, 7, 8)),
]
IDS = [type(layer).__name__ for layer, _, _ in LAYERS]
FUNCTIONS = {
    "gelu": (gelu, F.gelu, [(5, 7)]),
    "add_row": (add_row, lambda x, r: x + r, [(2, 5, 3), (2, 1, 3)]),
    "scale_by_row": (scale_by_row, lambda x, r: x * r, [(2, 5, 3), (2, 1, 3)]),
    "mean_of_rows": (mean_of_rows, lambda x: x.mean(axis=-2, keepdim=True), [(2, 5, 3)]),
}


def results(function, inputs, parameters=()):
    """Output, then the gradients of the inputs and parameters for a fixed gradient of the output."""
    tensors = [paddle.to_tensor(value, stop_gradient=False) for value in inputs]
    y = function(*tensors)
    grad = np.random.default_rng(1).standard_normal(y.shape).astype(inputs[0].dtype)
    wanted = [*tensors, *parameters]
    return [y.numpy(), *(g.numpy() for g in paddle.grad(y, wanted, paddle.to_tensor(grad)))]


#: Equal implementations agree to this share of the largest value: in float64 strictly; float32 only shows that the
#: type is taken, since how its sums round differs between processors.
RELATIVE = {"float64": 1e-12, "float32": 1e-4}
DTYPES = pytest.mark.parametrize("dtype", RELATIVE)


def assert_same(mine, theirs):
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=RELATIVE[b.dtype.name] * max(np.abs(b).max(), 1))


def values(shape, dtype="float64"):
    return (2 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


@DTYPES
@pytest.mark.parametrize(("mine", "theirs", "shape"), LAYERS, ids=IDS)
def test_layer_and_its_gradients_are_paddles(mine, theirs, shape, dtype):
    mine.to(dtype=dtype)
    theirs.to(dtype=dtype)
    for i, parameter in enumerate(theirs.parameters()):
        parameter.set_value(values(parameter.shape, dtype) + i)
    mine.set_state_dict(theirs.state_dict())
    x = values(shape, dtype)
    assert_same(results(mine, [x], mine.parameters()), results(theirs, [x], theirs.parameters()))
    with paddle.no_grad():
        assert_same([mine(paddle.to_tensor(x)).numpy()], [theirs(paddle.to_tensor(x)).numpy()])


@DTYPES
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_and_its_gradients_are_paddles(name, dtype):
    mine, theirs, shapes = FUNCTIONS[name]
    inputs = [values(shape, dtype) for shape in shapes]
    assert_same(results(mine, inputs), results(theirs, inputs))
    with paddle.no_grad():
        tensors = [paddle.to_tensor(value) for value in inputs]
        assert_same([mine(*tensors).numpy()], [theirs(*tensors).numpy()])


@DTYPES
def test_gelu_far_from_zero(dtype):
    x = np.array([-1e30, -40, -6, 0, 6, 40, 1e30], dtype)
    assert_same(results(gelu, [x]), results(F.gelu, [x]))


@pytest.mark.parametrize("frozen", ["weight", "bias", "both", "input"])
def test_a_frozen_part_of_a_norm_gets_no_gradient(frozen):
    layer, x = CPULayerNorm(4), paddle.randn([3, 4])
    x.stop_gradient = frozen == "input"
    layer.weight.stop_gradient = frozen in ("weight", "both")
    layer.bias.stop_gradient = frozen in ("bias", "both")
    layer(x).square().sum().backward()
    for tensor in (x, layer.weight, layer.bias):
        assert (tensor.grad is None) == tensor.stop_gradient


def test_a_gradient_for_the_image_alone():
    """As explanations want it; a gradient written by hand for several tensors would fail here."""
    model, x = create_model("cyclemlp_nano"), paddle.randn([1, 3, 64, 64], "float64")
    model.to(dtype="float64")
    x.stop_gradient = False
    (alone,) = paddle.grad(model(x).sum(), [x])
    model(x).sum().backward()
    assert_same([alone.numpy()], [x.grad.numpy()])


# ---- the mixer's forms


@pytest.mark.parametrize("branches", [("h", "w", "c"), ("w",), ("h", "c")])
@pytest.mark.parametrize("step_sizes", [((1, 3), (3, 1)), ((3, 3), (1, 2))])
def test_the_mixers_forms_agree(branches, step_sizes):
    mixer = CycleMixer(8, step_sizes, branches)
    mixer.to(dtype="float64")
    for parameter in mixer.parameters():
        parameter.set_value(values(parameter.shape))
    layers = [getattr(mixer, {"h": "sfc_h", "w": "sfc_w", "c": "mlp_c"}[b]) for b in branches]
    select_kernels(mixer)
    forms = [
        results(lambda x, form=form: form(x, layers), [values((2, 5, 6, 8))], mixer.parameters())
        for form in (super(CPUCycleMixer, mixer).mix, mixer._branch_by_branch, mixer._one_product)
    ]
    for form in forms[1:]:
        assert_same(form, forms[0])


@pytest.mark.parametrize(("side", "form"), [(5, "_one_product"), (4, "_branch_by_branch")])
def test_the_form_is_chosen_by_shape(side, form, monkeypatch):
    """25 positions are at least 3 branches times 8 channels, 16 are not."""
    mixer, chosen = select_kernels(CycleMixer(8)), []
    for name in ("_one_product", "_branch_by_branch"):
        real = getattr(mixer, name)
        monkeypatch.setattr(mixer, name, lambda *a, name=name, real=real: chosen.append(name) or real(*a))
    mixer(paddle.randn([1, side, side, 8]))
    assert chosen == [form]


@pytest.mark.parametrize("layer", ["sfc_h", "sfc_w", "mlp_c", "proj"])
def test_who_listens_to_a_layer_hears_it(layer):
    """One product needs no output of a single branch; a hook on a branch wants it all the same."""
    mixer, heard = select_kernels(CycleMixer(8)), []
    getattr(mixer, layer).register_forward_post_hook(lambda *_: heard.append(layer))
    mixer(paddle.randn([1, 9, 9, 8]))
    assert heard == [layer]


def test_a_layer_put_in_a_branchs_place_is_used():
    mixer, x = select_kernels(CycleMixer(8)), paddle.randn([1, 9, 9, 8])
    before = mixer(x)
    mixer.mlp_c = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    assert float((mixer(x) - before).abs().max()) > 1e-6


def test_a_value_that_is_not_finite_stays_in_its_image():
    for step in ((1, 3), (3, 1), (3, 3)):
        x = paddle.zeros([3, 4, 5, 7])
        x[1] = float("inf")
        shifted = select_kernels(CycleShift(7, step))(x)
        assert not shifted[0].any()
        assert not shifted[2].any()


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
        for mine, traced in zip(model(x), loaded(x), strict=True):
            assert_same([mine.numpy()], [traced.numpy()])


@pytest.mark.heavy
def test_gradients_also_flow_in_a_traced_network():
    model = create_model("cyclemlp_nano", num_classes=5)
    traced = paddle.jit.to_static(create_model("cyclemlp_nano", num_classes=5), full_graph=True)
    model.to(dtype="float64")
    traced.to(dtype="float64")
    traced.set_state_dict(model.state_dict())
    x = paddle.randn([2, 3, 32, 40], "float64")
    gradients = []
    for network in (model, traced):
        network(x).square().sum().backward()
        gradients.append([p.grad.numpy() for p in network.parameters()])
    assert_same(*gradients)
