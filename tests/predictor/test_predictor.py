"""`cyclemlp.Predictor` over every kind of source, and every kind of image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_predictor_tasks import detector, segmentation

import cyclemlp
from cyclemlp.errors import ConfigError, CycleMLPError, DataError, ModelError, WeightsError
from cyclemlp.evaluation import as_callable, choose_views


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """One model of three classes as a weight file, as in a run's folder, and exported."""
    folder = tmp_path_factory.mktemp("sources")
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=3)
    model.metadata.classes = ["red", "green", "blue"]
    model.eval()
    cyclemlp.save_model(model, folder / "model.safetensors")
    (folder / "run").mkdir()
    cyclemlp.save_model(model, folder / "run" / "best.safetensors")
    cyclemlp.export_model(model, folder / "exported")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, size in enumerate(((40, 36), (33, 70), (64, 64))):
        noise = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", ["model.safetensors", "run", "exported"])
def test_each_source_and_each_kind_of_image_give_the_same(sources, images, name):
    predictor = cyclemlp.Predictor(sources / name, batch_size=2, top=2)
    assert predictor.task == "classification"
    assert predictor.classes == ["red", "green", "blue"]
    found = predictor([images[0], str(images[1]), Image.open(images[2]), np.asarray(Image.open(images[0]))])
    assert [one.image for one in found] == [str(path) for path in images] + ["image 4"]
    expected = cyclemlp.Predictor(sources / "model.safetensors", top=3)(images)
    for one, other in zip(found, [*expected, expected[0]], strict=True):
        assert len(one.classes) == 2
        assert one.best.name == other.best.name
        assert one.best.probability == pytest.approx(other.best.probability, abs=1e-4)
    assert predictor(images[0]).to_dict()["classes"][0]["name"] == found[0].best.name
    assert str(found[0]).startswith(f"{images[0]}: {found[0].best.name} ")
    assert predictor([]) == []


def test_segmentation(tmp_path, images):
    segmentation(tmp_path / "model", [{"type": "ResizeByShort", "short_size": 12}])
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 200
    found = cyclemlp.Predictor(tmp_path / "model", threads=1)(pixels)
    assert [one.name for one in found.classes] == ["blue", "red"]
    assert found.best.share == pytest.approx(2 / 3, abs=0.05)
    assert found.mask.shape == (30, 60)
    assert set(np.unique(found.mask[:, :17])) == {0}
    assert set(np.unique(found.mask[:, 23:])) == {2}


def test_the_edges_of_a_mask_are_interpolated(tmp_path):
    """From 4 pixels a side to 64: a diagonal edge of blocks of 16 pixels would be a staircase."""
    segmentation(tmp_path / "model", [{"type": "Resize", "target_size": [4, 4]}])
    pixels = np.zeros((64, 64, 3), np.uint8)
    below = np.tri(64, dtype=bool)
    pixels[below, 0], pixels[~below, 2] = 200, 200
    found = cyclemlp.Predictor(tmp_path / "model", threads=1)(pixels)
    assert (found.mask == np.where(below, 0, 2)).mean() > 0.95
    stairs = np.kron(np.tri(4), np.ones((16, 16)))
    assert (np.where(stairs, 0, 2) == np.where(below, 0, 2)).mean() < 0.9


@pytest.mark.parametrize("masks", [False, True])
def test_detection(tmp_path, masks):
    detector(tmp_path / "model", masks=masks)
    predictor = cyclemlp.Predictor(tmp_path / "model", threads=1)
    found = predictor(np.zeros((50, 100, 3), np.uint8))
    assert [one.score for one in found.objects] == sorted((one.score for one in found.objects), reverse=True)
    assert len(found.objects) == 2
    assert all(one.name in predictor.classes for one in found.objects)
    assert (found.mask is not None) == masks
    assert found.to_dict()["objects"][0]["box"] == list(found.objects[0].box)
    assert {"index", "name", "score", "box"} == set(found.to_dict()["objects"][0])


def test_each_object_has_its_own_mask(tmp_path):
    """The second object covers the whole image; the first, which is surer, lies on it."""
    detector(tmp_path / "model", masks=True)
    found = cyclemlp.Predictor(tmp_path / "model", threads=1)(np.zeros((6, 8, 3), np.uint8))
    first, second = (one.mask for one in found.objects)
    np.testing.assert_array_equal(first, np.eye(6, 8, dtype=bool))
    assert second.all()
    np.testing.assert_array_equal(found.mask, np.where(first, 0, 1))


def test_the_threshold_of_a_detector(tmp_path):
    detector(tmp_path / "model", masks=False)
    image = np.zeros((50, 100, 3), np.uint8)
    predictor = cyclemlp.Predictor(tmp_path / "model", threads=1, threshold=0.5)
    assert [one.score for one in predictor(image).objects] == [pytest.approx(0.9)]
    predictor.threshold = 0
    assert len(predictor(image).objects) == 2  # not the row of class -1
    with pytest.raises(ConfigError, match="threshold is 2; give a number from 0 to 1"):
        predictor.threshold = 2
    segmentation(tmp_path / "other", [])
    with pytest.raises(ConfigError, match="and for detectors, and this is one for segmentation"):
        cyclemlp.Predictor(tmp_path / "other", threshold=0.5)


def test_what_is_no_image_is_named(sources, images, tmp_path):
    predictor = cyclemlp.Predictor(sources / "exported")
    (tmp_path / "broken.png").write_bytes(images[0].read_bytes()[:100])
    for image, said in [
        (tmp_path / "none.png", "none.png.*does not exist"),
        (tmp_path / "broken.png", "broken.png"),
        (np.zeros((3, 4, 5), np.uint8), r"uint8 array of shape \(3, 4, 5\)"),
        (np.zeros((8, 8, 3), np.float32), "float32 array"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
    ]:
        with pytest.raises(DataError, match=said):
            predictor([image])
    with pytest.raises(DataError, match="image 2 is a int"):
        predictor([images[0], 5])


def test_what_is_no_source_is_named(sources, tmp_path):
    backbone = cyclemlp.create_model("cyclemlp_nano", features_only=True)
    cyclemlp.save_model(backbone, tmp_path / "backbone.safetensors")
    with pytest.raises(ModelError, match="no classification head"):
        cyclemlp.Predictor(tmp_path / "backbone.safetensors")
    with pytest.raises(WeightsError, match="nothing_here"):
        cyclemlp.Predictor(tmp_path / "nothing_here")
    with pytest.raises(ConfigError, match="runtime is for an exported model"):
        cyclemlp.Predictor(sources / "run", runtime="onnxruntime")
    with pytest.raises(CycleMLPError, match="2 class names are given"):
        cyclemlp.Predictor(sources / "run", classes=["a", "b"])
    with pytest.raises(ConfigError, match="top is 0"):
        cyclemlp.Predictor(sources / "run", top=0)


@pytest.mark.parametrize("name", ["model.safetensors", "exported"])
@pytest.mark.parametrize("tta", ["flip", "crops"])
def test_probabilities_over_views_are_those_of_the_views(sources, images, name, tta):
    found = cyclemlp.Predictor(sources / name, tta=tta, batch_size=2)(images)
    model = cyclemlp.load_model(sources / "model.safetensors")
    views = choose_views(tta)
    transform = views.transform(model.metadata.preprocessing)
    stacked = np.stack([transform(Image.open(path)) for path in images])
    expected = np.exp(views.classifier(as_callable(model))(stacked))
    plain = cyclemlp.Predictor(sources / name)(images)
    for one, other, row in zip(found, plain, expected, strict=True):
        assert [c.probability for c in one.classes] == pytest.approx(sorted(row, reverse=True), abs=1e-4)
        assert one.best.probability != other.best.probability


def test_views_are_for_classifiers(sources, tmp_path):
    segmentation(tmp_path / "model", [])
    with pytest.raises(
        ConfigError, match=r"tta is 'flip', which is for classification; .* is for segmentation"
    ):
        cyclemlp.Predictor(tmp_path / "model", tta="flip")
    with pytest.raises(ConfigError, match="tta is 'mirror'; use one of none, flip, crops"):
        cyclemlp.Predictor(sources / "run", tta="mirror")
