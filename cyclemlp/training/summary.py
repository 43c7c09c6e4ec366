"""A run in words: what is trained, and how each epoch went."""

from __future__ import annotations

from typing import Any

from cyclemlp.data import Source
from cyclemlp.report import format_duration
from cyclemlp.text import counted
from cyclemlp.training.augmentation import build_transform
from cyclemlp.training.best import METRICS
from cyclemlp.training.recipe import Recipe, RunConfig
from cyclemlp.training.schedule import Schedule
from cyclemlp.training.step import Stepper


def epoch_line(record: dict[str, Any], run: RunConfig) -> str:
    """An epoch's record in `log.jsonl`, as a line."""
    words = [
        f"epoch {record['epoch']:>{len(str(run.epochs))}}/{run.epochs}",
        f"loss {record['train_loss']:.4f}",
    ]
    key, title = ("map", "mAP") if "val_map" in record else ("top1", "top-1")
    if f"val_{key}" in record:
        words += [f"validation loss {record['val_loss']:.4f}", f"{title} {record[f'val_{key}']:.2f} %"]
    if "val_macro_f1" in record and run.best_metric == "macro_f1":
        words += [f"macro F1 {record['val_macro_f1']:.2f} %"]
    if f"ema_{key}" in record:
        words += [f"average's {record[f'ema_{key}']:.2f} %"]
    if record.get("skipped_steps"):
        words += [f"{counted(record['skipped_steps'], 'step')} skipped, loss scale {record['loss_scale']:g}"]
    words += [f"lr {record['lr']:.2e}", f"{record['train_images_per_second']:.0f} images/s"]
    words += [format_duration(record["epoch_seconds"])]
    return "  ".join(words) + ("  best" if record["best"] and "val_loss" in record else "")


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
    weighted = recipe.loss.class_weights or recipe.loss.pos_weight
    run, metric = recipe.run, METRICS[recipe.best_metric].title
    scaled = f" ({recipe.optimizer.lr:.3g} for a batch of {rule})" if rule else ""
    return {
        "model": f"{recipe.model.name}, {counted(count, 'parameter')}, {weights} weights"
        + (f", {frozen:,} frozen" if frozen else "")
        + (" at first" if frozen and recipe.model.unfreeze_epochs else ""),
        "input": f"{p.channels}×{p.size_text}, {p.interpolation}"
        + (", turned by EXIF" if p.exif == "apply" else ""),
        "classes": str(model.config.num_classes)
        + (f", any number of them an image, {recipe.loss.kind or 'bce'} loss" if recipe.multi_label else "")
        + (
            ""
            if weighted is None
            else f", {'balanced' if weighted == 'balanced' else 'given'} weights in the loss"
        ),
        "images": f"{len(train_source):,} training, {len(val_source) if val_source else 0:,} validation"
        + (", each class drawn as often" if recipe.data.sampling else ""),
        "epochs": f"{recipe.run.epochs}, batch {recipe.data.batch_size}"
        + (f" on each of {counted(stepper.world.size, 'device')}" if stepper.world.size > 1 else "")
        + f", seed {recipe.run.seed}"
        + (f", each step in {counted(parts, 'part')}" if parts > 1 else "")
        + (f", each image {counted(repeats, 'time')}" if repeats > 1 else "")
        + (f", early stopping after {run.patience} without a better {metric}" if run.patience else ""),
        "augmentation": str(build_transform(recipe.augment, p)),
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
