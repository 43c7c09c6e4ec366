"""A training run that takes a second: real digits, a few of them, and a network of four blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclemlp.data import Digits, Sample
from cyclemlp.training import Recipe, TrainingResult, train


class Some:
    """The first `count` digits; `at` maps the n-th image read (from 0) to what shall happen then."""

    def __init__(self, split: str, count: int, at: dict[int, Callable[[], Any]] | None = None) -> None:
        self._digits = Digits(split)
        self._count, self._at, self.reads = count, at or {}, 0
        self.classes: list[str] | None = self._digits.classes
        self.num_classes: int | None = self._digits.num_classes

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        self._at.get(self.reads, lambda: None)()
        self.reads += 1
        return self._digits[index]

    def name(self, index: int) -> str:
        return self._digits.name(index)

    def location(self, index: int) -> str:
        return self._digits.location(index)

    def label(self, index: int) -> int:
        return self._digits.label(index)


def tiny_recipe(**assignments: Any) -> Recipe:
    """4 steps of 8 images an epoch, 3 epochs, with all that has a state or draws: dropout and drop path, mixup,
    erasing, an average, steps in two parts; `optimizer__lr=…` overrides."""
    recipe = Recipe.from_dict(
        {
            "model": {
                "name": "cyclemlp_nano",
                "drop_path_rate": 0.2,
                "overrides": {
                    "in_chans": 1,
                    "embed_dims": [8, 8, 12, 12],
                    "depths": [1, 1, 1, 1],
                    "drop_rate": 0.1,
                },
            },
            "data": {
                "train": "digits",
                "batch_size": 8,
                "preprocessing": {"input_size": 16, "crop_pct": 1.0},
            },
            "augment": {"crop_scale": [0.7, 1.0], "hflip": 0.0, "auto_augment": None, "repeats": 2},
            "optimizer": {"lr": 5e-3, "lr_for_batch": None, "accumulate": 2},
            "schedule": {"by": "step", "warmup_epochs": 0.5},
            "ema": {"decay": 0.9},
            "amp": {"dtype": None},
            "run": {"epochs": 3, "keep_checkpoints": 2},
        }
    )
    return recipe.updated({key.replace("__", "."): value for key, value in assignments.items()})


#: Only what the network does is left of training: no augmentation, no mixing.
PLAIN: dict[str, Any] = {
    "model__drop_path_rate": 0,
    "model__overrides": {"in_chans": 1, "embed_dims": [16, 16, 24, 24], "depths": [1, 1, 1, 1]},
    "augment__crop_scale": [1, 1],
    "augment__crop_ratio": [1, 1],
    "augment__color_jitter": 0,
    "augment__erasing_prob": 0,
    "augment__mixup": 0,
    "augment__cutmix": 0,
    "augment__repeats": 1,
}


def tiny_train(output: Path, recipe: Recipe | None = None, **options: Any) -> TrainingResult:
    """Train on 34 digits (the last two are dropped each epoch), validate on 20."""
    options = {"show_progress": False, **options}
    train_source = options.pop("train_source", None) or Some("train", 34)
    val_source = options.pop("val_source", None) or Some("val", 20)
    return train(recipe or tiny_recipe(), train_source, val_source, output, **options)


def same_weights(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same model, average and optimizer, byte for byte."""
    names = ("model.safetensors", "ema.safetensors", "optimizer.safetensors")
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)
