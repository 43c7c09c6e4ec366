"""Training by PaddleSeg's own loop, watched from the places that the loop calls.

`paddleseg.core.train` gives no word of a run but its printed lines, and writes its checkpoints in place. It looks up
its loss by name and calls the optimizer and the schedule once a step: at these places `_watched` hooks in, for the time
of the run. After the schedule's step the watcher logs, saves and evaluates by itself, and after the last one it leaves
the loop, which never comes to saving.
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

import numpy as np
import paddle
from paddle.utils import unique_name
from paddleseg.utils import utils

from cyclemlp.dense.compat import in_words
from cyclemlp.dense.guard import FiniteGuard
from cyclemlp.dense.loading import checked_loading
from cyclemlp.dense.patience import Patience, require_evaluation
from cyclemlp.dense.seg.check import check_sample, count_pixels
from cyclemlp.dense.seg.config import Builder, SegConfig
from cyclemlp.dense.seg.weighting import (
    BALANCED,
    balanced_weights,
    check_weights,
    given_weights,
    is_balanced,
    set_weights,
    weights_text,
)
from cyclemlp.errors import ConfigError
from cyclemlp.files import replacing
from cyclemlp.models import fill
from cyclemlp.report import Progress, format_duration
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
from cyclemlp.training import TrainingStoppedError
from cyclemlp.training.distributed import World, faults_told_apart
from cyclemlp.training.interruption import Interruption
from cyclemlp.weights import read_weights

ENGINE = "paddleseg.core.train"
OPTIMIZER = "model.pdopt"


@dataclass(frozen=True)
class SegResult:
    """What a run has when it ends.

    Attributes:
        output: its folder.
        step: steps done.
        reason: "finished", "early stopping", or "time" for a run that `max_minutes` ended.
        mean_iou, best_step: the best evaluation of the whole run, resumed parts included; None without evaluation.
        seconds: of training without evaluation, likewise.
    """

    output: Path
    step: int
    reason: str
    mean_iou: float | None
    best_step: int | None
    seconds: float


class _StopRun(Exception):
    """Leaves PaddleSeg's loop between two steps."""


@faults_told_apart(agreed=(TrainingStoppedError,))
def train(
    config: SegConfig,
    output: Path,
    world: World,
    *,
    resume: str | Path | None = None,
    force: bool = False,
    max_minutes: float | None = None,
    patience: int | None = None,
    evaluate: bool = True,
    show_progress: bool = True,
    command: str | None = None,
    say: Callable[[str], None] = print,
) -> SegResult:
    """Train what a configuration names, and leave a run's folder (see `cyclemlp/run/folder.py`).

    Args:
        config: from `open_config`.
        output: the run's folder.
        world: the processes of the run.
        resume, force: see `RunFolder`. The order of the images begins anew when a run is resumed, as PaddleSeg has it.
        max_minutes: stop after so many minutes of training, evaluation not counted, resumed parts included; the
            schedule of the learning rate does not know of it.
        patience: stop after so many evaluations in a row without a better mean IoU.
        evaluate: evaluate when a checkpoint is written; otherwise no best model is kept.
        show_progress: a progress bar on stderr.
        command: what was typed, for the log.
        say: takes the lines for people.

    Raises:
        ConfigError, DataError, ModelError, WeightsError: something of the user's is at fault.
        TrainingFailedError: a loss or a gradient is not finite; checkpoints so far are kept.
        TrainingStoppedError: Ctrl-C or SIGTERM, after saving.
    """
    with RunFolder(output, resume=resume, force=force, world=world, program="cyclemlp seg") as folder:
        return _train(config, folder, world, max_minutes, patience, evaluate, show_progress, command, say)


def _train(
    config: SegConfig,
    folder: RunFolder,
    world: World,
    max_minutes: float | None,
    patience: int | None,
    evaluate: bool,
    show_progress: bool,
    command: str | None,
    say: Callable[[str], None],
) -> SegResult:
    settings, build, checkpoint = config.run, Builder(config), folder.checkpoint
    require_evaluation(patience, evaluate)
    check_weights(config)
    if world.is_first:
        check_sample(config)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    if checkpoint is not None:
        state = read_state(checkpoint)
        before, now = state["classes"], config.class_names()
        require_same_classes(checkpoint, before, now, (len(before), len(now)))
        say(f"resuming from {checkpoint}: {counted(state['step'], 'step')} done")
    class_weights = _balance(config, state, world, show_progress, say)
    utils.set_seed(settings.seed + state["step"] + world.rank)
    train_set, val_set = build.train_dataset, build.val_dataset if evaluate else None
    per_step = int(config.batch_size) * world.size
    if len(train_set) < per_step:
        # PaddleSeg leaves out the last, smaller batch, and would wait for ever for a first one.
        raise ConfigError(
            f"{config.path}: a step takes {counted(per_step, 'image')} and there are {len(train_set)}: lower "
            "batch_size (--batch-size)"
        )
    model, losses, optimizer = build.model, build.loss, build.optimizer
    if checkpoint is not None:
        # Before the run's files change; the engine leaves out tensors that do not fit with a warning.
        fill(model, read_weights(checkpoint / MODEL_PADDLE, layout="paddle"))
    if world.size > 1:
        model = utils.convert_sync_batchnorm(model, paddle.get_device().split(":")[0])

    folder.prepare()
    folder.save_recipe(config.to_yaml())
    if build.patches:
        say(in_words(build.patches))
    images = f"{counted(len(train_set), 'image')} to train on, {len(val_set) if val_set else 'none'} to evaluate on"
    say(f"{images}; {counted(config.iters, 'step')} of {per_step}; everything goes to {folder.path}")
    measured = world.from_first([record["mean_iou"] for record in folder.evaluations()])
    waiting = Patience(patience, "mean IoU", measured)
    is_over = state["step"] >= config.iters or waiting.is_over
    if is_over:
        more = "--iters" if state["step"] >= config.iters else "a larger --patience, or none,"
        say(f"nothing is left to do of {counted(config.iters, 'step')} ({more} gives it more)")
    parameters = sum(int(parameter.size) for parameter in model.parameters())
    facts = {
        "model": f"{type(model).__name__}, {counted(parameters, 'parameter')}",
        "images": images,
        "steps": f"{config.iters} of {counted(per_step, 'image')}, seed {settings.seed}",
    }
    if (weights := given_weights(config)) is not None:
        kind = "given" if class_weights is None else "balanced"
        facts["class weights"] = f"{kind}: {weights_text(weights, config.class_names())}"
    bar: Progress[Any] = Progress(
        desc="train",
        total=config.iters,
        initial=state["step"],
        unit="step",
        disable=not (show_progress and world.is_first),
    )
    with Interruption() as interruption, folder.open_log() as log, bar, _without_remarks():
        watcher = _Watcher(
            config,
            folder,
            world,
            model,
            optimizer,
            val_set,
            log=log,
            bar=bar,
            interruption=interruption,
            guard=FiniteGuard(model),
            say=say,
            max_minutes=max_minutes,
            patience=waiting,
            step=state["step"],
            seconds=state["seconds"],
            best=world.from_first(folder.best()),
            class_weights=class_weights,
        )
        log.start(facts, command=command, checkpoint=checkpoint, packages=["paddleseg"])
        folder.write_readme()
        # The optimizer's state is saved under names that count up in the process, and found by them.
        with (
            _watched(watcher),
            unique_name.guard(),
            checked_loading(),
            contextlib.suppress(_StopRun),
        ):
            if not is_over:
                importlib.import_module(ENGINE).train(
                    model,
                    train_set,
                    optimizer=optimizer,
                    save_dir=str(folder.path),
                    iters=config.iters,
                    batch_size=config.batch_size,
                    resume_model=None if checkpoint is None else str(checkpoint),  # its name ends in the step
                    save_interval=config.iters + 1,
                    log_iters=settings.log_iters,
                    num_workers=settings.workers,
                    losses=losses,
                    precision=settings.precision,
                    amp_level=settings.amp_level,
                    to_static_training=config.to_static_training,
                )
        watcher.write("end", reason=watcher.reason)
    folder.draw_curves()
    folder.write_readme()
    if watcher.reason == "signal":
        raise TrainingStoppedError(
            folder.path / CHECKPOINTS / watcher.checkpoint, interruption.signal or signal.SIGTERM
        )
    best = watcher.best or {"mean_iou": None, "step": None}
    return SegResult(
        folder.path, watcher.step, watcher.reason, best["mean_iou"], best["step"], watcher.seconds
    )


def _balance(
    config: SegConfig,
    state: dict[str, Any],
    world: World,
    show_progress: bool,
    say: Callable[[str], None],
) -> list[float] | None:
    """Put numbers in place of `balanced` weights: those of the run that is resumed, else by counting the pixels.

    Returns:
        The run's balanced weights; None if it has none.
    """
    kept: list[float] | None = state.get("class_weights")
    if not is_balanced(config):
        # A resumed run's recipe has the numbers; other ones are not those that were counted.
        return kept if kept == given_weights(config) else None
    if kept is None:
        pixels, masks = world.from_first(
            count_pixels(config, show_progress=show_progress) if world.is_first else (np.zeros(0), 0)
        )
        kept = balanced_weights(pixels)
        words = weights_text(kept, config.class_names(), pixels)
        say(f"class weights, balanced by the pixels of {counted(masks, 'training mask')}: {words}")
    else:
        say(f"class weights, balanced, those of the run: {weights_text(kept, config.class_names())}")
    set_weights(config, kept, where=BALANCED)
    return kept


@dataclass
class _Watcher:
    """Hears of every step of a run: logs, shows and checks it, saves and evaluates when it is due, and ends it.

    Attributes:
        step, seconds: done so far, of training, in all starts.
        patience: with the evaluations, which may end it.
        best: the best evaluation's record.
        class_weights: the balanced ones, for the checkpoints.
        reason: why the run ended.
    """

    config: SegConfig
    folder: RunFolder
    world: World
    model: Any
    optimizer: Any
    val_set: Any | None
    log: RunLog
    bar: Progress[Any]
    interruption: Interruption
    guard: FiniteGuard
    say: Callable[[str], None]
    max_minutes: float | None
    patience: Patience
    step: int
    seconds: float
    best: dict[str, Any] | None
    class_weights: list[float] | None = None
    reason: str = "finished"
    _losses: list[float] = field(default_factory=list)
    _since_log: list[list[float]] = field(default_factory=list)
    _mark: float = field(default_factory=time.perf_counter)

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint of now."""
        return f"checkpoint_{self.step:06d}"

    def write(self, event: str, **figures: Any) -> None:
        """A record of the log."""
        self.log.event(event, step=self.step, seconds=self.seconds, **figures)

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
        """After the optimizer's step, done with learning rate `lr`, and the schedule's."""
        settings, self.step = self.config.run, self.step + 1
        self.seconds += time.perf_counter() - self._mark
        self._since_log.append(self._losses)
        self.bar.figures(loss=sum(self._losses), lr=f"{lr:.1e}")
        self.bar.update()
        ends = self._ends()
        if ends or self.step % settings.log_iters == 0:
            self._log_losses(lr)
        if ends or self.step % settings.save_interval == 0:
            state = {"step": self.step, "seconds": self.seconds, "classes": self.config.class_names()}
            if self.class_weights is not None:
                state["class_weights"] = self.class_weights
            self.folder.save_checkpoint(self.checkpoint, self._save, state, keep=settings.keep_checkpoints)
            if self.val_set is not None and not (ends and self.reason == "signal"):
                self._evaluate()
                if self.patience.is_over and not ends:
                    self.reason, ends = "early stopping", True
                    self.say(str(self.patience))
        if ends:
            raise _StopRun
        self._mark = time.perf_counter()

    def _ends(self) -> bool:
        """Whether this step was the last one, and `reason` says why."""
        if self.step == self.config.iters:
            return True
        late = self.max_minutes is not None and self.seconds >= 60 * self.max_minutes
        signals, late_ones = self.world.sum([self.interruption.signal is not None, late])
        self.reason = "signal" if signals else "time" if late_ones else self.reason
        return bool(signals or late_ones)

    def _log_losses(self, lr: float) -> None:
        """A line of the log with the mean losses since the one before."""
        means = [sum(values) / len(values) for values in zip(*self._since_log, strict=True)]
        parts = {f"loss_{i}": mean for i, mean in enumerate(means)} if len(means) > 1 else {}
        self.write("step", loss=sum(means), **parts, lr=lr)
        self._since_log.clear()

    def _save(self, folder: Path) -> None:
        paddle.save(self.model.state_dict(), str(folder / MODEL_PADDLE))
        paddle.save(self.optimizer.state_dict(), str(folder / OPTIMIZER))

    def _evaluate(self) -> None:
        """Measure by PaddleSeg's own `evaluate`, in all processes, and keep the model if it is the best so far."""
        settings = self.config.run
        mean_iou, accuracy, class_iou, _, kappa = importlib.import_module(ENGINE).evaluate(
            self.model,
            self.val_set,
            **{"precision": settings.precision, "amp_level": settings.amp_level, **self.config.test_config},
            num_workers=min(1, settings.workers),
            print_detail=False,
        )
        self.model.train()
        best = self.best is None or float(mean_iou) > self.best["mean_iou"]
        self.patience.note(float(mean_iou))
        if best:
            self.best = {"step": self.step, "mean_iou": float(mean_iou)}
            if self.world.is_first:
                with replacing(self.folder.path / BEST_PADDLE, durable=True) as part:
                    paddle.save(self.model.state_dict(), str(part))
        figures = {"mean_iou": mean_iou, "pixel_accuracy": accuracy, "class_iou": class_iou, "kappa": kappa}
        self.write("evaluation", **figures, best=best)
        self.folder.write_readme()
        self.say(
            f"step {self.step}/{self.config.iters}  mean IoU {100 * mean_iou:.2f} %  pixel accuracy "
            f"{100 * accuracy:.2f} %  {format_duration(self.seconds)} of training{'  best' if best else ''}"
        )


@contextlib.contextmanager
def _watched(watcher: _Watcher) -> Iterator[None]:
    """Within it, PaddleSeg's loop tells the watcher what it does."""
    engine, model, optimizer = importlib.import_module(ENGINE), watcher.model, watcher.optimizer
    schedule = optimizer._learning_rate
    step, advance = optimizer.step, schedule.step

    def hooked(compute: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def loss_computation(*args: Any, **named: Any) -> list[Any]:
            values = compute(*args, **named)
            watcher.losses(values)
            return values

        return loss_computation

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

        put(engine, "loss_computation", hooked(engine.loss_computation))
        if hasattr(model, "loss_computation"):
            put(model, "loss_computation", hooked(model.loss_computation))
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
