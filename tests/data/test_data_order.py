"""Which images an epoch shows on which rank, and that the loader keeps to it."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections import Counter

import numpy as np
import pytest

from cyclemlp.data import Digits, build_loader, evaluation_transform, training_transform
from cyclemlp.data.order import Draws, EpochOrder, balanced
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing

GREY = Preprocessing(input_size=12, mean=(0.5,), std=(0.5,))
TRAINING = training_transform(GREY, auto_augment="rand-m9-mstd0.5-inc1", erasing_prob=0.25)
SIZES = [
    (size, batch, world) for size in (0, 1, 2, 7, 8, 9, 23) for batch in (1, 3, 8) for world in (1, 2, 3)
]


def orders(size, batch, world, epoch=0, **options):
    """The ranks' batches of indices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranks = [EpochOrder(size, batch, rank=rank, world_size=world, **options) for rank in range(world)]
    result = []
    for order in ranks:
        order.epoch = epoch
        batches = list(order)
        assert len(order) == len(batches)
        assert order.images == sum(map(len, batches))
        assert all(key[0] == epoch for key in itertools.chain(*batches))
        result.append([[index for _, index, _ in keys] for keys in batches])
    return result


def flat(ranks):
    return [index for batches in ranks for keys in batches for index in keys]


@pytest.mark.parametrize(("size", "batch", "world"), SIZES)
def test_evaluation_has_every_image_exactly_once(size, batch, world):
    ranks = orders(size, batch, world)
    assert sorted(flat(ranks)) == list(range(size))
    assert all(0 < len(keys) <= batch for batches in ranks for keys in batches)
    counts = [len(batches) for batches in ranks]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("size", "batch", "world"), SIZES)
def test_training_gives_every_rank_the_same_number(size, batch, world, drop_last):
    ranks = orders(size, batch, world, shuffle=True, drop_last=drop_last)
    assert (
        len({tuple(map(len, batches)) for batches in ranks}) == 1
    )  # in every step, or gradients are not means
    counts = Counter(flat(ranks))
    assert set(counts) <= set(range(size))
    if not drop_last:
        assert set(counts) == set(range(size))
        assert sum(counts.values()) - size < world  # filled up by no more than it takes
    elif size >= batch * world:
        assert max(counts.values()) == 1
        assert all(len(keys) == batch for batches in ranks for keys in batches)
        assert size - len(counts) < batch * world
    elif size:
        assert set(counts) == set(range(size))  # the one smaller batch is kept


def test_ranks_together_read_what_one_reads_with_the_whole_batch():
    for epoch in range(3):
        (alone,) = orders(103, 12, 1, epoch, shuffle=True, drop_last=True, seed=4)
        for world in (2, 3, 4):
            ranks = orders(103, 12 // world, world, epoch, shuffle=True, drop_last=True, seed=4)
            for step, keys in enumerate(alone):
                assert sorted(flat([[batches[step]] for batches in ranks])) == sorted(keys)


def test_training_is_shuffled_anew_each_epoch():
    first, second = (orders(200, 10, 1, epoch, shuffle=True)[0] for epoch in (0, 1))
    assert sorted(flat([first])) == sorted(flat([second])) == list(range(200))
    assert flat([first]) != flat([second])
    moved = np.abs(np.asarray(flat([first])) - np.arange(200))
    assert moved.mean() > 40  # a third of 200, were it quite random


def test_repeats_come_three_times_in_an_epoch_of_the_same_length():
    order = EpochOrder(300, 10, shuffle=True, repeats=3)
    seen = Counter()
    for epoch in range(3):
        order.epoch = epoch
        keys = list(itertools.chain(*order))
        assert len(keys) == 300
        assert set(Counter(index for _, index, _ in keys).values()) == {3}
        assert len(set(keys)) == 300  # each copy has a number of its own, and so its own augmentation
        seen.update({index for _, index, _ in keys})
    assert 195 < len(seen) < 230  # 1 − (2/3)³ of the images


def test_repeats_are_on_different_ranks():
    ranks = [EpochOrder(90, 5, shuffle=True, repeats=3, rank=rank, world_size=3) for rank in range(3)]
    for batches in zip(*ranks, strict=True):
        assert len({tuple(index for _, index, _ in keys) for keys in batches}) == 1
        assert [{copy for _, _, copy in keys} for keys in batches] == [{0}, {1}, {2}]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 255])
def test_repeats_of_few_images(size):
    """The authors' sampler has no sample at all below 256 images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        order = EpochOrder(size, 64, shuffle=True, drop_last=False, repeats=3)
    keys = list(itertools.chain(*order))
    assert len(keys) == size
    assert len({index for _, index, _ in keys}) == -(-size // 3)


# Class 0 has 90 images, class 1 has 9 and class 2 one.
UNEVEN = np.repeat([0, 1, 2], [90, 9, 1])


def test_balanced_draws_take_the_classes_alike_in_an_epoch_of_the_same_length():
    order = EpochOrder(100, 10, shuffle=True, weights=balanced(UNEVEN))
    seen = Counter()
    for epoch in range(30):
        order.epoch = epoch
        keys = list(itertools.chain(*order))
        assert len(keys) == 100
        assert len(set(keys)) == 100  # each copy has a number of its own, and so its own augmentation
        copies = {index: sorted(copy for _, i, copy in keys if i == index) for _, index, _ in keys}
        assert all(numbers == list(range(len(numbers))) for numbers in copies.values())
        seen.update(index for _, index, _ in keys)
    drawn = [sum(seen[i] for i in np.flatnonzero(k == UNEVEN)) for k in range(3)]
    assert all(900 < number < 1100 for number in drawn)  # of 3000; a standard deviation is 26
    assert all(60 < seen[i] < 160 for i in range(90, 99))  # and the images of a class alike


def test_balanced_draws_do_not_depend_on_ranks_and_go_on_in_the_middle_of_an_epoch():
    options = {"shuffle": True, "drop_last": True, "seed": 4, "weights": balanced(UNEVEN)}
    for epoch in range(3):
        (alone,) = orders(100, 12, 1, epoch, **options)
        for world in (2, 3):
            ranks = orders(100, 12 // world, world, epoch, **options)
            for step, keys in enumerate(alone):
                assert sorted(flat([[batches[step]] for batches in ranks])) == sorted(keys)
    order = EpochOrder(100, 12, **options)
    whole = list(order)
    order.first_batch = 5
    assert list(order) == whole[5:]
    order.epoch, order.first_batch = 1, 0
    assert list(order) != whole
    assert list(EpochOrder(100, 12, **{**options, "seed": 5})) != whole


def test_few_images_are_said():
    with pytest.warns(UserWarning, match=r"5 images are fewer than one batch of 16 \(2 ranks with 8 each\)"):
        EpochOrder(5, 8, shuffle=True, drop_last=True, world_size=2)


def test_an_epoch_begins_where_it_is_told():
    order = EpochOrder(50, 4, shuffle=True, repeats=2)
    whole = list(order)
    order.first_batch = 5
    assert list(order) == whole[5:]
    assert len(order) == 13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"world_size": 0}, "world_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2; of 2 ranks it must be from 0 to 1"),
        ({"rank": -1}, "rank is -1"),
        ({"repeats": 0, "shuffle": True}, "repeats is 0"),
        ({"repeats": 3}, "repeats is 3; only shuffled images"),
        ({"seed": -1}, "seed is -1"),
        ({"weights": np.ones(10)}, "weights are given with shuffle False"),
        ({"weights": np.ones(10), "shuffle": True, "repeats": 2}, "and repeats 2; only shuffled"),
        ({"weights": np.ones(9), "shuffle": True}, "9 weights for 10 images"),
        ({"weights": np.zeros(10), "shuffle": True}, "give each a number from 0"),
    ],
)
def test_impossible(options, message):
    with pytest.raises(ConfigError, match=message):
        EpochOrder(10, **{"batch_size": 4, **options})


# ---- through the loader


@pytest.fixture(scope="module")
def digits():
    return Digits("val")


def read(loader, epoch=0, first_batch=0):
    loader.set_epoch(epoch, first_batch)
    return list(loader)


def test_ranks_read_the_images_of_one(digits):
    options = {"shuffle": True, "drop_last": True, "seed": 3, "repeats": 3}
    alone = read(build_loader(digits, TRAINING, batch_size=16, **options), 2)
    loaders = [
        build_loader(digits, TRAINING, batch_size=8, rank=rank, world_size=2, **options) for rank in (0, 1)
    ]
    ranks = [read(loader, 2) for loader in loaders]
    assert len(alone) == len(ranks[0]) == len(ranks[1]) == len(loaders[0]) == 22
    assert loaders[0].images == 176
    for whole, *parts in zip(alone, *ranks, strict=True):
        for rank, part in enumerate(parts):
            assert np.array_equal(part.images, whole.images[rank::2])
            assert np.array_equal(part.labels, whole.labels[rank::2])
            assert np.array_equal(part.indices, whole.indices[rank::2])


def test_repeated_images_are_augmented_anew(digits):
    batch = read(build_loader(digits, TRAINING, batch_size=300, shuffle=True, repeats=3))[0]
    triples = batch.images.reshape(100, 3, -1)
    assert (batch.indices.reshape(100, 3) == batch.indices[::3, None]).all()
    same = [(triples[:, a] == triples[:, b]).all(axis=1).sum() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert max(same) < 5


def test_evaluation_counts_every_image_once_over_all_ranks(digits):
    transform = evaluation_transform(GREY)
    parts = [
        read(build_loader(digits, transform, batch_size=50, rank=rank, world_size=3, num_workers=rank % 2))
        for rank in range(3)
    ]
    indices = np.concatenate([batch.indices for batches in parts for batch in batches])
    labels = np.concatenate([batch.labels for batches in parts for batch in batches])
    assert np.array_equal(np.sort(indices), np.arange(359))
    assert np.array_equal(labels, [digits.label(i) for i in indices])


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_in_the_middle_of_an_epoch(digits, workers):
    loader = build_loader(digits, TRAINING, batch_size=32, shuffle=True, num_workers=workers, repeats=3)
    whole, rest, next_one = read(loader, 1), read(loader, 1, 7), read(loader, 2)
    assert (len(whole), len(rest), len(next_one)) == (12, 5, 12)
    for before, after in zip(whole[7:], rest, strict=True):
        assert np.array_equal(before.images, after.images)
        assert np.array_equal(before.indices, after.indices)
    assert not np.array_equal(next_one[0].indices, whole[0].indices)
    loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_is_drawn_twice_is_augmented_anew_and_workers_change_nothing(digits, workers):
    weights = np.zeros(len(digits))
    weights[:4] = 1
    options = {"batch_size": 32, "shuffle": True, "weights": weights}
    loader = build_loader(digits, TRAINING, num_workers=workers, **options)
    first, second, *_ = read(loader)
    assert set(first.indices) == {0, 1, 2, 3}
    images = np.concatenate([first.images, second.images]).reshape(64, -1)
    assert len(np.unique(images, axis=0)) > 55
    here = read(build_loader(digits, TRAINING, **options))
    assert np.array_equal(here[1].images, second.images)
    loader.close()


def test_a_rank_without_images_has_no_batch(digits):
    class One:
        classes, num_classes = None, 10

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return digits[index]

        name = location = label = staticmethod(digits.label)

    loaders = [
        build_loader(One(), evaluation_transform(GREY), batch_size=4, rank=rank, world_size=2, num_workers=2)
        for rank in (0, 1)
    ]
    assert [len(read(loader)) for loader in loaders] == [1, 0]
    loaders[0].close()


def test_an_image_draws_the_same_whatever_was_drawn_before():
    def drawn(draws, key):
        rng = draws(key)
        return [*rng.random(3).tolist(), int(rng.integers(9)), int(rng.integers(9, dtype=np.uint32))]

    keys = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (299, 1_281_166, 2)]
    draws = Draws(7)
    first = [drawn(draws, key) for key in keys]
    assert [drawn(draws, key) for key in reversed(keys)] == first[::-1]
    assert drawn(pickle.loads(pickle.dumps(draws)), keys[2]) == first[2]
    assert len({tuple(values) for values in first} | {tuple(drawn(Draws(8), keys[0]))}) == 6
