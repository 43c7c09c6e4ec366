"""The corruptions made here: repeatable, different by seed, stronger by severity."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import Digits, build_loader, evaluation_transform
from cyclemlp.errors import ConfigError, MissingDependencyError
from cyclemlp.evaluation import robustness
from cyclemlp.preprocessing import Preprocessing

PLAIN = Preprocessing(input_size=48, crop_pct=0.875, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture(scope="module")
def image():
    """A smooth image of 60 × 48 pixels."""
    y, x = np.mgrid[0:48, 0:60]
    return Image.fromarray(np.stack([4 * x, 5 * y, 120 + 60 * np.sin(x / 5)], axis=2).astype(np.uint8))


def transformed(image, name, severity, seed=0, preprocessing=PLAIN):
    return robustness.CorruptionTransform(preprocessing, name, severity)(image, np.random.default_rng(seed))


#: Moves pixel after pixel.
SLOW = "glass_blur"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.heavy) if name == SLOW else name
        for name in (*robustness.COUNTED, *robustness.EXTRA)
    ],
)
def test_each_corruption_changes_the_image_in_the_same_way_again(image, name):
    before = np.random.get_state()[1].copy()
    clean = evaluation_transform(PLAIN)(image)
    once = transformed(image, name, 3)
    assert (once.shape, once.dtype) == (clean.shape, np.float32)
    assert 0.005 < np.abs(once - clean).mean() < 0.6
    assert np.array_equal(once, transformed(image, name, 3))
    assert np.array_equal(np.random.get_state()[1], before)  # the program's own randomness is left alone


@pytest.mark.parametrize(
    "name", ["gaussian_noise", pytest.param(SLOW, marks=pytest.mark.heavy), "impulse_noise", "snow", "fog"]
)
def test_what_is_random_differs_by_seed_and_what_is_severe_changes_more(image, name):
    clean = evaluation_transform(PLAIN)(image)
    weak, strong = (np.abs(transformed(image, name, s) - clean).mean() for s in (1, 5))
    assert weak < strong
    assert not np.array_equal(transformed(image, name, 3), transformed(image, name, 3, seed=1))


def test_no_drop_leaves_the_image_as_it_is():
    """Where its spatter falls nowhere, the library divides 0 by 0, and gives a black image."""
    pixels = np.full((32, 32, 3), 130, np.uint8)
    assert np.array_equal(robustness.corrupt(pixels, "spatter", 1, np.random.default_rng(39)), pixels)
    assert not np.array_equal(robustness.corrupt(pixels, "spatter", 1, np.random.default_rng(0)), pixels)


def test_small_grey_images_are_corrupted_larger_and_averaged():
    grey = Preprocessing(input_size=16, crop_pct=1.0, interpolation="nearest", mean=(0.0,), std=(1.0,))
    image = Image.new("L", (8, 8), 128)
    noisy = transformed(image, "gaussian_noise", 5, preprocessing=grey)
    assert noisy.shape == (1, 16, 16)
    # σ is 0.38 at 32 pixels, cut off at black and white; of three colours' mean by luminance, and of four pixels.
    assert 0.05 < noisy.std() < 0.38 / 2
    assert noisy.mean() == pytest.approx(0.5, abs=0.05)


def test_workers_corrupt_as_this_process_does():
    grey = Preprocessing(input_size=16, crop_pct=1.0, mean=(0.0,), std=(1.0,))
    transform = robustness.CorruptionTransform(grey, "shot_noise", 2)
    images = []
    for workers in (0, 1):
        loader = build_loader(Digits("val"), transform, batch_size=200, num_workers=workers, seed=3)
        images.append(np.concatenate([batch.images for batch in loader]))
        loader.close()
    assert np.array_equal(*images)


def test_corruptions_that_there_are_not():
    with pytest.raises(ConfigError, match="the corruption is 'rain'; use one of gaussian_noise, "):
        robustness.CorruptionTransform(PLAIN, "rain", 1)
    with pytest.raises(ConfigError, match="the severity is 6; give 1 to 5"):
        robustness.CorruptionTransform(PLAIN, "fog", 6)


def test_without_the_library_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "paddle-cyclemlp\[robustness\]"'):
        robustness.CorruptionTransform(PLAIN, "fog", 1)
