"""Weight files as PyTorch and Paddle wrote them, rebuilt byte for byte (see tests/fixtures/weights/make.py)."""

from __future__ import annotations

import hashlib
import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from golden import param

FOLDER = Path(__file__).parent / "fixtures" / "weights"


@cache
def catalogue() -> dict[str, Any]:
    """`salt` and `shapes` (published layout, offset buffers included) of the small network, and the `files`."""
    return json.loads((FOLDER / "files.json").read_text())


FILES = tuple(catalogue()["files"])


@cache
def parameters() -> dict[str, np.ndarray]:
    """The small network's parameters in the published layout, without offset buffers."""
    known = catalogue()
    return {
        name: param(name, tuple(shape), known["salt"])
        for name, shape in known["shapes"].items()
        if not name.endswith(".offset")
    }


@cache
def content(name: str) -> bytes:
    """A file's bytes."""
    described = catalogue()["files"][name]
    result = bytearray(lzma.decompress((FOLDER / f"{name}.xz").read_bytes()))
    for start, parameter, transposed in described["payloads"]:
        value = parameters()[parameter]
        numbers = (value.T if transposed else value).tobytes()
        result[start : start + len(numbers)] = numbers
    assert hashlib.sha256(result).hexdigest() == described["sha256"], f"{name} was not rebuilt exactly"
    return bytes(result)


def rebuild(name: str, folder: Path) -> Path:
    """Write the file `name`, one of `FILES`, into `folder`."""
    path = folder / name
    path.write_bytes(content(name))
    return path


@cache
def published_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a variant's published state dict, "b1" … "b5", in its order, offset buffers included."""
    variants = json.loads(lzma.decompress((FOLDER / "published_shapes.json.xz").read_bytes()))
    return {name: tuple(shape) for name, shape in variants[variant].items()}
