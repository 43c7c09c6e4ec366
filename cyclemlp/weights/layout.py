"""The two layouts of linear weights, and the offset buffers of the Cycle FC.

The authors' layout is PyTorch's: a linear weight is `[out, in]`, and every Cycle FC has a buffer `offset`. Paddle's is
`[in, out]`, without the buffers. Nothing else differs: convolutions and Cycle FCs are `[out, in, kh, kw]` in both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from cyclemlp.errors import WeightsError
from cyclemlp.metadata import LAYOUTS
from cyclemlp.offsets import cycle_offsets

#: (S_H, S_W) of the layers of a name, e.g. {"sfc_h": (1, 3), "sfc_w": (3, 1)}.
StepSizes = Mapping[str, tuple[int, int]]

_MAX_STEP = 31


def is_linear(name: str, tensor: np.ndarray) -> bool:
    """Whether a tensor's axes are swapped between the layouts."""
    return tensor.ndim == 2 and name.endswith(".weight")


def swap(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From either layout to the other, offsets apart."""
    return {n: np.ascontiguousarray(t.T) if is_linear(n, t) else t for n, t in tensors.items()}


def recognise(
    tensors: Mapping[str, np.ndarray], asked: str | None = None, recorded: str | None = None
) -> tuple[str, tuple[str, ...]]:
    """The layout of a whole file, and notes.

    A linear layer that is not square tells by its bias: `[out]`. Square ones tell nothing, and one without a bias
    nothing either, so the layout is a file's and never a tensor's.

    Args:
        tensors: of the file.
        asked: by the user; must agree with what the tensors say.
        recorded: in the file; must agree too.

    Raises:
        WeightsError: the tensors say nothing and neither does anyone else, or there is a contradiction.
    """
    votes: dict[str, str] = {}  # layout → the first tensor that says so
    silent = []
    for name, tensor in tensors.items():
        if not is_linear(name, tensor):
            continue
        bias = tensors.get(f"{name.removesuffix('weight')}bias")
        if bias is None or bias.ndim != 1 or tensor.shape[0] == tensor.shape[1]:
            silent.append(name)
        elif bias.size not in tensor.shape:
            raise WeightsError(f"is damaged: {name} is {list(tensor.shape)} and its bias [{bias.size}]")
        else:
            votes.setdefault(LAYOUTS[tensor.shape.index(bias.size)], f"{name} {list(tensor.shape)}")
    if len(votes) > 1:
        raise WeightsError(
            f"mixes layouts: {votes['authors']} is [out, in] (authors') but {votes['paddle']} is [in, out] "
            "(Paddle's); save it again from one framework"
        )
    for layout, witness in votes.items():
        for source, other in (("you asked for", asked), ("its metadata says", recorded)):
            if other not in (None, layout):
                raise WeightsError(
                    f"is in the {layout} layout, as {witness} and its bias show, but {source} {other}"
                )
        return layout, ()
    if asked and recorded and asked != recorded:
        raise WeightsError(f"is in the {recorded} layout, as its metadata says, but you asked for {asked}")
    if asked or recorded:
        return str(asked or recorded), ()
    if not silent:
        return "paddle", ("no linear weights, so both layouts are the same",)
    raise WeightsError(
        f"does not tell its layout: {silent[0]} is {list(tensors[silent[0]].shape)}, and no other linear weight that "
        "is not square has a bias; say which it is with --layout (layout=…): `authors` if PyTorch wrote it "
        "([out, in]), `paddle` if Paddle did ([in, out])"
    )


def offset_buffer(channels: int, step_size: tuple[int, int]) -> np.ndarray:
    """The buffer `offset` of a Cycle FC, as the authors' deformable convolution wants it (see docs/weights.md).

    Returns:
        float32 `[1, 2 C, 1, 1]`: δ_h, δ_w of each channel in turn, in pixels of the map.
    """
    offsets = np.stack(cycle_offsets(channels, step_size), axis=1)
    return offsets.astype(np.float32).reshape(1, 2 * channels, 1, 1)


#: What wrappers put before every name: data parallelism, torch.compile, Lightning, PaddleSeg and PaddleDetection, EMA.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "student.", "ema.", "net.")
#: How many of them a name may begin with: each is a pass over all names.
MAX_PREFIXES = 16


def without_prefixes(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The tensors without the known prefixes that all names have, in any combination, and what was left out."""
    found, count = "", 0
    names = list(tensors)
    while (
        names
        and (count := count + 1) <= MAX_PREFIXES
        and (prefix := next((p for p in PREFIXES if all(n.startswith(p) and n != p for n in names)), None))
    ):
        found += prefix
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, tensors.values(), strict=True)), found


_SWINS_NAME = re.compile(r"layers\.(\d+)\.(?:blocks\.(\d+)|downsample)\.")


def published_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors by B1's to B5's names, where a CycleMLP has those of Swin's code, whose stages are `layers`.

    `layers.1.blocks.0.` becomes `network.2.0.`, `layers.1.downsample.` becomes `network.3.`. Other names stay.
    """
    branches = tuple(f".attn.{branch}.weight" for branch in ("sfc_h", "sfc_w", "mlp_c"))
    if not any(_SWINS_NAME.match(name) and name.endswith(branches) for name in tensors):
        return dict(tensors)

    def renamed(found: re.Match[str]) -> str:
        stage, block = 2 * int(found[1]), found[2]
        return f"network.{stage + 1}." if block is None else f"network.{stage}.{block}."

    return {_SWINS_NAME.sub(renamed, name): tensor for name, tensor in tensors.items()}


def take_offsets(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, int]]]:
    """The tensors without `*.offset`, and the step sizes that those were made with, by the last part of their names.

    A buffer holds the offsets and not the step size, so the smallest is taken that gives all buffers of a name.

    Raises:
        WeightsError: some buffer holds the offsets of no step size.
    """
    buffers: dict[str, list[str]] = {}
    for name in tensors:
        if name.endswith(".offset"):
            buffers.setdefault(name.split(".")[-2], []).append(name)
    known: dict[bytes, list[tuple[int, int]]] = {}
    steps = {
        layer: _step_size([(name, tensors[name]) for name in names], known)
        for layer, names in buffers.items()
    }
    return {n: t for n, t in tensors.items() if not n.endswith(".offset")}, steps


def _step_size(
    buffers: list[tuple[str, np.ndarray]], known: dict[bytes, list[tuple[int, int]]]
) -> tuple[int, int]:
    """The smallest step size that gives all buffers; `known` has the step sizes by content, and grows."""
    for name, buffer in buffers:
        if buffer.ndim != 4 or buffer.shape[0] != 1 or buffer.shape[1] % 2 or buffer.shape[2:] != (1, 1):
            raise WeightsError(
                f"has {name} of shape {list(buffer.shape)}; offsets of a Cycle FC are [1, 2 C, 1, 1]"
            )
    possible = _STEPS
    for name, buffer in buffers:
        content = f"{buffer.dtype} ".encode() + buffer.tobytes()
        if content not in known:  # layers of one width have the same buffer
            known[content] = _steps_of(buffer)
        steps = known[content]
        if steps != possible:
            fits = set(steps)
            possible = [step for step in possible if step in fits]
        if not possible:
            raise WeightsError(
                f"has a {name} that is not the offsets of a Cycle FC, of any step size up to {_MAX_STEP} (first "
                f"values {buffer.ravel()[:6].tolist()}); such a network would give other results than this one"
            )
    return possible[0]


_STEPS = sorted(
    ((h, w) for h in range(1, _MAX_STEP + 1) for w in range(1, _MAX_STEP + 1)),
    key=lambda step: (step[0] * step[1], step),
)


def _steps_of(buffer: np.ndarray) -> list[tuple[int, int]]:
    """The step sizes that give a buffer, smallest first."""
    channels = buffer.shape[1] // 2
    few = min(channels, _MAX_STEP**2)  # a period of any step size: what differs, differs there
    return [
        step
        for step in _STEPS
        if np.array_equal(offset_buffer(few, step), buffer[:, : 2 * few])
        and np.array_equal(offset_buffer(channels, step), buffer)
    ]


def put_offsets(tensors: Mapping[str, np.ndarray], steps: StepSizes) -> dict[str, np.ndarray]:
    """The tensors with the offset buffer of each layer named in `steps` behind its last tensor, as published."""
    result: dict[str, np.ndarray] = {}
    layers = [name.rpartition(".")[0] for name in tensors]
    for (name, tensor), layer, following in zip(tensors.items(), layers, [*layers[1:], ""], strict=True):
        result[name] = tensor
        step = steps.get(layer.split(".")[-1])
        if step is not None and layer != following:
            result[f"{layer}.offset"] = offset_buffer(tensors[f"{layer}.weight"].shape[1], step)
    return result


def step_sizes(metadata: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The step sizes of a model by its metadata; those of the published weights if it names none."""
    value = (metadata.get("overrides") or {}).get("step_size", 3)
    (h_h, h_w), (w_h, w_w) = ((1, value), (value, 1)) if isinstance(value, int) else value
    return {"sfc_h": (h_h, h_w), "sfc_w": (w_h, w_w)}
