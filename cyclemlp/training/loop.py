"""The training loop.

Every random draw is a function of (seed, epoch, step) or (seed, epoch, picture), so a run that was stopped anywhere
and resumed from a checkpoint ends with the very same bits as one that was not.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from cyclemlp.data import Loader, Source, build_loader, evaluation_transform, training_transform
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.evaluation import as_callable, evaluate
from cyclemlp.models import create_model, load_weights, save_model
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report import Progress, format_duration, progress
from cyclemlp.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from cyclemlp.training.distillation import Loss, build_loss
from cyclemlp.training.interruption import Interruption
from cyclemlp.training.losses import SoftTargetCrossEntropy
from cyclemlp.training.optimizer import Schedule, build_optimizer
from cyclemlp.training.recipe import Recipe
from cyclemlp.training.run_folder import BEST, RunFolder, now, versions
from cyclemlp.weights import fetch_pretrained, read_weights


class TrainingFailedError(RuntimeError):
    """The work itself failed: the loss is not finite."""


class TrainingStoppedError(Exception):
    """A signal stopped the run, which was saved.

    Attributes:
        checkpoint: from which it can go on.
        signal: the signal's number.
    """

    def __init__(self, checkpoint: Path, signal: int) -> None:
        super().__init__(f"stopped; saved as {checkpoint}")
        self.checkpoint, self.signal = checkpoint, signal


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run has.

    Attributes:
        output: its folder.
        best, best_epoch: best validation top-1 in %, and its epoch; None without validation pictures.
        epochs: one mapping an epoch, as in `log.jsonl`.
    """

    output: Path
    best: float | None
    best_epoch: int | None
    epochs: list[dict[str, Any]]


def train(
    recipe: Recipe,
    train_source: Source,
    val_source: Source | None,
    output: str | Path,
    *,
    classes: Sequence[str] | None = None,
    workers: int | None = None,
    resume: str | Path | None = None,
    force: bool = False,
    show_progress: bool = True,
    command: str | None = None,
    say: Callable[[str], None] = print,
) -> TrainingResult:
    """Train a model and leave a run's folder (see `run_folder.py`).

    Args:
        recipe: everything that decides the result.
        train_source, val_source: the pictures; without the latter nothing is evaluated and the last model is kept
            as the best.
        output: the run's folder.
        classes: class names; None takes the source's.
        workers: processes that read pictures; None takes the recipe's.
        resume, force: see `RunFolder`.
        show_progress: a progress bar on stderr.
        command: what started the run, for its log and README.
        say: takes the lines for people: what is trained, and how each epoch went.

    Raises:
        ConfigError, DataError, ModelError, WeightsError: something of the user's is at fault.
        TrainingFailedError: the loss became infinite or no number; earlier checkpoints stay.
        TrainingStoppedError: by Ctrl-C or SIGTERM, after saving.
    """
    folder = RunFolder(Path(output), resume=resume, force=force)
    paddle.seed(recipe.run.seed)
    model = build_model(recipe, train_source, val_source, classes, say)
    train_loader, val_loader = build_loaders(
        recipe, model.metadata.preprocessing, train_source, val_source, workers
    )
    loss_fn = build_loss(SoftTargetCrossEntropy(recipe.loss.label_smoothing), recipe.distillation, model, say)
    schedule = Schedule.from_recipe(recipe)
    optimizer = build_optimizer(model, recipe.optimizer, lr=schedule.at(0))
    state = TrainingState()
    if folder.checkpoint is not None:
        state = load_checkpoint(folder.checkpoint, model, optimizer)
        say(f"resuming from {folder.checkpoint}: {state.epoch} epochs and {state.step} steps done")
    folder.prepare()
    folder.save_recipe(recipe)
    facts = _facts(recipe, model, train_source, val_source, schedule)
    say("\n".join(f"{name:<14} {value}" for name, value in facts.items()))

    def save() -> Path:
        return save_checkpoint(folder.path, model, optimizer, state, keep=recipe.run.keep_checkpoints)

    with Interruption() as interruption, folder.open_log() as log:
        start = {"event": "start", "time": now(), "command": command, "from": folder.checkpoint}
        log.write({**start, **facts, **versions()})
        folder.write_readme(facts)
        while state.epoch < recipe.run.epochs:
            began = time.perf_counter()
            record: dict[str, Any] = {"event": "epoch", "epoch": state.epoch + 1}
            record |= train_epoch(
                model, train_loader, loss_fn, optimizer, schedule, state, recipe, interruption, show_progress
            )
            record |= interruption.unless_stopped(lambda: _evaluate(model, val_loader, show_progress)) or {}
            if interruption.signal is not None:
                checkpoint = save()
                folder.draw_curves()
                raise TrainingStoppedError(checkpoint, interruption.signal)

            state = TrainingState(state.epoch + 1, best=state.best, best_epoch=state.best_epoch)
            record["best"] = val_loader is None or state.best is None or record["val_top1"] > state.best
            record |= {"seconds": time.perf_counter() - began, "time": now()}
            if record["best"]:
                state.best, state.best_epoch = record.get("val_top1"), state.epoch
                figures = {k: record.get(k) for k in ("train_loss", "val_loss", "val_top1", "val_top5")}
                save_model(model, folder.path / BEST, extra={"epoch": state.epoch, "figures": figures})
            log.write(record)
            if state.epoch % recipe.run.checkpoint_epochs == 0 or state.epoch == recipe.run.epochs:
                save()
            say(_epoch_line(record, recipe.run.epochs))
            folder.write_readme(facts)
    folder.draw_curves()
    return TrainingResult(folder.path, state.best, state.best_epoch, folder.epochs())


def train_epoch(
    model: nn.Layer,
    loader: Loader,
    loss_fn: Loss,
    optimizer: paddle.optimizer.Optimizer,
    schedule: Schedule,
    state: TrainingState,
    recipe: Recipe,
    interruption: Interruption,
    show_progress: bool,
) -> dict[str, float]:
    """Do the rest of `state`'s epoch, step by step; `state` is kept up to date.

    Returns:
        train_loss (mean over the epoch's pictures), lr (of the last step), train_pictures_per_second.
    """
    model.train()
    loader.set_epoch(state.epoch)
    steps, lr, done, began = len(loader), optimizer.get_lr(), 0, time.perf_counter()
    bar: Progress[Any] = progress(
        desc=f"epoch {state.epoch + 1}/{recipe.run.epochs}",
        total=min(steps * loader.batch_size, len(loader.source)),
        initial=state.pictures,
        unit="img",
        leave=False,
        disable=not show_progress,
    )
    with bar:
        for batch in itertools.islice(loader, state.step, None):
            lr = schedule.lr(state.epoch, state.step, steps)
            optimizer.set_lr(lr)
            paddle.seed(_seed(recipe.run.seed, state.epoch, state.step))  # of dropout and drop path
            loss = loss_fn(batch.images, model(batch.images), batch.labels)
            value = float(loss)
            if not math.isfinite(value):
                raise TrainingFailedError(_not_finite(value, state, steps, lr, loader, batch.indices))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()

            state.step += 1
            state.loss_sum += value * len(batch.indices)
            state.pictures += len(batch.indices)
            done += len(batch.indices)
            bar.figures(loss=state.loss_sum / state.pictures, lr=f"{lr:.1e}")
            bar.update(len(batch.indices))
            if interruption.signal is not None:
                break
    seconds = time.perf_counter() - began
    return {
        "train_loss": state.loss_sum / max(state.pictures, 1),
        "lr": lr,
        "train_pictures_per_second": done / seconds,
    }


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
) -> tuple[Loader, Loader | None]:
    """Shuffled, augmented training batches, and validation batches in order."""
    size, augment = recipe.data.batch_size, recipe.augment
    workers = (recipe.data.workers or 0) if workers is None else workers
    transform = training_transform(
        preprocessing, scale=augment.crop_scale, ratio=augment.crop_ratio, hflip=augment.hflip
    )
    train_loader = build_loader(
        train_source,
        transform,
        batch_size=size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        seed=recipe.run.seed,
        tensors=True,
    )
    if val_source is None:
        return train_loader, None
    return train_loader, build_loader(
        val_source, evaluation_transform(preprocessing), batch_size=size, num_workers=workers
    )


def _evaluate(model: nn.Layer, loader: Loader | None, show_progress: bool) -> dict[str, float]:
    if loader is None:
        return {}
    classify = as_callable(model)
    # A bar of its own, which goes away before the epoch's line is printed.
    bar: Progress[Any] = progress(
        desc="evaluate", total=len(loader.source), unit="img", leave=False, disable=not show_progress
    )
    with bar:

        def classify_and_count(images: Any) -> Any:
            logits = classify(images)
            bar.update(len(images))
            return logits

        try:
            result = evaluate(classify_and_count, loader, progress=False)
        except FloatingPointError as error:
            raise TrainingFailedError(f"after this epoch, {error}. Checkpoints so far are kept") from None
    return {"val_loss": result.loss, "val_top1": result.top1, "val_top5": result.top5}


def _seed(seed: int, epoch: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1)[0])


def _not_finite(
    value: float, state: TrainingState, steps: int, lr: float, loader: Loader, indices: np.ndarray
) -> str:
    names = ", ".join(loader.source.name(int(i)) for i in indices[:3])
    last = f"; the mean loss before it was {state.loss_sum / state.pictures:.4g}" if state.pictures else ""
    return (
        f"the loss is {value} at epoch {state.epoch + 1}, step {state.step + 1} of {steps}, learning rate {lr:.3g}"
        f"{last}. The batch begins with {names}. Try a lower learning rate, a longer warm-up or "
        "optimizer.clip_norm=1; checkpoints so far are kept"
    )


def _facts(
    recipe: Recipe, model: nn.Layer, train_source: Source, val_source: Source | None, schedule: Schedule
) -> dict[str, str]:
    p = model.metadata.preprocessing
    count = sum(parameter.size for parameter in model.parameters())
    weights = recipe.model.weights or "random"
    rule = recipe.optimizer.lr_for_batch
    asked = recipe.distillation
    teacher = f"{asked.teacher}, {asked.kind}, α {asked.alpha:g}, τ {asked.tau:g}"
    teacher = "none" if asked.kind == "none" else teacher
    scaled = f" ({recipe.optimizer.lr:.3g} for a batch of {rule})" if rule else ""
    return {
        "model": f"{recipe.model.name}, {count:,} parameters, {weights} weights",
        "input": f"{p.channels}×{p.input_size}×{p.input_size}, {p.interpolation}",
        "classes": str(model.config.num_classes),
        "pictures": f"{len(train_source):,} training, {len(val_source) if val_source else 0:,} validation",
        "epochs": f"{recipe.run.epochs}, batch {recipe.data.batch_size}, seed {recipe.run.seed}",
        "learning rate": f"{schedule.base_lr:.3g}{scaled}",
        "teacher": teacher,
    }


def _epoch_line(record: dict[str, Any], epochs: int) -> str:
    words = [f"epoch {record['epoch']:>{len(str(epochs))}}/{epochs}", f"loss {record['train_loss']:.4f}"]
    if "val_top1" in record:
        words += [f"validation loss {record['val_loss']:.4f}", f"top-1 {record['val_top1']:.2f} %"]
    words += [f"lr {record['lr']:.2e}", f"{record['train_pictures_per_second']:.0f} pictures/s"]
    words += [format_duration(record["seconds"])]
    return "  ".join(words) + ("  best" if record["best"] and "val_top1" in record else "")
