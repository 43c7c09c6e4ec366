"""Which images are trained on, and how they are fed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, field_validator

from cyclemlp.config import MAX_COUNT, Config, Field, Text
from cyclemlp.data import (
    Loader,
    Source,
    View,
    build_loader,
    check_data,
    evaluation_transform,
    find_split,
    is_multi_label,
    labels_of,
    open_source,
    pair_classes,
)
from cyclemlp.data.check import SAMPLE
from cyclemlp.data.label_sets import WAY_OUT
from cyclemlp.data.order import balanced
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.preprocessing import Preprocessing, checked, parse_size
from cyclemlp.report import Progress, progress
from cyclemlp.text import counted, part_of, shown, with_lines
from cyclemlp.training.augmentation import build_transform
from cyclemlp.training.distributed import ALONE, World

if TYPE_CHECKING:
    from cyclemlp.training.recipe import Recipe

#: Findings about the images that are warned about before training.
MOST_FINDINGS = 5


class PreprocessingConfig(Config):
    """What differs from the model's own preprocessing, in training and evaluation; saved with the model."""

    input_size: Any = Field(
        None, description="side in pixels, or height and width as `[192, 256]` or `192x256`"
    )
    crop_pct: Any = Field(
        None, description="evaluation: the crop's sides by those of the resized image, in (0, 1]"
    )
    interpolation: Any = Field(None, description="`nearest`, `bilinear` or `bicubic`")
    mean: Any = Field(None, description="of each channel, for pixel values from 0 to 1")
    std: Any = Field(None, description="of each channel, likewise")
    exif: Any = Field(None, description="`apply` turns images as their EXIF data say, `ignore` does not")

    @field_validator("*", mode="before")
    @classmethod
    def _checked(cls, value: Any, info: Any) -> Any:
        if value is None:
            return None
        try:
            if info.field_name == "input_size" and isinstance(
                value, str
            ):  # as it is typed after --input-size
                value = parse_size(value)
            return checked(info.field_name, value)
        except ConfigError as error:
            text = str(error) if str(error).startswith(info.field_name) else f"{info.field_name}: {error}"
            raise ConfigError(f"data.preprocessing.{text}") from None

    def applied_to(self, own: Preprocessing) -> Preprocessing:
        """A model's own preprocessing, changed."""
        given = {field.name: getattr(self, field.name) for field in fields(Preprocessing)}
        return replace(own, **{name: value for name, value in given.items() if value is not None})


def _nothing(value: Any) -> Any:
    return {} if value is None else value


class DataConfig(Config):
    """Which images, and how they are fed."""

    train: Text | None = Field(
        None,
        description="`digits`, or a folder or tar; with `data.train_list`, names in the list are relative to it",
    )
    train_list: Text | None = Field(None, description="text file, a line `name label` an image, or CSV file")
    val: Text | None = Field(
        None,
        description="the same for the images that are evaluated each epoch; null takes `data.train` where "
        "`data.val_list` is given, and the held-out fifth of the digits",
    )
    val_list: Text | None = Field(None, description="list file of these")
    class_map: Text | None = Field(None, description="file of lines `wordnet-id index`, or `imagenet`")
    classes: Text | None = Field(
        None, description="file of class names, one a line, or `imagenet`; null takes folder names"
    )
    num_classes: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="how many classes a list without names has, where not all of them need occur in it; null takes "
        "the highest label plus 1",
    )
    labels: Literal["single", "multi"] = Field(
        "single",
        description="`single`, an image has one class; `multi`, it has any number of labels: `name dog,outdoor` and, "
        "without labels, `name -` in a list, or a 0/1 column a class in a CSV file",
    )
    batch_size: int = Field(
        128,
        ge=1,
        le=65_536,
        description="images a step on each device; each epoch leaves out the last, smaller batch of its order",
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=1024,
        description="processes that read images; 0 reads in the main one, null decides by number of images; results "
        "do not depend on it",
    )
    decoder: Literal["fast", "pillow"] | None = Field(
        None,
        description="what decodes JPEG files and resizes training crops: `fast`, the libraries of the extra of that "
        "name, or `pillow`; some values of crops differ by 1/255; null takes what is installed, and the run keeps it",
    )
    sampling: Literal["balanced"] | None = Field(
        None,
        description="`balanced` draws the images of an epoch by 1 / images of their class, so that each class comes as "
        "often as any other: images of small classes come several times, of large ones not all; an epoch stays as "
        "long. Not together with `augment.repeats` above 1. null shows each image once",
    )
    preprocessing: Annotated[PreprocessingConfig, BeforeValidator(_nothing)] = Field(
        PreprocessingConfig(), description="what differs from the model's own preprocessing"
    )


def open_sources(config: DataConfig, classes: Sequence[str] | None) -> tuple[Source, Source | None]:
    """Training and validation images; labels that have no class are errors with their line.

    Raises:
        ConfigError: no training images are named.
        DataError: from reading the lists or folders.
    """
    if config.train is None and config.train_list is None:
        raise ConfigError(
            "no images are named: give --data digits, --data DIR, --list FILE, or data.train in the recipe"
        )
    train_source = open_source(
        config.train,
        Path(config.train_list) if config.train_list else None,
        mode="train",
        num_classes=len(classes) if classes else config.num_classes,
        class_map=config.class_map,
        names=classes,
        multi_label=config.labels == "multi",
    )
    if config.num_classes not in (None, train_source.num_classes):
        raise ConfigError(
            f"data.num_classes is {config.num_classes}, but the images have {train_source.num_classes} classes; it is "
            "for lists without --classes"
        )
    has_parts = (
        config.train_list is None
        and config.train is not None
        and (config.train == "digits" or find_split(config.train) is not None)
    )
    if config.val is None and config.val_list is None and not has_parts:
        return train_source, None
    names = classes or train_source.classes
    val_source = open_source(
        config.val or config.train,
        Path(config.val_list) if config.val_list else None,
        mode="val",
        num_classes=len(names) if names else train_source.num_classes,
        class_map=config.class_map,
        names=names,
        multi_label=config.labels == "multi",
    )
    return train_source, val_source


def with_labels(source: Source, labels: str, part: str) -> Source:
    """A source as `data.labels` wants it: of one class an image, or of any number.

    Args:
        part: "training" or "validation", for messages.

    Raises:
        ConfigError: the images have several labels, and the recipe wants one.
    """
    if labels == "single" and is_multi_label(source):
        raise ConfigError(f"the {part} images have several labels each, and data.labels is single; {WAY_OUT}")
    return View(source, multi_label=True) if labels == "multi" and not is_multi_label(source) else source


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
    if (count == 1 or train_source.num_classes == 1) and not is_multi_label(train_source):
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
        "correct the folders or lists",
    )
    train_source = pair_classes(
        train_source,
        names,
        count,
        what="the training images",
        whose=whose,
        way_out=way_out,
        aliases=aliases,
        numbers_are_meant=classes is not None,
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
            numbers_are_meant=classes is not None,
        )
    return train_source, val_source, names, count


def build_loaders(
    recipe: Recipe,
    preprocessing: Preprocessing,
    train_source: Source,
    val_source: Source | None,
    *,
    workers: int | None = None,
    world: World = ALONE,
) -> tuple[Loader, Loader | None]:
    """Shuffled, augmented training batches, and validation batches in order: this process's part of them.

    Args:
        preprocessing: of the model.
        workers: processes that read images; None takes the recipe's.

    Raises:
        ConfigError: an unknown word in `augment.auto_augment`.
    """
    size = recipe.data.batch_size
    workers = (recipe.data.workers or 0) if workers is None else workers
    train_loader = build_loader(
        train_source,
        build_transform(recipe.augment, preprocessing),
        batch_size=size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        seed=recipe.run.seed,
        rank=world.rank,
        world_size=world.size,
        repeats=recipe.augment.repeats,
        weights=balanced(labels_of(train_source)) if recipe.data.sampling == "balanced" else None,
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


def check_images(
    train_source: Source,
    val_source: Source | None,
    world: World,
    *,
    skip_bad: bool = False,
    show_progress: bool = True,
) -> tuple[Source, Source | None]:
    """Look at the images before hours of training: the first process does, at a sample of each part.

    What it finds besides images that cannot be read is warned about.

    Args:
        skip_bad: look at all of them, and return the sources without those that cannot be read, each of which is
            warned about.

    Raises:
        DataError: an image cannot be read, in every process; with `skip_bad`, none can.
    """
    sources = {"train": train_source} | ({} if val_source is None else {"val": val_source})
    bad, error = {part: list[int]() for part in sources}, None
    if world.is_first:
        sample = None if skip_bad else SAMPLE
        total = sum(len(s) if sample is None else min(sample, len(s)) for s in sources.values())
        bar: Progress[Any] = progress(
            desc="check",
            total=total,
            unit="img",
            leave=False,
            disable=not show_progress or total < 2 * SAMPLE,
        )
        with bar:
            report = check_data(sources, sample=sample, on_image=bar.update)
        bad = report.unreadable
        unreadable = [finding.message for finding in report.findings if finding.kind == "unreadable"]
        others = [f.message for f in report.findings if f.kind not in ("unreadable", "one_class")]
        warned = others[:MOST_FINDINGS]
        if unreadable and skip_bad:
            warned += [f"skipped {text}" for text in unreadable]
            warned.append(f"{part_of(len(unreadable), total, 'image', 'was', 'were')} skipped")
        for text in warned:
            warnings.warn(text, stacklevel=2)
        if unreadable and not skip_bad:
            error = with_lines(
                f"{len(unreadable)} of {counted(total, 'image')} that were looked at cannot be read; --skip-bad trains "
                "without such images, `cyclemlp data check` looks at all:",
                unreadable,
                MOST_FINDINGS,
            )
    bad, error = world.from_first((bad, error))
    if error is not None:
        raise DataError(error)
    for part, indices in bad.items():
        if indices:
            kept = np.delete(np.arange(len(sources[part])), indices)
            if not len(kept):
                raise DataError(f"none of the {part} images can be read")
            sources[part] = View(sources[part], indices=kept)
    return sources["train"], sources.get("val")
