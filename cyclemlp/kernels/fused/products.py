"""Matrix products by the library that Paddle uses, called from compiled code."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
import paddle
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cyclemlp.kernels.fused.launch import PRODUCTS, THREADS, entry, thread_loop

#: Of CBLAS: matrices row by row; a matrix as it is, transposed.
_BY_ROWS, AS_IS, TRANSPOSED = 101, 111, 112


@intrinsic
def product(typing: Any, function: Any, sizes: Any, alpha: Any, beta: Any, addresses: Any) -> Any:
    """cblas_sgemm or cblas_dgemm. sizes: ta, tb, m, n, k; addresses: a, lda, b, ldb, c, ldc."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integer, real = ir.IntType(32), values[2].type
        pointer = real.as_pointer()
        numbers = [builder.trunc(builder.extract_value(values[1], i), integer) for i in range(5)]
        places = [builder.extract_value(values[4], i) for i in range(6)]
        for i in range(0, 6, 2):
            places[i] = builder.inttoptr(places[i], pointer)
            places[i + 1] = builder.trunc(places[i + 1], integer)
        arguments = [integer(_BY_ROWS), *numbers, values[2], *places[:4], values[3], *places[4:]]
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), arguments)
        return context.get_dummy_value()

    return types.void(function, sizes, alpha, beta, addresses), generate


@intrinsic
def several_products(typing: Any, function: Any, addresses: Any, count: Any, sizes: Any) -> Any:
    """cblas_sgemm_batch or cblas_dgemm_batch, one group. addresses: of ta, tb, m, …, c, ldc; of the group's size."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integer, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        places = [builder.inttoptr(builder.extract_value(values[1], i), pointer) for i in range(13)]
        arguments = [integer(_BY_ROWS), *places, integer(1), builder.inttoptr(values[3], pointer)]
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), arguments)
        return context.get_dummy_value()

    return types.void(function, addresses, count, sizes), generate


@functools.cache
def functions(dtype: Any) -> np.ndarray:
    """Addresses: what runs a function on the threads, the function, a product, many products."""
    letter = "s" if dtype == paddle.float32 else "d"
    products = [entry(PRODUCTS, f"cblas_{letter}gemm{many}") for many in ("", "_batch")]
    found = [entry(THREADS, "GOMP_parallel"), *products]
    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in found]
    return np.array([addresses[0], thread_loop().address, *addresses[1:]], np.int64)
