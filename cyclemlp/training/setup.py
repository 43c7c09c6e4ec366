"""What a run is made of: the recipe's model for the pictures' classes, its loaders, and how both are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from paddle import nn

from cyclemlp.data import (
    Loader,
    Source,
    build_loader,
    evaluation_transform,
    training_transform,
)
from cyclemlp.data.transforms import TrainingTransform
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.models import create_model, load_weights
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.training.distributed import ALONE, World
from cyclemlp.training.optimizer import Schedule
from cyclemlp.training.recipe import Recipe
from cyclemlp.training.step import Stepper
from cyclemlp.weights import fetch_pretrained, read_weights


def build_model(
    recipe: Recipe,
    train_source: Source,
    val_source: Source | None,
    classes: Sequence[str] | None,
    say: Callable[[str], None],
) -> nn.Layer:
    """The recipe's model for the source's classes, with its weights and metadata; says what was loaded.

    Raises:
        DataError: the sources disagree about the classes.
        ConfigError, ModelError, WeightsError: from the recipe's model part.
    """
    names = list(classes) if classes is not None else train_source.classes
    count = len(names) if names is not None else train_source.num_classes
    if not count:
        raise DataError("the training pictures have no labels; a list needs lines `name label`")
    for source, what in ((train_source, "training"), (val_source, "validation")):
        if source is None:
            continue
        if (source.num_classes or 0) > count:
            raise DataError(
                f"the {what} pictures have {source.num_classes} classes, but there are {count} class names"
            )
        if train_source.classes and source.classes and source.classes != train_source.classes:
            missing = sorted(set(train_source.classes) ^ set(source.classes))[:5]
            raise DataError(
                f"training and validation pictures must have the same classes in the same order; they differ in "
                f"{missing}"
            )
    part = recipe.model
    overrides = {**part.overrides, "num_classes": count, "drop_path_rate": part.drop_path_rate}
    model = create_model(part.name, **overrides)
    preprocessing = model.metadata.preprocessing
    if part.weights is not None:
        file = read_weights(
            fetch_pretrained(part.name) if part.weights == "published" else Path(part.weights)
        )
        say(str(load_weights(model, file)))
        if "preprocessing" in file.metadata:
            preprocessing = Preprocessing.from_dict(file.metadata["preprocessing"])
    preprocessing = replace(preprocessing, **recipe.data.preprocessing)
    if preprocessing.channels != model.config.in_chans:
        raise ConfigError(
            f"data.preprocessing has {preprocessing.channels} channels (the length of mean and std) and the model "
            f"takes {model.config.in_chans}; set model.overrides.in_chans, or mean and std, to agree"
        )
    model.metadata.preprocessing = preprocessing
    model.metadata.classes = names
    return model


def build_loaders(
    recipe: Recipe,
    preprocessing: Preprocessing,
    train_source: Source,
    val_source: Source | None,
    workers: int | None = None,
    world: World = ALONE,
) -> tuple[Loader, Loader | None]:
    """Shuffled, augmented training batches, and validation batches in order: this process's part of them."""
    size = recipe.data.batch_size
    workers = (recipe.data.workers or 0) if workers is None else workers
    train_loader = build_loader(
        train_source,
        build_transform(recipe, preprocessing),
        batch_size=size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        seed=recipe.run.seed,
        rank=world.rank,
        world_size=world.size,
        repeats=recipe.augment.repeats,
        tensors=True,
    )
    if val_source is None:
        return train_loader, None
    return train_loader, build_loader(
        val_source,
        evaluation_transform(preprocessing),
        batch_size=size,
        num_workers=workers,
        rank=world.rank,
        world_size=world.size,
    )


def build_transform(recipe: Recipe, preprocessing: Preprocessing) -> TrainingTransform:
    """What the recipe does to each training picture.

    Raises:
        ConfigError: an unknown word in `augment`.
    """
    augment = recipe.augment
    return training_transform(
        preprocessing,
        scale=augment.crop_scale,
        ratio=augment.crop_ratio,
        hflip=augment.hflip,
        interpolation=augment.interpolation,
        auto_augment=augment.auto_augment,
        color_jitter=augment.color_jitter,
        erasing_prob=augment.erasing_prob,
        erasing_mode=augment.erasing_mode,
        erasing_count=augment.erasing_count,
    )


def describe(
    recipe: Recipe,
    stepper: Stepper,
    train_source: Source,
    val_source: Source | None,
    schedule: Schedule,
) -> dict[str, str]:
    """What is trained, name → value, for people, the log and the run's README."""
    model, p = stepper.model, stepper.model.metadata.preprocessing
    count = sum(parameter.size for parameter in model.parameters())
    frozen = sum(parameter.size for parameter in model.parameters() if parameter.stop_gradient)
    weights = recipe.model.weights or "random"
    rule, parts, repeats = recipe.optimizer.lr_for_batch, recipe.optimizer.accumulate, recipe.augment.repeats
    asked, ema = recipe.distillation, recipe.ema
    scaled = f" ({recipe.optimizer.lr:.3g} for a batch of {rule})" if rule else ""
    return {
        "model": f"{recipe.model.name}, {count:,} parameters, {weights} weights"
        + (f", {frozen:,} frozen" if frozen else ""),
        "input": f"{p.channels}×{p.size_text}, {p.interpolation}"
        + (", turned by EXIF" if p.exif == "apply" else ""),
        "classes": str(model.config.num_classes),
        "pictures": f"{len(train_source):,} training, {len(val_source) if val_source else 0:,} validation",
        "epochs": f"{recipe.run.epochs}, batch {recipe.data.batch_size}"
        + (f" on each of {stepper.world.size} devices" if stepper.world.size > 1 else "")
        + f", seed {recipe.run.seed}"
        + (f", each step in {parts} parts" if parts > 1 else "")
        + (f", each picture {repeats} times" if repeats > 1 else ""),
        "augmentation": str(build_transform(recipe, p)),
        "mixing": str(stepper.mixup),
        "learning rate": f"{schedule.base_lr:.3g}{scaled}",
        "precision": str(stepper.amp),
        "average": "none"
        if ema.decay is None
        else f"decay {ema.decay:g}" + (", warmed up" if ema.warmup else ""),
        "teacher": "none"
        if asked.kind == "none"
        else f"{asked.teacher}, {asked.kind}, α {asked.alpha:g}, τ {asked.tau:g}",
    }
