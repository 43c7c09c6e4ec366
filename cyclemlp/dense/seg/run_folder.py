"""The folder of a segmentation run.

config.yaml             the resolved configuration, which PaddleSeg's own tools read too
log.jsonl               a line every few steps, one an evaluation, one a start and an end
iter_200/               PaddleSeg's checkpoint after step 200: model.pdparams, model.pdopt
best_model/             the weights with the best mean IoU, model.pdparams
curves.png              losses and mean IoU
predictions/            what `cyclemlp seg predict` draws, by default
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import paddle

from cyclemlp.errors import ConfigError, MissingDependencyError, WeightsError
from cyclemlp.report import plot_dense_curves, read_json_lines
from cyclemlp.run_lock import LOCK

CONFIG, LOG, CURVES, BEST, PREDICTIONS = "config.yaml", "log.jsonl", "curves.png", "best_model", "predictions"
WEIGHTS, OPTIMIZER = "model.pdparams", "model.pdopt"


def checkpoint_step(folder: Path) -> int:
    """Steps done in PaddleSeg's checkpoint folder `iter_N`; -1 for another folder."""
    number = folder.name.removeprefix("iter_")
    return int(number) if folder.name.startswith("iter_") and number.isdecimal() else -1


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoint folders, whole or not, newest first."""
    return sorted(
        (p for p in run.glob("iter_*") if checkpoint_step(p) >= 0), key=checkpoint_step, reverse=True
    )


def keep_newest(run: Path, count: int) -> None:
    """Remove all but the newest checkpoints: PaddleSeg counts only those of its own process."""
    for old in checkpoints(run)[count:]:
        shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(resume: str, output: Path | None) -> Path | None:
    """Where `--resume` goes on from.

    Args:
        resume: "auto" for the newest whole checkpoint in `output`; or a run's folder, or a checkpoint of one.
        output: the run's folder, for "auto".

    Returns:
        The checkpoint's folder; None if "auto" finds none, so that a run begins anew.

    Raises:
        ConfigError: there is nothing to go on from.
    """
    if resume == "auto":
        return _newest_whole(output) if output is not None else None
    place = Path(resume)
    if not place.is_dir():
        raise ConfigError(
            f"--resume {place}: there is no such folder; give a run's folder, or an iter_… in it"
        )
    if checkpoint_step(place) >= 0:
        if not _is_whole(place):
            raise ConfigError(f"--resume {place}: it is not a whole checkpoint ({WEIGHTS} and {OPTIMIZER})")
        return place
    found = _newest_whole(place)
    if found is None:
        raise ConfigError(f"--resume {place}: it holds no whole checkpoint (a folder iter_…)")
    return found


def require_free(run: Path, *, resumes: bool, auto: bool, force: bool) -> None:
    """Refuse to overwrite what is in a folder.

    Args:
        run: the folder.
        resumes: a run goes on from a checkpoint in it.
        auto: `--resume auto`: a run that has no checkpoint yet is begun again.
        force: the run that is in it is removed.

    Raises:
        ConfigError: it is a file, or holds something that is not to be replaced.
    """
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run} is a file; the output of a run is a folder")
    if not resumes and run.is_dir() and any(path.name != LOCK for path in run.iterdir()):
        is_run = (run / CONFIG).exists()
        if not (force or (auto and is_run)):
            raise ConfigError(
                f"{run} is not empty. Choose another --output"
                + (", go on with that run by --resume" if is_run else "")
                + ", or start anew by --force, which removes that run's files"
            )


def prepare(run: Path, *, resumes: bool) -> None:
    """Make the folder; where no run is resumed in it, without the files of an earlier run."""
    if not resumes:
        for path in [*checkpoints(run), run / BEST]:
            shutil.rmtree(path, ignore_errors=True)
        for name in (CONFIG, LOG, CURVES):
            (run / name).unlink(missing_ok=True)
    run.mkdir(parents=True, exist_ok=True)


def find_weights(place: Path) -> Path:
    """The weights that a path means: a file; or of a run's folder the best, else the newest; or of a checkpoint.

    Raises:
        WeightsError: there are none.
    """
    if place.is_file():
        return place
    for folder in (place / BEST, place, *checkpoints(place)):
        if (folder / WEIGHTS).is_file():
            return folder / WEIGHTS
    raise WeightsError(
        f"{place}: "
        + (
            "is a folder without"
            if place.is_dir()
            else "does not exist; expected a .pdparams file or a run with"
        )
        + f" weights ({BEST}/{WEIGHTS} or iter_…/{WEIGHTS})"
    )


def run_of(weights: Path) -> Path | None:
    """The run's folder that weights lie in, or None: so that they are used with their own configuration."""
    place = weights if weights.is_dir() else weights.parent
    return next((p for p in (place, place.parent) if (p / CONFIG).is_file()), None)


def best_so_far(run: Path) -> tuple[float, int] | None:
    """Best mean IoU in a run's log, and its step."""
    if not (run / LOG).exists():
        return None
    found = [r for r in read_json_lines(run / LOG) if r.get("event") == "evaluation"]
    best = max(found, key=lambda r: float(r["mean_iou"]), default=None)
    return None if best is None else (float(best["mean_iou"]), int(best["step"]))


def draw_curves(run: Path) -> Path | None:
    """Draw `curves.png` from the log; warns where matplotlib is missing, and does nothing before the first line."""
    # By time of training: how often a run was evaluated shall not move its curve.
    records: list[dict[str, Any]] = [
        {**r, "seconds": r["train_seconds"]}
        for r in read_json_lines(run / LOG)
        if r.get("event") in ("step", "evaluation")
    ]
    if not records:
        return None
    try:
        return plot_dense_curves({run.name: records}, run / CURVES, metrics=("mean_iou",), title=run.name)
    except MissingDependencyError as error:
        warnings.warn(f"{run / CURVES} was not drawn: {error}", stacklevel=2)
        return None


def _newest_whole(run: Path) -> Path | None:
    for folder in checkpoints(run):
        if _is_whole(folder):
            return folder
        warnings.warn(f"{folder} is not whole, as after a crash; it is passed over", stacklevel=2)
    return None


def _is_whole(folder: Path) -> bool:
    """Whether both files can be read: PaddleSeg writes in place, so a killed run may leave half of one."""
    try:
        return all(paddle.load(str(folder / name)) is not None for name in (WEIGHTS, OPTIMIZER))
    except Exception:  # Paddle raises several kinds
        return False
