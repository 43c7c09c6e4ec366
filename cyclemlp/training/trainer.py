"""The training loop.

Every random draw is a function of (seed, epoch, step) or (seed, epoch, image), so a run that was stopped anywhere
and resumed from a checkpoint ends with the very same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from cyclemlp.data import Batch, Source, class_counts, step_generator
from cyclemlp.data.resampling import choose_decoder
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.report import progress
from cyclemlp.report.writers import require_writer
from cyclemlp.run import BEST, BEST_EMA, CHECKPOINTS, RunFolder
from cyclemlp.run.log import now
from cyclemlp.text import counted
from cyclemlp.training.augmentation import build_transform
from cyclemlp.training.best import METRICS, Metric
from cyclemlp.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint, write_model
from cyclemlp.training.data import build_loaders, check_images, pair_sources, with_labels
from cyclemlp.training.distributed import World, faults_told_apart, join
from cyclemlp.training.interruption import Interruption
from cyclemlp.training.losses import ClassCounts
from cyclemlp.training.model import build_model
from cyclemlp.training.recipe import Recipe
from cyclemlp.training.schedule import Schedule
from cyclemlp.training.step import Stepper
from cyclemlp.training.summary import describe, epoch_line
from cyclemlp.training.validation import Validation


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
        best, best_epoch: best value of `metric`, None without validation images; and its epoch.
        epochs: one mapping an epoch, as in `log.jsonl`.
        metric: the figure of the recipe's `run.best_metric`.
    """

    output: Path
    best: float | None
    best_epoch: int | None
    epochs: list[dict[str, Any]]
    metric: Metric = METRICS["accuracy"]


@dataclass(frozen=True)
class TrainingOptions:
    """How a run is done, none of which changes its result.

    Attributes:
        workers: processes that read images; None takes the recipe's.
        show_progress: a progress bar on stderr.
        command: what started the run, for its log and README.
        writer: "tensorboard" or "visualdl" also writes the curves for that viewer, into a folder of that name.
        say: takes the lines for people: what is trained, and how each epoch went.
        on_epoch: called after each epoch, once its checkpoint is written, with its line of the log and the model.
        check: look at a sample of the images before the first step, once everything else was found good.
        skip_bad: look at all of them, and leave out those that cannot be read.
    """

    workers: int | None = None
    show_progress: bool = True
    command: str | None = None
    writer: str | None = None
    say: Callable[[str], None] = print
    on_epoch: Callable[[dict[str, Any], nn.Layer], None] | None = None
    check: bool = False
    skip_bad: bool = False


@faults_told_apart(agreed=(TrainingFailedError, TrainingStoppedError))
def train(
    recipe: Recipe,
    train_source: Source,
    val_source: Source | None,
    output: str | Path,
    *,
    classes: Sequence[str] | None = None,
    resume: str | Path | None = None,
    force: bool = False,
    **options: Any,
) -> TrainingResult:
    """Train a model and leave a run's folder (see `cyclemlp/run/folder.py`).

    Args:
        recipe: everything that decides the result.
        train_source, val_source: the images; without the latter nothing is evaluated and the last model is kept
            as the best.
        output: the run's folder.
        classes: class names; None takes the source's.
        resume, force: see `RunFolder`.
        options: see `TrainingOptions`.

    Raises:
        MissingDependencyError: the writer's library is not installed.
        ConfigError, DataError, ModelError, WeightsError: something of the user's is at fault.
        TrainingFailedError: the loss became infinite or no number; the weights before that step are saved, and earlier
            checkpoints stay.
        TrainingStoppedError: by Ctrl-C or SIGTERM, after saving.
    """
    chosen = TrainingOptions(**options)
    if chosen.writer is not None:
        require_writer(chosen.writer)
    world = join()
    if not world.is_first:
        chosen = replace(chosen, say=lambda text: None, show_progress=False, on_epoch=None)
    with RunFolder(Path(output), resume=resume, force=force, world=world) as folder:
        decoder = choose_decoder(world.from_first(choose_decoder(recipe.data.decoder)))
        recipe = recipe.updated({"data.decoder": decoder})
        return Trainer(recipe, train_source, val_source, folder, world, classes, chosen).fit()


class Trainer:
    """A run of one process or, with the others of `world`, of many.

    Args:
        recipe, train_source, val_source, classes: as for `train`.
        folder: what the run leaves.
        world: the processes.
        options: how it is done.

    Attributes:
        stepper: model, optimizer and all that a step works with.
        state: where the run is.

    Raises:
        ConfigError, DataError, ModelError, WeightsError: as `train`; nothing was written then.
    """

    def __init__(
        self,
        recipe: Recipe,
        train_source: Source,
        val_source: Source | None,
        folder: RunFolder,
        world: World,
        classes: Sequence[str] | None,
        options: TrainingOptions,
    ) -> None:
        self.recipe, self.folder, self.world, self.options = recipe, folder, world, options
        self.interruption = Interruption()
        paddle.seed(recipe.run.seed)
        self.metric = METRICS[recipe.best_metric]
        #: "val", "ema" → of several labels an image the best thresholds at the last evaluation.
        self.thresholds: dict[str, list[float] | None] = {}
        train_source = with_labels(train_source, recipe.data.labels, "training")
        if val_source is not None:
            val_source = with_labels(val_source, recipe.data.labels, "validation")
        if val_source is None:
            _require_no_choice(recipe)
        train_source, val_source, names, count = pair_sources(train_source, val_source, classes)
        model = build_model(
            recipe.model,
            recipe.data.preprocessing,
            names,
            count,
            options.say,
            multi_label=recipe.multi_label,
        )
        preprocessing = model.metadata.preprocessing
        build_transform(recipe.augment, preprocessing)  # its errors come before the images are looked at
        if options.check or options.skip_bad:
            train_source, val_source = check_images(
                train_source,
                val_source,
                world,
                skip_bad=options.skip_bad,
                show_progress=options.show_progress,
            )
        self.train_loader, val_loader = build_loaders(
            recipe, preprocessing, train_source, val_source, workers=options.workers, world=world
        )
        self.validation = None
        if val_loader is not None:
            self.validation = Validation(
                val_loader,
                world,
                self.interruption,
                multi_label=recipe.multi_label,
                show_progress=options.show_progress,
            )
        self.schedule = Schedule.from_recipe(recipe, world.size)
        classes_found = None
        if recipe.loss.class_weights is not None or recipe.loss.pos_weight is not None:
            classes_found = ClassCounts(
                class_counts(train_source, count), len(train_source), model.metadata.classes
            )
        self.stepper = Stepper.from_recipe(
            recipe, model, lr=self.schedule.at(0), classes=classes_found, world=world, say=options.say
        )
        self.average = self.stepper.ema.model if self.stepper.ema else None
        self.state = TrainingState(epoch=recipe.run.start_epoch, best_metric=recipe.best_metric)
        if folder.checkpoint is not None:
            self._go_on(folder.checkpoint)
        else:
            for text in recipe.model.freezing_without_effect(recipe.run.epochs):
                warnings.warn(text, stacklevel=2)
        self.stepper.freeze(recipe.model.frozen_stages(self.state.epoch))
        self.facts = describe(recipe, self.stepper, train_source, val_source, self.schedule)

    def fit(self) -> TrainingResult:
        """Train to the recipe's last epoch, or until its patience is over."""
        self.folder.prepare()
        self.folder.save_recipe(self.recipe.to_yaml())
        self.options.say("\n".join(f"{name:<14} {value}" for name, value in self.facts.items()))
        self.curves = self.folder.open_writer(self.options.writer)
        with self.interruption, self.folder.open_log() as self.log, contextlib.closing(self.curves):
            self.log.start(self.facts, command=self.options.command, checkpoint=self.folder.checkpoint)
            self.folder.write_readme()
            while not self._is_over():
                began = time.perf_counter()
                with self._kept_when_it_fails():
                    figures = self.train_epoch() | self.evaluate_epoch()
                if self.world.any(self.interruption.signal is not None):
                    self._stop()
                self._finish_epoch(figures, seconds=time.perf_counter() - began)
            stopped_early = self.state.epoch < self.recipe.run.epochs
            if stopped_early:
                self.options.say(self._why_early())
            self._log_end("early stopping" if stopped_early else "finished")
        self.folder.draw_curves()
        epochs = self.world.from_first(self.folder.epochs() if self.world.is_first else [])
        return TrainingResult(self.folder.path, self.state.best, self.state.best_epoch, epochs, self.metric)

    def _is_over(self) -> bool:
        """Whether the last epoch is done, or `run.patience` of them without a better one.

        An epoch is an evaluation, so the epochs since the best count, which every checkpoint tells.
        """
        run, state = self.recipe.run, self.state
        waited = 0 if state.best_epoch is None else state.epoch - state.best_epoch
        return state.epoch >= run.epochs or (run.patience is not None and waited >= run.patience)

    def _why_early(self) -> str:
        state = self.state
        return (
            f"early stopping after epoch {state.epoch}: no better {self.metric.title} since epoch {state.best_epoch} "
            f"(run.patience is {self.recipe.run.patience})"
        )

    # ---- an epoch

    def train_epoch(self) -> dict[str, float]:
        """Do the rest of `state`'s epoch, step by step; `state` is kept up to date.

        The loss of a single process is read from the device every `run.log_steps` steps, and summed in their order, so
        that the sum does not depend on when it was read. A step that overflows in float16 is used up: its batch is
        gone, so the epoch and the schedule, which goes by the place in it, move on; the weights, their average and the
        optimizer's own count of steps do not.

        Returns:
            train_loss (mean over the epoch's images), lr (of the last step), train_images_per_second, data_wait_percent
            (of the time, in which this process waited for images), and for float16 skipped_steps and loss_scale.

        Raises:
            TrainingFailedError: the loss or a gradient is not finite; weights and `state` are those before that step.
        """
        state, stepper, loader = self.state, self.stepper, self.train_loader
        self._freeze()
        stepper.train()
        loader.set_epoch(state.epoch, state.step)
        lr, before, waited, began = stepper.optimizer.get_lr(), state.images, Stopwatch(), time.perf_counter()
        unread: list[tuple[int, paddle.Tensor]] = []  # images and loss of the steps since the last reading
        # Several processes wait for each other at every step anyway, and one of them may fail at any.
        interval = self.recipe.run.log_steps if self.world.size == 1 else 1
        with self._bar() as bar:
            try:
                for batch in waited.each(loader):
                    lr = self.schedule.lr(state.epoch, state.step, len(loader))
                    loss, stops = self._step(batch, lr, unread)
                    unread.append((len(batch.indices), loss))
                    if stops or len(unread) >= interval:
                        bar.update(self._read(unread))
                        bar.figures(loss=state.loss_sum / state.images, lr=f"{lr:.1e}")
                    if stops:
                        # Perhaps it came to another process.
                        self.interruption.signal = self.interruption.signal or signal.SIGTERM
                        break
            finally:  # also of an image that cannot be read: `state` is saved then
                bar.update(self._read(unread))
        seconds = time.perf_counter() - began
        state.seconds += seconds
        figures = {"train_loss": state.loss_sum / max(state.images, 1), "lr": lr}
        if stepper.amp.dtype == "float16":
            figures |= {"skipped_steps": state.skipped, "loss_scale": stepper.amp.scale}
        return {
            **figures,
            "train_images_per_second": (state.images - before) / seconds,
            "data_wait_percent": 100 * waited.seconds / seconds,
        }

    def _freeze(self) -> None:
        """Freeze the stages that the recipe freezes in this epoch; says so when they are fewer than before."""
        model, epoch = self.recipe.model, self.state.epoch
        count = model.frozen_stages(epoch)
        self.stepper.freeze(count)
        if epoch and count < model.frozen_stages(epoch - 1):
            left = f"the first {counted(count, 'stage stays', 'stages stay')}" if count else "no stage is"
            self.options.say(f"epoch {epoch + 1}: {left} frozen")

    def _step(
        self, batch: Batch, lr: float, unread: list[tuple[int, paddle.Tensor]]
    ) -> tuple[paddle.Tensor, bool]:
        """One step of all processes; this one's loss, and whether any of them is to stop."""
        state, stepper, seed = self.state, self.stepper, self.recipe.run.seed
        stepper.optimizer.set_lr(lr)
        place = (seed, state.epoch, state.step, self.world.rank)
        images, targets = stepper.mixup(batch.images, batch.labels, step_generator(*place))
        paddle.seed(_seed(*place))  # of dropout and drop path
        loss = stepper.backward(images, targets)
        # Of all processes together, so that they agree on what to do next.
        bad, stops = self.world.sum([not stepper.finite(loss), self.interruption.signal is not None]).tolist()
        try:
            if bad:
                raise FloatingPointError("the gradients are infinite or no number")
            updated = stepper.update(state.updates)
        except FloatingPointError as error:
            self._read(unread)
            finite = math.isfinite(value := float(loss))
            what = str(error) if finite else f"the loss is {value}"
            found = self.world.gather((finite, f"{what} {self._where(batch.indices, lr)}"))
            # Where one process's loss is not finite, the gradients are so in all: that one's error counts.
            raise TrainingFailedError(min(found, key=lambda one: one[0])[1]) from None
        state.updates, state.skipped = state.updates + updated, state.skipped + (not updated)
        state.step += 1
        return loss, bool(stops)

    def _read(self, unread: list[tuple[int, paddle.Tensor]]) -> int:
        """Read losses from the device, add them up in `state`, and forget them; returns the number of images."""
        if not unread:
            return 0
        values = paddle.stack([loss for _, loss in unread]).numpy()
        own = [(count, value * count) for (count, _), value in zip(unread, values.tolist(), strict=True)]
        unread.clear()
        total = self.world.sum(np.array(own))
        for loss in total[:, 1].tolist():
            self.state.loss_sum += loss
        images = int(total[:, 0].sum())
        self.state.images += images
        return images

    def evaluate_epoch(self) -> dict[str, float]:
        """The figures (see `Validation`) of the model and of its average on the validation images, where there are any.

        `thresholds` keeps those of each.

        Raises:
            TrainingFailedError: logits that are not finite.
        """
        found: dict[str, float] = {}
        for name, model in (("val", self.stepper.model), ("ema", self.average)):
            if model is not None and self.validation is not None:
                try:
                    figures = self.validation(model)
                except FloatingPointError as error:
                    raise TrainingFailedError(str(error)) from None
                self.thresholds[name] = figures.pop("thresholds", None)
                found |= {f"{name}_{figure}": value for figure, value in figures.items()}
        return found

    # ---- what a run keeps

    def save(self, keep: int | None = None) -> Path:
        """Write a checkpoint of `state`, in the first process; all but the newest `keep` are removed."""
        self.state.scaler = self.stepper.amp.state_dict()
        if not self.world.is_first:
            return self.folder.path / CHECKPOINTS / self.state.name
        return save_checkpoint(
            self.folder.path,
            self.stepper.model,
            self.stepper.optimizer,
            self.state,
            keep=self.recipe.run.keep_checkpoints if keep is None else keep,
            average=self.average,
        )

    def _finish_epoch(self, figures: dict[str, float], *, seconds: float) -> None:
        run = self.recipe.run
        self.state = state = replace(
            self.state, epoch=self.state.epoch + 1, step=0, loss_sum=0.0, images=0, skipped=0
        )
        record: dict[str, Any] = {"event": "epoch", "epoch": state.epoch, **figures}
        record |= {"time": now(), "seconds": state.seconds, "epoch_seconds": seconds}
        record["best"] = self.metric.is_best(record, "val", state.best)
        if record["best"]:
            state.best, state.best_epoch = self.metric.value(record, "val"), state.epoch
            self._keep_best(self.stepper.model, BEST, record, "val")
        if self.average is not None and self.metric.is_best(record, "ema", state.best_ema):
            state.best_ema, state.best_ema_epoch = self.metric.value(record, "ema"), state.epoch
            self._keep_best(self.average, BEST_EMA, record, "ema")
        self.log.write(record)
        self.curves.scalars(_numbers(record), step=state.epoch)
        if state.epoch % run.checkpoint_epochs == 0 or self._is_over():
            self.save()
        if self.options.on_epoch is not None:
            self.options.on_epoch(record, self.stepper.model)
        self.options.say(epoch_line(record, run))
        self.folder.write_readme()

    def _keep_best(self, model: nn.Layer, name: str, record: dict[str, Any], part: str) -> None:
        if self.world.is_first:
            kept = (
                ("loss", "map", "macro_f1")
                if self.recipe.multi_label
                else ("loss", "top1", "top5", "macro_f1")
            )
            figures = {
                key: record.get(key) for key in ("train_loss", *(f"{part}_{figure}" for figure in kept))
            }
            extra = {"epoch": record["epoch"], "figures": figures}
            if self.thresholds.get(part) is not None:
                extra["thresholds"] = self.thresholds[part]
            write_model(model, self.folder.path / name, extra=extra)

    def _stop(self) -> None:
        checkpoint = self.save()
        self._log_end("signal")
        self.folder.draw_curves()
        raise TrainingStoppedError(checkpoint, self.interruption.signal or signal.SIGTERM)

    def _log_end(self, reason: str) -> None:
        self.log.event("end", epoch=self.state.epoch, seconds=self.state.seconds, reason=reason)

    @contextlib.contextmanager
    def _kept_when_it_fails(self) -> Iterator[None]:
        """Within it, what a failing epoch trained is saved, and the error says where."""
        try:
            yield
        except TrainingFailedError as error:
            raise TrainingFailedError(f"{error}; {self._save_last_good()}") from None
        except DataError as error:  # an image that cannot be read
            if not self.state.step or not self.world.is_first:  # the others write nothing
                raise
            raise DataError(f"{error}; what was trained is kept in {self.save()}") from error

    def _save_last_good(self) -> str:
        """Save the state before the step that failed, beside all earlier checkpoints; says so."""
        if self.state.updates == 0:
            return "no step was done before"
        if not all(bool(paddle.isfinite(weight).all()) for weight in self.stepper.model.parameters()):
            return "the weights are broken too and were not saved; checkpoints so far are kept"
        return f"the weights before it are saved as {self.save(10**9)}, and checkpoints so far are kept"

    # ---- going on

    def _go_on(self, checkpoint: Path) -> None:
        say, epochs = self.options.say, self.recipe.run.epochs
        self.state = state = load_checkpoint(
            checkpoint, self.stepper.model, self.stepper.optimizer, self.average
        )
        self.stepper.amp.load_state_dict(state.scaler)
        metric = self.recipe.best_metric
        if self.folder.continues and state.best_epoch is not None and state.best_metric != metric:
            say(
                f"run.best_metric was {state.best_metric} and is {metric}: the best epoch is chosen anew from here on"
            )
        # Of another metric nothing can be compared; the best model of another run stays in that one's folder.
        if not self.folder.continues or state.best_metric != metric:
            self.state = state = replace(
                state, best=None, best_epoch=None, best_ema=None, best_ema_epoch=None, best_metric=metric
            )
        per_step = self.train_loader.images * self.world.size // len(self.train_loader)
        if state.images != state.step * per_step:
            # A place in the middle of an epoch is a number of steps: with others, images would be missed or come twice.
            raise ConfigError(
                f"{checkpoint} is in the middle of an epoch, after {counted(state.step, 'step')} of "
                f"{counted(state.images // state.step, 'image')}; a step of this run has {per_step}. Go on with the "
                "same batch size and number of devices until the epoch's end, or from a checkpoint at one"
            )
        say(
            f"resuming from {checkpoint}: {counted(state.epoch, 'epoch')} and {counted(state.step, 'step')} done"
        )
        if state.epoch >= epochs:
            if not self.folder.continues:
                raise ConfigError(
                    f"{checkpoint} has {state.epoch} of {counted(epochs, 'epoch')}, so nothing is left to train; "
                    f"{self.folder.path} would hold no model. Give more epochs (--epochs), or use that run's own folder"
                )
            say(f"nothing is left to do of {counted(epochs, 'epoch')} (--epochs gives it more)")
            return
        if self._is_over():
            say("nothing is left to do (a larger run.patience, or null, gives it more)")
            return
        path = self.folder.recipe_before()
        before = None if path is None else Recipe.load(path)
        old = self.schedule if before is None else Schedule.from_recipe(before, self.world.size)
        if before is not None and (old != self.schedule or before.run.epochs != epochs):
            was, now = (
                one.lr(state.epoch, state.step, len(self.train_loader)) for one in (old, self.schedule)
            )
            say(
                f"the schedule of {counted(before.run.epochs, 'epoch')} is now one of {epochs}: the learning rate goes "
                f"on at {now:.3g}, and would have been {was:.3g} by the old one"
            )

    # ---- for people

    def _bar(self) -> Any:
        return progress(
            desc=f"epoch {self.state.epoch + 1}/{self.recipe.run.epochs}",
            total=self.train_loader.images * self.world.size,
            initial=self.state.images,
            unit="img",
            leave=False,
            disable=not self.options.show_progress,
        )

    def _where(self, indices: np.ndarray, lr: float) -> str:
        state, loader = self.state, self.train_loader
        names = ", ".join(loader.source.name(int(i)) for i in indices[:3])
        last = f"; the mean loss before it was {state.loss_sum / state.images:.4g}" if state.images else ""
        return (
            f"at epoch {state.epoch + 1}, step {state.step + 1} of {len(loader)}, learning rate {lr:.3g}"
            f"{last}. The batch begins with {names}. Try a lower learning rate, a longer warm-up or "
            "optimizer.clip_norm=1"
        )


class Stopwatch:
    """The time that is spent waiting for an iterator's next item.

    Attributes:
        seconds: so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def each(self, items: Any) -> Iterator[Any]:
        """The items of an iterable."""
        iterator = iter(items)
        while True:
            began = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield item


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    """What of an epoch's line makes curves."""
    words = ("event", "epoch", "time", "best")
    return {key: value for key, value in record.items() if key not in words}


def _require_no_choice(recipe: Recipe) -> None:
    """Raise ConfigError if a recipe chooses by validation images, of which there are none."""
    run = recipe.run
    for key, value, default in (
        ("patience", run.patience, None),
        ("best_metric", run.best_metric, None),
    ):
        if value != default:
            raise ConfigError(
                f"run.{key} is {value}, and there are no validation images to go by: give data.val (--val-data) or "
                f"data.val_list (--val-list), or leave run.{key} out"
            )


def _seed(seed: int, epoch: int, step: int, rank: int) -> int:
    # The first process's is that of a run of one: to NumPy a 0 at the end is nothing.
    return int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1)[0])
