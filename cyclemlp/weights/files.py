"""Reading and writing weight files: which kind a file is, what is read from it, and how it is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import ConfigError, WeightsError
from cyclemlp.files import replacing, write_text
from cyclemlp.metadata import LAYOUTS, MAX_TEXT, NotOursError, read_model_metadata
from cyclemlp.run import find_weights
from cyclemlp.text import counted
from cyclemlp.weights.layout import (
    StepSizes,
    published_names,
    put_offsets,
    recognise,
    step_sizes,
    swap,
    take_offsets,
    without_prefixes,
)
from cyclemlp.weights.paddle_files import read_paddle, write_paddle
from cyclemlp.weights.records import native
from cyclemlp.weights.safetensors_files import read_safetensors, write_safetensors
from cyclemlp.weights.torch_files import LEGACY_MAGIC, read_torch_legacy, read_torch_zip
from cyclemlp.weights.unpickle import printable

_METADATA_KEY = "cyclemlp"
_SUFFIXES = (".safetensors", ".pdparams")


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        path: the file that was read.
        tensors: arrays by their published names, in the file's order and in Paddle's layout (linear weights are
            `[in, out]`), without the offset buffers. They may be read-only.
        layout: "authors" or "paddle": what the file holds.
        metadata: what our own files say of their model; else empty.
        notes: sentences for people on what was chosen, converted and left out.
        step_sizes: (S_H, S_W) of the Cycle FCs by name, `sfc_h` and `sfc_w`, if offset buffers give them.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    layout: str
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    step_sizes: StepSizes = field(default_factory=dict)


# ---- reading


def read_weights(path: str | os.PathLike[str], *, layout: str | None = None) -> WeightFile:
    """Read a weight file of any kind that is known here. It is read as data: nothing of it is ever run.

    Args:
        path: PyTorch's `.pth` (zip or older; a state dict or a training checkpoint), Paddle's `.pdparams`, or
            `.safetensors` in either layout; the content decides, not the name. Or a run's folder or a checkpoint of
            ours, see `cyclemlp.run.find_weights`.
        layout: "authors" or "paddle"; needed only where no tensor tells.

    Raises:
        WeightsError: the file cannot be read, is damaged, asks for more than data, or does not tell its layout.
    """
    if layout not in (None, *LAYOUTS):
        raise WeightsError(f"unknown layout {layout!r}; use one of {', '.join(LAYOUTS)}")
    real = find_weights(Path(path))
    try:
        return _read(real, layout)
    except WeightsError as error:
        raise WeightsError(f"{real}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{real}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise WeightsError(f"{real}: does not fit into memory") from error


def _read(path: Path, layout: str | None) -> WeightFile:
    metadata: dict[str, Any] = {}
    kind = _kind(path)
    if kind == "safetensors":
        tensors, header, notes = read_safetensors(path)
        if _METADATA_KEY in header:
            metadata = _metadata(header[_METADATA_KEY], "its header")
    else:
        readers = {"torch zip": read_torch_zip, "torch legacy": read_torch_legacy, "pickle": read_paddle}
        tensors, notes = readers[kind](path)
        if kind == "pickle":
            metadata = _read_beside(path.with_suffix(".json"))
    if not tensors:
        raise WeightsError("holds no tensors")
    tensors, prefix = without_prefixes(tensors)
    if prefix:
        notes.append(f"left out the prefix {prefix!r} of every name, which a wrapper around the network adds")
    named = published_names(tensors)
    if named.keys() != tensors.keys():
        notes.append("its names are those of Swin's code (layers.0.blocks.0 …), read as network.0.0 …")
    tensors, steps = take_offsets(full := named)
    found, more = recognise(tensors, layout, metadata.pop("layout", None))
    notes += more
    if len(tensors) < len(full):
        listed = ", ".join(f"{name} {step[0]}×{step[1]}" for name, step in steps.items())
        notes.append(f"{counted(len(full) - len(tensors), 'offset buffer')} checked ({listed}) and left out")
    if found == "authors":
        tensors = swap(tensors)
    return WeightFile(path, tensors, found, metadata, tuple(notes), steps)


#: How files begin that people give by mistake, and what to do then.
_NOT_WEIGHTS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x89HDF": "an HDF5 file, which is not read",
    b"\x93NUMPY": "a single NumPy array (.npy)",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run `git lfs pull`",
    b"<": "an HTML or XML page, perhaps of a download that failed; fetch it again",
}


def _kind(path: Path) -> str:
    """ "torch zip", "torch legacy", "pickle" or "safetensors", by the first bytes."""
    if not path.is_file():
        raise WeightsError("is neither a file nor a folder")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise WeightsError("is empty; fetch or copy it again")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "torch zip"
    if head.startswith(LEGACY_MAGIC):
        return "torch legacy"
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if head[8:9] == b"{":
        return "safetensors"
    start = head.lstrip()
    found = next((what for magic, what in _NOT_WEIGHTS.items() if start.startswith(magic)), None)
    if head[257:262] == b"ustar":
        found = "a tar archive; unpack it first"
    if found is None:
        text = re.fullmatch(rb"[\t\n\r\x20-\x7e]*", head)
        found = f"{'a text' if text else 'a file'} that starts with {printable(head[:16].decode('latin1'))}"
    raise WeightsError(
        f"is no weight file: it is {found}. Known are PyTorch's .pth, Paddle's .pdparams and .safetensors"
    )


def _metadata(text: str, place: str) -> dict[str, Any]:
    try:
        return read_model_metadata(text)
    except ConfigError as error:
        raise WeightsError(f"has damaged metadata in {place}: {error}; write it again") from None


def _read_beside(path: Path) -> dict[str, Any]:
    """Metadata in a `.json` beside a `.pdparams`; {} if it is something else, such as a program that Paddle wrote.

    Raises:
        WeightsError: they are ours and damaged.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_TEXT:
            return {}
        return read_model_metadata(path.read_text("utf-8"))
    except (OSError, UnicodeError, NotOursError):
        return {}
    except ConfigError as error:
        raise WeightsError(
            f"has damaged metadata in {path.name} beside it: {error}; write it again"
        ) from None


# ---- writing


def write_weights(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Any],
    *,
    layout: str = "paddle",
    metadata: Mapping[str, Any] | None = None,
    step_sizes: StepSizes | None = None,
) -> None:
    """Write a weight file, complete or not at all: a file of that name stays as it is until the new one is whole.

    Args:
        path: `.safetensors`, or `.pdparams`, which `paddle.load` reads. The metadata lie in the header of the first,
            and beside the second in a `.json` of the same stem.
        tensors: arrays by their published names, in Paddle's layout; written in this order.
        layout: "paddle", or "authors", whose strict `load_state_dict` takes the file (read with
            `safetensors.torch.load_file`): linear weights `[out, in]`, offset buffers in their places.
        metadata: JSON values that say what the model is, as `ModelMetadata.to_dict` makes them.
        step_sizes: of the Cycle FCs, for the offset buffers; default: by the metadata's overrides, else 3.

    Raises:
        WeightsError: another suffix or layout, a tensor that is not of numbers, or a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise WeightsError(
            f"{path}: files with the suffix {path.suffix!r} are not written; use {' or '.join(_SUFFIXES)} "
            "(for PyTorch: .safetensors in the authors' layout)"
        )
    if layout not in LAYOUTS:
        raise WeightsError(f"unknown layout {layout!r}; use one of {', '.join(LAYOUTS)}")
    if path.suffix == ".pdparams" and layout != "paddle":
        raise WeightsError(
            f"{path}: a .pdparams is always in Paddle's layout; write .safetensors for the authors'"
        )
    arrays = {name: native(np.asarray(tensor)) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if name == "__metadata__" and path.suffix == ".safetensors":
            raise WeightsError(
                f"{path}: a tensor is called {name}, which means something else in a .safetensors; write a .pdparams"
            )
        if array.dtype.kind not in "fiub":
            raise WeightsError(f"{path}: {name} is of type {array.dtype}; only numbers are written")
    if layout == "authors":
        arrays = put_offsets(swap(arrays), step_sizes or _step_sizes(metadata or {}))
    described = {"layout": layout, **(metadata or {})}
    beside = path.with_suffix(".json")
    if path.suffix == ".pdparams" and metadata and beside.exists() and not _read_beside(beside):
        raise WeightsError(
            f"{path}: its metadata belong in {beside.name}, which exists and is something else; choose another name"
        )
    try:
        if path.suffix == ".safetensors":
            header = {_METADATA_KEY: json.dumps(described, ensure_ascii=False)}
            with replacing(path, durable=True) as part, part.open("xb") as file:
                write_safetensors(file, arrays, header)
            return
        with replacing(path, durable=True) as part, part.open("xb") as file:
            write_paddle(file, arrays.items())
        if metadata:
            write_text(beside, json.dumps(described, ensure_ascii=False, indent=2) + "\n")
        elif _read_beside(beside):
            beside.unlink()  # it describes the file that was just replaced
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror or error}") from error


_step_sizes = step_sizes  # the argument above has the name
