"""Fitting a file's tensors to a model's, strictly: nothing is left out or adapted without being said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cyclemlp.errors import MismatchError, WeightsError
from cyclemlp.text import counted, printable, shortened, shown
from cyclemlp.weights.architecture import Shape, architecture_differences
from cyclemlp.weights.files import WeightFile
from cyclemlp.weights.layout import StepSizes, offset_buffer

#: Tensors that do not fit, in an error's message.
MOST_LISTED = 20


@dataclass(frozen=True)
class MatchReport:
    """What was taken from a file and what was not. `str` of it is for people, its first line the summary.

    Attributes:
        path, layout: of the file.
        expected: how many tensors the model has.
        loaded: names of those that the file gives, adapted ones included.
        reinitialised: the head's tensors that the file has for other classes (file's shape, model's shape) and the
            model keeps as initialised; the file's shape is None where the file has no head.
        adapted: the stem's kernel, computed from the file's for another number of input channels; shapes likewise.
        new: names that the file lacks by right; the model keeps them as initialised.
        ignored: names in the file that the model has no use for, by right.
        cast: names that were not float32 in the file, with their type there.
        notes: the file's own.
    """

    path: Path
    layout: str
    expected: int
    loaded: tuple[str, ...]
    reinitialised: Mapping[str, tuple[Shape | None, Shape]] = field(default_factory=dict)
    adapted: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    cast: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def changes(self) -> str:
        """What of the file was not taken as it is, a line each: a new head, an adapted stem; empty if nothing."""
        lines = []
        if self.reinitialised:
            old, new = next(iter(self.reinitialised.values()))
            classes = (
                f"{old[-1]} → {counted(new[-1], 'class')}"
                if old
                else f"the file has none; {counted(new[-1], 'class')}"
            )
            lines.append(f"head re-initialised: {classes} ({', '.join(self.reinitialised)})")
        for name, (before, after) in self.adapted.items():
            how = "summed" if after[1] == 1 else "repeated and rescaled"
            lines.append(f"input adapted: {before[1]} → {counted(after[1], 'channel')}, {how} ({name})")
        return "\n  ".join(lines)

    def __str__(self) -> str:
        lines = [
            (
                f"{len(self.loaded)} of {counted(self.expected, 'tensor')} loaded from {self.path} "
                f"({_LAYOUT_NAMES[self.layout]})"
            )
        ]
        if changes := self.changes():
            lines.append(changes)
        if self.new:
            lines.append(f"not in the file, left as initialised: {', '.join(self.new)}")
        if self.ignored:
            lines.append(f"in the file, not used by this model: {', '.join(self.ignored)}")
        if self.cast:
            lines.append(
                f"cast to float32: {counted(len(self.cast), 'tensor')} of {', '.join(sorted(set(self.cast.values())))}"
            )
        return "\n  ".join([*lines, *self.notes])


_LAYOUT_NAMES = {"authors": "authors' layout", "paddle": "Paddle's layout"}


def match_weights(
    file: WeightFile,
    expected: Mapping[str, Shape],
    *,
    adaptable: Mapping[str, str] | None = None,
    step_sizes: StepSizes | None = None,
    claim: str = "the model has",
) -> tuple[dict[str, np.ndarray], MatchReport]:
    """Choose a model's tensors from a file, or refuse.

    Args:
        file: from `read_weights`.
        expected: the model's names and shapes, in Paddle's layout.
        adaptable: names that need not match, and what may happen to each: "head": of other classes, or none, in the
            file: the model keeps its own; "input": the kernel `[O, C, kh, kw]` of another number of channels:
            adapted; "new": may be missing in the file; "ignore": may be in the file without the model having it.
        step_sizes: (S_H, S_W) of the model's Cycle FCs by name. Weights do not show the step size, so a file whose
            offset buffers show another one is refused.
        claim: how the error's sentences on the model's architecture begin.

    Returns:
        Arrays by name (names that stay as initialised are not among them), of float32 where they are of floats,
        and the report.

    Raises:
        MismatchError: says in what the file's architecture is another, if it is a CycleMLP's, and lists the tensors
            that are missing, unexpected or mis-shaped: some in the message, all in `mismatches`.
        WeightsError: the file's step size is another.
    """
    adaptable = adaptable or {}
    _check_steps(file, step_sizes or {})
    tensors: dict[str, np.ndarray] = {}
    reinitialised: dict[str, tuple[Shape | None, Shape]] = {}
    adapted: dict[str, tuple[Shape, Shape]] = {}
    new, wrong = [], []
    for name, shape in expected.items():
        shape, right = tuple(shape), adaptable.get(name)
        tensor = file.tensors.get(name)
        if tensor is None:
            if right == "new":
                new.append(name)
            elif right == "head" and not any(adaptable.get(other) == "head" for other in file.tensors):
                reinitialised[name] = (None, shape)
            else:
                wrong.append(f"missing:    {name} {list(shape)}")
        elif tensor.shape == shape:
            tensors[name] = tensor
        elif right == "head" and tensor.shape[:-1] == shape[:-1]:  # [in, classes], [classes]
            reinitialised[name] = (tensor.shape, shape)
        elif right == "input" and (tensor.shape[0], *tensor.shape[2:]) == (shape[0], *shape[2:]):
            adapted[name] = (tensor.shape, shape)
            tensors[name] = adapt_input(tensor, shape[1])
        else:
            wrong.append(
                f"mis-shaped: {name} is {list(tensor.shape)} in the file, {list(shape)} in the model"
            )
    unexpected = [name for name in file.tensors if name not in expected]
    ignored = [name for name in unexpected if adaptable.get(name) == "ignore"]
    dropped = set(ignored)
    wrong += [
        f"unexpected: {_name(n)} {shown(list(file.tensors[n].shape))}" for n in unexpected if n not in dropped
    ]
    if wrong:
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        listed = [*architecture_differences(shapes, expected, claim), *wrong[:MOST_LISTED]]
        if len(wrong) > MOST_LISTED:
            listed.append(
                f"… and {len(wrong) - MOST_LISTED:,} more: `cyclemlp info FILE --against MODEL` and the error's "
                "`mismatches` list all"
            )
        raise MismatchError(
            f"{file.path}: does not fit the model, {counted(len(wrong), 'tensor differs', 'tensors differ')}; nothing "
            "was loaded. Is it of another variant, or was the model made with other settings?\n  "
            + "\n  ".join(listed),
            wrong,
        )
    cast = {n: str(t.dtype) for n, t in tensors.items() if t.dtype.kind == "f" and t.dtype != np.float32}
    tensors |= {name: tensors[name].astype(np.float32) for name in cast}
    report = MatchReport(
        path=file.path,
        layout=file.layout,
        expected=len(expected),
        loaded=tuple(tensors),
        reinitialised=reinitialised,
        adapted=adapted,
        new=tuple(new),
        ignored=tuple(ignored),
        cast=cast,
        notes=file.notes,
    )
    return tensors, report


def adapt_input(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A convolution's kernel for another number of input channels, as timm's `adapt_input_conv` has it.

    One channel gets the sum over the old ones: a grey image then gives what its colour copy gave. Several get the
    old ones in turn, times old / new, so that the output keeps its scale.

    Args:
        kernel: `[O, C, kh, kw]`.

    Returns:
        float32 `[O, channels, kh, kw]`.
    """
    kernel = kernel.astype(np.float32)
    if channels == 1:
        return kernel.sum(axis=1, keepdims=True)
    old = kernel.shape[1]
    return kernel[:, np.arange(channels) % old] * np.float32(old / channels)


def _check_steps(file: WeightFile, wanted: StepSizes) -> None:
    for layer in sorted(set(file.step_sizes) & set(wanted)):
        channels = max(
            (t.shape[1] for n, t in file.tensors.items() if n.endswith(f".{layer}.weight")), default=0
        )
        found, want = file.step_sizes[layer], wanted[layer]
        # Compared as offsets: with few channels several step sizes give the same.
        if not np.array_equal(offset_buffer(channels, found), offset_buffer(channels, want)):
            raise WeightsError(
                f"{file.path}: its {layer} was trained with step size {found[0]}×{found[1]}, the model has "
                f"{want[0]}×{want[1]}; make the model with the file's step_size"
            )


def _name(name: str) -> str:
    """A tensor's name out of a file, safe to print."""
    return shortened(printable(name, lines=False), 120)
