"""Augmentations: what each does to known pixels, how strong it is, how often it is drawn."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import paddle
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from cyclemlp.data import evaluation_transform, parse_auto_augment, training_transform
from cyclemlp.data.augment import (
    IMAGENET_POLICY,
    MIXED,
    OPERATIONS,
    PAPER,
    RANDAUGMENT,
    RISING,
    AutoAugment,
    ColorJitter,
    RandomErasing,
)
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing

NEAREST, BICUBIC = Image.Resampling.NEAREST, Image.Resampling.BICUBIC
THE_PAPERS = "rand-m9-mstd0.5-inc1"


def grey(rows):
    return Image.fromarray(np.asarray(rows, dtype=np.uint8))


def operate(name, rows, amount=0.0, fill=7):
    """What an operation makes of a greyscale image, as a list of rows."""
    return np.asarray(OPERATIONS[name](grey(rows), amount, fill, NEAREST)).tolist()


def photograph(size=64):
    return Image.fromarray(load_sample_image("china.jpg")).resize((size, size))


@pytest.fixture
def record(monkeypatch):
    """The (operation, amount) pairs that are asked for from now on; images stay as they are."""
    asked = []

    def recorder(name):
        def operation(image, amount, fill, resampling):
            asked.append((name, amount))
            return image

        return operation

    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, recorder(name))
    return asked


# ---- operations


@pytest.mark.parametrize(
    ("name", "amount", "before", "after"),
    [
        ("Invert", 0, [0, 10, 255], [255, 245, 0]),
        ("Posterize", 1, [0, 127, 128, 255], [0, 0, 128, 128]),
        ("Posterize", 4, [0x5F, 0xA0], [0x50, 0xA0]),
        ("Posterize", 8, [0x5F, 0xA1], [0x5F, 0xA1]),
        ("Posterize", 0, [0, 255], [0, 0]),
        ("Solarize", 26, [0, 25, 26, 255], [0, 25, 229, 0]),
        ("Solarize", 256, [0, 255], [0, 255]),
        ("SolarizeAdd", 99, [0, 127, 128, 255], [99, 226, 128, 255]),
        ("SolarizeAdd", 110, [100, 127], [210, 237]),
        ("AutoContrast", 0, [50, 100, 150], [0, 127, 255]),
        ("Equalize", 0, [10] * 255 + [200] * 255, [0] * 255 + [255] * 255),
        ("Brightness", 0.1, [100, 200], [10, 20]),
        ("Brightness", 1.9, [100, 200], [190, 255]),
        ("Contrast", 0.1, [50, 150], [95, 105]),
        ("Contrast", 1.9, [50, 150], [5, 195]),
        ("Color", 0.1, [50, 150], [50, 150]),  # greyscale has no saturation
        ("TranslateX", 0.25, [1, 2, 3, 4], [2, 3, 4, 7]),
        ("TranslateX", -0.5, [1, 2, 3, 4], [7, 7, 1, 2]),
    ],
)
def test_operations_on_a_row(name, amount, before, after):
    assert operate(name, [before], amount) == [after]


def test_saturation_is_the_distance_from_grey():
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    saturate = OPERATIONS["Color"]
    assert saturate(red, 0.0, 0, NEAREST).getpixel((0, 0)) == (76, 76, 76)  # 0.299 · 255
    assert saturate(red, 1.0, 0, NEAREST).getpixel((0, 0)) == (255, 0, 0)
    assert saturate(red, 0.5, 0, NEAREST).getpixel((0, 0)) == (165, 38, 38)


def test_sharpness_is_the_distance_from_smooth():
    impulse = np.zeros((5, 5), dtype=int)
    impulse[2, 2] = 130
    smooth = np.asarray(operate("Sharpness", impulse, 0.0))
    assert smooth[1:4, 1:4].tolist() == [[10, 10, 10], [10, 50, 10], [10, 10, 10]]  # 1 or 5 of 13 parts
    assert operate("Sharpness", impulse, 1.0) == impulse.tolist()


def test_geometry_and_what_comes_from_outside():
    square = [[1, 2, 3], [4, 5, 6], [8, 9, 10]]
    assert operate("Rotate", square, 90) == np.rot90(square).tolist()
    assert operate("TranslateY", square, 1 / 3) == [[4, 5, 6], [8, 9, 10], [7, 7, 7]]
    # Column x of row y comes from column x + (y + ½) · shear.
    assert operate("ShearX", square, 1.0) == [[2, 3, 7], [6, 7, 7], [7, 7, 7]]
    assert operate("ShearY", square, 1.0) == [[4, 9, 7], [8, 7, 7], [7, 7, 7]]
    colour = OPERATIONS["TranslateX"](Image.new("RGB", (4, 4)), 0.45, (124, 116, 104), BICUBIC)
    assert colour.getpixel((3, 0)) == (124, 116, 104)
    assert colour.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", RANDAUGMENT)
def test_operations_keep_size_and_mode_and_their_argument(name, mode):
    image = photograph().convert(mode)
    before = image.tobytes()
    result = OPERATIONS[name](image, RISING[name](9, 1), 7 if mode == "L" else (7, 8, 9), BICUBIC)
    assert (result.mode, result.size) == (mode, image.size)
    assert image.tobytes() == before
    assert (result.tobytes() != before) == ((name, mode) != ("Color", "L"))


# ---- amounts


def test_amounts_at_the_papers_magnitude():
    plus = {name: round(amount(9, 1), 6) for name, amount in RISING.items()}
    assert plus == {
        "AutoContrast": 0,
        "Equalize": 0,
        "Invert": 0,
        "Rotate": 27,
        "ShearX": 0.27,
        "ShearY": 0.27,
        "TranslateX": 0.405,
        "TranslateY": 0.405,
        "Posterize": 1,
        "Solarize": 26,
        "SolarizeAdd": 99,
        "Color": 1.81,
        "Contrast": 1.81,
        "Brightness": 1.81,
        "Sharpness": 1.81,
    }
    minus = {name: round(amount(9, -1), 6) for name, amount in RISING.items()}
    assert {name for name in plus if minus[name] != plus[name]} == {
        *("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"),
        *("Color", "Contrast", "Brightness", "Sharpness"),
    }
    assert minus["Rotate"] == -27
    assert minus["Color"] == 0.19


def test_amounts_rise_only_with_inc():
    assert [RISING["Posterize"](level, 1) for level in (0, 5, 10)] == [4, 2, 0]
    assert [MIXED["Posterize"](level, 1) for level in (0, 5, 10)] == [0, 2, 4]
    assert [PAPER["Posterize"](level, 1) for level in (0, 5, 10)] == [4, 6, 8]
    assert [RISING["Solarize"](level, 1) for level in (0, 5, 10)] == [256, 128, 0]
    assert [MIXED["Solarize"](level, 1) for level in (0, 5, 10)] == [0, 128, 256]
    assert [RISING["Color"](level, 1) for level in (0, 10)] == [1.0, 1.9]
    assert [round(MIXED["Color"](level, sign), 9) for level, sign in ((0, 1), (5, -1), (10, 1))] == [
        0.1,
        1,
        1.9,
    ]


# ---- the grammar


def test_grammar():
    spec = parse_auto_augment(THE_PAPERS)
    assert (spec.policy, spec.m, spec.n, spec.p, spec.mstd, spec.inc) == ("rand", 9, 2, 0.5, 0.5, 1)
    assert parse_auto_augment("rand").m == 10
    spec = parse_auto_augment("rand-n3-m7.5-p1-inc0")
    assert (spec.n, spec.m, spec.p, spec.inc, spec.mstd) == (3, 7.5, 1, 0, 0)
    assert parse_auto_augment("original-mstd0.5").mstd == 0.5
    assert str(parse_auto_augment(THE_PAPERS)).startswith("RandAugment (magnitude 9 ± 0.5, rising, 2 of 15")
    assert "AutoAugment for ImageNet" in str(parse_auto_augment("original"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("randaugment", "'randaugment' is unknown; use rand-m9-mstd0.5-inc1"),
        ("", "'' is unknown"),
        ("rand-x3", "'x3' is not an option with a number; the options of rand are mNUMBER, nNUMBER"),
        ("rand-m", "'m' is not an option with a number"),
        ("rand-m9-m8", "'m8' is given twice"),
        ("rand-m11", "m is 11; give a magnitude from 0 to 10"),
        ("rand-n0", "n is 0; give at least 1"),
        ("rand-n1.5", "'n1.5' needs a whole number"),
        ("rand-p2", "p is 2; give a probability"),
        ("rand-inc2", "inc is 2; give 0 or 1"),
        ("rand-mstd-1", "'mstd' is not an option with a number"),
        ("original-m9", "'m9' is not an option with a number; the options of original are mstdNUMBER"),
        ("rand_m9", "'rand_m9' is unknown"),
    ],
)
def test_grammar_refuses(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_auto_augment(text)


# ---- what is drawn


def test_randaugment_draws_evenly(record):
    augment, image, rng = (
        AutoAugment(THE_PAPERS, fill=0, resampling=[BICUBIC]),
        grey([[0]]),
        np.random.default_rng(0),
    )
    many, numbers = 15_000, Counter()
    for _ in range(many):
        before = len(record)
        augment(image, rng)
        numbers[len(record) - before] += 1
    # Two operations, each with probability ½.
    assert np.allclose([numbers[n] / many for n in range(4)], [0.25, 0.5, 0.25, 0], atol=0.015)
    names = Counter(name for name, _ in record)
    assert set(names) == set(RANDAUGMENT)
    assert np.allclose([names[name] / many for name in RANDAUGMENT], 1 / 15, atol=0.008)
    degrees = np.asarray([amount for name, amount in record if name == "Rotate"])
    assert abs((degrees > 0).mean() - 0.5) < 0.05
    # The level is 9 with a standard deviation of ½, cut off at 10: degrees 3 · level.
    assert np.abs(degrees).max() == 30
    assert abs(np.median(np.abs(degrees)) - 27) < 0.2
    assert abs((np.abs(degrees) < 25.5).mean() - 0.159) < 0.04  # below one standard deviation
    assert abs((np.abs(degrees) == 30).mean() - 0.0228) < 0.015  # above two


def test_randaugment_without_noise_or_doubt(record):
    augment = AutoAugment("rand-m5-n3-p1", fill=0, resampling=[BICUBIC])
    for seed in range(300):
        augment(grey([[0]]), np.random.default_rng(seed))
    assert len(record) == 900
    assert {amount for name, amount in record if name == "Posterize"} == {2}
    assert {abs(amount) for name, amount in record if name == "ShearX"} == {0.15}


def test_autoaugments_policy_is_the_papers(record):
    assert len(IMAGENET_POLICY) == 25
    assert len(set(IMAGENET_POLICY)) == 20
    augment, image, rng = (
        AutoAugment("original", fill=0, resampling=[BICUBIC]),
        grey([[0]]),
        np.random.default_rng(0),
    )
    runs = []
    for _ in range(20_000):
        del record[:]
        augment(image, rng)
        runs.append([(name, round(abs(amount), 6)) for name, amount in record])

    def share(wanted):
        return sum(run == wanted for run in runs) / len(runs)

    # (ShearX 0.6, 5), (Equalize 1.0, 9): one row of 25. A level of 5 is a shear of 0.15.
    assert abs(share([("ShearX", 0.15), ("Equalize", 0)]) - 0.6 / 25) < 0.004
    # (Sharpness 0.4, 7), (Invert 0.6, 8)
    assert abs(share([("Sharpness", 1.36), ("Invert", 0)]) - 0.4 * 0.6 / 25) < 0.003
    assert abs(share([("Sharpness", 1.36)]) - 0.4 * 0.4 / 25) < 0.003
    # (Color 0.6, 4), (Contrast 1.0, 8), in two rows
    assert abs(share([("Color", 0.82), ("Contrast", 1.54)]) - 2 * 0.6 / 25) < 0.006
    # (Posterize 0.8, 5), (Equalize 1.0, 2): 6 bits
    assert abs(share([("Posterize", 6), ("Equalize", 0)]) - 0.8 / 25) < 0.005
    # Never drawn: the first of (Equalize 0.0, 7), (Equalize 0.8, 8) and what no row has.
    assert {name for run in runs for name, _ in run} == {step[0] for row in IMAGENET_POLICY for step in row}


@pytest.mark.parametrize("word", [THE_PAPERS, "original", "rand-m10-n4-p1"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_augmentation_is_the_generators_alone(word, mode):
    image = photograph().convert(mode)
    before = image.tobytes()
    fill = (124, 116, 104) if mode == "RGB" else 124
    augment = AutoAugment(word, fill=fill, resampling=[BICUBIC])
    results = [augment(image, np.random.default_rng(seed)).tobytes() for seed in range(30)]
    assert results == [augment(image, np.random.default_rng(seed)).tobytes() for seed in range(30)]
    assert image.tobytes() == before
    assert len(set(results)) > 10  # many rows only equalise, or do nothing


def test_random_filter_is_drawn_for_each_operation():
    image, results = photograph(), set()
    augment = AutoAugment("rand-m9-n1-p1", fill=(0, 0, 0), resampling=[NEAREST, BICUBIC])
    fixed = [AutoAugment("rand-m9-n1-p1", fill=(0, 0, 0), resampling=[how]) for how in (NEAREST, BICUBIC)]
    for seed in range(60):
        result = augment(image, np.random.default_rng(seed)).tobytes()
        same = [result == one(image, np.random.default_rng(seed)).tobytes() for one in fixed]
        assert any(same)
        results.add(tuple(same))
    assert results == {(True, False), (False, True), (True, True)}


# ---- colour jitter


def test_jitter_is_torchvisions(record):
    jitter, orders = ColorJitter(0.4), Counter()
    for seed in range(1200):
        del record[:]
        jitter(grey([[0]]), np.random.default_rng(seed))
        assert sorted(name for name, _ in record) == ["Brightness", "Color", "Contrast"]
        assert all(0.6 <= factor <= 1.4 for _, factor in record)
        orders[tuple(name for name, _ in record)] += 1
    assert len(orders) == 6
    assert min(orders.values()) > 140


def test_jitter_moves_brightness_both_ways():
    image = Image.new("RGB", (4, 4), (100, 100, 100))
    values = [ColorJitter(0.4)(image, np.random.default_rng(i)).getpixel((0, 0))[0] for i in range(300)]
    assert 58 <= min(values) < 65
    assert 135 < max(values) <= 141
    assert abs(np.mean(values) - 100) < 5
    assert ColorJitter(0)(image, np.random.default_rng(0)).tobytes() == image.tobytes()
    with pytest.raises(ConfigError, match="color_jitter is -1"):
        ColorJitter(-1)


# ---- erasing


def erased(mode="const", size=(3, 40, 60), seeds=800, **options):
    """(erased image, which of its pixels changed) of those that were erased."""
    erase, found = RandomErasing(options.pop("probability", 1.0), mode=mode, **options), []
    for seed in range(seeds):
        image = np.full(size, 9.0, dtype=np.float32)
        assert erase(image, np.random.default_rng(seed)) is image
        changed = (image != 9).any(axis=0)
        if changed.any():
            found.append((image, changed))
    return found


def test_erasing_is_one_rectangle_of_the_right_size_and_place():
    found = erased()
    assert len(found) == 800
    shares, ratios, tops = [], [], []
    for image, changed in found:
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert changed.sum() == height * width  # nothing outside, nothing spared
        assert not image[:, changed].any()  # const is 0, the mean colour
        shares.append(changed.mean())
        ratios.append(height / width)
        tops.append(rows[0] / (40 - height))
    assert 0.015 < min(shares) < 0.03
    assert 0.31 < max(shares) < 0.345
    assert abs(np.mean(shares) - (0.02 + 1 / 3) / 2) < 0.02
    assert 0.2 < min(ratios) < 0.4
    assert 2.5 < max(ratios) < 4.5
    assert abs(np.mean(tops) - 0.5) < 0.04


def test_erasing_probability():
    assert 150 < len(erased(probability=0.25)) < 250
    assert not erased(probability=0.0)


def test_erasing_with_noise_and_with_a_colour():
    noise = np.concatenate([image[:, changed].ravel() for image, changed in erased("pixel", seeds=50)])
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    colours = []
    for image, changed in erased("rand", seeds=300):
        patch = image[:, changed]
        assert (patch == patch[:, :1]).all()
        colours.append(patch[:, 0])
    assert abs(np.mean(colours)) < 0.15
    assert abs(np.std(colours) - 1) < 0.1
    assert len(np.unique(colours)) == 900


def test_erasing_several_rectangles_shares_the_area():
    numbers = [changed.mean() for _, changed in erased(count=3, seeds=400)]
    assert max(numbers) < 0.345
    single = [changed.mean() for _, changed in erased(count=1, seeds=400)]
    assert np.mean(numbers) < np.mean(single)  # they may overlap


def test_erasing_leaves_an_image_without_room_alone():
    assert not erased(size=(1, 1, 1), seeds=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 1.1}, "erasing_prob is 1.1"),
        ({"mode": "black"}, "erasing_mode is 'black'; give one of pixel, rand, const"),
        ({"area": (0.5, 0.2)}, "erasing_area"),
        ({"ratio": (0, 1)}, "erasing_ratio"),
        ({"count": 0}, "erasing_count is 0"),
    ],
)
def test_impossible_erasing(options, message):
    with pytest.raises(ConfigError, match=message):
        RandomErasing(**options)


# ---- in the training transform

PLAIN = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "hflip": 0.0}
P64 = Preprocessing(input_size=64)


def several(count=40, image=None, preprocessing=P64, **options):
    transform = training_transform(preprocessing, **PLAIN, **options)
    image = photograph() if image is None else image
    return [transform(image, np.random.default_rng(seed)) for seed in range(count)]


def test_auto_augment_is_not_ignored_and_evaluation_has_none():
    plain = several(1)[0]
    evaluated = evaluation_transform(Preprocessing(input_size=64, crop_pct=1.0))(photograph())
    assert np.array_equal(plain, evaluated)  # whole, unmirrored: nothing else is random
    changed = [not np.array_equal(result, plain) for result in several(auto_augment=THE_PAPERS)]
    assert 20 < sum(changed) < 40  # a quarter draws no operation


def test_jitter_only_without_auto_augment():
    both = several(auto_augment=THE_PAPERS, color_jitter=0.4)
    assert all(np.array_equal(a, b) for a, b in zip(both, several(auto_augment=THE_PAPERS), strict=True))
    plain = several(1)[0]
    jittered = several(color_jitter=0.4)
    assert all(not np.array_equal(result, plain) for result in jittered)


def test_fill_is_the_mean_colour_of_the_input():
    transform = training_transform(Preprocessing(), auto_augment=THE_PAPERS)
    assert transform.augmentation.fill == (124, 116, 104)
    grey_transform = training_transform(Preprocessing(mean=(0.5,), std=(0.5,)), auto_augment=THE_PAPERS)
    assert grey_transform.augmentation.fill == 128
    # A shear or shift of black brings in the mean colour, which is about 0 after normalisation.
    black = several(200, Image.new("RGB", (64, 64)), auto_augment="rand-m9-p1-n1-inc1")
    outside = [result for result in black if result[0].min() < -1.5 and abs(result[0].max()) < 0.02]
    assert len(outside) > 30


def test_erasing_comes_after_normalisation():
    white = Image.new("RGB", (64, 64), (255, 255, 255))
    for result in several(50, white, erasing_prob=1.0, erasing_mode="const"):
        assert set(np.unique(result[0])) == {np.float32(0), result[0].max()}
        assert result[0].max() > 2
    assert all(
        np.array_equal(a, b)
        for a, b in zip(several(erasing_prob=1.0), several(erasing_prob=1.0), strict=True)
    )


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_finished_by_paddle_is_the_same(mode, channels):
    """As on a GPU, where the loader hands over 8-bit pixels."""
    p = Preprocessing(input_size=20, mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.3, 0.25)[:channels])
    transform = training_transform(p, erasing_prob=0.7, erasing_mode=mode, erasing_count=2)
    begun = [transform.begin(photograph(), np.random.default_rng(seed)) for seed in range(12)]
    pixels, left = np.stack([one.pixels for one in begun]), [one.left for one in begun]
    assert pixels.dtype == np.uint8
    assert 3 < sum(bool(one.patches) for one in left) < 12
    assert 3 < sum(one.mirrored for one in left) < 9
    arrays = transform.finish(pixels, left)
    assert arrays.dtype == np.float32
    assert all(
        np.array_equal(array, transform(photograph(), np.random.default_rng(seed)))
        for seed, array in enumerate(arrays)
    )
    tensor = transform.finish.on_device(paddle.to_tensor(pixels), left)
    assert np.abs(tensor.numpy() - arrays).max() < 1e-6


def test_interpolation_of_training_is_its_own():
    half = several(1, preprocessing=Preprocessing(input_size=32))[0]
    for way in ("nearest", "bilinear", "bicubic"):
        own = several(1, preprocessing=Preprocessing(input_size=32, interpolation=way))[0]
        assert np.array_equal(
            several(1, preprocessing=Preprocessing(input_size=32), interpolation=way)[0], own
        )
        assert np.array_equal(own, half) == (way == "bicubic")
    drawn = {
        r.tobytes() for r in several(30, preprocessing=Preprocessing(input_size=32), interpolation="random")
    }
    fixed = {
        several(1, preprocessing=Preprocessing(input_size=32), interpolation=way)[0].tobytes()
        for way in ("bilinear", "bicubic")
    }
    assert drawn == fixed
    with pytest.raises(
        ConfigError, match="interpolation is 'lanczos'; use one of nearest, bilinear, bicubic, random"
    ):
        training_transform(Preprocessing(), interpolation="lanczos")


def test_the_transform_says_what_it_does():
    words = str(
        training_transform(Preprocessing(), auto_augment=THE_PAPERS, color_jitter=0.4, erasing_prob=0.25)
    )
    assert (
        "8 to 100 % of the image at 224×224, bicubic, mirrored p 0.5, RandAugment (magnitude 9 ± 0.5" in words
    )
    assert words.endswith("erasing (pixel) p 0.25")
    assert "jitter" not in words
    assert "colour jitter 0.4" in str(training_transform(Preprocessing(), color_jitter=0.4))


def test_the_whole_of_it_on_greyscale():
    p = Preprocessing(input_size=16, mean=(0.5,), std=(0.5,))
    transform = training_transform(p, auto_augment="rand-m9-mstd0.5-inc1-p1", erasing_prob=1.0)
    for seed in range(40):
        result = transform(photograph(), np.random.default_rng(seed))
        assert result.shape == (1, 16, 16)
        assert result.dtype == np.float32
        assert math.isfinite(result.sum())
