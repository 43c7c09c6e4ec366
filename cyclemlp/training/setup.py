"""What a run is made of: the recipe's model for the images' classes, its loaders, and how both are told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from paddle import nn

from cyclemlp.data import (
    Loader,
    Source,
    build_loader,
    evaluation_transform,
    pair_classes,
    training_transform,
)
from cyclemlp.data.transforms import TrainingTransform
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.models import create_model, load_weights
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.text import shown
from cyclemlp.training.distributed import ALONE, World
from cyclemlp.training.optimizer import Schedule
from cyclemlp.training.recipe import Recipe
from cyclemlp.training.step import Stepper
from cyclemlp.weights import fetch_pretrained, read_weights


def pair_sources(
    train_source: Source, val_source: Source | None, classes: Sequence[str] | None
) -> tuple[Source, Source | None, list[str] | None, int]:
    """The sources with their labels numbered alike, the classes' names in that order, and their number.

    Args:
        classes: names that were asked for; None takes the training images'.

    Raises:
        DataError: no labels, one class only, or classes that cannot be paired; see `pair_classes`.
    """
    own = train_source.classes
    names = list(classes) if classes is not None else own
    count = len(names) if names is not None else train_source.num_classes
    if not count:
        raise DataError("the training images have no labels; a list needs lines `name label`")
    if count == 1 or train_source.num_classes == 1:
        only = f", {shown(own[0])}" if own else ""
        raise DataError(
            f"the training images have one class only{only}: there is nothing to tell apart. Expected a folder, or a "
            "label, a class"
        )
    aliases: dict[str, int] = {}
    if classes is not None and own and names and not set(own) & set(names) and len(own) == count != 1000:
        # --classes gives other names to the folders, in their order.
        aliases = {name: index for index, name in enumerate(own)}
        warnings.warn(
            f"the class names name the folders in sorted order: {shown(own[0])} is {shown(names[0])}, {shown(own[1])} "
            f"is {shown(names[1])} …",
            stacklevel=2,
        )
    whose, way_out = (
        "the class list" if classes is not None else "the training set",
        "mend the folders or lists",
    )
    train_source = pair_classes(
        train_source,
        names,
        count,
        what="the training images",
        whose=whose,
        way_out=way_out,
        aliases=aliases,
    )
    if val_source is not None:
        val_source = pair_classes(
            val_source,
            names,
            count,
            what="the validation images",
            whose=whose,
            way_out=way_out + ", or give --class-map FILE with a line `name number` a class",
            aliases=aliases,
        )
    return train_source, val_source, names, count


def build_model(
    recipe: Recipe, names: Sequence[str] | None, count: int, say: Callable[[str], None]
) -> nn.Layer:
    """The recipe's model for these classes, with its weights and metadata; says what was loaded.

    Args:
        names, count: the classes' names, if they are known, and their number.

    Raises:
        ConfigError, ModelError, WeightsError: from the recipe's model part.
    """
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
    model.metadata.classes = None if names is None else list(names)
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
    """What the recipe does to each training image.

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
        "images": f"{len(train_source):,} training, {len(val_source) if val_source else 0:,} validation",
        "epochs": f"{recipe.run.epochs}, batch {recipe.data.batch_size}"
        + (f" on each of {stepper.world.size} devices" if stepper.world.size > 1 else "")
        + f", seed {recipe.run.seed}"
        + (f", each step in {parts} parts" if parts > 1 else "")
        + (f", each image {repeats} times" if repeats > 1 else ""),
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
