"""What a classification run's checkpoint holds, from which it goes on bit for bit; see `cyclemlp.run.checkpoints` too.

- `model.safetensors`: weights in their published names, with the model's metadata; usable by itself;
- `optimizer.safetensors`: the optimizer's tensors, named `<parameter>:<kind>` (Paddle's own names of parameters
  change from process to process);
- `ema.safetensors`: the weights' average, a model as well, where the recipe keeps one;
- in `state.json`: where the run is, and the loss scaler's state.

No random state is kept: every draw of a run is a function of its seed, epoch and step.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import safetensors.numpy
from paddle import nn

from cyclemlp.errors import WeightsError
from cyclemlp.models import load_weights, save_model
from cyclemlp.run import MODEL, BrokenCheckpointError, read_state, require_same_classes, write_checkpoint
from cyclemlp.weights import read_weights, write_weights

OPTIMIZER, EMA = "optimizer.safetensors", "ema.safetensors"
# Paddle's name of an Adam tensor: `{its name of the parameter}_{kind}_{number}`.
_OPTIMIZER_KEY = re.compile(r"(?P<parameter>.+)_(?P<kind>moment1|moment2|beta1_pow_acc|beta2_pow_acc)_\d+$")


@dataclass
class TrainingState:
    """Where a run is.

    Attributes:
        epoch: epochs completed.
        step: steps done of the epoch under way.
        loss_sum, images: of the epoch under way: sum over images of their training loss, and their number.
        skipped: steps of the epoch under way that overflowed in float16 and changed nothing.
        updates: steps of the whole run that changed the weights.
        seconds: of training in the whole run; evaluation and saving are not counted.
        best, best_epoch: best figure of the validation so far (without validation images: None), and its epoch.
        best_ema, best_ema_epoch: the same of the weights' average.
        best_metric: the recipe's `run.best_metric`, of which those are.
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
    best_metric: str = "accuracy"
    skipped: int = 0
    updates: int = 0
    seconds: float = 0.0
    scaler: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of this state's checkpoint."""
        return f"checkpoint_{self.epoch:04d}" + (f"_step{self.step:06d}" if self.step else "")


def save_checkpoint(
    run: Path,
    model: nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    state: TrainingState,
    *,
    keep: int,
    average: nn.Layer | None = None,
) -> Path:
    """Write the checkpoint of a state as `write_checkpoint` does.

    Raises:
        OSError: it cannot be written (a full disk, say); earlier checkpoints are untouched.
    """

    def write(folder: Path) -> None:
        write_model(model, folder / MODEL, extra={"epoch": state.epoch})
        with _as_os_error(folder / OPTIMIZER):
            write_weights(folder / OPTIMIZER, _optimizer_tensors(model, optimizer))
        if average is not None:
            write_model(average, folder / EMA, extra={"epoch": state.epoch})

    return write_checkpoint(run, state.name, write, asdict(state), keep=keep)


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
    state = training_state(path)
    file = read_weights(path / MODEL)
    counts = file.metadata.get("overrides", {}).get("num_classes", 1000), model.config.num_classes
    require_same_classes(path, file.metadata.get("classes"), model.metadata.classes, counts)
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


def training_state(path: Path) -> TrainingState:
    """The state of a checkpoint that is whole.

    Raises:
        BrokenCheckpointError: it is not, or is none of a classification run of this version.
    """
    # Checkpoints from before there was a choice do not name the metric.
    state = {"best_metric": "accuracy", **read_state(path)}
    if set(state) != {f.name for f in fields(TrainingState)}:
        raise BrokenCheckpointError(
            f"{path} was written by another version of this program, or of another task"
        )
    return TrainingState(**state)


def _optimizer_tensors(model: nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, np.ndarray]:
    """`{parameter}:{kind}` → array, in the order of names: Paddle's is that in which parameters were first updated."""
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    tensors = {}
    for key, tensor in optimizer.state_dict().items():
        match = _OPTIMIZER_KEY.match(key)
        if match is None or match["parameter"] not in names:
            raise RuntimeError(f"the optimizer holds {key!r}, which a checkpoint does not know how to keep")
        tensors[f"{names[match['parameter']]}:{match['kind']}"] = tensor.numpy()
    return dict(sorted(tensors.items()))


def _set_optimizer_tensors(model: nn.Layer, optimizer: paddle.optimizer.Optimizer, path: Path) -> None:
    names = {name: parameter.name for name, parameter in model.named_parameters()}
    state = {}
    for key, array in safetensors.numpy.load_file(path).items():
        name, _, kind = key.rpartition(":")
        if name not in names:
            raise WeightsError(f"{path} holds {key!r}, but the model has no parameter {name!r}")
        # The name that a fresh optimizer's tensor will have; Paddle asserts it at the first step.
        state[f"{names[name]}_{kind}_0"] = paddle.to_tensor(array)
    if state:
        # Paddle wants those of each parameter (Muon takes the first of them): one that was frozen then
        # and is not now, or later, begins anew.
        for parameter in optimizer._parameter_list:
            zeros = paddle.zeros_like(parameter)
            for kind, value in (
                ("moment1", zeros),
                ("moment2", zeros),
                ("beta1_pow_acc", paddle.full([1], optimizer._beta1, zeros.dtype)),
                ("beta2_pow_acc", paddle.full([1], optimizer._beta2, zeros.dtype)),
            ):
                state.setdefault(f"{parameter.name}_{kind}_0", value)
    optimizer.set_state_dict(state)


@contextlib.contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    try:
        yield
    except WeightsError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from None
