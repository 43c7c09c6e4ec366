"""Checkpoints: folders that are complete or absent, from which a run goes on bit for bit.

`checkpoint_0003/` is the state after three epochs, `checkpoint_0003_step000120/` after 120 steps more. Each holds

- `model.safetensors`: weights in their published names, with the model's metadata; usable by itself;
- `optimizer.safetensors`: the optimizer's tensors, named `<parameter>:<kind>` (Paddle's own names of parameters
  change from process to process);
- `ema.safetensors`: the weights' average, a model as well, where the recipe keeps one;
- `state.json`: where the run is, the loss scaler's state, size and SHA-256 of the other files, and its own SHA-256.

No random state is kept: every draw of a run is a function of its seed, epoch and step.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import safetensors.numpy
from paddle import nn

from cyclemlp.errors import DataError, WeightsError
from cyclemlp.models import load_weights, save_model
from cyclemlp.text import shown
from cyclemlp.weights import file_sha256, read_weights, write_weights

MODEL, OPTIMIZER, EMA, STATE = "model.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json"
_NAME = re.compile(r"checkpoint_(\d{4,})(?:_step(\d{6,}))?$")
# Paddle's name of an Adam tensor: `{its name of the parameter}_{kind}_{number}`.
_OPTIMIZER_KEY = re.compile(r"(?P<parameter>.+)_(?P<kind>moment1|moment2|beta1_pow_acc|beta2_pow_acc)_\d+$")
_FORMAT = 1


@dataclass
class TrainingState:
    """Where a run is.

    Attributes:
        epoch: epochs completed.
        step: steps done of the epoch under way.
        loss_sum, images: of the epoch under way: sum over images of their training loss, and their number.
        skipped: steps of the epoch under way that overflowed in float16 and changed nothing.
        updates: steps of the whole run that changed the weights.
        best, best_epoch: best validation top-1 in % so far (without validation images: None), and its epoch.
        best_ema, best_ema_epoch: the same of the weights' average.
        scaler: state of the float16 loss scaler.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    best: float | None = None
    best_epoch: int | None = None
    best_ema: float | None = None
    best_ema_epoch: int | None = None
    skipped: int = 0
    updates: int = 0
    scaler: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of this state's checkpoint."""
        return f"checkpoint_{self.epoch:04d}" + (f"_step{self.step:06d}" if self.step else "")


class BrokenCheckpointError(WeightsError):
    """A checkpoint that is incomplete or was changed."""


def save_checkpoint(
    run: Path,
    model: nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    state: TrainingState,
    *,
    keep: int,
    average: nn.Layer | None = None,
) -> Path:
    """Write `run/checkpoint_…/` whole or not at all, then remove all but the newest `keep`.

    At every moment, should the process end there, the run has this checkpoint or all that it had before.

    Raises:
        OSError: it cannot be written (a full disk, say); earlier checkpoints are untouched.
    """
    target = run / state.name
    partial = run / f".{state.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed here
    partial.mkdir(parents=True)
    try:
        write_model(model, partial / MODEL, extra={"epoch": state.epoch})
        with _as_os_error(partial / OPTIMIZER):
            write_weights(partial / OPTIMIZER, _optimizer_tensors(model, optimizer))
        if average is not None:
            write_model(average, partial / EMA, extra={"epoch": state.epoch})
        written = [name for name in (MODEL, OPTIMIZER, EMA) if (partial / name).exists()]
        content = {
            "format": _FORMAT,
            "state": asdict(state),
            "files": {name: _fingerprint(partial / name) for name in written},
        }
        content["sha256"] = _digest(content)
        (partial / STATE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            _flush(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if target.exists():
        _put_aside(target, _replaced(target))
    partial.rename(target)
    _flush(run)
    for old in list_checkpoints(run)[:-keep]:
        _put_aside(
            old, old.with_name(f".{old.name}.removed")
        )  # if its removal is cut short, it is no checkpoint
    for rest in run.glob(".checkpoint_*"):
        shutil.rmtree(rest)
    return target


def write_model(model: nn.Layer, path: Path, *, extra: dict[str, Any]) -> None:
    """`save_model`, whose errors of the disk are OSErrors here: what the user asked for was no mistake.

    Raises:
        OSError: it names the file; a file that was there is untouched.
    """
    with _as_os_error(path):
        save_model(model, path, extra=extra)


def load_checkpoint(
    path: Path,
    model: nn.Layer,
    optimizer: paddle.optimizer.Optimizer | None = None,
    average: nn.Layer | None = None,
) -> TrainingState:
    """Put a checkpoint's model, optimizer state and average in place.

    Where the checkpoint has no average, it begins with the checkpoint's weights, and a warning says so.

    Raises:
        BrokenCheckpointError: a file is missing, truncated or changed.
        WeightsError: it is of another model.
        DataError: it was trained on other classes.
    """
    state = check_checkpoint(path)
    file = read_weights(path / MODEL)
    _check_classes(path, file.metadata, model)
    load_weights(model, file)
    if optimizer is not None:
        _set_optimizer_tensors(model, optimizer, path / OPTIMIZER)
    if average is not None:
        kept = (path / EMA).exists()
        load_weights(average, path / (EMA if kept else MODEL))
        if not kept:
            warnings.warn(f"{path} has no average of the weights: it begins with its weights", stacklevel=2)
            state.updates = 0
    return state


def _check_classes(path: Path, kept: Mapping[str, Any], model: nn.Layer) -> None:
    """The classes of a run stay what they were: else their outputs would be trained on as those of others."""
    old, new = kept.get("classes"), model.metadata.classes
    before, now = kept.get("overrides", {}).get("num_classes", 1000), model.config.num_classes
    if before == now and (old is None or new is None or list(old) == list(new)):
        return
    differing = ", ".join(map(shown, sorted(set(old or ()) ^ set(new or ()))[:5]))
    raise DataError(
        f"{path} was trained on {before} classes, and the images now have {now}"
        + (f"; they differ in {differing}" if differing else "" if before != now else " in another order")
        + ". Go on with the same classes, or start a new run from these weights (--weights) with the classes of now"
    )


def check_checkpoint(path: Path) -> TrainingState:
    """The state of a checkpoint all of whose files are as they were written.

    Raises:
        BrokenCheckpointError: they are not.
    """
    try:
        content = json.loads((path / STATE).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise BrokenCheckpointError(f"{path / STATE} was written by another version of this program")
        digest = content.pop("sha256", None)  # older checkpoints have none
        if digest is not None and digest != _digest(content):
            raise BrokenCheckpointError(f"{path / STATE} was changed: its content is not what was written")
        written, files = content["state"], content["files"]
        for name in {MODEL: None, OPTIMIZER: None, **files}:
            found = _fingerprint(path / name)
            if found != files[name]:
                raise BrokenCheckpointError(
                    f"{path / name} was truncated or changed: {found['bytes']:,} bytes, written were "
                    f"{files[name]['bytes']:,}"
                    + (" (the content differs)" if found["bytes"] == files[name]["bytes"] else "")
                )
        if set(written) != {f.name for f in fields(TrainingState)}:
            raise BrokenCheckpointError(f"{path / STATE} was written by another version of this program")
    except OSError as error:
        raise BrokenCheckpointError(f"{path} is not a complete checkpoint: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BrokenCheckpointError):
            raise
        raise BrokenCheckpointError(f"{path / STATE} is damaged: {error!r}") from None
    return TrainingState(**written)


def newest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run that is whole; None if it has none. Warns about each broken one."""
    for path in run.glob(".checkpoint_*"):
        target = run / path.name[1:].removesuffix(".replaced")
        if path == _replaced(target) and not target.exists():
            path.rename(target)  # the run ended in the moment between
    for path in reversed(list_checkpoints(run)):
        try:
            check_checkpoint(path)
        except BrokenCheckpointError as error:
            warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
        else:
            return path
    return None


def list_checkpoints(run: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first, broken ones included."""
    found = [(int(m[1]), int(m[2] or 0), p) for p in run.glob("checkpoint_*") if (m := _NAME.match(p.name))]
    return [path for *_, path in sorted(found)]


def _optimizer_tensors(model: nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, np.ndarray]:
    """`{parameter}:{kind}` → array."""
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    tensors = {}
    for key, tensor in optimizer.state_dict().items():
        match = _OPTIMIZER_KEY.match(key)
        if match is None or match["parameter"] not in names:
            raise RuntimeError(f"the optimizer holds {key!r}, which a checkpoint does not know how to keep")
        tensors[f"{names[match['parameter']]}:{match['kind']}"] = tensor.numpy()
    return tensors


def _set_optimizer_tensors(model: nn.Layer, optimizer: paddle.optimizer.Optimizer, path: Path) -> None:
    names = {name: parameter.name for name, parameter in model.named_parameters()}
    state = {}
    for key, array in safetensors.numpy.load_file(path).items():
        name, _, kind = key.rpartition(":")
        if name not in names:
            raise WeightsError(f"{path} holds {key!r}, but the model has no parameter {name!r}")
        # The name that a fresh optimizer's tensor will have; Paddle asserts it at the first step.
        state[f"{names[name]}_{kind}_0"] = paddle.to_tensor(array)
    if state:  # Paddle wants those of each parameter: one that was frozen then and is not now begins anew
        for parameter in (p for p in model.parameters() if not p.stop_gradient):
            zeros = paddle.zeros_like(parameter)
            for kind, value in (
                ("moment1", zeros),
                ("moment2", zeros),
                ("beta1_pow_acc", paddle.full([1], optimizer._beta1, zeros.dtype)),
                ("beta2_pow_acc", paddle.full([1], optimizer._beta2, zeros.dtype)),
            ):
                state.setdefault(f"{parameter.name}_{kind}_0", value)
    optimizer.set_state_dict(state)


def _digest(content: Mapping[str, Any]) -> str:
    """Of JSON values, whatever their order and layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _flush(path: Path) -> None:
    """To the disk: what is renamed into place must not be empty after a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put_aside(path: Path, aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed there
    path.rename(aside)


def _replaced(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


@contextlib.contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    try:
        yield
    except WeightsError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from None
