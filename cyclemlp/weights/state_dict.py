"""Finding the state dict in what a pickle held, and loading its tensors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from cyclemlp.errors import WeightsError
from cyclemlp.text import counted
from cyclemlp.weights.records import LazyTensor
from cyclemlp.weights.unpickle import printable

#: Where training checkpoints keep the weights, best first: the authors' accuracies are of the raw weights, not of EMA.
ENTRIES = ("model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema")
#: A tensor may have several names (tied weights); a file whose tensors are so many times larger than itself is a bomb.
MAX_GROWTH = 4

Loaded = tuple[dict[str, np.ndarray], list[str]]


def load_state_dict(tree: Any, file_size: int) -> Loaded:
    """The tensors of the state dict in `tree`, and notes on what was chosen, converted and left out.

    Args:
        tree: what `read_pickle` made: a state dict, or a checkpoint that has one under one of `ENTRIES`.
        file_size: of the file, in bytes; bounds the memory that the tensors may take.

    Raises:
        WeightsError: there is no state dict, or its tensors cannot be loaded.
    """
    notes: list[str] = []
    if not isinstance(tree, dict):
        raise WeightsError(
            f"holds a {type(tree).__name__}, not a state dict; save model.state_dict() instead"
        )
    entries = [name for name in ENTRIES if isinstance(tree.get(name), dict) and _tensors(tree[name])]
    if entries:
        others = ", ".join(printable(str(key)) for key in list(tree)[:20] if key != entries[0])
        if entries[1:]:
            warnings.warn(
                f"the weight file has the entries {', '.join(map(repr, entries))}: {entries[0]!r} was read; to use "
                "another, save it in a file of its own",
                stacklevel=2,
            )
        notes.append(f"read the entry {entries[0]!r}" + (f"; left out: {others}" if others else ""))
        tree = tree[entries[0]]
    lazy = _tensors(tree)
    if not lazy:
        found = ", ".join(printable(str(key)) for key in list(tree)[:10]) or "nothing"
        raise WeightsError(
            f"holds no state dict: no tensors at the top or under {', '.join(ENTRIES)} (found: {found}); "
            "save model.state_dict() instead"
        )
    left_out = [printable(str(key)) for key in tree if key not in lazy]
    if left_out:
        notes.append(
            f"left out {counted(len(left_out), 'entry that is not a tensor', 'entries that are not tensors')}: "
            f"{', '.join(left_out[:10])}"
        )
    size = sum(tensor.nbytes for tensor in lazy.values())
    if size > MAX_GROWTH * file_size:
        raise WeightsError(
            f"claims tensors of {size} bytes in a file of {file_size}: sizes that are made up, or the same data under "
            "many names, as no weight file has them"
        )
    tensors = {}
    for name, tensor in lazy.items():
        try:
            tensors[name] = tensor.load()
        except WeightsError as error:
            raise WeightsError(f"{error} (tensor {printable(name)})") from error
    exact = sum(tensor.is_bfloat16 for tensor in lazy.values())
    if exact:
        notes.append(f"{counted(exact, 'bfloat16 tensor')} read as float32, which is exact")
    return tensors, notes


def _tensors(tree: dict[Any, Any]) -> dict[str, LazyTensor]:
    """The entries that are tensors. Paddle pickles some as (name, array)."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            value = value[1]
        if isinstance(key, str) and isinstance(value, LazyTensor):
            found[key] = value
    return found
