"""Paddle's `.pdparams`, without Paddle: a pickle of a dict of arrays.

`paddle.save` writes a tensor as an array, as a tuple (name, array), or, from a DenseTensor, as a call of `eval` that
returns its second argument's only value: that one call is taken for the value that it names.
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from cyclemlp.errors import WeightsError
from cyclemlp.text import counted
from cyclemlp.weights.records import LazyTensor, as_tuple, check_shape, constructors, from_bfloat16
from cyclemlp.weights.state_dict import Loaded, load_state_dict
from cyclemlp.weights.unpickle import WAY_OUT, printable, read_pickle

#: Two entries that are no tensors: Paddle's own names of the parameters, and how tensors over 1 GiB were cut up.
_NAME_TABLE = "StructuredToParameterName@@"
_PIECES = "UnpackBigParamInfor@@"


def _eval(expression: Any, variables: Any = None, *_: Any) -> LazyTensor:
    """`eval('data', {'data': array})` is how Paddle writes a DenseTensor; nothing is evaluated."""
    value = variables.get("data") if isinstance(variables, dict) else None
    if expression != "data" or not isinstance(value, LazyTensor):
        shown = printable(expression) if isinstance(expression, str) else type(expression).__name__
        raise WeightsError(f"asks for builtins.eval of {shown}; {WAY_OUT}")
    return value


_CONSTRUCTORS = constructors(
    {
        f"{module}.{name}": constructor
        for module in ("builtins", "__builtin__")  # __builtin__: protocol 2
        for name, constructor in (("tuple", as_tuple), ("eval", _eval))
    }
)


def read_paddle(path: Path) -> Loaded:
    """Tensors and notes of a file of `paddle.save`.

    Raises:
        WeightsError: the file is damaged, or asks for more than data.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        tree = read_pickle(content, _CONSTRUCTORS)
        pieces = None
        if isinstance(tree, dict):
            tree.pop(_NAME_TABLE, None)
            pieces = tree.pop(_PIECES, None)
        tensors, notes = load_state_dict(tree, len(content))
    if pieces is not None:
        _join(tensors, pieces)
    bits = [name for name, tensor in tensors.items() if tensor.dtype == np.uint16]
    if bits:  # NumPy has no bfloat16, so Paddle writes the bits
        tensors |= {name: from_bfloat16(tensors[name]) for name in bits}
        notes.append(f"{counted(len(bits), 'bfloat16 tensor')} read as float32, which is exact")
    return tensors, notes


def _join(tensors: dict[str, np.ndarray], pieces: Any) -> None:
    """Put tensors together that Paddle cut up because protocol 2 holds no more than 4 GiB."""
    try:
        for name, piece in pieces.items():
            shape = check_shape(piece["OriginShape"])
            tensors[name] = np.concatenate([tensors.pop(part) for part in piece["slices"]]).reshape(shape)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"is damaged: its table {_PIECES} does not fit its tensors") from error


def write_paddle(file: IO[bytes], tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write a dict of arrays as a pickle that `paddle.load` reads.

    The instructions are written out here, because NumPy 2's own pickles name a module that NumPy before 1.26 does
    not have, and Paddle 2 lives with those; and because this needs no second copy of the tensors in memory.
    """

    file.write(pickle.PROTO + b"\x04" + pickle.EMPTY_DICT + pickle.MARK)
    for name, tensor in tensors:
        array = np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<"), copy=False)
        # numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b'), then its state:
        # (1, shape, dtype, Fortran order, data)
        file.write(_text(name) + _name("numpy.core.multiarray", "_reconstruct"))
        file.write(_tuple(_name("numpy", "ndarray"), _tuple(_integer(0)), b"C\x01b") + pickle.REDUCE)
        file.write(pickle.MARK + _integer(1) + _tuple(*map(_integer, tensor.shape)) + _dtype(array.dtype))
        file.write(pickle.NEWFALSE + pickle.BINBYTES8 + array.nbytes.to_bytes(8, "little"))
        file.write(array.data.cast("B") if array.nbytes else b"")
        file.write(pickle.TUPLE + pickle.BUILD)
    file.write(pickle.SETITEMS + pickle.STOP)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + len(encoded).to_bytes(4, "little") + encoded


def _integer(value: int) -> bytes:
    return pickle.LONG1 + b"\x08" + value.to_bytes(8, "little", signed=True)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _dtype(dtype: np.dtype[Any]) -> bytes:
    """numpy.dtype('f4', False, True), then its state: (3, '<', None, None, None, -1, -1, 0)."""
    order = _text("|" if dtype.itemsize == 1 else "<")
    made = (
        _name("numpy", "dtype")
        + _tuple(_text(dtype.str[1:]), pickle.NEWFALSE, pickle.NEWTRUE)
        + pickle.REDUCE
    )
    state = _tuple(_integer(3), order, 3 * pickle.NONE, 2 * _integer(-1), _integer(0))
    return made + state + pickle.BUILD
