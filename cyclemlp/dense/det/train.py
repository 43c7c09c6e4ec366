"""Training of a detector by PaddleDetection's trainer, with a folder that says what happened and can be gone on with.

config.yaml              the whole configuration
log.jsonl                a line a start, some steps, an evaluation and the end
categories.json          ids and names of the classes
epoch_0012.pdparams      model, optimizer (.pdopt) and, if kept, average (.pdema); the two newest stay
best_model.pdparams      the model with the best average precision, of masks where there are masks
bbox.json, mask.json     what the last evaluation found, in COCO's form
curves.png               losses and average precision
"""

from __future__ import annotations

import copy
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
from ppdet.engine import Trainer
from ppdet.engine.callbacks import Callback, ComposeCallback
from ppdet.utils.checkpoint import save_model

from cyclemlp.dense.det.check import require_usable
from cyclemlp.dense.det.configuration import CONFIG, Category, Configuration, read_categories
from cyclemlp.dense.det.engine import (
    BEST,
    CATEGORIES,
    ENGINE_ERRORS,
    Evaluation,
    Figures,
    load_all,
    load_start,
    make_trainer,
    reason,
    write_categories,
)
from cyclemlp.dense.guard import FiniteGuard
from cyclemlp.errors import ConfigError, CycleMLPError, DataError, MissingDependencyError
from cyclemlp.report import JsonLines, Progress, format_duration, progress, read_json_lines
from cyclemlp.report.dense_curves import plot_dense_curves
from cyclemlp.run_lock import LOCK
from cyclemlp.text import shown
from cyclemlp.training import TrainingFailedError, TrainingStoppedError
from cyclemlp.training.distributed import ALONE, World
from cyclemlp.training.interruption import Interruption

LOG, CURVES = "log.jsonl", "curves.png"
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        output: its folder.
        epochs: how many it has done in all; fewer than configured when its time was up.
        best: the best evaluation's figures, None without evaluation.
        best_epoch: after how many epochs that was.
        seconds: of training, in all starts together, evaluations apart.
    """

    output: Path
    epochs: int
    best: dict[str, float | None] | None
    best_epoch: int | None
    seconds: float


def train(
    config: Configuration,
    output: Path,
    *,
    resume: bool = False,
    force: bool = False,
    evaluate: bool = True,
    max_minutes: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    show_progress: bool = True,
    world: World = ALONE,
    command: str | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Train what a configuration describes; within `engine()`.

    Args:
        config: model, data, schedule.
        output: the run's folder.
        resume: go on from the newest checkpoint in `output`; if there is none, begin.
        force: begin anew although there is a run in `output`, which is removed.
        evaluate: measure on "EvalDataset" every `snapshot_epoch` epochs, and keep the best model.
        max_minutes: stop after so many minutes of training in all starts, evaluations apart; evaluate and save then.
        device: what Paddle computes on.
        seed: of everything random.
        world: the processes of a launched run.
        command: what was typed, for the log.
        say: takes sentences for people.

    Raises:
        ConfigError, DataError, WeightsError: the input is at fault; nothing was written then.
        TrainingFailedError: a loss or gradient is not finite.
        TrainingStoppedError: by a signal; a checkpoint was saved.
    """
    keys = ("TrainDataset", "EvalDataset") if evaluate else ("TrainDataset",)
    categories = require_usable(config, keys, say=say)["TrainDataset"]
    folder = _Folder(output, resume=resume, force=force)
    if folder.checkpoint is not None:
        folder.require_categories(categories)
    # Names of tensors from 0: an optimizer's state finds its tensors by them, in this process as in the next.
    with paddle.utils.unique_name.guard():
        trainer = make_trainer(
            config, "train", device=device, seed=seed, pretrained=folder.checkpoint is None
        )
        if len(trainer.loader) == 0:
            raise DataError(
                f"{config.path}: TrainDataset has {len(trainer.dataset)} images with objects, fewer than one step "
                f"takes ({trainer.cfg.TrainReader['batch_size']} on each of {world.size} devices): lower "
                "TrainReader.batch_size"
            )
        if folder.checkpoint is None and config.values.get("pretrain_weights"):
            say(load_start(trainer.model, Path(config.values["pretrain_weights"])))
        if folder.checkpoint is not None:
            # Before the run's files change; the engine finds out half-way, and leaves out whole layers without a word.
            load_all(trainer.model, folder.checkpoint.with_suffix(".pdparams"))
        evaluation = Evaluation(config, output) if evaluate and world.is_first else None
        if world.is_first:
            folder.prepare()
            config.save(output / CONFIG)
            write_categories(categories, output)
        run = _Run(
            trainer,
            folder,
            evaluation,
            max_minutes=max_minutes,
            show_progress=show_progress,
            world=world,
            say=say,
        )
        if folder.checkpoint is not None:
            run.go_on(folder.checkpoint)
        batch = trainer.cfg.TrainReader["batch_size"] * world.size
        parameters = sum(int(p.size) for p in trainer.model.parameters())
        say(
            f"{config.architecture} with {parameters / 1e6:.2f} M parameters; "
            f"{len(trainer.dataset)} images, {batch} a step, {len(trainer.loader)} steps an epoch; epochs "
            f"{trainer.start_epoch + 1} to {trainer.cfg.epoch}; output in {output}"
        )
        return run.run({"config": str(config.path), "command": command, "seed": seed, "device": device})


class _Folder:
    """The run's folder: looked at before anything is written."""

    def __init__(self, path: Path, *, resume: bool, force: bool) -> None:
        self.path, self._force = path, force
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file; the output of a run is a folder")
        self.checkpoint = next(iter(self.checkpoints()), None) if resume else None
        holds = path.is_dir() and any(one.name != LOCK for one in path.iterdir())
        if holds and not resume and not force:
            raise ConfigError(
                f"{path} is not empty. Choose another --output, go on with the run in it by --resume, or start anew by "
                "--force, which removes that run's files"
            )
        if holds and resume and self.checkpoint is None and not (path / CONFIG).exists():
            raise ConfigError(f"--resume: {path} is not empty, and not a run of `cyclemlp det train`")

    def checkpoints(self) -> list[Path]:
        """Complete ones without their suffix, the newest first."""
        found = sorted(self.path.glob("epoch_*.pdparams"), reverse=True)
        return [p.with_suffix("") for p in found if p.with_suffix(".pdopt").is_file()]

    def require_categories(self, categories: Sequence[Category]) -> None:
        """Raise ConfigError where a run goes on with other classes than it began with."""
        path = self.path / CATEGORIES
        before = read_categories(path) if path.is_file() else categories
        if [c.name for c in before] != [c.name for c in categories]:
            names = [shown([c.name for c in some]) for some in (categories, before)]
            raise ConfigError(
                f"--resume: the classes are {names[0]}, and the run in {self.path} has {names[1]}: begin another one, "
                "with its weights as pretrain_weights"
            )

    def prepare(self) -> None:
        """Make it, or empty it of an old run's files."""
        self.path.mkdir(parents=True, exist_ok=True)
        for rest in self.path.glob(".partial.*"):
            rest.unlink()
        if self.checkpoint is None:
            for name in (CONFIG, LOG, CURVES, CATEGORIES, BEST, "bbox.json", "mask.json"):
                (self.path / name).unlink(missing_ok=True)
            for path in self.path.glob("epoch_*.pd*"):
                path.unlink()
            shutil.rmtree(self.path / "predictions", ignore_errors=True)

    def save(self, trainer: Trainer, epochs: int) -> None:
        """Save a checkpoint after so many whole epochs; one that a crash cut off is never taken for whole."""
        weights, average = trainer.model.state_dict(), None
        if trainer.use_ema:  # the trainer has put the average into the model, and kept the weights
            weights, average = trainer.status.get("weight", weights), weights
        save_model(weights, trainer.optimizer, str(self.path), ".partial", epochs, ema_model=average)
        name = f"epoch_{epochs:04d}"
        for suffix in (".pdparams", ".pdema", ".pdopt"):  # .pdopt last: without it a checkpoint is not whole
            partial = self.path / f".partial{suffix}"
            if partial.exists():
                partial.replace(self.path / f"{name}{suffix}")
        for old in self.checkpoints()[KEPT_CHECKPOINTS:]:
            for suffix in (".pdopt", ".pdema", ".pdparams"):
                old.with_suffix(suffix).unlink(missing_ok=True)

    def save_best(self, trainer: Trainer) -> None:
        """Save the model as it was just measured."""
        partial = self.path / f".partial.{BEST}"
        paddle.save(trainer.model.state_dict(), str(partial))
        partial.replace(self.path / BEST)

    def records(self) -> list[dict[str, Any]]:
        """The log so far."""
        path = self.path / LOG
        return read_json_lines(path) if path.exists() else []


class _Stop(Exception):
    """Leaves the engine's loop between two steps."""


class _Run(Callback):
    """One start of a run: hangs on the engine's trainer, and writes what the folder is to hold."""

    def __init__(
        self,
        trainer: Trainer,
        folder: _Folder,
        evaluation: Evaluation | None,
        *,
        max_minutes: float | None,
        show_progress: bool,
        world: World,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(trainer)
        self._trainer, self._folder, self._evaluation = trainer, folder, evaluation
        self._world, self._say, self._show = world, say, show_progress and world.is_first
        self._limit = None if max_minutes is None else 60 * max_minutes
        self._steps = len(trainer.loader)
        self._best = -1.0
        self._best_epoch: int | None = None
        self._best_figures: dict[str, float | None] | None = None
        self._begin = self._train_before = self._aside = 0.0
        self._epochs = self._done = 0  # whole epochs and steps, of all starts
        self._bar: Any = None
        self._log: JsonLines | None = None
        self._interruption = Interruption()
        self._stop: str | None = None
        self._losses: dict[str, paddle.Tensor] = {}
        self._guard = FiniteGuard(trainer.model)
        self._watch()

    # ---- the engine's moments

    def on_epoch_begin(self, status: dict[str, Any]) -> None:
        self._bar = progress(
            desc=f"epoch {status['epoch_id'] + 1}/{self._trainer.cfg.epoch}",
            total=self._steps,
            unit="step",
            disable=not self._show,
            leave=False,
        )

    def on_step_end(self, status: dict[str, Any]) -> None:
        self._done = step = status["epoch_id"] * self._steps + status["step_id"] + 1
        self._bar.figures(loss=float(self._losses["loss"]), lr=status["learning_rate"])
        self._bar.update(1)
        if self._log and (step % self._trainer.cfg.log_iter == 0 or step == 1):
            means = {name: float(meter.avg) for name, meter in status["training_staus"].meters.items()}
            self._write("step", step, epoch=status["epoch_id"] + 1, **means, lr=status["learning_rate"])
        time_is_up = self._limit is not None and self._train_seconds() >= self._limit
        stopped = self._interruption.signal is not None
        if self._world.any(time_is_up or stopped):
            self._stop = "time" if self._world.any(time_is_up) and not self._world.any(stopped) else "signal"
            raise _Stop

    def on_epoch_end(self, status: dict[str, Any]) -> None:
        self._bar.close()
        self._epochs = status["epoch_id"] + 1
        if self._epochs % self._trainer.cfg.snapshot_epoch == 0 or self._epochs == self._trainer.cfg.epoch:
            self._snapshot()

    # ---- the run

    def go_on(self, checkpoint: Path) -> None:
        """Take up the state of a checkpoint, and what the log says of the best model."""
        self._trainer.resume_weights(str(checkpoint))
        start = self._epochs = self._trainer.start_epoch
        # Of an epoch that was left in its middle, the schedule begins anew with the images.
        self._done = start * self._steps
        self._trainer.lr.step(self._done)
        loader = self._trainer.loader
        loader._batch_sampler.set_epoch(start)  # the order of the images is another in every epoch
        loader.loader = iter(loader.dataloader)
        records = self._folder.records()
        for record in records:
            self._train_before = max(self._train_before, record.get("seconds") or 0.0)
            if record["event"] == "evaluation" and record.get("best"):
                self._best_epoch, self._best_figures = record["epoch"], _figures_of(record)
                self._best = _score(self._best_figures)
        self._say(f"going on from {checkpoint.name}, after {start} epochs")

    def run(self, facts: dict[str, Any]) -> Result:
        """Let the engine train; then evaluate and save if its loop did not come to it, and draw."""
        trainer = self._trainer
        trainer._callbacks = [self]
        trainer._compose_callback = ComposeCallback([self])
        if self._world.is_first:
            self._log = JsonLines(self._folder.path / LOG)
        self._begin = time.monotonic()
        try:
            self._write("start", self._done, **facts, steps_per_epoch=self._steps)
            with self._interruption:
                try:
                    trainer.train(validate=False)
                except _Stop:
                    self._bar.close()
                    self._after_stop()
                except CycleMLPError:
                    raise
                except ENGINE_ERRORS as error:
                    raise TrainingFailedError(
                        f"step {self._done + 1}: PaddleDetection stopped: {reason(error)}; do the parts of the "
                        "configuration fit together? Checkpoints so far are kept"
                    ) from error
            self._write("end", self._done, epoch=self._epochs, stopped_by=self._stop)
        finally:
            if self._bar is not None:
                self._bar.close()
            if self._log:
                self._log.close()
        if self._world.is_first:
            self._draw()
        if self._stop == "signal":
            raise TrainingStoppedError(self._folder.path, self._interruption.signal or signal.SIGTERM)
        return Result(
            self._folder.path, self._epochs, self._best_figures, self._best_epoch, self._train_seconds()
        )

    def _after_stop(self) -> None:
        trainer = self._trainer
        if trainer.use_ema:  # as the engine does at the end of an epoch
            trainer.status["weight"] = copy.deepcopy(trainer.model.state_dict())
            trainer.model.set_dict(trainer.ema.apply())
        if self._stop == "time":
            self._say(f"{format_duration(self._train_seconds())} of training are up")
            self._snapshot()
        elif self._world.is_first:
            self._folder.save(trainer, self._epochs)

    def _snapshot(self) -> None:
        """Save, measure, and keep the model if it is the best so far; the other processes wait in their next step."""
        if not self._world.is_first:
            return
        begin = time.monotonic()
        self._folder.save(self._trainer, self._epochs)
        if self._evaluation is not None:
            figures = self._measure()
            is_best = _score(figures.values) >= self._best
            if is_best:
                self._best = _score(figures.values)
                self._best_epoch, self._best_figures = self._epochs, figures.values
                self._folder.save_best(self._trainer)
        else:
            self._folder.save_best(self._trainer)
        self._aside += time.monotonic() - begin
        if self._evaluation is not None:
            self._write(
                "evaluation",
                self._done,
                epoch=self._epochs,
                **figures.values,
                per_class=figures.per_class,
                best=is_best,
            )
            self._say(
                f"epoch {self._epochs}: {in_words(figures.values)}{' (best so far)' if is_best else ''}"
            )

    def _measure(self) -> Figures:
        assert self._evaluation is not None
        bar: Progress[Any] = progress(
            desc="evaluation", total=len(self._evaluation), unit="batch", disable=not self._show, leave=False
        )
        with bar:
            return self._evaluation(self._trainer, on_batch=lambda: bar.update(1))

    # ---- details

    def _watch(self) -> None:
        """Check every training step before it changes a weight."""

        def keep(layer: Any, inputs: Any, outputs: Any) -> None:
            if layer.training:
                self._losses = outputs

        self._trainer.model.register_forward_post_hook(keep)
        step = self._trainer.optimizer.step
        scaled = self._trainer.use_amp  # a scaler looks for infinite gradients itself, and lowers its scale

        def checked_step() -> None:
            self._guard.check_losses(self._losses, self._done + 1)
            if not scaled:
                self._guard.check_gradients(self._done + 1)
            step()

        self._trainer.optimizer.step = checked_step

    def _train_seconds(self) -> float:
        return self._train_before + time.monotonic() - self._begin - self._aside

    def _write(self, event: str, step: int, **figures: Any) -> None:
        if self._log:
            seconds = {"seconds": round(self._train_seconds(), 2)}
            self._log.write({"event": event, "step": step, **seconds, "time": time.time(), **figures})

    def _draw(self) -> None:
        records = self._folder.records()
        metrics = _shown({key: 0.0 for r in records if r["event"] == "evaluation" for key in r})
        try:
            plot_dense_curves(
                {self._folder.path.name: records},
                self._folder.path / CURVES,
                metrics=metrics,
                title=self._folder.path.name,
            )
        except (DataError, MissingDependencyError) as error:  # a run too short for a figure; no matplotlib
            self._say(f"{CURVES} was not drawn: {error}")


def _score(figures: dict[str, float | None]) -> float:
    """By what the best model is chosen."""
    return figures.get("mask_ap", figures["bbox_ap"]) or 0.0


def in_words(figures: Mapping[str, float | None]) -> str:
    """The main figures in a line."""
    values = [(key.replace("_", " "), figures[key]) for key in _shown(figures)]
    return ", ".join(f"{name} {'–' if value is None else f'{value:.3f}'}" for name, value in values)


def _shown(figures: Mapping[str, float | None]) -> list[str]:
    return [k for k in ("bbox_ap", "bbox_ap50", "mask_ap", "mask_ap50") if k in figures]


def _figures_of(record: dict[str, Any]) -> dict[str, float | None]:
    return {k: v for k, v in record.items() if k.startswith(("bbox_", "mask_"))}
