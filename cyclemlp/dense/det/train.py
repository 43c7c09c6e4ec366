"""Training of a detector by PaddleDetection's trainer, into a run's folder (see `cyclemlp/run/folder.py`).

A checkpoint is what the trainer resumes from: model.pdparams, model.pdopt and, if the weights' average is kept, it as
model.pdparams and the weights as model.pdema. The best model is the one with the best average precision, of masks
where there are masks.
"""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
from ppdet.engine import Trainer
from ppdet.engine.callbacks import Callback, ComposeCallback
from ppdet.utils.checkpoint import save_model

from cyclemlp.dense.det.check import require_usable
from cyclemlp.dense.det.configuration import Configuration
from cyclemlp.dense.det.engine import (
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
from cyclemlp.dense.patience import Patience, require_evaluation
from cyclemlp.errors import CycleMLPError, DataError
from cyclemlp.files import replacing
from cyclemlp.report import Progress, format_duration, progress
from cyclemlp.run import (
    BEST_PADDLE,
    CHECKPOINTS,
    MODEL_PADDLE,
    RunFolder,
    RunLog,
    read_state,
    require_same_classes,
)
from cyclemlp.text import counted
from cyclemlp.training import TrainingFailedError, TrainingStoppedError
from cyclemlp.training.distributed import ALONE, World, faults_told_apart
from cyclemlp.training.interruption import Interruption

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        output: its folder.
        epochs: how many it has done in all; fewer than configured when its time was up.
        reason: "finished", "early stopping", or "time" for a run that `max_minutes` ended.
        best: the best evaluation's figures, None without evaluation.
        best_epoch: after how many epochs that was.
        seconds: of training, in all starts together, evaluations apart.
    """

    output: Path
    epochs: int
    reason: str
    best: dict[str, float | None] | None
    best_epoch: int | None
    seconds: float


@faults_told_apart(agreed=(TrainingStoppedError,))
def train(
    config: Configuration,
    output: Path,
    *,
    resume: str | Path | None = None,
    force: bool = False,
    evaluate: bool = True,
    max_minutes: float | None = None,
    patience: int | None = None,
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
        resume, force: see `RunFolder`. Of an epoch that was left in its middle, the images begin anew.
        evaluate: measure on "EvalDataset" every `snapshot_epoch` epochs, and keep the best model.
        max_minutes: stop after so many minutes of training in all starts, evaluations apart; evaluate and save then.
        patience: stop after so many evaluations in a row without a better average precision.
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
    require_evaluation(patience, evaluate)
    # Names of tensors from 0: an optimizer's state finds its tensors by them, in this process as in the next.
    with (
        RunFolder(output, resume=resume, force=force, world=world, program="cyclemlp det") as folder,
        paddle.utils.unique_name.guard(),
    ):
        keys = ("TrainDataset", "EvalDataset") if evaluate else ("TrainDataset",)
        categories = require_usable(config, keys, say=say)["TrainDataset"]
        checkpoint, classes = folder.checkpoint, [category.name for category in categories]
        state: dict[str, Any] = {"epoch": 0, "seconds": 0.0}
        if checkpoint is not None:
            state = read_state(checkpoint)
            before = state["classes"]
            require_same_classes(checkpoint, before, classes, (len(before), len(classes)))
        trainer = make_trainer(config, "train", device=device, seed=seed, pretrained=checkpoint is None)
        if len(trainer.loader) == 0:
            raise DataError(
                f"{config.path}: TrainDataset has {counted(len(trainer.dataset), 'image')} with objects, fewer than "
                f"one step takes ({trainer.cfg.TrainReader['batch_size']} on each of {counted(world.size, 'device')}): "
                "lower TrainReader.batch_size (--batch-size)"
            )
        if checkpoint is not None:
            # Before the run's files change; the engine finds out half-way, and leaves out whole layers without a word.
            load_all(trainer.model, checkpoint / MODEL_PADDLE)
        elif config.values.get("pretrain_weights"):
            say(load_start(trainer.model, Path(config.values["pretrain_weights"])))
        evaluation = Evaluation(config, output) if evaluate and world.is_first else None
        folder.prepare()
        folder.save_recipe(config.to_yaml())
        if world.is_first:
            write_categories(categories, output)
        run = _Run(
            trainer,
            folder,
            evaluation,
            classes,
            max_minutes=max_minutes,
            patience=patience,
            show_progress=show_progress,
            world=world,
            say=say,
        )
        if checkpoint is not None:
            run.go_on(checkpoint, state)
        batch = trainer.cfg.TrainReader["batch_size"] * world.size
        parameters = sum(int(p.size) for p in trainer.model.parameters())
        facts = {
            "model": f"{config.architecture}, {counted(parameters, 'parameter')}",
            "images": f"{len(trainer.dataset)} to train on",
            "epochs": f"{trainer.cfg.epoch} of {counted(len(trainer.loader), 'step')} of "
            f"{counted(batch, 'image')}, seed {seed}",
        }
        say("\n".join(f"{name:<14} {value}" for name, value in {**facts, "output": output}.items()))
        return run.run({**facts, "steps_per_epoch": len(trainer.loader), "device": device}, command)


class _Stop(Exception):
    """Leaves the engine's loop between two steps."""


class _Run(Callback):
    """One start of a run: hangs on the engine's trainer, and writes what the folder is to hold."""

    _log: RunLog

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        evaluation: Evaluation | None,
        classes: list[str],
        *,
        max_minutes: float | None,
        patience: int | None,
        show_progress: bool,
        world: World,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(trainer)
        self._trainer, self._folder, self._evaluation = trainer, folder, evaluation
        self._classes = classes
        self._world, self._say, self._show = world, say, show_progress and world.is_first
        self._limit = None if max_minutes is None else 60 * max_minutes
        scores = map(_score, folder.evaluations())
        self._patience = Patience(patience, "average precision", scores)
        self._steps = len(trainer.loader)
        self._best: dict[str, Any] | None = None  # its record in the log
        self._begin = self._train_before = self._aside = 0.0
        self._epochs = self._done = 0  # whole epochs and steps, of all starts
        self._bar: Any = None
        self._interruption = Interruption()
        self._reason = "finished"
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
        if self._world.is_first and (step % self._trainer.cfg.log_iter == 0 or step == 1):
            means = {name: float(meter.avg) for name, meter in status["training_staus"].meters.items()}
            self._write("step", **means, lr=status["learning_rate"])
        time_is_up = self._limit is not None and self._train_seconds() >= self._limit
        stopped = self._interruption.signal is not None
        if self._world.any(time_is_up or stopped):
            self._reason = "signal" if self._world.any(stopped) else "time"
            raise _Stop

    def on_epoch_end(self, status: dict[str, Any]) -> None:
        self._bar.close()
        self._epochs = status["epoch_id"] + 1
        if self._epochs % self._trainer.cfg.snapshot_epoch == 0 or self._epochs == self._trainer.cfg.epoch:
            self._snapshot()
            if self._is_patience_over():
                raise _Stop

    # ---- the run

    def go_on(self, checkpoint: Path, state: Mapping[str, Any]) -> None:
        """Take up the state of a checkpoint, and what the log says of the best model."""
        self._trainer.resume_weights(str(checkpoint / "model"))
        start = self._epochs = self._trainer.start_epoch
        # Of an epoch that was left in its middle, the schedule begins anew with the images.
        self._done = start * self._steps
        self._trainer.lr.step(self._done)
        loader = self._trainer.loader
        loader._batch_sampler.set_epoch(start)  # the order of the images is another in every epoch
        loader.loader = iter(loader.dataloader)
        self._train_before, self._best = state["seconds"], self._folder.best()
        self._say(f"resuming from {checkpoint}: {counted(start, 'epoch')} done")

    def run(self, facts: dict[str, Any], command: str | None) -> Result:
        """Let the engine train; then evaluate and save if its loop did not come to it, and draw."""
        trainer = self._trainer
        trainer._callbacks = [self]
        trainer._compose_callback = ComposeCallback([self])
        self._begin = time.monotonic()
        with self._folder.open_log() as self._log, self._interruption:
            self._log.start(
                facts, command=command, checkpoint=self._folder.checkpoint, packages=["paddledet"]
            )
            self._folder.write_readme()
            try:
                if self._is_patience_over():  # of a run that is resumed
                    raise _Stop
                trainer.train(validate=False)
            except _Stop:
                self._after_stop()
            except CycleMLPError:
                raise
            except ENGINE_ERRORS as error:
                raise TrainingFailedError(
                    f"step {self._done + 1}: PaddleDetection stopped: {reason(error)}; do the parts of the "
                    "configuration fit together? Checkpoints so far are kept"
                ) from error
            finally:
                if self._bar is not None:
                    self._bar.close()
            self._write("end", reason=self._reason)
        self._folder.draw_curves()
        self._folder.write_readme()
        if self._reason == "signal":
            checkpoint = self._folder.path / CHECKPOINTS / self._checkpoint
            raise TrainingStoppedError(checkpoint, self._interruption.signal or signal.SIGTERM)
        best = self._best or {}
        return Result(
            self._folder.path,
            self._epochs,
            self._reason,
            _figures_of(best) or None,
            best.get("epoch"),
            self._train_seconds(),
        )

    def _is_patience_over(self) -> bool:
        if self._patience.limit is None or not self._world.any(self._patience.is_over):
            return False
        self._reason = "early stopping"
        self._say(str(self._patience))
        return True

    def _after_stop(self) -> None:
        if self._reason == "early stopping":
            return  # at an epoch's end, which was saved
        trainer = self._trainer
        if trainer.use_ema:  # as the engine does after a step, and at the end of an epoch
            trainer.ema.update()
            trainer.status["weight"] = copy.deepcopy(trainer.model.state_dict())
            trainer.model.set_dict(trainer.ema.apply())
        if self._reason == "time":
            self._say(f"{format_duration(self._train_seconds())} of training are up")
            self._snapshot()
        else:
            self._save()

    def _snapshot(self) -> None:
        """Save, measure, and keep the model if it is the best so far; the other processes wait in their next step."""
        if not self._world.is_first:
            return
        begin = time.monotonic()
        self._save()
        figures = None if self._evaluation is None else self._measure()
        is_best = figures is None or self._best is None or _score(figures.values) >= _score(self._best)
        if is_best:
            with replacing(self._folder.path / BEST_PADDLE, durable=True) as part:
                paddle.save(self._trainer.model.state_dict(), str(part))
        self._aside += time.monotonic() - begin
        if figures is not None:
            self._patience.note(_score(figures.values))
            found = {"epoch": self._epochs, **figures.values}
            self._best = found if is_best else self._best
            self._write("evaluation", **figures.values, per_class=figures.per_class, best=is_best)
            self._folder.write_readme()
            self._say(
                f"epoch {self._epochs}: {in_words(figures.values)}{' (best so far)' if is_best else ''}"
            )

    @property
    def _checkpoint(self) -> str:
        return f"checkpoint_{self._epochs:04d}"

    def _save(self) -> None:
        """Save a checkpoint; its name and state say how many whole epochs are done."""
        trainer = self._trainer
        weights, average = trainer.model.state_dict(), None
        if trainer.use_ema:  # the trainer has put the average into the model, and kept the weights
            weights, average = trainer.status.get("weight", weights), weights

        def write(folder: Path) -> None:
            save_model(weights, trainer.optimizer, str(folder), "model", self._epochs, ema_model=average)

        state = {"epoch": self._epochs, "seconds": self._train_seconds(), "classes": self._classes}
        self._folder.save_checkpoint(self._checkpoint, write, state, keep=KEPT_CHECKPOINTS)

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

    def _write(self, event: str, **figures: Any) -> None:
        self._log.event(event, epoch=self._epochs, step=self._done, seconds=self._train_seconds(), **figures)


def _score(figures: Mapping[str, Any]) -> float:
    """By what the best model is chosen."""
    return float(figures.get("mask_ap", figures["bbox_ap"]) or 0.0)


def in_words(figures: Mapping[str, float | None]) -> str:
    """The main figures in a line."""
    values = [(key.replace("_", " "), figures[key]) for key in _shown(figures)]
    return ", ".join(f"{name} {'–' if value is None else f'{value:.3f}'}" for name, value in values)


def _shown(figures: Mapping[str, float | None]) -> list[str]:
    return [k for k in ("bbox_ap", "bbox_ap50", "mask_ap", "mask_ap50") if k in figures]


def _figures_of(record: Mapping[str, Any]) -> dict[str, float | None]:
    return {k: v for k, v in record.items() if k.startswith(("bbox_", "mask_"))}
