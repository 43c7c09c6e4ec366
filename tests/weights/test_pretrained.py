"""The weights that come with the package: what they reach, and every place that takes them by their tag."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.cli.options import with_pretrained_tag
from cyclemlp.data import build_loader, evaluation_transform, open_source
from cyclemlp.dense.backbone import DenseBackbone
from cyclemlp.errors import WeightsError
from cyclemlp.evaluation import as_callable, evaluate
from cyclemlp.weights import pretrained_file, pretrained_tags, read_weights
from cyclemlp.weights.pretrained import BUNDLED, bundled_weights

#: Variant and tag of every file.
FILES = [tuple(path.name.split(".")[:2]) for path in sorted(BUNDLED.glob("*.safetensors"))]
EACH = pytest.mark.parametrize(("name", "tag"), FILES)
#: Where `make test-all` finds CIFAR-10's test images, if they are there.
CIFAR10_TEST = Path(os.environ.get("CYCLEMLP_CIFAR10", "data/cifar10")) / "test.tar"
MOST_BYTES = 3_000_000


def right_of(name, tag, data):
    """How many images are classified rightly, and how many there are."""
    model = cyclemlp.create_model(name, pretrained=tag)
    model.eval()
    source = open_source(data, mode="val")
    assert source.classes == model.metadata.classes
    loader = build_loader(source, evaluation_transform(model.metadata.preprocessing), batch_size=100)
    result = evaluate(as_callable(model), loader, progress=False)
    return round(result.top1 * result.images / 100), result.images


def test_there_are_some():
    assert ("cyclemlp_nano", "cifar10") in FILES
    for name, tag in FILES:
        assert name in cyclemlp.list_models(pretrained=True)
        assert tag in pretrained_tags(name)
    assert pretrained_tags("cyclemlp_b1") == ["published"]


@EACH
def test_a_file_is_small_and_loads_without_a_warning(name, tag):
    path = bundled_weights(name)[tag]
    assert path.stat().st_size <= MOST_BYTES
    assert {tensor.dtype for tensor in read_weights(path).tensors.values()} == {np.dtype("float16")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_tag, by_default = (cyclemlp.create_model(name, pretrained=which) for which in (tag, True))
    assert by_tag.metadata == by_default.metadata
    assert len(by_tag.metadata.classes) == by_tag.num_classes
    for a, b in zip(by_tag.parameters(), by_default.parameters(), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


@EACH
def test_the_sample_is_classified_as_well_as_the_file_states(name, tag):
    """Within three standard deviations of a proportion among 200."""
    training = read_weights(bundled_weights(name)[tag]).metadata["training"]
    stated = training.get("validation", training.get("test"))
    known = stated["right"] / stated["images"]
    right, images = right_of(name, tag, f"{tag}-sample")
    assert images == 200
    assert abs(right / images - known) < 3 * (known * (1 - known) / images) ** 0.5


@pytest.mark.heavy
@EACH
def test_the_test_images_give_the_accuracy_that_the_file_states(name, tag):
    training = read_weights(bundled_weights(name)[tag]).metadata["training"]
    if not CIFAR10_TEST.is_file():
        pytest.skip(f"CIFAR-10 is not at hand: {CIFAR10_TEST}")
    if "test" not in training:
        pytest.skip("these weights are not final: their file states no result of the test images")
    right, images = right_of(name, tag, str(CIFAR10_TEST))
    assert images == training["test"]["images"]
    assert abs(right - training["test"]["right"]) <= 5  # sums in another order, on another processor


def test_commands_take_the_tag(tmp_path, capsys):
    name, tag = FILES[0]
    model = ["--model", name, "--pretrained"]
    assert main(["eval", *model, tag, "--data", f"{tag}-sample", "--no-progress"]) == 0
    by_tag = capsys.readouterr().out
    assert main(["eval", *model, "--data", f"{tag}-sample", "--no-progress"]) == 0
    assert by_tag.splitlines()[3] == capsys.readouterr().out.splitlines()[3]
    open_source(f"{tag}-sample", mode="val")[0].image.save(tmp_path / "photo.png")
    for words in ([tag, str(tmp_path / "photo.png")], [str(tmp_path / "photo.png")]):
        assert main(["predict", *model, *words, "--top", "1"]) == 0
        assert "photo.png" in capsys.readouterr().out
    assert main(["export", *model, tag, "--output", str(tmp_path / "exported"), "--format", "paddle"]) == 0


def test_a_word_after_the_option_is_a_tag_only_if_it_is_one():
    assert with_pretrained_tag(["--pretrained", "published", "a.jpg"]) == ["--pretrained=published", "a.jpg"]
    assert with_pretrained_tag(["--pretrained", "a.jpg"]) == ["--pretrained=default", "a.jpg"]
    assert with_pretrained_tag(["--pretrained", "--json"]) == ["--pretrained=default", "--json"]
    assert with_pretrained_tag(["a.jpg", "--pretrained"]) == ["a.jpg", "--pretrained"]


def test_training_and_backbones_start_from_them(tmp_path, capsys):
    name, tag = FILES[0]
    words = ["train", "--data", f"{tag}-sample", "--model", name, "--pretrained", tag, "--epochs", "1"]
    words += ["--batch-size", "100", "--workers", "0", "--no-progress", "--output", str(tmp_path / "run")]
    assert main([*words, "--set", "augment.repeats=1", "--amp", "none"]) == 0
    assert f"{tag} weights" in capsys.readouterr().out
    backbone = DenseBackbone(name, pretrained=tag, out_indices=(0, 1))
    expected = dict(cyclemlp.create_model(name, pretrained=tag).named_parameters())
    weight = dict(backbone.named_parameters())["network.0.0.mlp.fc1.weight"]
    assert np.array_equal(weight.numpy(), expected["network.0.0.mlp.fc1.weight"].numpy())


def test_a_tag_that_another_variant_has_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"no cifar10 weights of cyclemlp_b1, only published ones"):
        pretrained_file("cyclemlp_b1", "cifar10")
    (tmp_path / "cifar10").mkdir()
    assert pretrained_file("cyclemlp_b1", "cifar10") == Path("cifar10")
    assert pretrained_file("cyclemlp_b1", "other.pth") == Path("other.pth")
