"""The folder of a run, the same for classification, segmentation and detection.

recipe.yaml         the whole recipe, or the engine's whole configuration, defaults included
log.jsonl           see `log.py`
checkpoints/        see `checkpoints.py`
best.safetensors    the model of the best epoch, by default of validation top-1, with its metadata; best_ema.safetensors
                    of the average
best.pdparams       of segmentation and detection: the model with the best mean IoU, or average precision
curves.png          losses, accuracies or precisions, and the learning rate
README.md           command, versions, figures: for the reader who finds the folder in a year
tensorboard/, visualdl/      curves for those viewers, while it trains
categories.json, bbox.json   of detection: its classes, and what the last evaluation found; mask.json of masks
predictions/        what `cyclemlp seg predict` and `cyclemlp det predict` write, by default
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cyclemlp.errors import ConfigError, DataError, MissingDependencyError
from cyclemlp.files import is_partial, write_text
from cyclemlp.report import in_order, read_json_lines
from cyclemlp.report.writers import WRITERS, Writer, open_writer
from cyclemlp.run.checkpoints import (
    CHECKPOINTS,
    list_checkpoints,
    recover_checkpoints,
    remove_rests,
    write_checkpoint,
)
from cyclemlp.run.curves import draw_runs
from cyclemlp.run.lock import LOCK, RunLock
from cyclemlp.run.log import RunLog, best_record
from cyclemlp.run.readme import readme
from cyclemlp.run.resume import (
    AUTO,
    BEST,
    BEST_EMA,
    BEST_PADDLE,
    RECIPE,
    find_checkpoint,
    require_place,
    run_folder,
)
from cyclemlp.yaml_files import parse_yaml

T = TypeVar("T")

LOG, CURVES, README, PREDICTIONS = "log.jsonl", "curves.png", "README.md", "predictions"
#: What a run leaves besides its checkpoints; the recipe, by which it is known for a run, goes last.
_OURS = (
    *(LOG, CURVES, README, BEST, BEST_EMA, BEST_PADDLE, "categories.json", "bbox.json", "mask.json"),
    *(*WRITERS, PREDICTIONS, RECIPE),
)
#: Of a changed recipe, so many keys are named.
MOST_DIFFERENCES = 10


class Processes(Protocol):
    """The processes of a run, of which the first alone writes; see `cyclemlp.training.distributed.World`."""

    @property
    def is_first(self) -> bool: ...
    def from_first(self, value: T) -> T: ...


class _Alone:
    is_first = True

    def from_first(self, value: T) -> T:
        return value


class RunFolder:
    """Looked at for a new run, or to go on with one; `prepare` then makes it ready.

    It is locked from the first look until `release`, or the end of the block that it is entered for. In the processes
    besides the first it reads the checkpoint and writes nothing.

    Args:
        path: the folder, which need not exist; it and those above it are removed again at the end if nothing came in.
        resume: None for a new run; else the value of `--resume`, see `resume.py`.
        force: a new run may replace the one that is here. Files that are not a run's stay.
        world: the processes of the run.
        program: the command whose `train` it is, such as "cyclemlp seg", for the README.

    Attributes:
        path: the folder.
        checkpoint: where to go on from, or None.
        continues: whether that lies in this folder, so that log and best model go on too.

    Raises:
        ConfigError: the folder is a file, or is not empty and neither `resume` nor `force` is given; nothing to resume;
            another process writes it, or does not see the checkpoint.
        OSError: it cannot be made or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        resume: str | os.PathLike[str] | None = None,
        force: bool = False,
        world: Processes | None = None,
        program: str = "cyclemlp",
    ) -> None:
        world = world or _Alone()
        self.path, self._program, self._writes = path, program, world.is_first
        self._lock, self._clear_first = RunLock(), False
        self._made: list[Path] = []
        self.checkpoint: Path | None = None
        if self._writes:
            require_place(resume)
            try:
                self._take()
                self._look(resume, force)
            except BaseException:
                self.release()
                raise
        self.checkpoint = world.from_first(self.checkpoint)
        if self.checkpoint is not None and not self.checkpoint.is_dir():
            raise ConfigError(
                f"{self.checkpoint} is not seen from {platform.node()}: to go on, all machines must share the run's "
                "folder"
            )

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def _take(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; the output of a run is a folder")
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.take(self.path)

    def _look(self, resume: str | os.PathLike[str] | None, force: bool) -> None:
        recover_checkpoints(self.path)
        self.checkpoint = find_checkpoint(resume, self.path)
        if self.continues or all(path.name == LOCK or is_partial(path) for path in self.path.iterdir()):
            return
        is_run = (self.path / RECIPE).exists()
        if not force and not (is_run and str(resume) == AUTO):
            raise ConfigError(
                f"{self.path} is not empty. Choose another --output"
                + (", go on with that run by --resume" if is_run else "")
                + ", or start anew by --force, which removes that run's files"
            )
        self._clear_first = True

    @property
    def continues(self) -> bool:
        return self.checkpoint is not None and run_folder(self.checkpoint).resolve() == self.path.resolve()

    def prepare(self) -> None:
        """Remove the run that `force` replaces, and rests of a killed one; not before all else was found good."""
        if not self._writes:
            return
        remove_rests(self.path)
        doomed = [path for path in self.path.iterdir() if is_partial(path)]
        if self._clear_first:
            for checkpoint in list_checkpoints(self.path):
                shutil.rmtree(checkpoint)
            with contextlib.suppress(OSError):  # something else is in it, or it is not there
                (self.path / CHECKPOINTS).rmdir()
            doomed += [self.path / name for name in _OURS]
        for path in doomed:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let others write here."""
        self._lock.release()
        with contextlib.suppress(OSError):  # something came into it
            while self._made:
                self._made.pop(0).rmdir()
        self._made.clear()

    # ---- what is in it

    def recipe_before(self) -> Path | None:
        """The recipe of the run that is gone on with, if it is there."""
        if self.checkpoint is None:
            return None
        path = run_folder(self.checkpoint) / RECIPE
        return path if path.is_file() else None

    def save_recipe(self, text: str) -> None:
        """Write `recipe.yaml`; a resumed run whose recipe differs from the one it had is warned about."""
        if not self._writes:
            return
        before = self.recipe_before()
        listed = "" if before is None else _differences(before, before.read_text("utf-8", "replace"), text)
        write_text(self.path / RECIPE, text)
        if listed:
            warnings.warn(f"the recipe differs from that of the run being resumed: {listed}", stacklevel=2)

    def save_checkpoint(
        self, name: str, write: Callable[[Path], object], state: Mapping[str, Any], *, keep: int
    ) -> Path:
        """Write a checkpoint as `write_checkpoint` does, and return its path."""
        if not self._writes:
            return self.path / CHECKPOINTS / name
        return write_checkpoint(self.path, name, write, state, keep=keep)

    def open_log(self) -> RunLog:
        """The log, to be continued."""
        return RunLog(self.path / LOG if self._writes else Path(os.devnull))

    def open_writer(self, kind: str | None) -> Writer:
        """Curves for a viewer, "tensorboard" or "visualdl", in a folder of that name; None takes figures and forgets.

        Raises:
            ConfigError: another kind.
            MissingDependencyError: its library is not installed.
        """
        return open_writer(kind, self.path / kind) if kind is not None and self._writes else _NoWriter()

    def records(self) -> list[dict[str, Any]]:
        """All records of the log."""
        return read_json_lines(self.path / LOG) if (self.path / LOG).exists() else []

    def epochs(self) -> list[dict[str, Any]]:
        """The log's epochs in order; of one that was run twice, after a crash, the later."""
        return in_order(self.records(), "epoch", "epoch")

    def best(self) -> dict[str, Any] | None:
        """The evaluation whose model is the best of the run that goes on here; None where there is none."""
        return best_record(self.records()) if self.continues else None

    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations of the run that goes on here, of segmentation or detection; of two at one step the later."""
        return in_order(self.records(), "evaluation", "step") if self.continues else []

    def draw_curves(self) -> Path | None:
        """Draw `curves.png`; before there is anything to draw do nothing, without matplotlib warn."""
        if not self._writes or not (self.path / LOG).exists():
            return None
        try:
            return draw_runs({self.path.name: self.path / LOG}, self.path / CURVES, title=self.path.name)
        except DataError:
            return None
        except MissingDependencyError as error:
            warnings.warn(f"{self.path / CURVES} was not drawn: {error}", stacklevel=2)
            return None

    def write_readme(self) -> None:
        """Write `README.md` from the log."""
        if self._writes:
            write_text(self.path / README, readme(self.path, self.records(), self._program))


class _NoWriter:
    def scalars(self, figures: Mapping[str, float | None], step: int) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing is open."""


def _differences(path: Path, old: str, new: str) -> str:
    """Keys that differ between two recipes, with their values; "" for none."""
    if old == new:
        return ""
    try:
        before, after = (_flat(parse_yaml(text, str(path))) for text in (old, new))
    except ConfigError as error:
        return f"they cannot be compared: {error}"
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    listed = [f"{key} {before.get(key)} → {after.get(key)}" for key in keys[:MOST_DIFFERENCES]]
    return ", ".join(listed) + (f" and {len(keys) - len(listed)} more" if len(keys) > len(listed) else "")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings, and lists of mappings → dotted key to value."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    flat = {
        k: v for key, item in items for k, v in _flat(item, f"{prefix}.{key}" if prefix else str(key)).items()
    }
    return flat or {prefix: value}
