"""Every registered model through all that a user does with it; the public API's promises."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import paddle
import pytest
from golden import image
from weights_fixtures import FILES, FOLDER, rebuild

import cyclemlp
from cyclemlp.errors import MismatchError, ModelError, WeightsError
from cyclemlp.network import VARIANTS
from cyclemlp.preprocessing import Preprocessing

NANO = "cyclemlp_nano"


def same(model, other, x):
    model.eval()
    other.eval()
    with paddle.no_grad():
        return np.array_equal(model(x).numpy(), other(x).numpy())


#: Small enough to be walked through whole in the quick tests.
SMALL = ("cyclemlp_nano", "cyclemlp_micro")
#: It stands for the others in the quick tests.
QUICK = ("cyclemlp_nano",)


@pytest.mark.heavy
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in SMALL])
def test_every_model_in_its_whole_depth(name, tmp_path):
    walk_through(name, tmp_path)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.heavy) for name in VARIANTS]
)
def test_every_model(name, tmp_path):
    """Of the large ones one block a stage: widths and ratios are theirs, and the rest is more of the same."""
    walk_through(name, tmp_path, **({} if name in SMALL else {"depths": (1, 1, 1, 1)}))


def walk_through(name, tmp_path, **overrides):
    """Forward, backward, features, save, load and to_static."""
    model = cyclemlp.create_model(name, num_classes=5, drop_path_rate=0.1, **overrides)
    size = model.config.min_size
    x = paddle.randn([2, 3, size + 3, 2 * size + 1])

    logits = model(x)
    assert logits.shape == [2, 5]
    logits.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.isfinite().all()), parameter_name

    backbone = cyclemlp.create_model(name, features_only=True, **overrides)
    with paddle.no_grad():
        maps = backbone(x)
    strides = backbone.feature_strides
    assert [m.shape[1] for m in maps] == backbone.feature_channels == list(model.config.embed_dims)
    for k, feature in enumerate(maps):
        # Every map has ⌈size / stride⌉ positions, or one fewer at the patch embedding's border.
        for pixels, positions in zip(x.shape[2:], feature.shape[2:], strict=True):
            assert pixels // strides[k] <= positions <= -(-pixels // strides[k])

    for suffix in (".safetensors", ".pdparams"):
        cyclemlp.save_model(model, tmp_path / f"m{suffix}")
        assert same(model, cyclemlp.load_model(tmp_path / f"m{suffix}"), x)

    spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
    paddle.jit.save(paddle.jit.to_static(model, input_spec=spec, full_graph=True), str(tmp_path / "traced"))
    traced = paddle.jit.load(str(tmp_path / "traced"))
    eager = cyclemlp.load_model(tmp_path / "m.safetensors")
    eager.eval()
    for shape in ((2, 3, size, size), (1, 3, size + 5, size + 2)):
        image = paddle.randn(shape)
        np.testing.assert_allclose(traced(image).numpy(), eager(image).numpy(), rtol=0, atol=1e-5)


def test_the_seeds_names_and_unknown_ones():
    assert cyclemlp.create_model("CycleMLP_B1").metadata.model == "cyclemlp_b1"
    with pytest.raises(ModelError, match=r"did you mean cyclemlp_nano\?.*cyclemlp_b5"):
        cyclemlp.create_model("cyclemlp_nan")


def test_features_head_and_reset():
    model = cyclemlp.create_model(NANO, num_classes=6)
    model.eval()
    x = paddle.randn([2, 3, 48, 32])
    feature_map = model.forward_features(x)
    assert feature_map.shape == [2, 96, 3, 2]
    pooled = model.forward_head(feature_map, pre_logits=True)
    np.testing.assert_allclose(pooled.numpy(), feature_map.numpy().mean((2, 3)), atol=1e-6)
    np.testing.assert_array_equal(model.forward_head(feature_map).numpy(), model(x).numpy())
    model.reset_classifier(9)
    assert model(x).shape == [2, 9]
    assert model.config.num_classes == 9
    model.reset_classifier(0)
    np.testing.assert_array_equal(model(x).numpy(), pooled.numpy())
    assert not any(name.startswith("head") for name in model.state_dict())
    with pytest.raises(ModelError, match="no head"):
        cyclemlp.create_model(NANO, features_only=True).reset_classifier(3)


def test_a_reset_head_is_saved_with_its_number_of_classes(tmp_path):
    model = cyclemlp.create_model(NANO, num_classes=6)
    model.metadata.classes = list("abcdef")
    model.reset_classifier(2)
    assert model.metadata.classes is None
    cyclemlp.save_model(model, tmp_path / "m.safetensors")
    assert cyclemlp.load_model(tmp_path / "m.safetensors").config.num_classes == 2


def test_metadata_comes_back(tmp_path):
    model = cyclemlp.create_model(NANO, num_classes=3, in_chans=1, step_size=[[1, 5], [5, 1]])
    assert model.metadata.preprocessing.channels == 1
    model.metadata.classes = ["one", "two", "three"]
    model.metadata.preprocessing = replace(
        model.metadata.preprocessing, input_size=40, mean=(0.25,), std=(0.5,)
    )
    for suffix in (".safetensors", ".pdparams"):
        cyclemlp.save_model(model, tmp_path / f"m{suffix}", extra={"epoch": 4})
        again = cyclemlp.load_model(tmp_path / f"m{suffix}")
        assert again.metadata == model.metadata
        assert again.config == model.config


def test_a_file_that_does_not_name_its_model(tmp_path):
    path = tmp_path / "bare.pdparams"
    paddle.save(cyclemlp.create_model(NANO).state_dict(), str(path))
    with pytest.raises(WeightsError, match=r"create_model\(name, pretrained=path\)"):
        cyclemlp.load_model(path)
    cyclemlp.create_model(NANO, pretrained=path)


def test_other_programs_load_what_paddle_saves_of_ours(tmp_path):
    """state_dict is in the published names and layout, saved and loaded without any code of ours."""
    model = cyclemlp.create_model(NANO)
    paddle.save(model.state_dict(), str(tmp_path / "m.pdparams"))
    other = cyclemlp.create_model(NANO)
    missing, unexpected = other.set_state_dict(paddle.load(str(tmp_path / "m.pdparams")))
    assert (missing, unexpected) == ([], [])
    assert same(model, other, paddle.randn([1, 3, 32, 32]))


def test_only_head_and_input_are_adapted(tmp_path):
    path = tmp_path / "m.safetensors"
    model = cyclemlp.create_model(NANO, num_classes=4)
    cyclemlp.save_model(model, path)
    fewer = cyclemlp.create_model(NANO, num_classes=3)
    head = fewer.head.weight.numpy()
    report = cyclemlp.load_weights(fewer, path)
    assert "head" in str(report)
    np.testing.assert_array_equal(fewer.head.weight.numpy(), head)
    np.testing.assert_array_equal(fewer.norm.weight.numpy(), model.norm.weight.numpy())

    grey = cyclemlp.create_model(NANO, num_classes=4, in_chans=1)
    assert "patch_embed" in str(cyclemlp.load_weights(grey, path))
    grey_input = paddle.randn([1, 1, 32, 32])
    grey.eval()
    model.eval()
    np.testing.assert_allclose(
        grey(grey_input).numpy(), model(grey_input.expand([1, 3, 32, 32])).numpy(), atol=1e-5
    )

    other = cyclemlp.create_model(NANO, num_classes=4, embed_dims=(24, 48, 72, 100))
    before = {name: value.numpy() for name, value in other.state_dict().items()}
    with pytest.raises(WeightsError, match=r"network\.5\.proj\.weight"):
        cyclemlp.load_weights(other, path)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg="nothing may be loaded by halves")


@pytest.mark.parametrize("name", FILES)
def test_files_as_they_are_met_give_the_authors_logits(name, tmp_path):
    expected = np.load(FOLDER / "expected.npz")
    config = json.loads(str(expected["config"]))
    architecture = {k: config[k] for k in ("embed_dims", "depths", "mlp_ratios", "num_classes")}
    model = cyclemlp.create_model("cyclemlp_b1", pretrained=rebuild(name, tmp_path), **architecture)
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(image(config["seed"], tuple(config["shape"])))).numpy()
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2)])
def test_a_classifiers_weights_in_the_feature_form(out_indices, tmp_path):
    path = tmp_path / "m.safetensors"
    model = cyclemlp.create_model(NANO)
    cyclemlp.save_model(model, path)
    backbone = cyclemlp.create_model(NANO, features_only=True, out_indices=out_indices)
    report = str(cyclemlp.load_weights(backbone, path))
    assert f"norm{2 * out_indices[-1]}" in report
    assert "head" in report
    np.testing.assert_array_equal(
        backbone.network[2][0].attn.proj.weight.numpy(), model.network[2][0].attn.proj.weight.numpy()
    )
    cyclemlp.save_model(backbone, path)
    with pytest.raises(MismatchError) as error:
        cyclemlp.load_weights(cyclemlp.create_model(NANO), path)
    assert any(" norm.weight" in line for line in error.value.mismatches)


def test_model_info_is_json_and_true():
    facts = json.loads(json.dumps(cyclemlp.model_info("cyclemlp_b1")))
    assert facts["parameters"] == 15_155_400
    assert facts["published"]["top1_percent"] == 78.9
    assert facts["from_paper"]
    assert not cyclemlp.model_info(NANO)["from_paper"]
    assert cyclemlp.list_models()[:5] == [f"cyclemlp_b{i}" for i in range(1, 6)]


@pytest.mark.parametrize(
    "name", ["cyclemlp_b1", *(pytest.param(f"cyclemlp_b{i}", marks=pytest.mark.heavy) for i in range(2, 6))]
)
def test_published_preprocessing(name):
    assert cyclemlp.create_model(name, num_classes=0).metadata.preprocessing == Preprocessing(
        224, 0.875, "bicubic"
    )
    assert Preprocessing().resize_size == 256


@pytest.mark.parametrize(
    ("which", "says"),
    [(True, "no pretrained weights of cyclemlp_micro"), ("published", "no published weights of")],
)
def test_weights_that_do_not_exist_are_named_with_those_that_do(which, says):
    with pytest.raises(WeightsError, match=rf"{says}.*published weights: cyclemlp_b1, cyclemlp_b2"):
        cyclemlp.create_model("cyclemlp_micro", pretrained=which)


@pytest.mark.parametrize(
    "code",
    [
        "import cyclemlp; cyclemlp.create_model('cyclemlp_b1')",
        "from cyclemlp.cli.main import main; exit(main(['info']))",
    ],
)
def test_without_paddle_the_error_says_how_to_install_one(code):
    hidden = "import sys; sys.modules['paddle'] = None; "
    done = subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert 'pip install "paddle-cyclemlp[cpu]"' in done.stderr
    assert "paddlepaddle-gpu" in done.stderr


def test_importing_the_package_imports_no_paddle():
    code = "import sys, cyclemlp, cyclemlp.weights, cyclemlp.cli.main; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_files_own_head_is_taken_over_and_another_is_announced(tmp_path, recwarn):
    """Never classes that nobody trained, without a word."""
    path, bare = tmp_path / "m.safetensors", tmp_path / "bare.pdparams"
    model = cyclemlp.create_model(NANO, num_classes=4, in_chans=1, drop_path_rate=0.3)
    model.metadata.classes = list("abcd")
    model.eval()
    cyclemlp.save_model(model, path)
    paddle.save(model.state_dict(), str(bare))
    x = paddle.randn([1, 1, 32, 32])

    adopted = cyclemlp.create_model(NANO, pretrained=path)
    assert not recwarn.list
    assert adopted.training
    assert adopted.metadata == model.metadata
    assert adopted.config.drop_path_rate == 0  # how it was trained is no part of what it is
    assert same(model, adopted, x)

    with pytest.warns(UserWarning, match=r"bare.pdparams has a head of 4 classes"):
        assert same(model, cyclemlp.create_model(NANO, pretrained=bare, in_chans=1), x)
    for source in (path, bare):
        with pytest.warns(UserWarning, match="head re-initialised: 4 → 37 classes") as warned:
            new = cyclemlp.create_model(NANO, pretrained=source, num_classes=37, in_chans=1)
        assert len(warned) == 1
        assert (new.num_classes, new.metadata.classes) == (37, None)
    with pytest.warns(UserWarning, match="input adapted: 1 → 3 channels"):
        cyclemlp.create_model(NANO, pretrained=path, in_chans=3)
    backbone = cyclemlp.create_model(NANO, pretrained=path, features_only=True)
    assert backbone.feature_channels == list(model.config.embed_dims)


def test_models_are_listed_by_pattern_and_by_published_weights():
    paper = [f"cyclemlp_b{i}" for i in range(1, 6)]
    assert cyclemlp.list_models("*_b[1-5]") == paper
    published = cyclemlp.list_models(pretrained=True)
    assert {*paper, NANO} <= set(published)
    assert "cyclemlp_micro" not in published
    assert cyclemlp.list_models("no*such") == []


def test_what_loops_of_ones_own_ask_a_model_for():
    model = cyclemlp.create_model(NANO, num_classes=6)
    assert model.num_classes == 6
    assert model.get_classifier() is model.head
    names = dict(model.named_parameters())
    kept = set(model.no_weight_decay())
    assert kept == {name for name, p in names.items() if name.endswith(".bias") or "norm" in name}
    assert cyclemlp.create_model(NANO, num_classes=0).num_classes == 0
    backbone = cyclemlp.create_model(NANO, features_only=True)
    assert backbone.num_classes == 0
    with pytest.raises(ModelError, match="no head"):
        backbone.get_classifier()
