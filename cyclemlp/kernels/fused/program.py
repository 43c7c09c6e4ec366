"""Kernels and matrix products, recorded once for a shape and run by one call.

Called from Python one by one, the dozens of small steps of a block cost more than what they compute: a call of Paddle
takes some microseconds, and ten times as many after a large product, which has emptied the caches. A `Program` is
recorded by calling the same functions on `Array`s, which have a shape and no memory. Running it takes the addresses of
its inputs and goes through all steps in compiled code, without Python and without its global lock.

    inputs    tensors that are given at each run
    outputs   tensors that each run makes
    kept      what another program, the one of the gradients, takes up later: one memory of each run
    work      all else, in one memory of each run; arrays that are not needed at the same time share places
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import paddle

from cyclemlp.errors import ModelError
from cyclemlp.kernels.fused.interpreter import (
    KERNEL,
    KERNEL_ALONE,
    PRODUCT,
    SEVERAL_PRODUCTS,
    interpreter,
)
from cyclemlp.kernels.fused.launch import ALONE, float_argument, open_threads
from cyclemlp.kernels.fused.products import AS_IS, TRANSPOSED, functions

#: Bytes: where arrays begin, for vector instructions.
_ALIGNED = 64


class _Memory:
    """A stretch of memory: of which kind, how many numbers, in which steps it is used, where it lies (bytes)."""

    def __init__(self, size: int, slot: int | None, first: int) -> None:
        self.size, self.slot, self.first, self.last, self.offset = size, slot, first, first, 0


class Address:
    """Where an array begins, in a memory; some bytes further on by `+`."""

    def __init__(self, program: Program, memory: _Memory, offset: int) -> None:
        self.program, self.memory, self.offset = program, memory, offset

    def __add__(self, offset: int) -> Address:
        return Address(self.program, self.memory, self.offset + offset)


class Array:
    """What stands for a tensor while a program is recorded: row after row in memory."""

    def __init__(self, program: Program, memory: _Memory, shape: Sequence[int]) -> None:
        self.program, self.memory, self.shape = program, memory, tuple(shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> Any:
        return self.program.dtype

    def data_ptr(self) -> Address:
        return Address(self.program, self.memory, 0)

    def element_size(self) -> int:
        return self.program.bytes

    def reshape(self, shape: Sequence[int]) -> Array:
        """The same memory in another shape of as many numbers; -1 is what is left for a dimension."""
        known = math.prod(length for length in shape if length != -1)
        return Array(self.program, self.memory, [self.size // known if n == -1 else n for n in shape])


class Program:
    """See above.

    Args:
        dtype: paddle.float32 or paddle.float64, of all its numbers.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.bytes = dtype, 4 if dtype == paddle.float32 else 8
        self._steps: list[tuple[str, int, list[Any]]] = []
        self._work: list[_Memory] = []
        self._inputs = 0
        self.outputs: list[Array] = []
        self.kept: list[Array] = []

    # ---- recording

    def input(self, shape: Sequence[int]) -> Array:
        """The next of the tensors that are given."""
        self._inputs += 1
        return Array(self, _Memory(math.prod(shape), self._inputs - 1, 0), shape)

    def taken_up(self, kept: Iterable[Array]) -> list[Array]:
        """What another program kept; to be called after all `input`s."""
        self._inputs += 1
        arrays = []
        for array in kept:
            memory = _Memory(array.size, self._inputs - 1, 0)
            memory.offset = array.memory.offset
            arrays.append(Array(self, memory, array.shape))
        return arrays

    def empty(self, shape: Sequence[int]) -> Array:
        """An array that some step will fill."""
        memory = _Memory(math.prod(shape), None, len(self._steps))
        self._work.append(memory)
        return Array(self, memory, shape)

    def kernel(self, name: str, function: int, elements: int, chunks: int, arguments: Sequence[Any]) -> None:
        """Record a kernel; as `cyclemlp.kernels.fused.launch.Kernel`."""
        self._step(name, KERNEL_ALONE if elements <= ALONE else KERNEL, [0, chunks, function, *arguments])

    def product(
        self, a: Array, b: Array, c: Array, across: tuple[bool, bool], alpha: float, beta: float
    ) -> None:
        """Record c ← alpha a b + beta c; see `product`."""
        (rows, columns), inner = c.shape[-2:], a.shape[-2 if across[0] else -1]
        count = c.shape[0] if len(c.shape) == 3 else 1
        sizes = [TRANSPOSED if flag else AS_IS for flag in across] + [rows, columns, inner]
        addresses = [a.data_ptr(), a.shape[-1], b.data_ptr(), b.shape[-1], c.data_ptr(), c.shape[-1]]
        if count == 1:
            self._step("product", PRODUCT, [*sizes, float_argument(alpha), float_argument(beta), *addresses])
            return
        strides = [array.size // count * self.bytes for array in (a, b, c)]
        scales = [
            int.from_bytes(struct.pack("<f" if self.bytes == 4 else "<d", x), "little") for x in (alpha, beta)
        ]
        self._step("product", SEVERAL_PRODUCTS, [*sizes, *scales, *addresses, *strides, count])

    def _step(self, name: str, kind: int, arguments: list[Any]) -> None:
        for argument in arguments:
            if isinstance(argument, Address):
                argument.memory.last = len(self._steps)
        self._steps.append((name, kind, arguments))

    def finish(self, outputs: Iterable[Array | None], kept: Iterable[Array] = ()) -> Program:
        """End the recording.

        Args:
            outputs: arrays of the program that each run returns as tensors; None stays None.
            kept: arrays that each run returns in one memory, for `taken_up`.
        """
        self._returned, self.kept = list(outputs), list(kept)
        self.outputs = [array for array in self._returned if array is not None]
        for slot, array in enumerate(self.outputs, self._inputs):
            array.memory.slot = slot
        slot = self._inputs + len(self.outputs)
        self._kept_size = 0
        for array in self.kept:
            if array.memory.slot is None:
                array.memory.slot, array.memory.offset = slot, self._kept_size
                self._kept_size += _aligned(array.memory.size * self.bytes)
        work = [memory for memory in self._work if memory.slot is None]
        self.work_bytes = _lay_out(work, self.bytes)
        for memory in work:
            memory.slot = slot + 1
        self._slots, self._scratch = slot + 2, 0
        code: list[Any] = []
        self._begins: list[tuple[str, int]] = []
        for name, kind, arguments in self._steps:
            self._begins.append((name, 8 * len(code)))
            code += [kind, len(arguments)]
            for argument in arguments:
                if isinstance(argument, Address):
                    code += [argument.memory.slot, argument.memory.offset + argument.offset]
                else:
                    code += [-1, argument]
            lists = 3 * arguments[-1] if kind == SEVERAL_PRODUCTS else 0
            self._scratch = max(self._scratch, len(arguments) + lists)
        self._code = np.array(code, np.int64)
        self._run = interpreter(self.dtype)
        self._code_at, self._functions_at = self._code.ctypes.data, functions(self.dtype).ctypes.data
        return self

    # ---- running

    #: For measurements: each step of every program is run inside `watch(name)`.
    watch: Callable[[str], contextlib.AbstractContextManager[Any]] | None = None

    def __call__(
        self, inputs: Sequence[paddle.Tensor], kept: np.ndarray | None = None
    ) -> tuple[list[Any], np.ndarray | None]:
        """Run it.

        Args:
            inputs: of the recorded shapes and the program's type, contiguous, on the CPU.
            kept: of the program whose arrays this one has taken up.

        Returns:
            The outputs, and the memory with what is kept, if anything is.
        """
        outputs = [paddle.empty(array.shape, self.dtype) for array in self.outputs]
        addresses = [tensor.data_ptr() for tensor in inputs]
        if kept is not None:
            addresses.append(_aligned(kept.ctypes.data))
        addresses += [tensor.data_ptr() for tensor in outputs]
        new = _memory(self._kept_size) if self._kept_size else None
        work = _memory(self.work_bytes)
        addresses += [0 if new is None else _aligned(new.ctypes.data), _aligned(work.ctypes.data)]
        words = (ctypes.c_int64 * (self._slots + self._scratch))(*addresses)
        bases = ctypes.addressof(words)
        scratch = bases + 8 * self._slots
        if self.watch is None:
            self._run(self._code_at, len(self._steps), self._functions_at, bases, scratch)
        else:
            for name, begin in self._begins:
                with self.watch(name):
                    self._run(self._code_at + begin, 1, self._functions_at, bases, scratch)
        made = iter(outputs)
        return [None if array is None else next(made) for array in self._returned], new


def _aligned(number: int) -> int:
    """The next multiple of `_ALIGNED`."""
    return -(-number // _ALIGNED) * _ALIGNED


def _memory(size: int) -> np.ndarray:
    """So many bytes from an aligned address on."""
    return np.empty(size + _ALIGNED, np.uint8)


def _lay_out(memories: list[_Memory], size: int) -> int:
    """Give each its place, beside those that are in use in the same steps; how many bytes in all."""
    placed: list[tuple[int, int, int]] = []  # begin, end, last step
    highest = 0
    for memory in sorted(memories, key=lambda memory: memory.first):
        placed = sorted(place for place in placed if place[2] >= memory.first)
        length, begin = _aligned(memory.size * size), 0
        for other_begin, other_end, _ in placed:
            if begin + length <= other_begin:
                break
            begin = max(begin, other_end)
        placed.append((begin, begin + length, memory.last))
        memory.offset, highest = begin, max(highest, begin + length)
    return highest


def empty(shape: Sequence[int], like: Any) -> Any:
    """A tensor, or an array of the program that is recorded, of the type and at the place of another."""
    return like.program.empty(shape) if isinstance(like, Array) else paddle.empty(shape, like.dtype)


def product(
    a: Array,
    b: Array,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    to: Array | None = None,
) -> Array:
    """alpha · a b, added to `to` if that is given: `[n, k]` times `[k, m]`, or as many of each, `[B, n, k]`.

    Args:
        transpose_a, transpose_b: a is `[k, n]`; b is `[m, k]`.
    """
    if to is None:
        columns = b.shape[-2 if transpose_b else -1]
        c = a.program.empty([*a.shape[:-2], a.shape[-1 if transpose_a else -2], columns])
    else:
        c = to
    a.program.product(a, b, c, (transpose_a, transpose_b), alpha, 0.0 if to is None else 1.0)
    return c


def try_out() -> None:
    """Run a small program.

    Raises:
        ModelError: it cannot be done here, or the result is wrong.
    """
    open_threads()
    program = Program(paddle.float32)
    a, b = program.input([2, 1, 2]), program.input([2, 2, 1])
    program.finish([product(a, b), product(a.reshape([2, 2]), b.reshape([2, 2]), alpha=0.5)])
    (several, one), _ = program(
        [paddle.arange(4, dtype="float32").reshape([2, 1, 2]), paddle.ones([2, 2, 1])]
    )
    if [several.flatten().tolist(), one.tolist()] != [[1.0, 5.0], [[0.5, 0.5], [2.5, 2.5]]]:
        raise ModelError("a matrix product for trial gave a wrong result")
