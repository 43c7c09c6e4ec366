"""Feature maps, and the images that they are made from."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.data import Digits, ImageFiles
from cyclemlp.deploy.export import feature_form
from cyclemlp.errors import DataError, ModelError
from cyclemlp.explain import feature_maps, read_images
from cyclemlp.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def model():
    paddle.seed(0)
    return cyclemlp.create_model("cyclemlp_nano", embed_dims=(8, 8, 12, 12), num_classes=2)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).normal(size=(3, 32, 48)).astype("float32")


def test_maps_are_those_of_the_stages(model, image):
    features = feature_form(model)
    features.eval()
    with paddle.no_grad():
        normalised = features(paddle.to_tensor(image[None]))
    found = feature_maps(model, image, count=100, order="first")
    assert [stage.stage for stage in found] == [1, 2, 3, 4]
    for stage, expected in zip(found, normalised, strict=True):
        assert stage.channels.tolist() == list(range(len(stage.activity)))
        values = stage.maps - stage.maps.mean(axis=0)
        np.testing.assert_allclose(
            values / np.sqrt((values**2).mean(axis=0) + 1e-5), expected[0].numpy(), rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(stage.activity, stage.maps.std(axis=(1, 2)), rtol=1e-5)


def test_which_channels(model, image):
    (active,) = feature_maps(model, image, [3], count=4)
    assert active.channels.tolist() == np.argsort(-active.activity, kind="stable")[:4].tolist()
    (chosen,) = feature_maps(model, image, [3], channels=[11, 0])
    (every,) = feature_maps(model, image, [3], count=12, order="first")
    np.testing.assert_array_equal(chosen.maps, every.maps[[11, 0]])


def test_errors(model, image):
    with pytest.raises(ModelError, match=r"channels \[12\] of stage 3.*0 to 11"):
        feature_maps(model, image, [3], channels=[12])
    with pytest.raises(ModelError, match="order 'last'"):
        feature_maps(model, image, order="last")
    with pytest.raises(FloatingPointError, match="stage 1"):
        feature_maps(model, image * np.nan)


def test_images_are_taken_at_equal_distances():
    digits, preprocessing = Digits("val"), Preprocessing(input_size=16, crop_pct=1.0)
    shown = list(read_images(digits, preprocessing, 3))
    last = len(digits) - 1
    assert [image.name for image in shown] == [digits.name(i) for i in (0, round(last / 2), last)]
    assert shown[1].true == str(digits.label(round(last / 2)))
    assert shown[0].pixels.shape == (16, 16, 3)
    assert shown[0].image.shape == (3, 16, 16)
    assert len(list(read_images(digits, preprocessing, 10_000))) == len(digits)


def test_whole_images(tmp_path):
    Image.fromarray(np.arange(60 * 90, dtype=np.uint32).astype(np.uint8).reshape(60, 90)).save(
        tmp_path / "a.png"
    )
    source, preprocessing = ImageFiles([tmp_path / "a.png"]), Preprocessing(input_size=40)
    (cropped,) = read_images(source, preprocessing, 5)
    (whole,) = read_images(source, preprocessing, 5, whole=True)
    assert cropped.true is None
    assert (cropped.pixels.shape, whole.pixels.shape) == ((40, 40, 3), (40, 60, 3))
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    expected = ((whole.pixels / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(whole.image, expected, rtol=1e-5, atol=1e-6)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png"):
        next(read_images(source, preprocessing, 1))
