"""Every override of the architecture: what it does, and what is refused."""

import paddle
import pytest

from cyclemlp import create_model
from cyclemlp.errors import ModelError
from cyclemlp.network import CycleFC, CycleMLPConfig, build_network, count_macs, parameter_count
from cyclemlp.network.cyclemlp import CycleBlock, Mlp

NANO = "cyclemlp_nano"


def parameters(model):
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def test_num_classes():
    assert create_model(NANO, num_classes=7).head.weight.shape == [96, 7]
    headless = create_model(NANO, num_classes=0)
    assert not any(name.startswith("head") for name in headless.state_dict())
    assert headless(paddle.randn([2, 3, 32, 32])).shape == [2, 96]


def test_in_chans_widths_depths_and_ratios():
    model = create_model(
        NANO, in_chans=5, embed_dims=(8, 12, 16, 20), depths=(1, 2, 1, 1), mlp_ratios=(2, 3, 4, 0.5)
    )
    shapes = parameters(model)
    assert shapes["patch_embed.proj.weight"][1] == 5
    assert shapes["network.1.proj.weight"] == (12, 8, 3, 3)
    assert "network.2.1.norm1.weight" in shapes
    assert [shapes[f"network.{2 * i}.0.mlp.fc1.weight"][1] for i in range(4)] == [16, 36, 64, 10]
    assert model(paddle.randn([1, 5, 33, 47])).shape == [1, 1000]


@pytest.mark.parametrize(
    ("step_size", "expected"),
    [(5, ((1, 5), (5, 1))), (((3, 3), (2, 1)), ((3, 3), (2, 1))), (1, ((1, 1), (1, 1)))],
)
def test_step_size(step_size, expected):
    model = create_model(NANO, step_size=step_size)
    mixers = [layer.attn for layer in model.sublayers() if isinstance(layer, CycleBlock)]
    assert {(m.sfc_h.step_size, m.sfc_w.step_size) for m in mixers} == {expected}
    x = paddle.randn([1, 3, 32, 32])
    model.eval()
    other = create_model(NANO)
    other.set_state_dict(model.state_dict())
    other.eval()
    assert float((model(x) - other(x)).abs().max()) > 1e-6


def test_patch_size_and_stride():
    model = create_model(NANO, patch_size=7, patch_stride=4, features_only=True)
    assert parameters(model)["patch_embed.proj.weight"][2:] == (7, 7)
    assert model.feature_strides == [4, 8, 16, 32]
    assert [m.shape[2:] for m in model(paddle.randn([1, 3, 64, 96]))] == [[16, 24], [8, 12], [4, 6], [2, 3]]


def test_drop_rate_acts_in_both_mlps_and_after_the_projection():
    model = create_model(NANO, drop_rate=0.25)
    rates = [layer.p for layer in model.sublayers() if isinstance(layer, paddle.nn.Dropout)]
    mlps = [layer for layer in model.sublayers() if isinstance(layer, Mlp)]
    assert len(mlps) == 10
    assert rates == [0.25] * 15  # one in each of 10 MLPs, one after each of 5 projections
    x = paddle.randn([1, 3, 32, 32])
    assert float((model(x) - model(x)).abs().max()) > 0
    model.eval()
    assert float((model(x) - model(x)).abs().max()) == 0


def test_drop_path_rate():
    model = create_model(NANO, drop_path_rate=0.9)
    x = paddle.randn([4, 3, 32, 32])
    assert float((model(x) - model(x)).abs().max()) > 0


def test_features_and_out_indices():
    full = create_model(NANO, features_only=True)
    some = create_model(NANO, features_only=True, out_indices=(1, 2))
    assert (some.feature_channels, some.feature_strides) == ([48, 72], [4, 8])
    assert {n.split(".")[0] for n in some.state_dict()} == {"patch_embed", "network", "norm2", "norm4"}
    assert not any(n.startswith("network.6") for n in some.state_dict())  # nothing that no map needs
    some.set_state_dict(full.state_dict())
    full.eval()
    some.eval()
    x = paddle.randn([2, 3, 40, 56])
    for mine, theirs in zip(some(x), full(x)[1:3], strict=True):
        assert float((mine - theirs).abs().max()) == 0


@pytest.mark.parametrize(("branches", "layers"), [("hc", {"sfc_h", "mlp_c"}), ("wh", {"sfc_h", "sfc_w"})])
def test_branches(branches, layers):
    model = create_model(NANO, branches=tuple(branches))
    mixer = model.network[0][0].attn
    assert {n for n in ("sfc_h", "sfc_w", "mlp_c") if hasattr(mixer, n)} == layers
    assert mixer.reweight.fc2.weight.shape[1] == 2 * 24
    assert model(paddle.randn([1, 3, 32, 32])).shape == [1, 1000]


@pytest.mark.parametrize(
    ("overrides", "gone", "there"),
    [
        ({"gate": False}, "network.0.0.attn.reweight.fc1.weight", "network.0.0.attn.proj.weight"),
        ({"downsample": "merge"}, "network.1.proj.weight", "network.1.reduction.weight"),
        ({"patch_norm": True}, None, "patch_embed.norm.weight"),
        ({"patch_size": 4, "patch_stride": 4}, None, "patch_embed.proj.weight"),
    ],
)
def test_each_part_of_the_inferred_variants_is_an_override_of_all(overrides, gone, there):
    model, plain = create_model(NANO, **overrides), create_model(NANO)
    shapes = parameters(model)
    assert there in shapes
    assert gone is None or (gone in parameters(plain) and gone not in shapes)
    x = paddle.randn([1, 3, 37, 50])
    for layer in (model, plain):
        layer.eval()
    assert float((model(x) - plain(x)).abs().max()) > 1e-6
    assert sum(p.size for p in model.parameters()) == parameter_count(model.config)


def test_patches_that_do_not_overlap_are_filled_up():
    """Seven rows of stride 4 are two patches, whose second has one row of zeros; and pixels at the border count."""
    model = create_model(NANO, patch_size=4, patch_stride=4, features_only=True, out_indices=(0,))
    model.eval()
    x = paddle.randn([1, 3, 39, 33])
    (map_,) = model(x)
    assert map_.shape[2:] == [10, 9]
    x[:, :, -1, -1] += 1
    assert float((model(x)[0] - map_)[0, :, -1, -1].abs().max()) > 1e-6


def test_recompute_changes_memory_not_results():
    plain = create_model(NANO)
    again = create_model(NANO, recompute=True)
    again.set_state_dict(plain.state_dict())
    x = paddle.randn([2, 3, 32, 32])
    calls = []
    block = again.network[0][0]
    block.register_forward_pre_hook(lambda *_: calls.append(1))
    for model in (plain, again):
        model(x).square().sum().backward()
    assert len(calls) == 2  # forward, and once more for its gradient
    for mine, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        assert float((mine.grad - theirs.grad).abs().max()) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_class": 3}, "did you mean num_classes"),
        ({"whatever": 3}, "the possible ones are num_classes, in_chans"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"num_classes": 2.0}, "num_classes=2.0"),
        ({"in_chans": 0}, "in_chans=0"),
        ({"embed_dims": (8, 12, 16)}, "four widths"),
        ({"embed_dims": (8, 12, 16, 18)}, "divisible by 4"),
        ({"depths": (1, 0, 1, 1)}, "depths"),
        ({"depths": 3}, "a sequence"),
        ({"depths": [2] * 1000}, "a sequence of at most 16"),
        ({"embed_dims": [1e30, 2, 3, 4]}, "four widths"),
        ({"embed_dims": [10**12] * 4}, "at most 8192"),
        ({"embed_dims": [8192] * 4, "depths": [1000] * 4}, "about 3,221.2 billion parameters; at most 4"),
        ({"mlp_ratios": [float("inf")] * 4}, "at most 64"),
        ({"mlp_ratios": [1e308] * 4}, "at most 64"),
        ({"patch_size": 10**9}, "from 1 to 1024"),
        ({"step_size": [[1, 10**400], [1, 1]]}, "step_size="),
        ({"num_classes": 10**400}, "num_classes=a whole number of 1,329 bits"),
        ({"recompute": "yes"}, "recompute='yes'"),
        ({"features_only": 1}, "features_only=1"),
        ({"mlp_ratios": (4, 4, 4, 0)}, "mlp_ratios"),
        ({"step_size": 0}, "step_size=0"),
        ({"step_size": (1, 3)}, "step_size"),
        ({"patch_size": 3, "patch_stride": 4}, "pixels would be skipped"),
        ({"drop_rate": 1.0}, "drop_rate=1.0"),
        ({"drop_path_rate": -0.1}, "drop_path_rate"),
        ({"out_indices": (0, 1)}, "features_only=True"),
        ({"features_only": True, "out_indices": (0, 4)}, "out_indices"),
        ({"features_only": True, "out_indices": (2, 1)}, "rising order"),
        ({"features_only": True, "out_indices": ()}, "at least one"),
        ({"branches": ("h", "x")}, "branches"),
        ({"branches": ("h", "h")}, "each once"),
        ({"branches": ()}, "branches"),
        ({"gate": 0}, "gate=0 is not possible: it must be true or false"),
        ({"patch_norm": "yes"}, "patch_norm='yes'"),
        ({"downsample": "pool"}, r"downsample='pool' is not possible: it must be one of"),
    ],
)
def test_what_is_refused(overrides, message):
    with pytest.raises(ModelError, match=message.replace("(", r"\(")):
        create_model(NANO, **overrides)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 31, 64), "31×64"),
        ((1, 3, 64, 12), "at least 32"),
        ((1, 1, 64, 64), r"\[batch, 3"),
        ((3, 64, 64), "shape"),
    ],
)
def test_impossible_images(shape, message):
    with pytest.raises(ModelError, match=message):
        create_model("cyclemlp_micro")(paddle.randn(shape))


@pytest.mark.parametrize(
    ("number", "parameters", "billions"),
    [
        (1, 15_155_400, 2.1215),
        (2, 26_802_504, 3.8758),
        pytest.param(3, 38_385_720, 6.8310, marks=pytest.mark.heavy),
        pytest.param(4, 51_796_552, 10.0272, marks=pytest.mark.heavy),
        pytest.param(5, 75_747_280, 12.2324, marks=pytest.mark.heavy),
    ],
)
def test_parameters_and_multiply_adds_of_the_published_variants(number, parameters, billions):
    model = create_model(f"cyclemlp_b{number}")
    assert sum(p.size for p in model.parameters()) == parameters == parameter_count(model.config)
    assert abs(count_macs(model.config) / 1e9 / billions - 1) < 0.001


@pytest.mark.parametrize(
    "config",
    [
        CycleMLPConfig(embed_dims=(8, 16, 20, 24), depths=(1, 2, 1, 1), num_classes=5),
        CycleMLPConfig(embed_dims=(8, 16, 20, 24), branches=("h", "c"), patch_size=3, patch_stride=2),
        CycleMLPConfig(embed_dims=(8, 16, 20, 24), features_only=True, out_indices=(0, 2)),
        CycleMLPConfig(embed_dims=(8, 16, 20, 24), gate=False, downsample="merge"),
        CycleMLPConfig(
            embed_dims=(8, 16, 20, 24), patch_size=4, patch_norm=True, branches=("w",), gate=False
        ),
    ],
)
def test_macs_count_the_layers_that_run(config):
    """The formula against a count over the layers of a real forward."""
    model, total = build_network(config), 0

    def count(layer, inputs, output):
        nonlocal total
        if isinstance(layer, paddle.nn.Conv2D):
            total += output.size * layer.weight.size // layer.weight.shape[0]
        elif isinstance(layer, CycleFC):
            total += output.size * layer.in_channels
        else:
            total += output.size * layer.weight.shape[0]

    for layer in model.sublayers():
        if isinstance(layer, (paddle.nn.Conv2D, paddle.nn.Linear, CycleFC)):
            layer.register_forward_post_hook(count)
    model(paddle.randn([1, 3, 70, 45]))
    assert count_macs(config, 70, 45) == total
    assert parameter_count(config) == sum(p.size for p in model.parameters())
