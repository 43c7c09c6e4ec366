"""safetensors files. The library checks the file; the numbers are read here, because NumPy lacks bfloat16.

Written here too: the library sorts the tensors by name, and the published order is worth keeping.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from safetensors import SafetensorError, safe_open

from cyclemlp.errors import WeightsError
from cyclemlp.text import counted
from cyclemlp.weights.records import check_shape, from_bfloat16, native
from cyclemlp.weights.unpickle import printable

#: Most bytes of a header: a tensor takes about 120.
MAX_HEADER = 8 * 2**20

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items() if name != "BF16"}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """Tensors in the file's order, the header's `__metadata__`, and notes.

    Raises:
        WeightsError: the file is damaged, or has a header or type that no weight file has.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise WeightsError(
                f"has a safetensors header of {length} bytes; no weight file needs over {MAX_HEADER}"
            )
        try:
            with safe_open(path, framework="np"):
                pass  # opening checks the header: JSON, types, and that the tensors fill the file without overlap
        except SafetensorError as error:
            raise WeightsError(
                f"is a damaged or cut off safetensors file ({error}); fetch it again"
            ) from error
        header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", None) or {}
        tensors, exact = {}, 0
        for name, entry in header.items():
            code = entry["dtype"]
            if code not in _DTYPES:
                raise WeightsError(
                    f"holds {printable(name)} as {printable(code)}, which is not read; save it as F32"
                )
            check_shape(entry["shape"])
            file.seek(8 + length + entry["data_offsets"][0])
            array = np.fromfile(file, _DTYPES[code], math.prod(entry["shape"])).reshape(entry["shape"])
            exact += code == "BF16"
            tensors[name] = from_bfloat16(array) if code == "BF16" else native(array)
    notes = [f"{counted(exact, 'bfloat16 tensor')} read as float32, which is exact"] if exact else []
    return tensors, metadata, notes


def write_safetensors(
    file: IO[bytes], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write tensors in the order given.

    Raises:
        WeightsError: a tensor's type has no name in the format.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise WeightsError(f"cannot hold {name}: safetensors has no type for {tensor.dtype}")
        span = [position, position := position + tensor.nbytes]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # so that the numbers are aligned
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    for tensor in tensors.values():
        file.write(np.ascontiguousarray(tensor).data.cast("B") if tensor.nbytes else b"")
