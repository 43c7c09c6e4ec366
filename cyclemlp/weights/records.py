"""What the names that a weight file may ask for become: plain values, and descriptions of arrays.

Here are the names that checkpoints of either library use: containers and NumPy's arrays and scalars. PyTorch's and
Paddle's own are in `torch_files.py` and `paddle_files.py`.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from cyclemlp.errors import WeightsError
from cyclemlp.weights.unpickle import WAY_OUT, Constructors, Record, fill

_NUMBER_CODE = re.compile(r"[<>=|]?(b1|\?|[iu][1248]|f[248])")
_MAX_DIMENSIONS = 32


class LazyTensor(ABC):
    """A tensor as its file describes it; the numbers are read by `load`."""

    shape: tuple[int, ...]
    nbytes: int
    is_bfloat16 = False

    @abstractmethod
    def load(self) -> np.ndarray:
        """The numbers, in the machine's byte order; bfloat16 as float32, which holds it exactly.

        Raises:
            WeightsError: the description and the data do not agree.
        """


class Namespace(dict[Any, Any], Record):
    """An `argparse.Namespace`, as the dict of its attributes."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise WeightsError("has a damaged Namespace: its state is not a dict")
        fill(self, state.items())


class DType(Record):
    """A NumPy data type: of numbers only, never of Python objects."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, _align: Any = False, _copy: Any = True) -> None:
        if not isinstance(code, str) or not _NUMBER_CODE.fullmatch(code):
            what = f"type code {code[:20]!r}" if isinstance(code, str) else f"type {type(code).__name__}"
            raise WeightsError(f"holds a NumPy array that is not of numbers ({what}); {WAY_OUT}")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        # (version, byte order, sub-array, names, fields, size, alignment, flags)
        order, *structure = state[1:5]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in structure):
            raise WeightsError(f"holds a NumPy array of a compound type; {WAY_OUT}")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray(Record, LazyTensor):
    """A NumPy array; its data are bytes of the pickle."""

    def __init__(self) -> None:
        self.shape, self.nbytes = (), 0
        self.dtype = np.dtype(np.uint8)
        self.order = "C"
        self.data: bytes | bytearray | None = None

    def set_state(self, state: Any) -> None:
        _version, shape, dtype, fortran_order, data = state
        self.describe(shape, dtype, "F" if fortran_order else "C", data)

    def describe(self, shape: Any, dtype: Any, order: str, data: Any) -> None:
        """Take shape, type and data, which must agree."""
        if isinstance(data, str):  # written by Python 2, whose strings were bytes
            data = data.encode("latin1")
        if not isinstance(dtype, DType) or not isinstance(data, bytes | bytearray):
            raise WeightsError(f"holds a NumPy array that is not of numbers; {WAY_OUT}")
        self.shape, self.dtype, self.order, self.data = check_shape(shape), dtype.dtype, order, data
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        if self.nbytes != len(data):
            raise WeightsError(f"is damaged: an array needs {self.nbytes} bytes and has {len(data)}")

    def load(self) -> np.ndarray:
        if self.data is None:
            raise WeightsError("is damaged: an array has no data")
        array = np.frombuffer(self.data, self.dtype).reshape(self.shape, order=self.order)  # type: ignore[call-overload]
        return native(array)


def as_tuple(items: Any = ()) -> tuple[Any, ...]:
    """`tuple(items)` of a container; of a text it would be an object a character."""
    if not isinstance(items, list | tuple):
        raise WeightsError(f"makes a tuple of a {type(items).__name__}; {WAY_OUT}")
    return tuple(items)


def check_shape(shape: Any) -> tuple[int, ...]:
    """A shape out of a file, if it can be one.

    Raises:
        WeightsError: otherwise.
    """
    if not isinstance(shape, tuple | list) or len(shape) > _MAX_DIMENSIONS:
        raise WeightsError("is damaged: a tensor's shape is not a short tuple")
    if not all(isinstance(n, int) and 0 <= n < 2**48 for n in shape):
        raise WeightsError("is damaged: a tensor's shape is not of whole numbers that memory could hold")
    # NumPy refuses what would be too large without its zeros, too.
    if math.prod(n for n in shape if n) >= 2**48:
        raise WeightsError("is damaged: a tensor's shape is larger than memory could hold")
    return tuple(int(n) for n in shape)


def native(array: np.ndarray) -> np.ndarray:
    """The same numbers in the machine's byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 of the numbers whose bfloat16 bits are given as uint16: the upper half of a float32, so exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    fill(result, pairs)
    return result


def _namespace(*arguments: Any) -> Namespace:
    if arguments:
        raise TypeError("a Namespace with positional arguments")
    return Namespace()


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes: as `_codecs.encode(text, 'latin1')`."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise WeightsError(f"asks for _codecs.encode of something that is not bytes; {WAY_OUT}")
    return text.encode("latin1")


def _bytes() -> bytes:
    """How protocol 2 writes no bytes at all."""
    return b""


def _reconstruct(kind: Any, *_: Any) -> PickledArray:
    if getattr(kind, "name", None) != "numpy.ndarray":
        raise WeightsError(f"asks for an array of another class than numpy.ndarray; {WAY_OUT}")
    return PickledArray()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    """How pickle protocol 5 writes an array."""
    array = PickledArray()
    array.describe(shape, dtype, "F" if order == "F" else "C", data)
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    array = PickledArray()
    array.describe((), dtype, "C", data)
    return array.load().item()


def no_call(name: str) -> Any:
    """Constructor of a name that is only ever mentioned, such as a class given as an argument."""

    def refuse(*_: Any) -> None:
        raise WeightsError(f"calls {name}; {WAY_OUT}")

    return refuse


def constructors(own: Constructors) -> Constructors:
    """The table of names that a reader allows: those that every checkpoint may use, and the reader's `own`."""
    shared = {
        "collections.OrderedDict": _ordered_dict,
        "argparse.Namespace": _namespace,
        "_codecs.encode": _encode,
        "__builtin__.bytes": _bytes,
        "numpy.dtype": DType,
        "numpy.ndarray": no_call("numpy.ndarray"),
    }
    for package in ("numpy.core", "numpy._core"):  # NumPy 1, NumPy 2
        shared[f"{package}.multiarray._reconstruct"] = _reconstruct
        shared[f"{package}.multiarray.scalar"] = _scalar
        shared[f"{package}.numeric._frombuffer"] = _frombuffer
    return {**shared, **own}
