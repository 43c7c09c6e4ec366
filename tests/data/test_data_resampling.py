"""The faster library resizes as Pillow does, within rounding; without it Pillow itself does."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from cyclemlp.data import ImageFiles, build_loader, training_transform
from cyclemlp.data.resampling import DECODERS, as_array, as_image, choose_decoder, is_fast, resampled
from cyclemlp.preprocessing import Preprocessing

BICUBIC, BILINEAR, NEAREST = (Image.Resampling[name] for name in ("BICUBIC", "BILINEAR", "NEAREST"))
BOXES = {  # of 640×427 pixels, to 224×224
    "smaller": (40, 10, 640, 420),
    "larger": (301, 205, 401, 280),
    "wider than high": (0, 100, 640, 300),
    "one smaller, one larger": (100, 0, 180, 427),
    "by one pixel": (5, 5, 230, 228),
    "a line": (0, 7, 640, 8),
    "a pixel": (9, 9, 10, 10),
}


def photograph(name, mode="RGB"):
    return Image.fromarray(load_sample_image(f"{name}.jpg")).convert(mode)


def test_the_library_is_there_and_chosen():
    assert choose_decoder(None) == "fast"  # the extra `test` has it
    assert is_fast()


@pytest.mark.parametrize("how", [BICUBIC, BILINEAR])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize("box", BOXES.values(), ids=list(BOXES))
def test_it_is_pillow_within_rounding(name, box, mode, how):
    image = photograph(name, mode)
    left, upper, right, lower = box
    result = resampled(as_array(image)[upper:lower, left:right], 224, how)  # not contiguous
    expected = as_array(image.crop(box).resize((224, 224), how))
    assert result.dtype == np.uint8
    assert result.shape == expected.shape == (224, 224, len(mode))
    # More than 1 only where the first axis overshoots and is cut off: which axis is first is not the same.
    difference = np.abs(result.astype(int) - expected)
    assert difference.mean() < 0.4
    assert (difference > 1).mean() < 0.005
    assert difference.max() <= 16


def test_nearest_and_what_fits_are_exact():
    pixels = as_array(photograph("china"))[:301, :203]
    nearest = as_array(as_image(np.ascontiguousarray(pixels)).resize((64, 64), NEAREST))
    assert np.array_equal(resampled(pixels, 64, NEAREST), nearest)
    assert np.array_equal(resampled(pixels[:64, :64], 64, BICUBIC), pixels[:64, :64])


@pytest.fixture
def by_pillow():
    choose_decoder("pillow")
    yield
    choose_decoder(None)


def test_pillow_may_be_chosen(by_pillow):
    for mode in ("RGB", "L"):
        image = photograph("flower", mode)
        expected = as_array(image.resize((96, 96), BICUBIC))
        assert np.array_equal(resampled(as_array(image), 96, BICUBIC), expected)


@pytest.mark.parametrize("decoder", DECODERS)
def test_it_is_the_same_each_time_and_mirrored_exactly(decoder, request):
    if decoder == "pillow":
        request.getfixturevalue("by_pillow")
    image = photograph("china")
    plain, mirrored = (training_transform(Preprocessing(), hflip=p) for p in (0.0, 1.0))
    for seed in range(5):
        one, again, flipped = (
            transform(image, np.random.default_rng(seed)) for transform in (plain, plain, mirrored)
        )
        assert np.array_equal(one, again)
        assert np.array_equal(flipped, one[:, :, ::-1])


def test_worker_processes_resize_to_the_same_bits(tmp_path):
    """They are forked from a process that has used the library."""
    for i in range(12):
        photograph("flower").resize((150 + 20 * i, 160)).save(tmp_path / f"{i}.jpg")
    source, transform = (
        ImageFiles(sorted(tmp_path.iterdir())),
        training_transform(Preprocessing(input_size=64)),
    )
    here, there = (
        build_loader(source, transform, batch_size=5, shuffle=True, num_workers=workers) for workers in (0, 2)
    )
    for epoch in (0, 1):
        here.set_epoch(epoch)
        there.set_epoch(epoch)
        batches = [batch.images.copy() for batch in here]
        assert len(batches) == 3
        for mine, batch in zip(batches, there, strict=True):
            assert np.array_equal(mine, batch.images)
    there.close()
