"""`cyclemlp show-data`: what a recipe does to images and labels, to be looked at before it is paid for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cyclemlp.cli.common import plain_warnings
from cyclemlp.cli.options import (
    DATA_HELP,
    add,
    add_class_map_argument,
    add_exif_argument,
    add_labels_argument,
)
from cyclemlp.cli.train import KEYS, resolve_recipe
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.text import counted

if TYPE_CHECKING:
    from cyclemlp.training import Recipe

#: Of several that an image has.
MOST_LABELS = 4

EPILOG = f"""
{DATA_HELP}
the images are those of the training run with the same recipe: the batch number --step of epoch --epoch, after
crop, augmentation, erasing, mixup and cutmix. Under each stand the two greatest shares of its label, and the rest,
which label smoothing spreads over all classes; with --labels multi its labels. What the recipe does is printed in
words.

examples:
  what the paper's recipe makes of your images:
    cyclemlp show-data --data photos/train --figure batch.png
  the digits' own recipe, the third batch of the second epoch:
    cyclemlp show-data --config configs/digits.yaml --epoch 2 --step 3
  AutoAugment instead of RandAugment, nothing mixed:
    cyclemlp show-data --data photos/train --set augment.auto_augment=original --set augment.mixup=0 \\
        --set augment.cutmix=0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `cyclemlp show-data`: those of `train` that decide about images, and what to draw."""
    parser.epilog = EPILOG
    parser.set_defaults(**dict.fromkeys((*KEYS, "resume", "output")), pretrained=None, override=[])
    add(parser, "--config", "recipe, a YAML file such as configs/digits.yaml")
    group = parser.add_argument_group("images")
    add(group, "--data", "training images, see below")
    group.add_argument("--list", metavar="FILE", help="text file with a line `name label` an image")
    add_class_map_argument(group)
    add(group, "--classes", "names of the classes, one a line")
    add_labels_argument(group)
    add_exif_argument(group)
    group = parser.add_argument_group("recipe")
    add(group, "--model", "the variant whose input is shown (default: cyclemlp_b1)")
    add(group, "--batch-size", "images a step (default: 128)")
    add(group, "--seed", "of everything random (default: 0)")
    add(group, "--set", "any key of the recipe; may be repeated")
    group = parser.add_argument_group("results")
    add(group, "--epoch", "default: %(default)s", default=1)
    add(group, "--step", "which batch of it (default: %(default)s)", default=1)
    add(group, "--images", "how many are drawn (default: %(default)s)", default=32)
    add(group, "--figure", ".png, .svg or .pdf (default: %(default)s)", default=Path("batch.png"))


def run(args: argparse.Namespace) -> int:
    """Draw one batch; 0."""
    with plain_warnings("show-data"):
        return _show(resolve_recipe(args), args)


def _show(recipe: Recipe, args: argparse.Namespace) -> int:
    from cyclemlp.data import open_class_names, step_generator
    from cyclemlp.report import plot_samples
    from cyclemlp.training.augmentation import build_mixup
    from cyclemlp.training.data import build_loaders, open_sources

    names = open_class_names(recipe.data.classes)
    source, _ = open_sources(recipe.data, names)
    names = names or source.classes or [str(index) for index in range(source.num_classes or 0)]
    preprocessing, augment = input_of(recipe), recipe.augment
    loader, _ = build_loaders(recipe, preprocessing, source, None, workers=0)
    mixup = build_mixup(augment, len(names), recipe.label_smoothing)
    epoch, step = args.epoch - 1, args.step - 1
    if step >= len(loader):
        raise ConfigError(f"--step is {args.step}; an epoch has {counted(len(loader), 'step')}")
    loader.set_epoch(epoch, first_batch=step)
    batch = next(iter(loader))
    mixed = mixup(batch.images, batch.labels, step_generator(recipe.run.seed, epoch, step))
    images, targets = (tensor.numpy() for tensor in mixed)
    count = min(args.images, len(images))

    def captioned(target: np.ndarray) -> str:
        if recipe.multi_label:
            return label_caption(target, names, recipe.label_smoothing / 2)
        return caption(target, names)

    heading = f"epoch {args.epoch}, step {args.step}: {count} of a batch of {len(images)}"
    words = [
        f"images  {loader.transform}",
        f"batch     {mixup}, label smoothing {recipe.label_smoothing:g}",
    ]
    if augment.repeats > 1:
        words[1] += f", each image {counted(augment.repeats, 'time')}"
    if recipe.data.sampling is not None:
        words[1] += ", each class drawn as often"
    path = plot_samples(
        [to_image(image, preprocessing) for image in images[:count]],
        [captioned(target) for target in targets[:count]],
        args.figure,
        title="\n".join([heading, *words]),
    )
    print("\n".join([*words, f"{heading}, in {path}"]))
    return 0


def input_of(recipe: Recipe) -> Preprocessing:
    """How training with this recipe prepares images: as `training.model.build_model` decides it, without a model."""
    from cyclemlp import model_info
    from cyclemlp.weights import pretrained_file, read_weights
    from cyclemlp.weights.pretrained import PUBLISHED_TAG

    facts = model_info(recipe.model.name, **recipe.model.overrides)["preprocessing"]
    if recipe.model.weights not in (None, PUBLISHED_TAG):
        file = read_weights(pretrained_file(recipe.model.name, recipe.model.weights))
        facts = file.metadata.get("preprocessing", facts)
    return recipe.data.preprocessing.applied_to(Preprocessing.from_dict(facts))


def to_image(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Normalised float32 [C, H, W] back to [H, W, C] in [0, 1]; what lies outside (erased noise) is cut off."""
    mean, std = (np.asarray(values, dtype=np.float32) for values in (preprocessing.mean, preprocessing.std))
    return np.clip(image.transpose(1, 2, 0) * std + mean, 0, 1)


def caption(target: np.ndarray, names: list[str]) -> str:
    """The two greatest shares of a label with their classes, and the sum of the others, a line each."""
    first, *second = (int(i) for i in np.argsort(-target, kind="stable")[:2])
    # A share as small as all the rest is no label, but what smoothing spreads.
    shown = [first, *(i for i in second if target[i] > target.min())]
    lines = [f"{names[i][:18]} {target[i]:.2f}" for i in shown]
    rest = float(target.sum() - target[shown].sum())
    return "\n".join([*lines, *([f"others {rest:.2f}"] if rest >= 0.005 else [])])


def label_caption(target: np.ndarray, names: list[str], absent: float) -> str:
    """Of several labels an image the four greatest, a line each, and how many others there are.

    Args:
        absent: the value of a class that the image has not.
    """
    there = [i for i in np.argsort(-target, kind="stable") if target[i] > absent + 1e-6]
    lines = [f"{names[i][:18]} {target[i]:.2f}" for i in there[:MOST_LABELS]]
    more = len(there) - MOST_LABELS
    return "\n".join([*lines, *([counted(more, "other")] if more > 0 else [])]) or "no label"
