"""Compiled kernels on the threads that Paddle's products use.

A kernel is a Python function that numba compiles for this processor, once for float32 and once for float64; the
result is kept on disk. It works on one *chunk*, some hundred rows of a map, and takes addresses. `Kernel.__call__` runs
it over all chunks on the threads of the OpenMP library that comes with Paddle, so that no second pool of threads
competes with the one of the matrix products.

What a chunk is depends on the shapes alone, and sums are taken chunk by chunk: the results of a kernel do not depend on
the number of threads, nor on which thread took which chunk.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import paddle
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, models, register_model

from cyclemlp.errors import ModelError

#: NaN and infinity stay what they are; sums may be reordered, so that they can be vectorised.
FAST_MATH = {"contract", "reassoc", "nsz", "arcp", "afn"}
COMPILED: dict[str, Any] = {"fastmath": FAST_MATH, "error_model": "numpy"}
OPTIONS: dict[str, Any] = {"cache": True, **COMPILED}
#: Elements of a map in a chunk, about: one that stays in a core's second-level cache.
CHUNK = 32768
#: Below so many elements waking the other threads takes longer than it saves.
ALONE = 32768

#: What Paddle calls its OpenMP library, and its library of matrix products.
THREADS, PRODUCTS = "libiomp5.so", "libmklml_intel.so"
TYPES = {paddle.float32: types.float32, paddle.float64: types.float64}
_run_on_threads: Any = None


def entry(library: str, name: str) -> Any:
    """A function of one of the libraries that come with Paddle, and that it has loaded.

    Raises:
        ModelError: it comes without.
    """
    try:
        return getattr(ctypes.CDLL(str(Path(paddle.__file__).parent / "libs" / library)), name)
    except (OSError, AttributeError) as error:
        raise ModelError(f"this PaddlePaddle comes without {library}, which they need") from error


def open_threads() -> None:
    """Find the OpenMP library that Paddle has loaded, and run a kernel on it.

    Raises:
        ModelError: it cannot be done here; says why.
    """
    global _run_on_threads
    run = entry(THREADS, "GOMP_parallel")
    run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    _run_on_threads = run
    counted = np.zeros(64, np.float32)
    _probe(paddle.float32, ALONE + 1, len(counted), counted.ctypes.data)
    if counted.tolist() != list(range(64)):
        raise ModelError("a kernel for trial gave a wrong result")


@intrinsic
def as_pointer(typing: Any, address: Any, offset: Any, real: Any) -> Any:
    """The address of numbers of a type, `offset` numbers further on, as a pointer."""
    signature = types.CPointer(real.dtype)(address, offset, real)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))
        return builder.gep(start, [arguments[1]], source_etype=context.get_value_type(real.dtype))

    return signature, generate


@intrinsic
def call(typing: Any, function: Any, chunk: Any, arguments: Any) -> Any:
    """Calls the kernel at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integer = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [integer, values[2].type])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(function, chunk, arguments), generate


@intrinsic
def _take(typing: Any, counter: Any) -> Any:
    """The number at a pointer, which is one higher afterwards; threads can take at the same time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("add", arguments[0], one, "monotonic")

    return types.int64(counter), generate


@intrinsic
def _bits_as_float(typing: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(bits), generate


@numba.njit(**OPTIONS)
def row(address: int, index: int, stride: int, length: int, real: Any) -> Any:
    """Row `index` of a map at an address whose rows are `stride` numbers apart, as an array of `length` numbers."""
    return carray(as_pointer(address, index * stride, real), (length,))


@numba.njit(**OPTIONS)
def number(bits: int, real: Any) -> Any:
    """A float argument."""
    return real(_bits_as_float(bits))


def float_argument(value: float) -> int:
    """A float as a kernel takes it; see `number`."""
    return int(struct.unpack("q", struct.pack("d", value))[0])


def _sources(folder: Path) -> str:
    """What the sources of the kernels are, as a hash."""
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(text).hexdigest()


class _Arguments(types.CPointer):
    """int64*, for kernels of these sources.

    numba knows what it kept by the types of the arguments, and by the time of the kernel's own file. Those of the
    functions that the kernel calls it does not look at.

    Args:
        sources: a hash of them.
    """

    def __init__(self, sources: str) -> None:
        super().__init__(types.int64)
        self.sources, self.name = sources, f"int64* of {sources}"

    @property
    def key(self) -> Any:
        return self.sources


register_model(_Arguments)(models.PointerModel)
_ADDRESSES = _Arguments(_sources(Path(__file__).parent))


def _all_chunks(data: Any) -> None:
    """What each thread does: data are the next chunk, the number of chunks, the kernel, and its arguments."""
    while True:
        chunk = _take(data)
        if chunk >= data[1]:
            break
        call(data[2], chunk, data)


class Kernel:
    """A kernel, compiled at its first use.

    Args:
        make: makes, for a numba type (float32 or float64), the function `(chunk, a)` that does one chunk; a[3], a[4], …
            are the arguments: sizes, addresses, and `float_argument`s.
    """

    def __init__(self, make: Callable[[Any], Callable[[int, Any], None]]) -> None:
        self.make, self.name = make, make.__module__.rpartition(".")[2]
        self._compiled: dict[Any, Any] = {}

    def __call__(self, dtype: Any, elements: int, chunks: int, *arguments: Any) -> None:
        """Run it; or record it, if an argument is an address in a program (`cyclemlp.kernels.fused.program`).

        Args:
            dtype: paddle.float32 or paddle.float64.
            elements: of the map, by which it is decided whether one thread does it.
            chunks: how many.
            arguments: what each chunk gets.
        """
        function = self._compiled.get(dtype)
        if function is None:
            function = self._compiled[dtype] = compiled(self.make(TYPES[dtype]), types.int64, _ADDRESSES)
        for argument in arguments:
            if not isinstance(argument, int):
                argument.program.kernel(self.name, function.address, elements, chunks, arguments)
                return
        if _run_on_threads is None:
            open_threads()
        data = (ctypes.c_int64 * (3 + len(arguments)))(0, chunks, function.address, *arguments)
        _run_on_threads(thread_loop().address, data, 1 if elements <= ALONE else 0, 0)


def compiled(function: Callable[..., None], *arguments: Any) -> Any:
    """Compiled as a C function, and kept on disk if there is room: where there is none, it runs all the same."""
    options = OPTIONS
    for _ in range(16):  # each function that it calls is kept as well, and each can fail to be, once
        try:
            return numba.cfunc(types.void(*arguments), **options)(function)
        except OSError:
            options = COMPILED
    raise ModelError("numba cannot compile a kernel here: it goes on failing to write")


@functools.cache
def thread_loop() -> Any:
    return compiled(_all_chunks, _ADDRESSES)


def chunks_of(rows: int, channels: int) -> tuple[int, int]:
    """Rows of a chunk, and how many chunks a map, or an image's part of it, has."""
    per = max(1, CHUNK // channels)
    return per, -(-rows // per)


@functools.lru_cache(16)
def table_of_chunks(sizes: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Chunks of several tensors of so many numbers: int64 [chunks, 3], of which tensor, first number, how many; sum."""
    places = [
        (which, start, min(CHUNK, size - start))
        for which, size in enumerate(sizes)
        for start in range(0, size, CHUNK)
    ]
    return np.array(places, np.int64), sum(sizes)


def _make_probe(real: Any) -> Any:
    def probe(chunk: int, a: Any) -> None:
        row(a[3], 0, 0, chunk + 1, real)[chunk] += real(chunk)

    return probe


_probe = Kernel(_make_probe)
