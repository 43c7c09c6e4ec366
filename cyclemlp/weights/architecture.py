"""What a CycleMLP's tensors tell of its architecture, and in what two architectures differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cyclemlp.text import printable, shortened

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Trait:
    """One value of `CycleMLPConfig`, as tensors show it.

    Attributes:
        value: as the configuration has it; "unknown" for a form that no configuration has.
        witness: the tensor that shows it, with its shape, or the one that is not there.
    """

    value: Any
    witness: str


_BRANCHES = {"h": "sfc_h", "w": "sfc_w", "c": "mlp_c"}

_WORDS: dict[str, Callable[[Any], str]] = {
    "patch_size": lambda v: f"patches of {v}×{v} pixels",
    "patch_norm": lambda v: f"{'a' if v else 'no'} norm after the patch embedding",
    "embed_dims": lambda v: f"stages of the widths {_list(v)}",
    "depths": lambda v: f"stages of {_list(v)} blocks",
    "mlp_ratios": lambda v: f"channel MLPs of {_list(v)} times the width",
    "branches": lambda v: f"the branches {_list(v)}",
    "gate": lambda v: f"{'a' if v else 'no'} gate MLP",
    "downsample": lambda v: {
        "conv": "a convolution between the stages",
        "merge": "patch merging between the stages",
    }.get(v, "something else between the stages"),
}


def _list(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))


def read_architecture(shapes: Mapping[str, Shape]) -> dict[str, Trait]:
    """The values of `CycleMLPConfig` that tensors show, by its names.

    Strides, step sizes, and whatever has no parameters show in none.

    Args:
        shapes: by the published names; of linear layers either layout.

    Returns:
        Nothing for tensors that are not a CycleMLP's.
    """

    def length(name: str) -> int:  # of a vector; 0 for what is none
        shape = shapes.get(name, ())
        return shape[0] if len(shape) == 1 else 0

    widths: list[int] = []
    depths: list[int] = []
    ratios: list[float] = []
    while width := length(f"network.{2 * len(widths)}.0.norm1.weight"):
        stage = f"network.{2 * len(widths)}."
        widths.append(width)
        depths.append(next(j for j in range(len(shapes) + 1) if f"{stage}{j}.norm1.weight" not in shapes))
        hidden = length(f"{stage}0.mlp.fc1.bias")
        ratios.append(hidden // widths[-1] if hidden % widths[-1] == 0 else hidden / widths[-1])
    if not widths:
        return {}

    def seen(*names: str) -> str:
        return next((f"{name} {list(shapes[name])}" for name in names if name in shapes), f"no {names[0]}")

    last = f"network.{2 * len(widths) - 2}"
    traits = {
        "embed_dims": Trait(tuple(widths), seen(f"{last}.0.norm1.weight")),
        "depths": Trait(tuple(depths), seen(f"{last}.{depths[-1] - 1}.norm1.weight")),
        "mlp_ratios": Trait(tuple(ratios), seen("network.0.0.mlp.fc1.bias")),
    }
    kernel = shapes.get("patch_embed.proj.weight", ())
    if len(kernel) == 4:
        traits["patch_size"] = Trait(kernel[2], seen("patch_embed.proj.weight"))
    norm = "patch_embed.norm.weight"
    traits["patch_norm"] = Trait(norm in shapes, seen(norm))
    mixer = "network.0.0.attn."
    present = [branch for branch, layer in _BRANCHES.items() if f"{mixer}{layer}.weight" in shapes]
    traits["branches"] = Trait(
        tuple(present),
        ", ".join(f"{mixer}{_BRANCHES[branch]}.weight" for branch in present) or f"no {mixer}sfc_h",
    )
    gate = f"{mixer}reweight.fc1.weight"
    traits["gate"] = Trait(gate in shapes, seen(gate))
    between = [name for name in shapes if name.startswith("network.1.")]
    if between:
        value = "conv" if "network.1.proj.weight" in shapes else "merge"
        known = "network.1.proj.weight" in shapes or "network.1.reduction.weight" in shapes
        traits["downsample"] = Trait(
            value if known else "unknown",
            seen("network.1.proj.weight", "network.1.reduction.weight", between[0]),
        )
    return traits


def architecture_differences(
    file: Mapping[str, Shape], model: Mapping[str, Shape], claim: str = "the model has"
) -> list[str]:
    """In what a file's architecture is another than a model's: a sentence each, with the tensor that shows it.

    Args:
        file, model: names and shapes. Stages that only one of them has are not compared: a model that gives feature
            maps need not have all.
        claim: how the sentence on the model begins.
    """
    found, wanted = read_architecture(file), read_architecture(model)
    if wanted and not found:
        first = shortened(printable(next(iter(file)), lines=False))
        return [f"the file has no stages network.0.0 …, its first tensor is {first}: {claim} the names of B1"]
    sentences = []
    for name, words in _WORDS.items():
        if name not in found or name not in wanted:
            continue
        theirs, ours = found[name].value, wanted[name].value
        if name in ("embed_dims", "depths", "mlp_ratios"):
            stages = min(len(theirs), len(ours))
            theirs, ours = theirs[:stages], ours[:stages]
        if theirs != ours:
            sentences.append(
                f"the file has {words(theirs)} ({found[name].witness}): {claim} {words(ours)} ({name}={ours!r})"
            )
    return sentences
