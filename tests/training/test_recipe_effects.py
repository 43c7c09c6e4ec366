"""No key of the recipe is without effect: a change of it changes what a run leaves.

Existing programs accept options and ignore them; this is the test that would have told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
from tiny_run import Some, tiny_recipe, tiny_train

import cyclemlp
from cyclemlp import create_model
from cyclemlp.config import flatten
from cyclemlp.training import Recipe

OVERRIDES = {"in_chans": 1, "embed_dims": [8, 8, 12, 12], "depths": [1, 1, 1, 1], "drop_rate": 0.1}

#: Of several labels an image, which have no teacher.
SEVERAL = {"data.labels": "multi", "distillation.kind": "none"}
ASYMMETRIC = {**SEVERAL, "loss.kind": "asymmetric"}

#: Key → another value than the base's, and what must be as given for it to matter.
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "model.name": ("cyclemlp_micro", {"data.preprocessing.input_size": 32}),
    "model.drop_path_rate": (0.5, {}),
    "model.init": ("xavier", {}),
    "model.freeze_stages": (1, {}),
    "model.unfreeze_epochs": (1, {"model.freeze_stages": 2}),
    "model.overrides": ({**OVERRIDES, "drop_rate": 0.3}, {}),
    "data.labels": ("multi", {"distillation.kind": "none"}),
    "data.batch_size": (4, {}),
    "data.sampling": ("balanced", {"augment.repeats": 1}),
    "data.preprocessing.input_size": (20, {}),
    "data.decoder": ("pillow", {}),
    "data.preprocessing.interpolation": ("nearest", {}),
    "data.preprocessing.mean": ([0.2], {}),
    "data.preprocessing.std": ([0.2], {}),
    "augment.crop_scale": ([0.2, 0.3], {}),
    "augment.crop_ratio": ([0.3, 0.4], {}),
    "augment.crop_padding": (2, {"augment.crop_scale": [0.08, 1.0], "augment.crop_ratio": [3 / 4, 4 / 3]}),
    "augment.hflip": (1.0, {}),
    "augment.interpolation": ("nearest", {}),
    "augment.auto_augment": ("rand-m9-mstd0.5-inc1", {}),
    "augment.color_jitter": (0.0, {}),
    "augment.erasing_prob": (1.0, {}),
    "augment.erasing_mode": ("const", {"augment.erasing_prob": 1.0}),
    "augment.erasing_count": (5, {"augment.erasing_prob": 1.0}),
    "augment.mixup": (0.0, {}),
    "augment.cutmix": (0.0, {}),
    "augment.cutmix_minmax": ([0.4, 0.6], {"augment.mixup": 0.0}),
    "augment.mixup_prob": (0.0, {}),
    "augment.mixup_switch_prob": (0.0, {}),
    "augment.mixup_mode": ("elem", {}),
    "augment.repeats": (1, {}),
    "optimizer.name": ("muon", {}),
    "optimizer.lr": (1e-3, {}),
    "optimizer.lr_for_batch": (512, {}),
    "optimizer.weight_decay": (0.9, {}),
    "optimizer.beta1": (0.5, {}),
    "optimizer.beta2": (0.5, {}),
    "optimizer.eps": (1e-2, {}),
    "optimizer.clip_norm": (1e-3, {"optimizer.eps": 1e-3}),
    "optimizer.layer_decay": (0.5, {}),
    "optimizer.accumulate": (1, {}),  # by the draws of dropout
    "schedule.by": ("step", {"schedule.warmup_epochs": 1}),
    "schedule.warmup_epochs": (3.0, {}),
    "schedule.warmup_lr": (1e-3, {"schedule.warmup_epochs": 1}),
    "schedule.min_lr": (1e-3, {"schedule.by": "step"}),
    "schedule.cooldown_epochs": (1, {"schedule.by": "step"}),
    "schedule.cosine_epochs": (1, {"schedule.by": "step"}),
    "schedule.shift_epochs": (1, {}),
    "loss.label_smoothing": (0.5, {}),
    "loss.kind": ("asymmetric", SEVERAL),
    "loss.pos_weight": ([9.0] * 10, SEVERAL),
    "loss.gamma_neg": (1.0, ASYMMETRIC),
    "loss.gamma_pos": (1.0, ASYMMETRIC),
    "loss.clip": (0.3, ASYMMETRIC),
    "loss.class_weights": ([0.2, *[1.0] * 8, 5.0], {}),
    "distillation.kind": ("hard", {}),
    "distillation.alpha": (0.9, {}),
    "distillation.tau": (3.0, {}),
    "ema.decay": (0.5, {"ema.warmup": False}),
    "ema.warmup": (False, {}),
    "run.epochs": (3, {}),
    "run.start_epoch": (1, {}),
    "run.seed": (1, {}),
}

#: One of each part of the recipe, in the quick tests.
QUICK = (
    *(
        "model.drop_path_rate",
        "data.batch_size",
        "augment.mixup",
        "optimizer.weight_decay",
        "schedule.warmup_epochs",
    ),
    *("loss.label_smoothing", "loss.kind", "distillation.alpha", "ema.decay", "run.seed"),
)

#: Keys that decide what is read or kept, not what is computed from it; each has tests elsewhere.
ELSEWHERE = {
    *(
        f"data.{key}"
        for key in ("train", "train_list", "val", "val_list", "class_map", "classes", "num_classes")
    ),
    "data.preprocessing.crop_pct",  # of evaluation: test_evaluate.py, test_data_transforms.py
    "data.preprocessing.exif",  # tests/test_exif.py
    "run.log_steps",  # test_the_loss_does_not_depend_on_when_it_is_read
    "data.workers",  # test_one_seed_one_result…: must have no effect
    "model.weights",  # test_fine_tuning…
    "distillation.teacher",  # test_distillation.py
    "distillation.weights",
    "amp.dtype",  # test_amp.py
    "amp.init_loss_scaling",
    "amp.growth_steps",
    "run.checkpoint_epochs",  # test_checkpoints_every_few_epochs…
    "run.keep_checkpoints",
    "run.best_metric",  # test_imbalance.py
    "run.patience",
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    model = create_model("cyclemlp_nano", **{**OVERRIDES, "num_classes": 10})
    model.metadata.classes = [str(i) for i in range(10)]
    cyclemlp.save_model(model, path)
    return str(path)


@pytest.fixture(scope="module")
def outcomes():
    """Recipe, as text → what its run left."""
    return {}


def outcome(outcomes: dict[str, Any], folder: Path, recipe: Recipe) -> list[dict[str, Any]]:
    """The weights and their average after two epochs of two steps."""
    key = recipe.to_yaml()
    if key not in outcomes:
        outcomes[key] = run(folder, recipe)
    return outcomes[key]


def run(folder: Path, recipe: Recipe) -> list[dict[str, Any]]:
    result = tiny_train(folder, recipe, train_source=Some("train", 16), val_source=Some("val", 4), say=str)
    last = max(result.output.glob("checkpoints/checkpoint_*"))
    return [safetensors.numpy.load_file(last / name) for name in ("model.safetensors", "ema.safetensors")]


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and (a[k] == b[k]).all() for k in a)


@pytest.mark.parametrize(
    "key", [key if key in QUICK else pytest.param(key, marks=pytest.mark.heavy) for key in CHANGES]
)
def test_a_changed_key_changes_the_run(key, teacher, outcomes, tmp_path):
    value, given = CHANGES[key]
    base = {
        "run.epochs": 2,
        "schedule.by": "epoch",
        "schedule.warmup_epochs": 0,
        "augment.color_jitter": 0.4,
        "model.overrides": OVERRIDES,
        "distillation.kind": "soft",
        "distillation.teacher": teacher,
        **given,
    }
    recipe = tiny_recipe().updated(base)
    before, after = (
        outcome(outcomes, tmp_path / name, r)
        for name, r in (("a", recipe), ("b", recipe.updated({key: value})))
    )
    if key.startswith("ema."):
        assert same(before[0], after[0])  # the average follows, it does not lead
        assert not same(before[1], after[1])
    else:
        assert not same(before[0], after[0])


def test_every_key_is_accounted_for():
    keys = {key for key in flatten(Recipe().to_dict()) if not key.startswith("model.overrides.")}
    assert keys == set(CHANGES) | ELSEWHERE
    assert not set(CHANGES) & ELSEWHERE
