"""Checkpoints of a run of any kind: folders that are whole or absent, and that notice a change in any of their files.

They lie in the run's folder `checkpoints/`. `checkpoint_0003` is the state after three epochs (of segmentation, which
counts steps, `checkpoint_000200` that after 200), `checkpoint_0003_step000120` that after 120 steps more. Each holds
the files that its task writes, and `state.json`: where the run is, size and SHA-256 of every other file, and its own
SHA-256. It is written in a hidden folder, flushed to the disk and renamed. At every moment, should the process end
there, the run has the new checkpoint or all that it had before.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cyclemlp.errors import WeightsError
from cyclemlp.files import file_sha256, recover_folder, replacing_folder

CHECKPOINTS, STATE = "checkpoints", "state.json"
_NAME = re.compile(r"checkpoint_(\d{4,})(?:_step(\d{6,}))?")
_FORMAT = 1


class BrokenCheckpointError(WeightsError):
    """A checkpoint that is incomplete or was changed."""


def write_checkpoint(
    run: Path, name: str, write: Callable[[Path], object], state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write a checkpoint whole or not at all, then remove all but the newest `keep`.

    Args:
        run: the run's folder.
        name: `checkpoint_…`; one of this name is replaced.
        write: writes the files into the folder that it is given.
        state: where the run is, as JSON values.
        keep: how many stay, this one included.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: it cannot be written (a full disk, say); earlier checkpoints are untouched.
    """
    target = run / CHECKPOINTS / name
    with replacing_folder(target, durable=True) as folder:
        write(folder)
        files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
        content = {"format": _FORMAT, "state": dict(state), "files": files}
        content["sha256"] = _digest(content)
        (folder / STATE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    remove_rests(run)
    for old in list_checkpoints(run)[:-keep]:
        # If its removal is cut short, it is no checkpoint any more.
        shutil.rmtree(old.rename(old.with_name(f".{old.name}.removed")))
    return target


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The state of a checkpoint all of whose files are as they were written.

    Raises:
        BrokenCheckpointError: they are not.
    """
    try:
        content = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise BrokenCheckpointError(
                f"{checkpoint / STATE} was written by another version of this program"
            )
        if content.pop("sha256") != _digest(content):
            raise BrokenCheckpointError(
                f"{checkpoint / STATE} was changed: its content is not what was written"
            )
        state, files = content["state"], content["files"]
        for name, written in files.items():
            found = _fingerprint(checkpoint / name)
            if found != written:
                raise BrokenCheckpointError(
                    f"{checkpoint / name} was truncated or changed: {found['bytes']:,} bytes, written were "
                    f"{written['bytes']:,}"
                    + (" (the content differs)" if found["bytes"] == written["bytes"] else "")
                )
    except OSError as error:
        raise BrokenCheckpointError(f"{checkpoint} is not a complete checkpoint: {error}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, BrokenCheckpointError):
            raise
        raise BrokenCheckpointError(f"{checkpoint / STATE} is damaged: {error!r}") from None
    return dict(state)


def list_checkpoints(run: Path) -> list[Path]:
    """Checkpoints of a run, oldest first, broken ones included."""
    found = [(place, path) for path in _entries(run) if (place := _place(path)) is not None]
    return [path for _, path in sorted(found)]


def newest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run that is whole; None if it has none. Warns about each broken one."""
    for path in reversed(list_checkpoints(run)):
        try:
            read_state(path)
        except BrokenCheckpointError as error:
            warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
        else:
            return path
    return None


def is_checkpoint(path: Path) -> bool:
    """Whether a path has the name of a checkpoint."""
    return _place(path) is not None


def recover_checkpoints(run: Path) -> None:
    """Put back a checkpoint that was being replaced when the process was killed; for who holds the run's lock."""
    for path in _entries(run):
        if path.name.startswith(".checkpoint_") and path.suffix == ".replaced":
            recover_folder(path.with_name(path.stem[1:]))


def remove_rests(run: Path) -> None:
    """Remove what killed processes left of checkpoints that they were writing or removing."""
    recover_checkpoints(run)
    for path in _entries(run):
        if path.name.startswith(".checkpoint_"):
            shutil.rmtree(path)


def _entries(run: Path) -> list[Path]:
    folder = run / CHECKPOINTS
    return list(folder.iterdir()) if folder.is_dir() else []


def _place(path: Path) -> tuple[int, int] | None:
    match = _NAME.fullmatch(path.name)
    return (int(match[1]), int(match[2] or 0)) if match else None


def _digest(content: Mapping[str, Any]) -> str:
    """Of JSON values, whatever their order and layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
