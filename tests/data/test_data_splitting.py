"""Dividing a data set: shares, seeds, groups, and lists that are read back as what was written."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest

from cyclemlp.data import ListFile, read_class_names, split_source, write_split
from cyclemlp.errors import ConfigError, DataError


class Labelled:
    """A source of names and labels without images."""

    def __init__(self, images, classes=None):
        self.images, self.classes = list(images), classes
        self.num_classes = None if classes is None else len(classes)

    def __len__(self):
        return len(self.images)

    def name(self, index):
        return self.images[index][0]

    def label(self, index):
        return self.images[index][1]

    def location(self, index):
        return self.name(index)


def photographs(*counts):
    return Labelled(
        [(f"{label}/{i}.jpg", label) for label, count in enumerate(counts) for i in range(count)],
        [f"class {label}" for label in range(len(counts))],
    )


def names(source, split):
    return {part: {source.name(i) for i in indices} for part, indices in split.parts.items()}


#: Of 20 and 30 images: no version may divide them otherwise.
VAL_OF_SEED_0 = {
    *("0/1.jpg", "0/16.jpg", "0/5.jpg", "0/8.jpg"),
    *("1/10.jpg", "1/13.jpg", "1/16.jpg", "1/19.jpg", "1/3.jpg", "1/6.jpg"),
}


@pytest.mark.parametrize(
    ("counts", "shares", "expected"),
    [
        ((10, 5), {}, [(8, 2), (4, 1)]),
        ((30, 7), {"val": 0.1}, [(27, 3), (6, 1)]),
        ((3, 2), {}, [(2, 1), (1, 1)]),  # 0.6 and 0.4 validation images, and one at least
        ((2, 2), {"val": 0.9}, [(1, 1), (1, 1)]),
        ((10, 20), {"val": 0.25, "test": 0.25}, [(5, 3, 2), (10, 5, 5)]),
        ((2, 3), {"val": 0.2, "test": 0.7}, [(1, 1, 0), (1, 1, 1)]),
        ((1000, 100), {"val": 0.15, "test": 0.15}, [(700, 150, 150), (70, 15, 15)]),
    ],
)
def test_the_share_of_each_class_is_exact_up_to_rounding(counts, shares, expected):
    source = photographs(*counts)
    split = split_source(source, **shares)
    assert [tuple(parts.values()) for parts in split.counts.values()] == expected
    assert sorted(np.concatenate(list(split.parts.values()))) == list(range(len(source)))
    for part, indices in split.parts.items():
        assert Counter(source.label(i) for i in indices) == {
            label: count[part] for label, count in split.counts.items() if count[part]
        }


def test_it_is_a_function_of_names_labels_and_seed():
    source = photographs(20, 30)
    other = Labelled(reversed(source.images), source.classes)
    first, second = split_source(source, seed=3), split_source(other, seed=3)
    for part, indices in first.parts.items():  # in the same order, too
        assert [source.name(i) for i in indices] == [other.name(i) for i in second.parts[part]]
    assert names(source, split_source(source, seed=4)) != names(source, first)
    assert names(source, split_source(source)) == {
        "train": set(dict(source.images)) - VAL_OF_SEED_0,
        "val": VAL_OF_SEED_0,
    }


def test_groups_are_in_one_part():
    frames = Labelled(
        [
            (f"{label}/video{v}_{i:04}.jpg", label)
            for label, videos in enumerate((range(10), range(10, 30)))
            for v in videos
            for i in range(3 + v % 5)
        ]
    )
    for seed in range(5):
        split = split_source(frames, seed=seed, separator="_")
        videos = [{name.split("_")[0] for name in part} for part in names(frames, split).values()]
        assert not set.intersection(*videos)
        for parts in split.counts.values():
            assert parts["val"] / sum(parts.values()) == pytest.approx(0.2, abs=0.05)


def test_a_group_goes_over_folders_and_an_image_without_the_separator_is_of_its_stem():
    source = Labelled(
        [("a/x-1.jpg", 0), ("b/x-2.jpg", 1), ("b/x.png", 1), ("a/y-1.jpg", 0), ("b/y-1.jpg", 1)]
    )
    for seed in range(10):
        split = names(source, split_source(source, seed=seed, separator="-"))
        assert {"a/x-1.jpg", "b/x-2.jpg", "b/x.png"} in split.values()


def test_a_class_of_one_or_two_large_groups():
    source = Labelled(
        [(f"{v}_{i}", 0) for v in "ab" for i in range(10)]
        + [(f"c_{i}", 1) for i in range(10)]
        + [(f"{v}_{i}", 2) for v in "defghij" for i in range(2)]
    )
    with pytest.warns(UserWarning, match="only in training, because of their groups: class 1$"):
        split = split_source(source, test=0.1, separator="_")
    assert split.counts[0] == {"train": 10, "val": 10, "test": 0}
    assert split.counts[1] == {"train": 10, "val": 0, "test": 0}
    assert split.counts[2] == {"train": 10, "val": 2, "test": 2}


def test_every_class_is_trained_on_however_groups_overlap():
    for trial in range(200):
        rng = np.random.default_rng(trial)
        groups = [(g, int(label)) for g in range(6) for label in rng.integers(0, 4, rng.integers(1, 5))]
        source = Labelled([(f"{g}_{i}", label) for i, (g, label) in enumerate(groups)])
        if len({label for _, label in groups}) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            split = split_source(source, val=0.4, test=0.3, seed=trial, separator="_")
        assert all(parts["train"] for parts in split.counts.values())
        parts = [{name.split("_")[0] for name in part} for part in names(source, split).values()]
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_an_image_that_a_list_names_twice_is_in_one_part():
    source = Labelled([(f"{i % 20}.jpg", i % 20 // 10) for i in range(40)])
    assert [parts["val"] for parts in split_source(source).counts.values()] == [4, 4]
    train, val = names(source, split_source(source)).values()
    assert not train & val


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (photographs(5, 5), {"val": 0.6, "test": 0.4}, ConfigError, "val 0.6 and test 0.4 leave no training images"),
        (photographs(5, 5), {"val": 0}, ConfigError, "the share val is 0; give a number above 0 and below 1"),
        (photographs(5, 5), {"test": 1.5}, ConfigError, "the share test is 1.5; give a number from 0"),
        (photographs(5, 5), {"separator": "_"}, ConfigError, "no file name holds '_'"),
        (photographs(5), {}, DataError, "there is one class only, class 'class 0'"),
        (photographs(1, 1), {}, DataError, "no validation images: every class has one image"),
        (Labelled([("a_1", 0), ("a_2", 1)]), {"separator": "_"}, DataError, "the groups are too few or too large"),
        (Labelled([("a", None)]), {}, DataError, "the images have no labels"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided_is_said(source, options, error, message):
    with pytest.raises(error, match=message):
        split_source(source, **options)


def test_classes_of_one_image_are_warned_about():
    with pytest.warns(UserWarning, match="only in training, having one image each: class 'class 1'$"):
        split = split_source(photographs(5, 1, 5))
    assert split.counts[1] == {"train": 1, "val": 0}
    with pytest.warns(UserWarning, match=r"class 'class 4' … \(7 in all\)$"):
        split_source(photographs(*[1] * 7, 5))


@pytest.mark.parametrize(
    ("classes", "first"),
    [
        (["cat", "great dane"], "0/0 x.jpg 0"),
        (["0", "1"], "0/0 x.jpg 0"),
        (["1", "0"], "0/0 x.jpg 1"),  # a class called "1" is the first: its name, for 0 would be the second's
        (["7", "cat"], "0/0 x.jpg 7"),
        (None, "0/0 x.jpg 0"),
    ],
)
def test_lists_are_read_back_as_they_were_split(tmp_path, classes, first):
    images = [(f"{label}/{i} x.jpg", label) for label in range(2) for i in range(10)]
    source = Labelled(images, classes)
    split = split_source(source)
    written = write_split(tmp_path, source, split, classes)
    assert [path.name for path in written] == ["train.txt", "val.txt", *(["classes.txt"] if classes else [])]
    lines = [
        line for part in ("train", "val") for line in (tmp_path / f"{part}.txt").read_text().splitlines()
    ]
    assert first in lines
    known = None if classes is None else read_class_names(tmp_path / "classes.txt")
    assert known == classes
    for part, indices in split.parts.items():
        read = ListFile(tmp_path, tmp_path / f"{part}.txt", names=known)
        assert [(read.name(i), read.label(i)) for i in range(len(read))] == [images[i] for i in indices]


def test_files_of_a_former_split_are_removed(tmp_path):
    source = photographs(10, 10)
    write_split(tmp_path, source, split_source(source, test=0.2), source.classes)
    assert {path.name for path in tmp_path.iterdir()} == {"train.txt", "val.txt", "test.txt", "classes.txt"}
    write_split(tmp_path, source, split_source(source), None)
    assert {path.name for path in tmp_path.iterdir()} == {"train.txt", "val.txt"}


def test_names_that_no_list_can_hold(tmp_path):
    for name in ("line\nend.jpg", "\udcff.jpg"):
        source = Labelled([*photographs(3, 3).images, (name, 0)])
        with pytest.raises(DataError, match="no list file can hold this name"):
            write_split(tmp_path, source, split_source(source))
    source = Labelled(photographs(3, 3).images, ["1", "great dane"])
    with pytest.raises(DataError, match="'1' and 'great dane' cannot be told apart"):
        write_split(tmp_path, source, split_source(source), source.classes)
    assert not list(tmp_path.iterdir())
