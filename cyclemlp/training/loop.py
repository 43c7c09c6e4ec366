"""The training loop.

Every random draw is a function of (seed, epoch, step) or (seed, epoch, image), so a run that was stopped anywhere
and resumed from a checkpoint ends with the very same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from cyclemlp.data import Loader, Source, step_generator
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.evaluation import as_callable, evaluate
from cyclemlp.report import Progress, format_duration, progress
from cyclemlp.report.writers import require_writer
from cyclemlp.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint, write_model
from cyclemlp.training.distributed import World, faults_told_apart, join
from cyclemlp.training.interruption import Interruption
from cyclemlp.training.optimizer import Schedule
from cyclemlp.training.recipe import Recipe
from cyclemlp.training.run_folder import BEST, BEST_EMA, OthersFolder, RunFolder, now, versions
from cyclemlp.training.setup import build_loaders, build_model, build_transform, describe, pair_sources
from cyclemlp.training.step import Stepper


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
        best, best_epoch: best validation top-1 in %, and its epoch; None without validation images.
        epochs: one mapping an epoch, as in `log.jsonl`.
    """

    output: Path
    best: float | None
    best_epoch: int | None
    epochs: list[dict[str, Any]]


@faults_told_apart(agreed=(TrainingFailedError, TrainingStoppedError))
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
    on_epoch: Callable[[dict[str, Any], nn.Layer], None] | None = None,
    writer: str | None = None,
    look_at: Callable[[Source, Source | None, World], tuple[Source, Source | None]] | None = None,
) -> TrainingResult:
    """Train a model and leave a run's folder (see `run_folder.py`).

    Args:
        recipe: everything that decides the result.
        train_source, val_source: the images; without the latter nothing is evaluated and the last model is kept
            as the best.
        output: the run's folder.
        classes: class names; None takes the source's.
        workers: processes that read images; None takes the recipe's.
        resume, force: see `RunFolder`.
        show_progress: a progress bar on stderr.
        command: what started the run, for its log and README.
        say: takes the lines for people: what is trained, and how each epoch went.
        on_epoch: called after each epoch, once its checkpoint is written, with its line of the log and the model.
        writer: "tensorboard" or "visualdl" also writes the curves for that viewer, into a folder of that name.
        look_at: takes both sources before the first step, once everything else was found good, and gives those that are
            trained on; see `cyclemlp.data.check_data`.

    Raises:
        MissingDependencyError: the writer's library is not installed.
        ConfigError, DataError, ModelError, WeightsError: something of the user's is at fault.
        TrainingFailedError: the loss became infinite or no number; the weights before that step are saved, and earlier
            checkpoints stay.
        TrainingStoppedError: by Ctrl-C or SIGTERM, after saving.
    """
    if writer is not None:
        require_writer(writer)
    world = join()
    if world.is_first:
        folder = RunFolder(Path(output), resume=resume, force=force)
        world.from_first(folder.checkpoint)
    else:
        folder = OthersFolder(Path(output), world.from_first(None))
        say, show_progress, on_epoch = _say_nothing, False, None
    try:
        return _train(
            recipe,
            train_source,
            val_source,
            folder,
            world,
            classes=classes,
            workers=workers,
            show_progress=show_progress,
            command=command,
            say=say,
            on_epoch=on_epoch,
            writer=writer,
            look_at=look_at,
        )
    finally:
        folder.release()


def _train(
    recipe: Recipe,
    train_source: Source,
    val_source: Source | None,
    folder: RunFolder,
    world: World,
    *,
    classes: Sequence[str] | None,
    workers: int | None,
    show_progress: bool,
    command: str | None,
    say: Callable[[str], None],
    on_epoch: Callable[[dict[str, Any], nn.Layer], None] | None,
    writer: str | None,
    look_at: Callable[[Source, Source | None, World], tuple[Source, Source | None]] | None,
) -> TrainingResult:
    paddle.seed(recipe.run.seed)
    train_source, val_source, names, count = pair_sources(train_source, val_source, classes)
    model = build_model(recipe, names, count, say)
    build_transform(
        recipe, model.metadata.preprocessing
    )  # its mistakes are found before the images are looked at
    if look_at is not None:
        train_source, val_source = look_at(train_source, val_source, world)
    train_loader, val_loader = build_loaders(
        recipe, model.metadata.preprocessing, train_source, val_source, workers, world
    )
    schedule = Schedule.from_recipe(recipe, world.size)
    stepper = Stepper.from_recipe(recipe, model, lr=schedule.at(0), world=world, say=say)
    average = stepper.ema.model if stepper.ema else None
    state = TrainingState(epoch=recipe.run.start_epoch)
    if folder.checkpoint is not None:
        state = load_checkpoint(folder.checkpoint, model, stepper.optimizer, average)
        stepper.amp.load_state_dict(state.scaler)
        _check_place(state, folder.checkpoint, train_loader.images * world.size // len(train_loader))
        say(f"resuming from {folder.checkpoint}: {state.epoch} epochs and {state.step} steps done")
        if state.epoch >= recipe.run.epochs:
            say(f"nothing is left to do of {recipe.run.epochs} epochs (--epochs gives it more)")
        else:
            _tell_other_schedule(folder, recipe, schedule, state, len(train_loader), world, say)
    folder.prepare()
    folder.save_recipe(recipe)
    facts = describe(recipe, stepper, train_source, val_source, schedule)
    say("\n".join(f"{name:<14} {value}" for name, value in facts.items()))

    def save(keep: int = recipe.run.keep_checkpoints) -> Path:
        state.scaler = stepper.amp.state_dict()
        if not world.is_first:
            return folder.path / state.name
        return save_checkpoint(folder.path, model, stepper.optimizer, state, keep=keep, average=average)

    curves = folder.open_writer(writer)
    with Interruption() as interruption, folder.open_log() as log, contextlib.closing(curves):
        start = {"event": "start", "time": now(), "command": command, "from": folder.checkpoint}
        log.write({**start, **facts, **versions()})
        folder.write_readme(facts)
        while state.epoch < recipe.run.epochs:
            began = time.perf_counter()
            record: dict[str, Any] = {"event": "epoch", "epoch": state.epoch + 1}
            try:
                record |= train_epoch(
                    stepper, train_loader, schedule, state, recipe, interruption, show_progress
                )
                for name, net in (("val", model), ("ema", average)):
                    if net is not None and val_loader is not None:
                        record |= _evaluate(name, net, val_loader, world, interruption, show_progress)
            except TrainingFailedError as error:
                raise TrainingFailedError(f"{error}; {_keep_last_good(state, model, save)}") from None
            except DataError as error:  # an image that cannot be read
                if not state.step or not world.is_first:  # the others write nothing
                    raise
                raise DataError(f"{error}; what was trained is kept in {save()}") from error
            if world.any(interruption.signal is not None):
                checkpoint = save()
                folder.draw_curves()
                raise TrainingStoppedError(checkpoint, interruption.signal or signal.SIGTERM)

            state = replace(state, epoch=state.epoch + 1, step=0, loss_sum=0.0, images=0, skipped=0)
            record |= {"seconds": time.perf_counter() - began, "time": now()}
            record["best"] = _is_best(record, "val_top1", state.best)
            if record["best"]:
                state.best, state.best_epoch = record.get("val_top1"), state.epoch
                if world.is_first:
                    write_model(model, folder.path / BEST, extra=_figures(record, "val"))
            if average is not None and _is_best(record, "ema_top1", state.best_ema):
                state.best_ema, state.best_ema_epoch = record.get("ema_top1"), state.epoch
                if world.is_first:
                    write_model(average, folder.path / BEST_EMA, extra=_figures(record, "ema"))
            log.write(record)
            curves.scalars(_numbers(record), step=state.epoch)
            if state.epoch % recipe.run.checkpoint_epochs == 0 or state.epoch == recipe.run.epochs:
                save()
            if on_epoch is not None:
                on_epoch(record, model)
            say(_epoch_line(record, recipe.run.epochs))
            folder.write_readme(facts)
    folder.draw_curves()
    epochs = world.from_first(folder.epochs() if world.is_first else [])
    return TrainingResult(folder.path, state.best, state.best_epoch, epochs)


def _check_place(state: TrainingState, checkpoint: Path, images_per_step: int) -> None:
    """A place in the middle of an epoch is a number of steps: with others, images would be missed or come twice."""
    if state.images != state.step * images_per_step:
        raise ConfigError(
            f"{checkpoint} is in the middle of an epoch, after {state.step} steps of {state.images // state.step} "
            f"images; a step of this run has {images_per_step}. Go on with the same batch size and number of "
            "devices until the epoch's end, or from a checkpoint at one"
        )


def _tell_other_schedule(
    folder: RunFolder,
    recipe: Recipe,
    schedule: Schedule,
    state: TrainingState,
    steps: int,
    world: World,
    say: Callable[[str], None],
) -> None:
    """Say how the learning rate goes on where the recipe gives another schedule than the run had."""
    before = folder.recipe_before()
    if before is None:
        return
    old = Schedule.from_recipe(before, world.size)
    if old == schedule and before.run.epochs == recipe.run.epochs:
        return
    was, now = (one.lr(state.epoch, state.step, steps) for one in (old, schedule))
    say(
        f"the schedule of {before.run.epochs} epochs is now one of {recipe.run.epochs}: the learning rate goes on at "
        f"{now:.3g}, and would have been {was:.3g} by the old one"
    )


def train_epoch(
    stepper: Stepper,
    loader: Loader,
    schedule: Schedule,
    state: TrainingState,
    recipe: Recipe,
    interruption: Interruption,
    show_progress: bool,
) -> dict[str, float]:
    """Do the rest of `state`'s epoch, step by step; `state` is kept up to date.

    A step that overflows in float16 is used up: its batch is gone, so the epoch and the schedule, which goes by the
    place in it, move on; the weights, their average and the optimizer's own count of steps do not.

    Returns:
        train_loss (mean over the epoch's images), lr (of the last step), train_images_per_second, and for float16
        skipped_steps and loss_scale.

    Raises:
        TrainingFailedError: the loss or a gradient is not finite; weights and `state` are those before that step.
    """
    stepper.train()
    loader.set_epoch(state.epoch, state.step)
    seed, steps, lr = recipe.run.seed, len(loader), stepper.optimizer.get_lr()
    world = stepper.world
    done, began = 0, time.perf_counter()
    bar: Progress[Any] = progress(
        desc=f"epoch {state.epoch + 1}/{recipe.run.epochs}",
        total=loader.images * world.size,
        initial=state.images,
        unit="img",
        leave=False,
        disable=not show_progress,
    )
    with bar:
        for batch in loader:
            lr = schedule.lr(state.epoch, state.step, steps)
            stepper.optimizer.set_lr(lr)
            draw = step_generator(seed, state.epoch, state.step, world.rank)
            images, targets = stepper.mixup(batch.images, batch.labels, draw)
            paddle.seed(_seed(seed, state.epoch, state.step, world.rank))  # of dropout and drop path
            value = stepper.backward(images, targets)
            # Of all processes together, so that they agree on what to do next.
            count, loss_sum, stops = world.sum(
                [len(batch.indices), value * len(batch.indices), interruption.signal is not None]
            ).tolist()
            if not math.isfinite(loss_sum):
                where = _where(state, steps, lr, loader, batch.indices)
                bad = None if math.isfinite(value) else f"the loss is {value} {where}"
                raise TrainingFailedError(world.first_given(bad))
            try:
                updated = stepper.update(state.updates)
            except FloatingPointError as error:
                message = f"{error} {_where(state, steps, lr, loader, batch.indices)}"
                raise TrainingFailedError(message) from None

            state.updates, state.skipped = state.updates + updated, state.skipped + (not updated)
            state.step += 1
            state.loss_sum += loss_sum
            state.images += int(count)
            done += int(count)
            bar.figures(loss=state.loss_sum / state.images, lr=f"{lr:.1e}")
            bar.update(int(count))
            if stops:
                interruption.signal = interruption.signal or signal.SIGTERM  # another process was told
                break
    seconds = time.perf_counter() - began
    figures = {"train_loss": state.loss_sum / max(state.images, 1), "lr": lr}
    if stepper.amp.dtype == "float16":
        figures |= {"skipped_steps": state.skipped, "loss_scale": stepper.amp.scale}
    return {**figures, "train_images_per_second": done / seconds}


def _evaluate(
    name: str,
    model: nn.Layer,
    loader: Loader,
    world: World,
    interruption: Interruption,
    show_progress: bool,
) -> dict[str, float]:
    """Loss and accuracies over the loader's images of all processes; nothing if any of them was told to stop."""
    own, broken = np.zeros(4), None  # right first answers, right among five, sum of losses, images
    try:
        if loader.images:
            found = interruption.unless_stopped(lambda: _evaluate_here(model, loader, show_progress))
            own = np.zeros(4) if found is None else found
    except FloatingPointError as error:
        broken = f"after this epoch, {error}"
    if world.any(interruption.signal is not None):
        return {}
    if world.any(broken is not None):
        raise TrainingFailedError(world.first_given(broken))
    top1, top5, loss, images = world.sum(own).tolist()
    return {
        f"{name}_loss": loss / images,
        f"{name}_top1": 100 * top1 / images,
        f"{name}_top5": 100 * top5 / images,
    }


def _evaluate_here(model: nn.Layer, loader: Loader, show_progress: bool) -> np.ndarray:
    classify = as_callable(model)
    # A bar of its own, which goes away before the epoch's line is printed.
    bar: Progress[Any] = progress(
        desc="evaluate", total=loader.images, unit="img", leave=False, disable=not show_progress
    )
    with bar:

        def classify_and_count(images: Any) -> Any:
            logits = classify(images)
            bar.update(len(images))
            return logits

        result = evaluate(classify_and_count, loader, progress=False)
    right = [round(result.accuracy[k] * result.images / 100) for k in (1, 5)]
    return np.array([*right, result.loss * result.images, result.images])


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    """What of an epoch's line makes curves."""
    words = ("event", "epoch", "time", "best")
    return {key: value for key, value in record.items() if key not in words}


def _is_best(record: dict[str, Any], figure: str, best: float | None) -> bool:
    """Whether an epoch's model is kept: without validation images always."""
    return figure not in record or best is None or record[figure] > best


def _figures(record: dict[str, Any], name: str) -> dict[str, Any]:
    """What a saved model says of itself."""
    keys = ("train_loss", f"{name}_loss", f"{name}_top1", f"{name}_top5")
    return {"epoch": record["epoch"], "figures": {key: record.get(key) for key in keys}}


def _keep_last_good(state: TrainingState, model: nn.Layer, save: Callable[[int], Path]) -> str:
    """Save the state before the step that failed, beside all earlier checkpoints; says so."""
    if state.updates == 0:
        return "no step was done before"
    if not all(bool(paddle.isfinite(parameter).all()) for parameter in model.parameters()):
        return "the weights are broken too and were not saved; checkpoints so far are kept"
    return f"the weights before it are saved as {save(10**9)}, and checkpoints so far are kept"


def _seed(seed: int, epoch: int, step: int, rank: int) -> int:
    # The first process's is that of a run of one: to NumPy a 0 at the end is nothing.
    return int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1)[0])


def _where(state: TrainingState, steps: int, lr: float, loader: Loader, indices: np.ndarray) -> str:
    names = ", ".join(loader.source.name(int(i)) for i in indices[:3])
    last = f"; the mean loss before it was {state.loss_sum / state.images:.4g}" if state.images else ""
    return (
        f"at epoch {state.epoch + 1}, step {state.step + 1} of {steps}, learning rate {lr:.3g}"
        f"{last}. The batch begins with {names}. Try a lower learning rate, a longer warm-up or "
        "optimizer.clip_norm=1"
    )


def _say_nothing(text: str) -> None:
    """What the processes besides the first have for people."""


def _epoch_line(record: dict[str, Any], epochs: int) -> str:
    words = [f"epoch {record['epoch']:>{len(str(epochs))}}/{epochs}", f"loss {record['train_loss']:.4f}"]
    if "val_top1" in record:
        words += [f"validation loss {record['val_loss']:.4f}", f"top-1 {record['val_top1']:.2f} %"]
    if "ema_top1" in record:
        words += [f"average's {record['ema_top1']:.2f} %"]
    if record.get("skipped_steps"):
        words += [f"{record['skipped_steps']} steps skipped, loss scale {record['loss_scale']:g}"]
    words += [f"lr {record['lr']:.2e}", f"{record['train_images_per_second']:.0f} images/s"]
    words += [format_duration(record["seconds"])]
    return "  ".join(words) + ("  best" if record["best"] and "val_top1" in record else "")
