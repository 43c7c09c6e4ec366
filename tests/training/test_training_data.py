"""What the recipe says of images is what the loaders do, and what a run tells of itself is so."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_run import PLAIN, Some, tiny_recipe, tiny_train

from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.training.augmentation import AugmentConfig, build_transform
from cyclemlp.training.data import build_loaders

GREY = Preprocessing(input_size=16, crop_pct=1.0, mean=(0.5,), std=(0.5,))


def batches(recipe, epoch=0):
    loader, _ = build_loaders(recipe, GREY, Some("train", 34), None)
    loader.set_epoch(epoch)
    return [(batch.indices.tolist(), batch.images.numpy()) for batch in loader]


def test_the_default_is_the_papers_augmentation_and_jitter_waits_for_its_turn():
    words = str(build_transform(AugmentConfig(), Preprocessing()))
    assert "8 to 100 % of the image at 224×224" in words
    for part in ("bicubic", "mirrored p 0.5", "erasing (pixel) p 0.25"):
        assert part in words
    assert "rand-m9" in words or "RandAugment" in words
    assert "jitter" not in words  # one existing program applies both
    without = AugmentConfig(auto_augment=None)
    assert "jitter 0.4" in str(build_transform(without, Preprocessing()))


def test_an_unknown_policy_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match="rand-x9"):
        tiny_train(tmp_path / "run", tiny_recipe(augment__auto_augment="rand-x9"))
    assert not (tmp_path / "run").exists()


def test_training_images_are_shuffled_anew_each_epoch():
    recipe = tiny_recipe(**PLAIN)
    first, second = ([i for indices, _ in batches(recipe, epoch) for i in indices] for epoch in (0, 1))
    assert first != sorted(first)
    assert first != second
    assert len(set(first)) == len(first) == 32


def test_a_repeated_image_is_augmented_anew():
    recipe = tiny_recipe(augment__repeats=2)
    indices = [i for batch, _ in batches(recipe) for i in batch]
    stacked = np.concatenate([images for _, images in batches(recipe)])
    assert len(set(indices)) == len(indices) // 2 == 16
    for index in set(indices):
        one, other = (stacked[k] for k in np.flatnonzero(np.array(indices) == index))
        assert not np.array_equal(one, other)


def test_fewer_images_than_a_batch_are_one_batch_and_said():
    with pytest.warns(UserWarning, match="34 images are fewer than one batch of 100"):
        found = batches(tiny_recipe(data__batch_size=100))
    assert [len(indices) for indices, _ in found] == [34]


def test_a_run_tells_what_it_does(tmp_path):
    said: list[str] = []
    recipe = tiny_recipe(run__epochs=1, model__freeze_stages=1)
    result = tiny_train(tmp_path / "run", recipe, say=said.append)
    readme = (result.output / "README.md").read_text()
    for words in (
        "frozen",
        "each step in 2 parts, each image 2 times",
        "mixup 0.8 or cutmix 1, p 1, by batch",
        "decay 0.9, warmed up",
        "float32",
        "70 to 100 % of the image at 16×16",
    ):
        assert words in "".join(said), words
        assert words in readme, words
    assert "top-1 of the average (%)" in readme
    assert "steps skipped" not in readme
