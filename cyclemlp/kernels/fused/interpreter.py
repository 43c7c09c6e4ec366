"""What runs a program's steps: compiled once, for float32 and for float64.

A step is two words, its kind and how many arguments it has, and two for each argument: a slot and a number of bytes, or
-1 and a number. The arguments of a step are put together in the scratch memory, where a kernel finds them.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cyclemlp.kernels.fused.launch import TYPES, as_pointer, call, compiled, number, row
from cyclemlp.kernels.fused.products import product, several_products

#: Kinds of steps.
KERNEL_ALONE, KERNEL, PRODUCT, SEVERAL_PRODUCTS = range(4)


@intrinsic
def _parallel(typing: Any, function: Any, loop: Any, data: Any) -> Any:
    """GOMP_parallel."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, integer, integer])
        arguments = [builder.inttoptr(value, pointer) for value in values[1:]]
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [*arguments, integer(0), integer(0)])
        return context.get_dummy_value()

    return types.void(function, loop, data), generate


def _make_run(real: Any) -> Any:
    def run(code_at: int, steps: int, functions_at: int, bases_at: int, scratch_at: int) -> None:
        word, at = types.int64, 0
        functions = row(functions_at, 0, 0, 4, word)
        for _ in range(steps):
            head = row(code_at, at, 1, 2, word)
            kind, count = head[0], head[1]
            code = row(code_at, at + 2, 1, 2 * count, word)
            at += 2 + 2 * count
            a = row(scratch_at, 0, 0, count, word)
            for i in range(count):
                slot = code[2 * i]
                a[i] = code[2 * i + 1]
                if slot >= 0:
                    a[i] += row(bases_at, slot, 1, 1, word)[0]
            if kind == KERNEL_ALONE:
                for chunk in range(a[1]):
                    call(a[2], chunk, as_pointer(scratch_at, 0, word))
            elif kind == KERNEL:
                _parallel(functions[0], functions[1], scratch_at)
            elif kind == PRODUCT:
                product(
                    functions[2],
                    (a[0], a[1], a[2], a[3], a[4]),
                    number(a[5], real),
                    number(a[6], real),
                    (a[7], a[8], a[9], a[10], a[11], a[12]),
                )
            else:  # sizes 0 to 4, alpha, beta, a, lda, b, ldb, c, ldc, three strides, count
                products = a[16]
                lists = row(scratch_at, count, 1, 3 * products, word)
                for which in range(3):
                    for i in range(products):
                        lists[which * products + i] = a[7 + 2 * which] + i * a[13 + which]
                first = scratch_at + 8 * count
                several_products(
                    functions[3],
                    (
                        scratch_at, scratch_at + 8, scratch_at + 16, scratch_at + 24, scratch_at + 32, scratch_at + 40,
                        first, scratch_at + 64, first + 8 * products, scratch_at + 80, scratch_at + 48,
                        first + 16 * products, scratch_at + 96,
                    ),
                    products,
                    scratch_at + 128,
                )  # fmt: skip

    return run


@functools.cache
def interpreter(dtype: Any) -> Any:
    """`run(code, steps, functions, bases, scratch)`; all but the steps are addresses."""
    return compiled(_make_run(TYPES[dtype]), *[types.int64] * 5).ctypes
