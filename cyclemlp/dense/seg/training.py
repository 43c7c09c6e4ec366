"""Training by PaddleSeg's own loop, watched from the places that the loop calls.

`paddleseg.core.train` gives no word of a run but its printed lines. It looks up its loss and its evaluation by name
and calls the optimizer and the schedule once a step: at these four places `_watched` listens, for the time of the run.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paddle
from paddle.utils import unique_name
from paddleseg.utils import utils

from cyclemlp._version import __version__
from cyclemlp.dense.compat import in_words
from cyclemlp.dense.guard import FiniteGuard
from cyclemlp.dense.loading import checked_loading
from cyclemlp.dense.seg import run_folder
from cyclemlp.dense.seg.check import check_sample
from cyclemlp.dense.seg.config import Builder, SegConfig
from cyclemlp.dense.versions import installed_version
from cyclemlp.errors import ConfigError
from cyclemlp.report import JsonLines, Progress, format_duration, read_json_lines
from cyclemlp.training import TrainingStoppedError
from cyclemlp.training.distributed import World, faults_told_apart
from cyclemlp.training.interruption import Interruption
from cyclemlp.training.run_folder import now

ENGINE = "paddleseg.core.train"


@dataclass(frozen=True)
class SegResult:
    """What a run has when it ends.

    Attributes:
        output: its folder.
        step: steps done.
        reason: "finished", or "time" for a run that `max_minutes` ended.
        mean_iou, best_step: the best evaluation of the whole run, resumed parts included; None without evaluation.
        train_seconds: time of training without evaluation, likewise.
    """

    output: Path
    step: int
    reason: str
    mean_iou: float | None
    best_step: int | None
    train_seconds: float


class _StopRun(Exception):
    """Leaves PaddleSeg's loop between two steps."""


@faults_told_apart(agreed=(TrainingStoppedError,))
def train(
    config: SegConfig,
    output: Path,
    world: World,
    *,
    prepare: Callable[[], None] = lambda: None,
    checkpoint: Path | None = None,
    max_minutes: float | None = None,
    evaluate: bool = True,
    show_progress: bool = True,
    command: str | None = None,
    say: Callable[[str], None] = print,
) -> SegResult:
    """Train what a configuration names, and leave a run's folder (see `run_folder.py`, which prepares it).

    Args:
        config: from `open_config`.
        output: the run's folder.
        world: the processes of the run.
        prepare: makes the folder; called in the first process once nothing is known to be at fault.
        checkpoint: PaddleSeg's checkpoint to go on from. The order of the images begins anew, as PaddleSeg has it.
        max_minutes: stop after so many minutes of training, evaluation not counted, resumed parts included; the
            schedule of the learning rate does not know of it.
        evaluate: evaluate when a checkpoint is written; otherwise no best model is kept.
        show_progress: a progress bar on stderr.
        command: what was typed, for the log.
        say: takes the lines for people.

    Raises:
        ConfigError, DataError, ModelError, WeightsError: something of the user's is at fault.
        TrainingFailedError: a loss or a gradient is not finite; checkpoints so far are kept.
        TrainingStoppedError: Ctrl-C or SIGTERM, after saving.
    """
    settings, build = config.run, Builder(config)
    if world.is_first:
        check_sample(config)
    start = 0 if checkpoint is None else run_folder.checkpoint_step(checkpoint)
    utils.set_seed(settings.seed + start + world.rank)
    train_set, val_set = build.train_dataset, build.val_dataset if evaluate else None
    per_step = int(config.batch_size) * world.size
    if len(train_set) < per_step:
        # PaddleSeg leaves out the last, smaller batch, and would wait for ever for a first one.
        raise ConfigError(
            f"{config.path}: a step takes {per_step} images and there are {len(train_set)}: lower batch_size "
            "(--batch-size)"
        )
    model, losses, optimizer = build.model, build.loss, build.optimizer
    if world.size > 1:
        model = utils.convert_sync_batchnorm(model, paddle.get_device().split(":")[0])

    if world.is_first:
        prepare()
    if build.patches:
        say(in_words(build.patches))
    images = f"{len(train_set)} images to train on, {len(val_set) if val_set else 'none'} to evaluate on"
    say(f"{images}; {config.iters} steps of {per_step}; everything goes to {output}")
    if start >= config.iters:
        say(f"{checkpoint} is after step {start}: nothing is left to do (--iters gives it more steps)")
    log_path = output / run_folder.LOG if world.is_first else Path("/dev/null")
    watcher = _Watcher(config, output, world, start, max_minutes, say)
    bar: Progress[Any] = Progress(
        desc="train", total=config.iters, initial=start, unit="step", disable=not show_progress
    )
    with Interruption() as interruption, JsonLines(log_path) as log, bar, _without_remarks():
        watcher.begin(log, bar, interruption, FiniteGuard(model))
        watcher.write("start", time=now(), command=command, resumed_from=checkpoint, **_versions())
        # The optimizer's state is saved under names that count up in the process, and found by them.
        with (
            _watched(watcher, model, losses, optimizer),
            unique_name.guard(),
            checked_loading(),
            contextlib.suppress(_StopRun),
        ):
            if start < config.iters:
                importlib.import_module(ENGINE).train(
                    model,
                    train_set,
                    val_dataset=val_set,
                    optimizer=optimizer,
                    save_dir=str(output),
                    iters=config.iters,
                    batch_size=config.batch_size,
                    resume_model=None if checkpoint is None else str(checkpoint),
                    save_interval=settings.save_interval,
                    log_iters=settings.log_iters,
                    num_workers=settings.workers,
                    losses=losses,
                    keep_checkpoint_max=settings.keep_checkpoints,
                    test_config=config.test_config,
                    precision=settings.precision,
                    amp_level=settings.amp_level,
                    to_static_training=config.to_static_training,
                )
        if watcher.stop is not None:
            watcher.save_last(model, optimizer, val_set)
        watcher.keep_newest()
        watcher.write("end", reason=watcher.stop or "finished", best_mean_iou=watcher.best_figure)
    if world.is_first:
        run_folder.draw_curves(output)
    if watcher.stop == "signal":
        raise TrainingStoppedError(output / f"iter_{watcher.step}", interruption.signal or signal.SIGTERM)
    return SegResult(
        output,
        watcher.step,
        watcher.stop or "finished",
        watcher.best_figure,
        watcher.best_step,
        watcher.train_seconds,
    )


@dataclass
class _Watcher:
    """Hears of every step and evaluation of a run; logs, shows, checks and stops it."""

    config: SegConfig
    output: Path
    world: World
    step: int
    max_minutes: float | None
    say: Callable[[str], None]
    stop: str | None = None
    train_seconds: float = 0.0
    best_figure: float | None = None
    best_step: int | None = None
    _losses: list[float] = field(default_factory=list)
    _since_log: list[list[float]] = field(default_factory=list)

    def begin(
        self, log: JsonLines, bar: Progress[Any], interruption: Interruption, guard: FiniteGuard
    ) -> None:
        self.log, self.bar, self.interruption, self.guard = log, bar, interruption, guard
        self.seconds_before = 0.0
        if self.step and self.world.is_first:
            done = [r for r in read_json_lines(self.output / run_folder.LOG) if r.get("step") == self.step]
            if done:  # a checkpoint that was carried into a new folder has no past there
                self.seconds_before = float(done[-1]["seconds"])
                self.train_seconds = float(done[-1]["train_seconds"])
            best = run_folder.best_so_far(self.output)
            self.best_figure, self.best_step = best if best else (None, None)
        figures = (self.seconds_before, self.train_seconds, self.best_figure, self.best_step)
        self.seconds_before, self.train_seconds, self.best_figure, self.best_step = self.world.from_first(
            figures
        )
        self.began = self.mark = time.perf_counter()

    def write(self, event: str, **figures: Any) -> None:
        times = {"seconds": self.seconds_before + time.perf_counter() - self.began}
        times["train_seconds"] = self.train_seconds
        self.log.write({"event": event, "step": self.step, **times, **figures})

    def losses(self, values: Sequence[paddle.Tensor]) -> None:
        """Before the backward pass: each output's loss, times its coefficient."""
        self._losses = [float(value) for value in values]
        names = ["loss"] if len(values) == 1 else [f"loss_{i}" for i in range(len(values))]
        self.guard.check_losses(dict(zip(names, self._losses, strict=True)), self.step + 1)

    def gradients(self) -> None:
        """Between the backward pass and the optimizer's step. Scaled ones of float16 may overflow by right."""
        if self.config.run.precision == "fp32":
            self.guard.check_gradients(self.step + 1)

    def step_done(self, lr: float) -> None:
        """After the optimizer's step, done with learning rate `lr`."""
        self.step += 1
        self.train_seconds += time.perf_counter() - self.mark
        self.mark = time.perf_counter()
        self._since_log.append(self._losses)
        self.bar.figures(loss=sum(self._losses), lr=f"{lr:.1e}")
        self.bar.update()
        if self.step % self.config.run.log_iters == 0 or self.step == self.config.iters:
            self._log_losses(lr)
        if self.step == self.config.iters:
            return
        time_is_up = self.max_minutes is not None and self.train_seconds >= 60 * self.max_minutes
        signalled, late = self.world.sum([self.interruption.signal is not None, time_is_up])
        if signalled or late:
            if self._since_log:
                self._log_losses(lr)
            self.stop = "signal" if signalled else "time"
            raise _StopRun

    def _log_losses(self, lr: float) -> None:
        """A line of the log with the mean losses since the one before."""
        means = [sum(values) / len(values) for values in zip(*self._since_log, strict=True)]
        parts = {f"loss_{i}": mean for i, mean in enumerate(means)} if len(means) > 1 else {}
        self.write("step", loss=sum(means), **parts, lr=lr)
        self._since_log.clear()

    def evaluated(self, result: tuple[Any, ...]) -> bool:
        """After an evaluation by PaddleSeg; whether its mean IoU is the best of the run."""
        mean_iou, accuracy, class_iou, _, kappa = result
        self.mark = time.perf_counter()
        self.keep_newest()
        best = self.best_figure is None or float(mean_iou) > self.best_figure
        if best:
            self.best_figure, self.best_step = float(mean_iou), self.step
        figures = {"mean_iou": mean_iou, "pixel_accuracy": accuracy, "class_iou": class_iou, "kappa": kappa}
        self.write("evaluation", **figures, best=best)
        self.say(
            f"step {self.step}/{self.config.iters}  mean IoU {100 * mean_iou:.2f} %  pixel accuracy "
            f"{100 * accuracy:.2f} %  {format_duration(self.train_seconds)} of training{'  best' if best else ''}"
        )
        return best

    def keep_newest(self) -> None:
        """Remove checkpoints beyond the number to keep, those of earlier parts of the run included."""
        if self.world.is_first:
            run_folder.keep_newest(self.output, self.config.run.keep_checkpoints)

    def save_last(self, model: Any, optimizer: Any, val_set: Any | None) -> None:
        """Of a run that was stopped, what PaddleSeg does after its last step: evaluate, unless in haste, and save."""
        best = False
        if val_set is not None and self.stop == "time":
            options = {**self.config.test_config, "num_workers": min(1, self.config.run.workers)}
            evaluate = importlib.import_module(ENGINE).evaluate
            best = self.evaluated(evaluate(model, val_set, **options, print_detail=False))
        if self.world.is_first:
            folder = self.output / f"iter_{self.step}"
            paddle.save(model.state_dict(), str(folder / run_folder.WEIGHTS))
            paddle.save(optimizer.state_dict(), str(folder / run_folder.OPTIMIZER))
            if best:
                paddle.save(model.state_dict(), str(self.output / run_folder.BEST / run_folder.WEIGHTS))


#: What the loop, which knows only of its own start, is told of an evaluation that a best one precedes; it begins with
#: this as the best, and saves what is above.
NOT_BEST = -1.0


@contextlib.contextmanager
def _watched(watcher: _Watcher, model: Any, losses: dict[str, Any], optimizer: Any) -> Iterator[None]:
    """Within it, PaddleSeg's loop tells the watcher what it does."""
    engine = importlib.import_module(ENGINE)
    schedule = optimizer._learning_rate
    compute, evaluate, step, advance = (
        engine.loss_computation,
        engine.evaluate,
        optimizer.step,
        schedule.step,
    )

    def heard(compute: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def loss_computation(*args: Any, **named: Any) -> list[Any]:
            values = compute(*args, **named)
            watcher.losses(values)
            return values

        return loss_computation

    def evaluate_and_tell(*args: Any, **named: Any) -> tuple[Any, ...]:
        result = evaluate(*args, **{**named, "print_detail": False})
        return result if watcher.evaluated(result) else (NOT_BEST, *result[1:])

    def check_and_step() -> None:
        watcher.gradients()
        step()

    def advance_and_tell(*args: Any) -> None:
        lr = float(optimizer.get_lr())
        advance(*args)
        watcher.step_done(lr)

    with contextlib.ExitStack() as stack:

        def put(place: Any, name: str, value: Any) -> None:
            stack.enter_context(_replaced(place, name, value))

        put(engine, "loss_computation", heard(compute))
        put(engine, "evaluate", evaluate_and_tell)
        # The loop ends by counting MACs, and takes every layer that it does not know for nothing.
        put(paddle, "flops", lambda *args, **named: 0)
        if hasattr(model, "loss_computation"):
            put(model, "loss_computation", heard(model.loss_computation))
        put(optimizer, "step", check_and_step)
        put(schedule, "step", advance_and_tell)
        yield


@contextlib.contextmanager
def _replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    """Within it, the attribute has another value; one that lies in the class is then seen again."""
    own = vars(place).get(name)
    setattr(place, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(place, name)
        else:
            setattr(place, name, own)


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Within it, two warnings of Paddle's that say nothing of the run stay unsaid."""
    with warnings.catch_warnings():
        for text in ("When training, we now always track", "There are some unused values in state_dict"):
            warnings.filterwarnings("ignore", message=text)
        yield


def _versions() -> dict[str, str | None]:
    return {
        "paddle-cyclemlp": __version__,
        "paddle": f"{paddle.__version__} on {paddle.get_device()}",
        "paddleseg": installed_version("paddleseg"),
    }
