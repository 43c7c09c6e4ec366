"""Mixup and cutmix: the images are mixed as their labels say, whatever the mode."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from cyclemlp.data import Mixup, step_generator
from cyclemlp.errors import ConfigError

KINDS = {
    "mixup": {"mixup_alpha": 0.8, "cutmix_alpha": 0.0},
    "cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
    "both": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
    "minmax": {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "cutmix_minmax": (0.3, 0.8)},
}
MODES = ("batch", "pair", "elem")


def numbered(count, height=16, width=12):
    """Image i is all i, its label is class i: the mean of a mixed image tells what it is made of."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.float32)[:, None, None, None], (count, 3, height, width)
    )
    return images.copy(), np.arange(count)


def rng(number=0):
    return step_generator(0, 0, number)


def shares(targets):
    """λ of each image whose partner is another, from its label alone."""
    count = len(targets)
    return np.asarray([targets[i, i] for i in range(count) if 2 * i != count - 1])


@pytest.mark.parametrize("count", [1, 2, 7, 8])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_mixed_as_their_labels_say(kind, mode, count):
    images, labels = numbered(count)
    mixup = Mixup(count, **KINDS[kind], mode=mode, label_smoothing=0.0)
    different = 0
    for number in range(25):
        mixed, targets = mixup(images, labels, rng(number))
        assert mixed.shape == images.shape
        assert mixed.dtype == targets.dtype == np.float32
        assert np.allclose(targets.sum(axis=1), 1, atol=1e-6)
        # The mean of image i is Σ target · class: what the label says is in the image, is in it.
        assert np.allclose(mixed.mean(axis=(1, 2, 3)), targets @ np.arange(count), atol=1e-4)
        assert ((targets > 0).sum(axis=1) <= 2).all()
        for i in range(count):
            assert set(np.flatnonzero(targets[i])) <= {i, count - 1 - i}
        different += not np.array_equal(mixed, images)
    assert different >= (20 if count > 1 else 0)
    assert np.array_equal(images, numbered(count)[0])  # what came in is as it was


@pytest.mark.parametrize("count", [5, 6])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_paddle_tensors_give_the_same(kind, mode, count):
    generator = np.random.default_rng(1)
    images = generator.standard_normal((count, 3, 9, 7), dtype=np.float32)
    labels = generator.integers(0, 4, count)
    mixup = Mixup(4, **KINDS[kind], mode=mode)
    for number in range(4):
        expected = mixup(images, labels, rng(number))
        tensors = mixup(paddle.to_tensor(images), paddle.to_tensor(labels), rng(number))
        assert all(isinstance(tensor, paddle.Tensor) for tensor in tensors)
        assert tensors[1].dtype == paddle.float32
        for array, tensor in zip(expected, tensors, strict=True):
            assert np.allclose(array, tensor.numpy(), atol=1e-6)


def test_mixup_by_hand():
    images = np.asarray([[[[1.0, 2.0]]], [[[5.0, 10.0]]]], dtype=np.float32)
    mixup = Mixup(3, mixup_alpha=0.8, cutmix_alpha=0.0, label_smoothing=0.3)
    mixed, targets = mixup(images, np.asarray([0, 2]), rng())
    lam = (5 - mixed[0, 0, 0, 0]) / 4
    assert 0 < lam < 1
    assert np.allclose(mixed[0, 0, 0], [lam + 5 * (1 - lam), 2 * lam + 10 * (1 - lam)])
    assert np.allclose(mixed[1, 0, 0], [5 * lam + (1 - lam), 10 * lam + 2 * (1 - lam)])
    # 0.3 of each label is spread over the three classes, once.
    assert np.allclose(targets[0], [0.1 + 0.7 * lam, 0.1, 0.1 + 0.7 * (1 - lam)], atol=1e-6)
    assert np.allclose(targets[1], [0.1 + 0.7 * (1 - lam), 0.1, 0.1 + 0.7 * lam], atol=1e-6)


def test_cutmix_is_one_rectangle_of_the_partner():
    images, labels = numbered(2, 20, 30)
    mixup = Mixup(2, mixup_alpha=0.0, label_smoothing=0.0)
    at_border = 0
    for number in range(300):
        mixed, targets = mixup(images, labels, rng(number))
        other = mixed[0, 0] == 1
        assert np.array_equal(
            mixed[0], np.broadcast_to(other, (3, 20, 30))
        )  # 0 and 1 only, all channels alike
        assert np.array_equal(mixed[1], 1 - mixed[0])
        assert targets[0, 1] == pytest.approx(other.mean(), abs=1e-6)  # not the area that was drawn
        if other.any():
            rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
            assert other.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            at_border += rows[0] == 0 or columns[0] == 0 or rows[-1] == 19 or columns[-1] == 29
    assert at_border > 100  # where the correction matters


def test_minmax_bounds_the_sides():
    images, labels = numbered(2, 20, 30)
    heights, widths = set(), set()
    for number in range(400):
        mixed, targets = Mixup(2, 0.0, 0.0, (0.3, 0.8), label_smoothing=0.0)(images, labels, rng(number))
        other = mixed[0, 0] == 1
        heights.add(int(other.any(axis=1).sum()))
        widths.add(int(other.any(axis=0).sum()))
        assert targets[0, 1] == pytest.approx(other.mean(), abs=1e-6)
    assert (min(heights), max(heights)) == (6, 16)
    assert (min(widths), max(widths)) == (9, 24)
    whole, targets = Mixup(2, 0.0, 0.0, (1.0, 1.0), label_smoothing=0.0)(images, labels, rng())
    assert np.array_equal(whole, images[::-1])
    assert targets.tolist() == [[0, 1], [1, 0]]


def test_how_often_is_drawn():
    images, labels = numbered(8)
    for kind in KINDS.values():
        batch, pair, elem = (
            shares(Mixup(8, **kind, mode=mode, label_smoothing=0.0)(images, labels, rng(3))[1])
            for mode in MODES
        )
        assert len(set(batch.round(6))) == 1
        assert np.allclose(pair, pair[::-1], atol=1e-6)
        assert len(set(pair.round(6))) > 2
        assert len(set(elem.round(6))) > 4
        assert not np.allclose(elem, elem[::-1], atol=1e-3)


def test_pairs_exchange_the_same_rectangle():
    images, labels = numbered(6)
    mixed, _ = Mixup(6, **KINDS["cutmix"], mode="pair")(images, labels, rng(1))
    for i in range(6):
        j = 5 - i
        assert np.array_equal(mixed[i] == i, mixed[j] == j)
        assert np.array_equal(mixed[i] == j, mixed[j] == i)


def test_shares_are_beta_distributed():
    images, labels = numbered(400, 1, 1)
    lam = np.concatenate(
        [
            shares(Mixup(400, 0.8, 0.0, mode="elem", label_smoothing=0.0)(images, labels, rng(n))[1])
            for n in range(10)
        ]
    )
    assert abs(lam.mean() - 0.5) < 0.02
    assert abs(lam.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.006  # the variance of Beta(0.8, 0.8)
    assert 0 <= lam.min() < 0.01
    assert 0.99 < lam.max() <= 1


def test_switch_and_probability():
    images, labels = numbered(400, 8, 8)

    def count(**options):
        """How many images of 400 are mixed up, cut, and whole."""
        mixed, _ = Mixup(400, mode="elem", **options)(images, labels, rng())
        values = [np.unique(image) for image in mixed]
        whole = sum(list(v) == [i] for i, v in enumerate(values))
        cut = sum(set(v) <= {i, 399 - i} and list(v) != [i] for i, v in enumerate(values))
        return 400 - whole - cut, cut, whole

    mixed, cut, whole = count(switch_prob=0.5)
    assert 160 < mixed < 240
    assert cut + whole + mixed == 400
    assert whole < 40  # cutmix's rectangle may have no pixel
    assert count(switch_prob=0.0)[1] == 0
    assert count(switch_prob=1.0)[0] == 0
    assert 250 < count(prob=0.3)[2] < 330
    assert count(prob=0.0) == (0, 0, 400)
    batches = [Mixup(2, prob=0.3)(*numbered(2), rng(n))[0] for n in range(400)]
    assert 80 < sum(not np.array_equal(images, numbered(2)[0]) for images in batches) < 160


@pytest.mark.parametrize("off", [{"prob": 0.0}, {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}])
def test_without_mixing_labels_are_smoothed_once(off):
    images, _ = numbered(3)
    mixup = Mixup(4, **off, label_smoothing=0.1)
    same, targets = mixup(images, np.asarray([3, 0, 1]), rng())
    assert same is images
    assert not mixup.active
    assert str(mixup) == "no mixup, no cutmix"
    expected = np.full((3, 4), 0.025)
    expected[range(3), [3, 0, 1]] = 0.925
    assert np.allclose(targets, expected, atol=1e-7)
    exact = Mixup(4, **off, label_smoothing=0.0)(images, np.asarray([3, 0, 1]), rng())[1]
    assert exact.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]


def test_the_middle_of_an_odd_batch_stays():
    generator = np.random.default_rng(2)
    images = generator.standard_normal((5, 3, 8, 8), dtype=np.float32)
    for mode in ("pair", "elem"):
        for number in range(10):
            mixed, targets = Mixup(5, mode=mode, label_smoothing=0.0)(images, np.arange(5), rng(number))
            assert np.array_equal(mixed[2], images[2])
            assert targets[2].tolist() == [0, 0, 1, 0, 0]


def test_randomness_is_seed_epoch_step_and_rank():
    images, labels = numbered(4)

    def targets(*key):
        return Mixup(4)(images, labels, step_generator(*key))[1].tolist()

    assert targets(1, 2, 3, 4) == targets(1, 2, 3, 4)
    assert targets(1, 2, 3) == targets(1, 2, 3, 0)
    keys = [(1, 2, 3, 4), (2, 2, 3, 4), (1, 3, 3, 4), (1, 2, 4, 4), (1, 2, 3, 5)]
    assert len({str(targets(*key)) for key in keys}) == 5


def test_words():
    assert str(Mixup(10)) == "mixup 0.8 or cutmix 1, p 1, by batch"
    assert str(Mixup(10, 0.0, 0.0, (0.2, 0.5), mode="elem")) == "cutmix of sides 0.2 to 0.5, p 1, by elem"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0"),
        ({"mixup_alpha": -0.1}, "mixup_alpha is -0.1"),
        ({"cutmix_alpha": float("inf")}, "cutmix_alpha is inf"),
        ({"prob": 1.5}, "mixup_prob is 1.5"),
        ({"switch_prob": -1}, "mixup_switch_prob is -1"),
        ({"mode": "half"}, "mixup_mode is 'half'; give one of batch, pair, elem"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"cutmix_minmax": (0.8, 0.3)}, "cutmix_minmax is .*two shares"),
        ({"cutmix_minmax": (0.3,)}, "cutmix_minmax"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        Mixup(**{"num_classes": 10, **options})
