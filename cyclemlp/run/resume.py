"""The grammar of `--resume`, and what a path that is given in place of a model means.

--resume              go on from the newest whole checkpoint in --output; begin if it has none (also: --resume auto)
--resume RUN          go on from the newest whole checkpoint of that run's folder
--resume CHECKPOINT   go on from that checkpoint
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cyclemlp.errors import ConfigError, DataError, WeightsError
from cyclemlp.run.checkpoints import CHECKPOINTS, is_checkpoint, list_checkpoints, newest_checkpoint
from cyclemlp.text import counted, shown

AUTO = "auto"
RECIPE = "recipe.yaml"
#: The best model, of classification with its average too; .pdparams where an engine trains.
BEST, BEST_EMA, BEST_PADDLE = "best.safetensors", "best_ema.safetensors", "best.pdparams"
#: The model in a checkpoint.
MODEL, MODEL_PADDLE = "model.safetensors", "model.pdparams"


def find_checkpoint(resume: str | os.PathLike[str] | None, output: Path) -> Path | None:
    """What `--resume` goes on from; None to begin.

    Args:
        resume: its value, "auto" where it has none; None where it was not given.
        output: the run's folder.

    Raises:
        ConfigError: there is nothing to go on from.
    """
    if resume is None:
        return None
    require_place(resume)
    auto = str(resume) == AUTO
    place = output if auto else Path(resume)
    if is_checkpoint(place):
        return place
    found = newest_checkpoint(place)
    if found is None and auto and list_checkpoints(place):
        raise ConfigError(f"--resume: no checkpoint in {place} is whole; --force starts anew without them")
    if found is None and not auto:
        raise ConfigError(f"--resume {place}: it holds no whole checkpoint ({CHECKPOINTS}/checkpoint_…)")
    return found


def require_place(resume: str | os.PathLike[str] | None) -> None:
    """Raise ConfigError if `--resume` names a folder that is not there."""
    if resume is not None and str(resume) != AUTO and not Path(resume).is_dir():
        raise ConfigError(
            f"--resume {resume}: there is no such folder; give a run's folder or a checkpoint_…"
        )


def places_of_resume(resume: str | None, output: Path | None) -> tuple[Path | None, Path | None]:
    """The recipe of the run that `--resume` and `--output` mean, if it is there, and the folder to write to.

    The folder is None where neither names one.

    Raises:
        ConfigError: `--resume` names a folder that is not there.
    """
    require_place(resume)
    run = None
    if resume is not None:
        run = output if resume == AUTO else run_folder(Path(resume))
    recipe = run / RECIPE if run is not None and (run / RECIPE).is_file() else None
    return recipe, output or run


def run_folder(place: Path) -> Path:
    """The folder of the run to which a checkpoint, or a file in it or in the folder, belongs; else the path itself."""
    folder = place.parent if place.is_file() else place
    if not is_checkpoint(folder):
        return folder
    return folder.parent.parent if folder.parent.name == CHECKPOINTS else folder.parent


def find_weights(place: Path) -> Path:
    """The weight file that a path means: of a run's folder the best model, else that of the newest checkpoint.

    Args:
        place: a run's folder, a checkpoint, or a weight file.

    Raises:
        WeightsError: there is none.
    """
    if not place.is_dir():
        if not place.exists():
            raise WeightsError(f"{place}: there is no such file or folder")
        return place
    folders = [place, *reversed(list_checkpoints(place))]
    names = [BEST, BEST_PADDLE], [MODEL, MODEL_PADDLE]
    candidates = [place / name for name in names[0]] + [f / name for f in folders for name in names[1]]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise WeightsError(
        f"{place}: is a folder without weights; expected a run's folder ({BEST} or {BEST_PADDLE}, else "
        f"{CHECKPOINTS}/checkpoint_…) or a checkpoint ({MODEL} or {MODEL_PADDLE}); or give the weight file itself"
    )


def require_same_classes(
    checkpoint: Path, before: Sequence[str] | None, now: Sequence[str] | None, counts: tuple[int, int]
) -> None:
    """Refuse to go on with other classes: their outputs would be trained on as those of the old ones.

    Args:
        checkpoint: what is resumed.
        before, now: names of its classes, and of the images'; None where they are not known.
        counts: how many there are before and now.

    Raises:
        DataError: another number, names or order.
    """
    if counts[0] == counts[1] and (before is None or now is None or list(before) == list(now)):
        return
    differing = ", ".join(map(shown, sorted(set(before or ()) ^ set(now or ()))[:5]))
    raise DataError(
        f"{checkpoint} was trained on {counted(counts[0], 'class')}, and the images now have {counts[1]}"
        + (
            f"; they differ in {differing}"
            if differing
            else ""
            if counts[0] != counts[1]
            else " in another order"
        )
        + ". Go on with the same classes, or start a new run from these weights with the classes of now"
    )
