"""Transforms: evaluation against torchvision's figures, training against the definition."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from cyclemlp.data import evaluation_transform, training_transform
from cyclemlp.data.transforms import center_crop, random_resized_crop_box, resize_to_cover
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.preprocessing import Preprocessing

# torchvision's results for scikit-learn's two photographs: `{image}_{box}_{size}_sub` is [:, ::5, ::5] of the
# prepared image, `_mean` the channels' means; the box is `full` or left_upper_right_lower.
GOLDEN = Path(__file__).parents[1] / "fixtures" / "data" / "preprocess.npz"
KEYS = [key.removesuffix("_sub") for key in np.load(GOLDEN) if key.endswith("_sub")]
PLAIN = Preprocessing(input_size=8, crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)


def photograph(name="china"):
    return Image.fromarray(load_sample_image(f"{name}.jpg"))


def ramp(width, height):
    """An image whose red is the column and whose green is the row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))


def pixels(transformed):
    """Back to 0..255, from mean 0 and standard deviation 1."""
    return np.rint(transformed * 255).astype(int)


def test_the_golden_figures_are_all_there():
    assert len(KEYS) == 12


@pytest.mark.parametrize("key", KEYS)
def test_evaluation_is_torchvisions(key):
    golden = np.load(GOLDEN)
    name, *box, size = key.split("_")
    image = photograph(name)
    if box != ["full"]:
        image = image.crop(tuple(map(int, box)))
    result = evaluation_transform(Preprocessing(input_size=int(size)))(image)
    assert result.dtype == np.float32
    assert result.shape == (3, int(size), int(size))
    assert np.abs(result[:, ::5, ::5] - golden[f"{key}_sub"]).max() < 1e-6
    assert np.abs(result.mean(axis=(1, 2), dtype=np.float64) - golden[f"{key}_mean"]).max() < 1e-6


def test_evaluation_of_other_channels_and_interpolations():
    grey = Preprocessing(input_size=64, mean=(0.5,), std=(0.25,))
    result = evaluation_transform(grey)(photograph())
    assert result.shape == (1, 64, 64)
    small = center_crop(resize_to_cover(photograph().convert("L"), 73, Image.Resampling.BICUBIC), 64)
    assert np.allclose(result[0], (np.asarray(small) / 255 - 0.5) / 0.25, atol=1e-6)
    bicubic, bilinear, nearest = (
        evaluation_transform(Preprocessing(input_size=64, interpolation=name))(photograph())
        for name in ("bicubic", "bilinear", "nearest")
    )
    assert not np.array_equal(bicubic, bilinear)
    assert not np.array_equal(bilinear, nearest)
    with pytest.raises(ConfigError, match=r"1 channel \(greyscale\) or 3 \(RGB\), not 2"):
        evaluation_transform(Preprocessing(mean=(0, 0), std=(1, 1)))(photograph())


def test_longer_side_is_rounded_down_and_a_fitting_image_is_left_alone():
    resized = resize_to_cover(Image.new("RGB", (500, 333)), 256, Image.Resampling.BICUBIC)
    assert resized.size == (384, 256)  # 384.38
    image = ramp(40, 30)
    assert resize_to_cover(image, 30, Image.Resampling.BICUBIC) is image


@pytest.mark.parametrize(
    ("width", "height", "size", "left", "top"),
    # (side - size) / 2 is 0.5, 1.5, 2.5, 3.5: torchvision rounds half to even.
    [(9, 11, 8, 0, 2), (13, 15, 8, 2, 4), (8, 8, 8, 0, 0)],
)
def test_center_crop_rounds_as_torchvision(width, height, size, left, top):
    cropped = np.asarray(center_crop(ramp(width, height), size))
    assert cropped.shape == (size, size, 3)
    assert (cropped[0, 0, 0], cropped[0, 0, 1]) == (left, top)


def test_center_crop_of_a_smaller_image_adds_black():
    cropped = np.asarray(center_crop(Image.new("L", (3, 6), 200), 6))
    # Three columns are missing: one at the left, two at the right, as torchvision pads.
    assert cropped.shape == (6, 6)
    assert cropped[0].tolist() == [0, 200, 200, 200, 0, 0]


def test_a_thread_of_an_image_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.raises(DataError, match=r"5×400 pixels; resized to cover 36×36 it would have 103,680"):
        evaluation_transform(Preprocessing(input_size=32))(Image.new("RGB", (5, 400)))


def test_random_boxes_follow_scale_and_ratio():
    rng = np.random.default_rng(0)
    boxes = np.array(
        [random_resized_crop_box(400, 300, (0.08, 1.0), (3 / 4, 4 / 3), rng) for _ in range(4000)]
    )
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 400
    assert boxes[:, 3].max() <= 300
    share, ratio = width * height / 120_000, width / height
    assert share.min() > 0.078
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35
    # Small boxes always fit, so their ratio is as drawn: log-uniform, median 1, and their area uniform.
    small = share < 0.4
    assert abs(np.median(np.log(ratio[small]))) < 0.03
    assert abs((share < 0.24).sum() / small.sum() - 0.5) < 0.04
    # Anywhere: the left margin is uniform in what is free.
    free = 400 - width
    assert abs(np.mean(boxes[free > 50, 0] / free[free > 50]) - 0.5) < 0.02


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(400, 30, (180, 0, 220, 30)), (30, 400, (0, 180, 30, 220)), (1, 900, (0, 449, 1, 450))],
)
def test_box_that_never_fits_is_the_central_one(width, height, box):
    found = random_resized_crop_box(width, height, (1.0, 1.0), (3 / 4, 4 / 3), np.random.default_rng(0))
    assert found == box


def test_training_crops_scales_and_mirrors():
    image = ramp(64, 64)
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    preprocessing = Preprocessing(input_size=64, mean=(0.0,) * 3, std=(1.0,) * 3)
    same = training_transform(preprocessing, **whole, hflip=0.0)(image, np.random.default_rng(0))
    assert np.array_equal(pixels(same), np.asarray(image).transpose(2, 0, 1))
    mirrored = training_transform(preprocessing, **whole, hflip=1.0)(image, np.random.default_rng(0))
    assert np.array_equal(mirrored, same[:, :, ::-1])
    half = training_transform(preprocessing, **whole)
    flips = [half(image, np.random.default_rng(i))[0, 0, 0] > 0.1 for i in range(200)]
    assert 70 < sum(flips) < 130


def test_training_enlarges_a_part():
    transform = training_transform(PLAIN, scale=(0.25, 0.25), ratio=(1.0, 1.0), hflip=0.0)
    result = pixels(transform(ramp(64, 64), np.random.default_rng(3)))
    assert result.shape == (3, 8, 8)
    # A quarter of the area is 32 pixels wide: eight columns in steps of four.
    assert abs(np.diff(result[0, 4]).mean() - 4) < 0.3
    assert result[0].max() <= 63


def test_training_randomness_is_the_generators():
    transform, image = training_transform(Preprocessing(input_size=32)), photograph()
    one, again, other = (transform(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    with pytest.raises(TypeError, match="needs a numpy"):
        transform(image, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"scale": (0.5, 1.2)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"ratio": (1.0, math.inf)}, "ratio"),
        ({"hflip": 1.5}, "hflip"),
    ],
)
def test_impossible_training_options(options, message):
    with pytest.raises(ConfigError, match=message):
        training_transform(Preprocessing(), **options)


def test_a_padded_crop_moves_the_image_and_black_comes_in():
    transform = training_transform(PLAIN, padding=3, hflip=0.0)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(400):
        red, green, _ = pixels(transform(ramp(8, 8), rng))
        inside = np.argwhere((red > 0) & (green > 0))
        i, j = inside[len(inside) // 2]
        right, down = red[i, j] - j, green[i, j] - i
        seen.add((right, down))
        column, line = np.meshgrid(np.arange(8) + right, np.arange(8) + down)
        there = (column >= 0) & (column < 8) & (line >= 0) & (line < 8)
        assert (red == np.where(there, column, 0)).all()
        assert (green == np.where(there, line, 0)).all()
    assert seen == {(right, down) for right in range(-3, 4) for down in range(-3, 4)}


def test_a_padded_crop_of_another_size_is_of_the_image_as_in_evaluation():
    preprocessing = Preprocessing(input_size=(8, 12), crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    image = photograph()
    transform = training_transform(preprocessing, padding=0, hflip=0.0)
    assert (transform(image, np.random.default_rng(0)) == evaluation_transform(preprocessing)(image)).all()


def test_a_negative_padding_is_refused():
    with pytest.raises(ConfigError, match="padding is -1"):
        training_transform(PLAIN, padding=-1)
