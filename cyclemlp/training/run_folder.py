"""A run's folder: what it holds, and that nothing in it is overwritten by mistake.

recipe.yaml       the whole recipe, defaults included
log.jsonl         a line an epoch, and one a start
checkpoint_0003/  see `checkpoint.py`
best.safetensors  the model with the best validation top-1, with its metadata
best_ema.safetensors  the same of the weights' average, where the recipe keeps one
curves.png        loss, accuracy and learning rate
tensorboard/, visualdl/  the same while it trains, for those viewers, if one was asked for
README.md         command, versions, figures: for the reader who finds the folder in a year
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import warnings
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp._version import __version__
from cyclemlp.errors import ConfigError, MissingDependencyError
from cyclemlp.report import JsonLines, format_duration, plot_curves, read_json_lines
from cyclemlp.report.writers import WRITERS, Writer, open_writer
from cyclemlp.run_lock import LOCK, RunLock
from cyclemlp.training.checkpoint import list_checkpoints, newest_checkpoint
from cyclemlp.training.recipe import Recipe, differences

RECIPE, LOG, CURVES, README = "recipe.yaml", "log.jsonl", "curves.png", "README.md"
BEST, BEST_EMA = "best.safetensors", "best_ema.safetensors"


class RunFolder:
    """Looked at for a new run, or to go on with one; `prepare` then makes it ready.

    Args:
        path: the folder, which need not exist.
        resume: None for a new run; "auto" for the newest whole checkpoint here, or a new run if there is none; or a
            checkpoint, or a run's folder whose newest one is taken.
        force: a new run may replace the one that is here. Files that are not a run's stay.

    Attributes:
        checkpoint: where to go on from, or None.

    Raises:
        ConfigError: the folder is not empty and neither `resume` nor `force` is given; nothing to resume from; another
            process writes it.
    """

    def __init__(self, path: Path, *, resume: str | Path | None = None, force: bool = False) -> None:
        self.path = path
        self._lock = RunLock()
        if (path / RECIPE).is_file():  # else it is taken once there is a folder, in `prepare`
            self._lock.take(path)
        try:
            self._look(resume, force)
        except BaseException:
            self.release()
            raise

    def _look(self, resume: str | Path | None, force: bool) -> None:
        path = self.path
        self.checkpoint = self._find(resume)
        self._clear_first = False
        here = self.checkpoint is not None and self.checkpoint.parent.resolve() == path.resolve()
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file; the output of a run is a folder")
        # A run that was killed while it wrote its recipe left no more than this.
        rest = (f".{RECIPE}.partial", LOCK)
        if path.is_dir() and any(p.name not in rest for p in path.iterdir()) and not here:
            is_run = (path / RECIPE).exists()
            if not force and not (is_run and str(resume) == "auto"):
                raise ConfigError(
                    f"{path} is not empty. Choose another --output"
                    + (", go on with that run by --resume auto" if is_run else "")
                    + ", or start anew by --force, which removes that run's files"
                )
            self._clear_first = True

    def _find(self, resume: str | Path | None) -> Path | None:
        if resume is None:
            return None
        if str(resume) == "auto":
            return newest_checkpoint(self.path)
        place = Path(resume)
        if not place.is_dir():
            raise ConfigError(
                f"--resume {place}: there is no such folder; give a checkpoint_… or a run's folder"
            )
        if place.name.startswith("checkpoint_"):
            return place
        found = newest_checkpoint(place)
        if found is None:
            raise ConfigError(f"--resume {place}: it holds no whole checkpoint (a folder checkpoint_…)")
        return found

    def prepare(self) -> None:
        """Make the folder, or remove the run that `force` replaces: not before everything else was found good."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.take(self.path)
        # What is being written has the name that it will have behind a point: here, rests of a run that was killed.
        ours = tuple(
            f".{Path(name).stem}" for name in ("checkpoint_", RECIPE, BEST, BEST_EMA, CURVES, README)
        )
        doomed = [path for path in self.path.iterdir() if path.name.startswith(ours)]
        if self._clear_first:
            doomed += [self.path / name for name in (RECIPE, LOG, BEST, BEST_EMA, CURVES, README, *WRITERS)]
            doomed += list_checkpoints(self.path)
        for path in doomed:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let others write here."""
        self._lock.release()

    def recipe_before(self) -> Recipe | None:
        """That of the run that is gone on with, if it is known."""
        if self.checkpoint is None or not (self.checkpoint.parent / RECIPE).exists():
            return None
        return Recipe.load(self.checkpoint.parent / RECIPE)

    def save_recipe(self, recipe: Recipe) -> None:
        """Write `recipe.yaml`; a resumed run whose recipe differs from the one it had is warned about."""
        before = self.recipe_before()
        if before is not None:
            changes = list(differences(before, recipe))
            if changes:
                told = ", ".join(f"{key} {old} → {new}" for key, old, new in changes)
                warnings.warn(f"the recipe differs from that of the run being resumed: {told}", stacklevel=2)
        recipe.save(self.path / RECIPE)

    def open_log(self) -> JsonLines:
        """The log, to be continued."""
        return JsonLines(self.path / LOG)

    def open_writer(self, kind: str | None) -> Writer:
        """Curves for a viewer, "tensorboard" or "visualdl", in a folder of that name; None takes figures and forgets.

        Raises:
            ConfigError: another kind.
            MissingDependencyError: its library is not installed.
        """
        return _NoWriter() if kind is None else open_writer(kind, self.path / kind)

    def epochs(self) -> list[dict[str, Any]]:
        """The log's epochs in order; of one that was run twice, after a crash, the later."""
        records = {r["epoch"]: r for r in read_json_lines(self.path / LOG) if r.get("event") == "epoch"}
        return [records[epoch] for epoch in sorted(records)]

    def draw_curves(self) -> Path | None:
        """Draw `curves.png`; without matplotlib, or before the first epoch, warn or do nothing."""
        epochs = self.epochs()
        if not epochs:
            return None
        try:
            return plot_curves(epochs, self.path / CURVES, title=self.path.name)
        except MissingDependencyError as error:
            warnings.warn(f"{self.path / CURVES} was not drawn: {error}", stacklevel=2)
            return None

    def write_readme(self, facts: Mapping[str, Any]) -> None:
        """Write `README.md` from the log; `facts`, name → value, are its first table."""
        epochs = self.epochs()
        starts = [r for r in read_json_lines(self.path / LOG) if r.get("event") == "start"]
        commands = [r["command"] for r in starts if r.get("command")]
        rows = [{**facts}, versions()]
        lines = [f"# {self.path.name}", "", "A training run of paddle-cyclemlp.", ""]
        if commands:
            lines += ["```sh", *commands, "```", ""]
        for title, row in zip(("Run", "Made with"), rows, strict=True):
            lines += [f"| {title} | |", "|---|---|", *(f"| {k} | {v} |" for k, v in row.items()), ""]
        if epochs:
            last = epochs[-1]
            best = max(epochs, key=lambda r: -1.0 if r.get("val_top1") is None else r["val_top1"])
            seconds = sum(r["seconds"] for r in epochs)
            columns = {
                "training loss": "train_loss",
                "validation loss": "val_loss",
                "top-1 (%)": "val_top1",
                "top-5 (%)": "val_top5",
                "top-1 of the average (%)": "ema_top1",
                "steps skipped": "skipped_steps",
            }
            columns = {title: key for title, key in columns.items() if any(key in r for r in epochs)}
            lines += [
                f"{last['epoch']} epochs in {format_duration(seconds)}, validation included.",
                "",
                f"| epoch | {' | '.join(columns)} |",
                "|---" * (len(columns) + 1) + "|",
                *(
                    f"| {r['epoch']} ({name}) | {' | '.join(_number(r.get(key)) for key in columns.values())} |"
                    for name, r in (("best", best), ("last", last))
                ),
                "",
            ]
        folder = shlex.quote(str(self.path))
        lines += [
            "`recipe.yaml` is the whole recipe, `log.jsonl` has a line an epoch, `best.safetensors` is the best model",
            "with its preprocessing and class names, `best_ema.safetensors`, if there is one, the best average of the",
            "weights, and each `checkpoint_…/` can be resumed from.",
            "",
            "```sh",
            f"cyclemlp predict {folder} IMAGE…   # what is on an image",
            f"cyclemlp train --resume {folder}   # go on",
            "```",
            "",
        ]
        partial = self.path / f".{README}.partial"
        partial.write_text("\n".join(lines), encoding="utf-8")
        partial.replace(self.path / README)


class OthersFolder(RunFolder):
    """A run's folder for the processes besides the first: they read its checkpoint and write nothing."""

    def __init__(self, path: Path, checkpoint: Path | None) -> None:
        if checkpoint is not None and not checkpoint.is_dir():
            raise ConfigError(
                f"{checkpoint} is not seen from {platform.node()}: to go on, all machines must share the run's folder"
            )
        self.path, self.checkpoint = path, checkpoint
        self._lock = RunLock()

    def prepare(self) -> None:
        """Left to the first."""

    def save_recipe(self, recipe: Recipe) -> None:
        """Left to the first."""

    def open_log(self) -> JsonLines:
        """One that goes nowhere."""
        return JsonLines(Path(os.devnull))

    def open_writer(self, kind: str | None) -> Writer:
        """One that goes nowhere."""
        return _NoWriter()

    def draw_curves(self) -> None:
        """Left to the first."""

    def write_readme(self, facts: Mapping[str, Any]) -> None:
        """Left to the first."""


class _NoWriter:
    def scalars(self, figures: Mapping[str, float | None], step: int) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing is open."""


def versions() -> dict[str, str]:
    """What a result may depend on: this program, Paddle, NumPy, what reads images, Python, the machine."""
    import paddle

    readers = {}
    for name in ("pillow", "simplejpeg", "cykooz-resizer"):
        try:
            readers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            readers[name] = "none"
    return {
        "paddle-cyclemlp": __version__,
        "paddle": f"{paddle.__version__} on {paddle.get_device()}",
        "numpy": np.__version__,
        **readers,
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}",
    }


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
