"""The variants that are inferred from published counts, and the parts that only they have."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from paddle.vision.ops import deform_conv2d

from cyclemlp import create_model, model_info
from cyclemlp.kernels import select_kernels
from cyclemlp.network import VARIANTS, CycleMixer, DropPath
from cyclemlp.network.embedding import PatchMerging
from cyclemlp.offsets import cycle_offsets

SMALL = {"embed_dims": (8, 12, 16, 20), "depths": (1, 2, 1, 1)}
TINY = "cyclemlp_t_inferred"


@pytest.mark.parametrize(
    ("size", "parameters", "macs"),
    [("t", 28_260_616, 4.3504e9), ("s", 49_549_576, 8.5122e9), ("b", 87_692_648, 15.1261e9)],
)
def test_the_counts_are_those_from_which_they_were_inferred(size, parameters, macs):
    facts = model_info(f"cyclemlp_{size}_inferred")
    assert facts["parameters"] == parameters
    assert abs(facts["macs"] / macs - 1) < 1e-4
    published = facts["published"]
    assert abs(parameters / 1e6 - published["parameters_millions"]) < 0.5
    assert abs(macs / 1e9 - published["macs_billions"]) < 0.08
    assert facts["inferred"]
    assert facts["from_paper"]


def test_with_a_gate_the_counts_do_not_match():
    with_gate = model_info(TINY, gate=True)["parameters"] / 1e6
    assert with_gate - VARIANTS[TINY].params_published > 1


def test_nothing_else_is_inferred():
    assert [name for name, variant in VARIANTS.items() if variant.inferred] == [
        f"cyclemlp_{size}_inferred" for size in "tsb"
    ]


def reference(weights, x):
    """The small network as Swin's and the authors' code would compute it: maps filled up to even sizes, deformable
    convolution, one operation after another. float64, `[B, 3, H, W]` → logits."""

    def linear(x, name):
        y = paddle.matmul(x, weights[f"{name}.weight"])
        return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def fill_up(x, multiple):
        return F.pad(x, [0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple])

    def cycle_fc(x, name, step):
        batch, height, width, channels = x.shape
        offset = np.stack(cycle_offsets(channels, step), axis=1).reshape(1, -1, 1, 1).astype(np.float64)
        offset = paddle.to_tensor(np.broadcast_to(offset, (batch, 2 * channels, height, width)).copy())
        y = deform_conv2d(
            x.transpose([0, 3, 1, 2]),
            offset,
            weights[f"{name}.weight"],
            weights[f"{name}.bias"],
            deformable_groups=channels,
        )
        return y.transpose([0, 2, 3, 1])

    weights = {name: tensor.astype("float64") for name, tensor in weights.items()}
    x = F.conv2d(
        fill_up(x, 4), weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=4
    )
    x = norm(x.transpose([0, 2, 3, 1]), "patch_embed.norm")
    for stage, depth in enumerate(SMALL["depths"]):
        if stage:
            x = fill_up(x.transpose([0, 3, 1, 2]), 2).transpose([0, 2, 3, 1])
            parts = [x[:, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
            x = linear(
                norm(paddle.concat(parts, -1), f"network.{2 * stage - 1}.norm"),
                f"network.{2 * stage - 1}.reduction",
            )
        for j in range(depth):
            block = f"network.{2 * stage}.{j}"
            y = norm(x, f"{block}.norm1")
            y = (
                cycle_fc(y, f"{block}.attn.sfc_h", (1, 3))
                + cycle_fc(y, f"{block}.attn.sfc_w", (3, 1))
                + linear(y, f"{block}.attn.mlp_c")
            )
            x = x + linear(y, f"{block}.attn.proj")
            x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    return linear(norm(x, "norm").mean(axis=[1, 2]), "head")


@pytest.mark.parametrize("shape", [(2, 3, 64, 96), (1, 3, 45, 71)])
def test_it_is_what_the_inference_says(shape):
    """Stages of many positions and of few, and in the second case sizes that must be filled up."""
    paddle.seed(0)
    model = create_model(TINY, num_classes=5, **SMALL)
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.2 * paddle.randn(parameter.shape))
    model.eval()
    x = paddle.randn(shape)
    expected = reference(model.state_dict(), x.astype("float64")).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3), (1, 1)])
def test_merging_pairs_neighbours(height, width):
    layer = PatchMerging(2, 3)
    layer.norm, layer.reduction = nn.Identity(), nn.Identity()
    x = np.random.default_rng(0).standard_normal((1, height, width, 2)).astype(np.float32)
    y = layer(paddle.to_tensor(x)).numpy()
    assert y.shape == (1, -(-height // 2), -(-width // 2), 8)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            for k, (di, dj) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
                inside = 2 * i + di < height and 2 * j + dj < width
                np.testing.assert_array_equal(
                    y[0, i, j, 2 * k : 2 * k + 2], x[0, 2 * i + di, 2 * j + dj] if inside else 0
                )


# ---- the mixer without a gate


def written(mixer, x):
    layers = {"h": "sfc_h", "w": "sfc_w", "c": "mlp_c"}
    return mixer.proj(paddle.add_n([getattr(mixer, layers[branch])(x) for branch in mixer.branches]))


@pytest.mark.parametrize("branches", [("h", "w", "c"), ("h", "c"), ("c",)])
@pytest.mark.parametrize("side", [2, 9])
def test_the_sum_and_its_gradients(branches, side):
    """At 2 × 2 positions branch by branch, at 9 × 9 as products."""
    mixer = select_kernels(CycleMixer(8, branches=branches, gate=False))
    assert not any("reweight" in name for name in mixer.state_dict())
    for parameter in mixer.parameters():
        parameter.set_value(paddle.randn(parameter.shape))
    results = []
    for form in (mixer, lambda x: written(mixer, x)):
        x = paddle.to_tensor(np.random.default_rng(0).standard_normal((2, side, side, 8)).astype("f4"))
        x.stop_gradient = False
        y = form(x)
        gradients = paddle.grad((y * paddle.cos(y.detach())).sum(), [x, *mixer.parameters()])
        results.append([y.numpy(), *(gradient.numpy() for gradient in gradients)])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


# ---- the whole of a small one


def test_recompute_gives_the_same_gradients():
    plain, again = (create_model(TINY, **SMALL, num_classes=3, recompute=again) for again in (False, True))
    again.set_state_dict(plain.state_dict())
    x = paddle.randn([2, 3, 37, 64])
    for model in (plain, again):
        model(x).square().sum().backward()
    for mine, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        assert theirs.grad is not None
        assert float((mine.grad - theirs.grad).abs().max()) == 0


def test_drop_path_and_dropout_act():
    model = create_model(TINY, **SMALL, num_classes=3, drop_path_rate=0.5)
    rates = [layer.rate for layer in model.sublayers() if isinstance(layer, DropPath)]
    np.testing.assert_allclose(rates, [0, 0.125, 0.25, 0.375, 0.5])
    x = paddle.randn([8, 3, 32, 32])
    assert float((model(x) - model(x)).abs().max()) > 0
    dropped = create_model(TINY, **SMALL, num_classes=3, drop_rate=0.5)
    assert [layer.p for layer in dropped.sublayers() if isinstance(layer, nn.Dropout)] == [0.5] * 10
    assert float((dropped(x) - dropped(x)).abs().max()) > 0


@pytest.mark.heavy
def test_gradients_flow_when_traced():
    model = create_model(TINY, **SMALL, num_classes=5)
    traced = paddle.jit.to_static(create_model(TINY, **SMALL, num_classes=5), full_graph=True)
    traced.set_state_dict(model.state_dict())
    x = paddle.randn([2, 3, 35, 40])
    gradients = []
    for network in (model, traced):
        network(x).square().sum().backward()
        gradients.append([p.grad.numpy() for p in network.parameters()])
    for mine, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4 * max(np.abs(theirs).max(), 1))
