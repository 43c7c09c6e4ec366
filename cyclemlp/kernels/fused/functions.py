"""Parts of the network as functions with a gradient by hand: each is one program of kernels and matrix products.

Each takes its tensors as one list, whose first wants a gradient: Paddle looks at the first to know whether the
gradients of a list are wanted, and `paddle.grad` for some of several separate tensors would fail. Without a gradient
another program of the same steps runs, which keeps nothing.

Shapes: B batch, H height, W width, C channels, K branches, N = B · H · W rows.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle.autograd import PyLayer

from cyclemlp.errors import ModelError
from cyclemlp.kernels.fused import halves
from cyclemlp.kernels.fused.halves import Arrays, Mixing
from cyclemlp.kernels.fused.norm import layer_norm, layer_norm_backward
from cyclemlp.kernels.fused.program import Array, Program, product
from cyclemlp.kernels.fused.residual import add_residual, add_residual_backward
from cyclemlp.kernels.fused.unfold import Geometry, Window, fold, turned, unfold

Tensors = list[paddle.Tensor]
#: Programs that are kept for each function, the last ones used.
PROGRAMS = 512


class Function(PyLayer):
    """`run` computes; subclasses record the steps on arrays.

    What else a function takes (`more`) can be hashed: a program is recorded for each value of it.
    """

    @classmethod
    def run(cls, tensors: Tensors, *more: Any) -> paddle.Tensor:
        """The result, with a gradient if one is wanted.

        Args:
            tensors: what gradients can be taken of.
            more: what else `record` takes.
        """
        wanted = [not tensor.stop_gradient for tensor in tensors]
        if not (any(wanted) and paddle.is_grad_enabled()):
            with paddle.no_grad():
                return cls.compute(tensors, more, keep=False)[0]
        first = wanted.index(True)
        return cls.apply([tensors[first], *tensors[:first], *tensors[first + 1 :]], first, more)

    @classmethod
    def forward(cls, ctx: Any, tensors: Tensors, first: int, more: tuple[Any, ...]) -> paddle.Tensor:
        ctx.first, ctx.more = first, more
        tensors = [*tensors[1 : first + 1], tensors[0], *tensors[first + 1 :]]
        result, ctx.kept = cls.compute(tensors, more, keep=True)
        ctx.save_for_backward(*tensors)
        return result

    @classmethod
    def backward(cls, ctx: Any, grad: paddle.Tensor) -> Any:
        if paddle.is_grad_enabled():
            raise ModelError(
                "second derivatives (create_graph=True) are not there for the fused kernels; take the plain layers: "
                'cyclemlp.create_model(…, kernels="plain"), or CYCLEMLP_KERNELS=plain in the environment'
            )
        gradients = cls.gradients(grad, list(ctx.saved_tensor()), ctx.kept, ctx.more)
        return [gradients[ctx.first], *gradients[: ctx.first], *gradients[ctx.first + 1 :]]

    @classmethod
    def compute(
        cls, tensors: Tensors, more: tuple[Any, ...], keep: bool
    ) -> tuple[paddle.Tensor, np.ndarray | None]:
        """The result, and what `gradients` needs beside the tensors."""
        tensors = _contiguous(tensors)
        program = cls._program(_shapes(tensors), tensors[0].dtype, more, keep)
        (result,), kept = program(tensors)
        return result, kept

    @classmethod
    def gradients(
        cls, grad: paddle.Tensor, tensors: Tensors, kept: np.ndarray | None, more: tuple[Any, ...]
    ) -> list[Any]:
        """The gradient of each tensor; None of one that can have none."""
        tensors = _contiguous([grad, *tensors])
        program = cls._gradient_program(_shapes(tensors[1:]), tensors[0].dtype, more)
        return program(tensors, kept)[0]

    @classmethod
    @functools.lru_cache(PROGRAMS)
    def _program(cls, shapes: Any, dtype: Any, more: tuple[Any, ...], keep: bool) -> Program:
        program = Program(dtype)
        result, kept = cls.record([program.input(shape) for shape in shapes], keep, *more)
        return program.finish([result], kept if keep else [])

    @classmethod
    @functools.lru_cache(PROGRAMS)
    def _gradient_program(cls, shapes: Any, dtype: Any, more: tuple[Any, ...]) -> Program:
        forward, program = cls._program(shapes, dtype, more, True), Program(dtype)
        grad = program.input(forward.outputs[0].shape)
        arrays = [program.input(shape) for shape in shapes]
        kept = program.taken_up(forward.kept) if forward.kept else []
        return program.finish(cls.record_gradients(grad, arrays, kept, *more))

    @staticmethod
    def record(arrays: Arrays, keep: bool, *more: Any) -> tuple[Array, Arrays]:
        """The result, and what `record_gradients` needs beside the arrays; that is only kept if `keep` is true."""
        raise NotImplementedError

    @staticmethod
    def record_gradients(grad: Array, arrays: Arrays, kept: Arrays, *more: Any) -> list[Array | None]:
        """The gradient of each array, in its shape."""
        raise NotImplementedError


class LayerNorm(Function):
    """Tensors: x `[…, C]`, weight, bias `[C]`; more: ε."""

    @staticmethod
    def record(arrays: Arrays, keep: bool, *more: Any) -> tuple[Array, Arrays]:
        x, weight, bias = arrays
        y, *statistics = layer_norm(halves.rows_of(x), weight, bias, *more)
        return y.reshape(x.shape), statistics

    @staticmethod
    def record_gradients(grad: Array, arrays: Arrays, kept: Arrays, *more: Any) -> list[Array | None]:
        x, weight, _ = arrays
        dx, d_weight, d_bias = layer_norm_backward(halves.rows_of(grad), halves.rows_of(x), weight, *kept)
        return [dx.reshape(x.shape), d_weight, d_bias]


class Convolution(Function):
    """Tensors: x `[B, C, H, W]`, weight `[O, C, k_H, k_W]`, bias `[O]`; more: a `Geometry`. → `[B, O, H', W']`.

    Its result is a view of a map with the channels last, and so may x be. In its programs maps are `[B, H, W, C]`, but
    for an x whose memory is `[B, C, H, W]`.
    """

    @classmethod
    def compute(
        cls, tensors: Tensors, more: tuple[Any, ...], keep: bool
    ) -> tuple[paddle.Tensor, np.ndarray | None]:
        result, kept = super().compute(*cls._by_memory(tensors, more), keep)
        return result.transpose([0, 3, 1, 2]), kept

    @classmethod
    def gradients(
        cls, grad: paddle.Tensor, tensors: Tensors, kept: np.ndarray | None, more: tuple[Any, ...]
    ) -> list[Any]:
        changed, more = cls._by_memory(tensors, more)
        dx, *others = super().gradients(grad.transpose([0, 2, 3, 1]), changed, kept, more)
        return [None if dx is None else dx.transpose([0, 3, 1, 2]), *others]

    @staticmethod
    def _by_memory(tensors: Tensors, more: tuple[Any, ...]) -> tuple[Tensors, tuple[Any, ...]]:
        """x as its memory is; more: also whether the channels come first, and whether dx is wanted."""
        x, first = tensors[0], tensors[0].is_contiguous()
        return [x if first else x.transpose([0, 2, 3, 1]), *tensors[1:]], (*more, first, not x.stop_gradient)

    @staticmethod
    def record(arrays: Arrays, keep: bool, *more: Any) -> tuple[Array, Arrays]:
        x, weight, bias = arrays
        geometry, channels_first, _ = more
        window = Window.of(geometry, *(x.shape[2:] if channels_first else x.shape[1:3]))
        columns = unfold(x, window, channels_first)
        out, channels = weight.shape[:2]
        # [O, k_H · k_W · C]
        matrix = turned(weight.reshape([out, channels, -1])).reshape([out, -1])
        y = add_residual(None, product(columns, matrix, transpose_b=True), bias, 1)
        return y.reshape([x.shape[0], *window.out, out]), [columns, matrix]

    @staticmethod
    def record_gradients(grad: Array, arrays: Arrays, kept: Arrays, *more: Any) -> list[Array | None]:
        x, weight, bias = arrays
        columns, matrix = kept
        geometry, channels_first, wanted = more
        grad = halves.rows_of(grad)
        out, channels = weight.shape[:2]
        d_matrix = product(grad, columns, transpose_a=True)
        d_weight = turned(d_matrix.reshape([out, -1, channels])).reshape(weight.shape)
        dx = None
        if wanted:
            size = x.shape[2:] if channels_first else x.shape[1:3]
            dx = fold(product(grad, matrix), Window.of(geometry, *size), [x.shape[0], *size, channels])
        d_bias = add_residual_backward(grad, 1)[1].reshape(bias.shape)
        return [dx, d_weight, d_bias]


class Merge(Function):
    """Tensors: x `[B, H, W, C]`. → `[B, ⌈H / 2⌉, ⌈W / 2⌉, 4 C]`, as `cyclemlp.network.embedding.merge_patches`."""

    @staticmethod
    def record(arrays: Arrays, keep: bool, *more: Any) -> tuple[Array, Arrays]:
        (x,) = arrays
        window = Merge.window(x)
        return unfold(x, window, channels_first=False).reshape([x.shape[0], *window.out, -1]), []

    @staticmethod
    def window(x: Array) -> Window:
        """2×2 neighbours, column by column."""
        out = (-(-x.shape[1] // 2), -(-x.shape[2] // 2))
        return Window((2, 2), (2, 2), (0, 0), out, by_columns=True)

    @staticmethod
    def record_gradients(grad: Array, arrays: Arrays, kept: Arrays, *more: Any) -> list[Array | None]:
        (x,) = arrays
        return [fold(grad, Merge.window(x), x.shape)]


class Block(Function):
    """x → y = x + s · mixer(norm(x)) → y + s' · MLP(norm(y)).

    Tensors: those of `halves.mixer`, then those of `halves.mlp` without its x, then s and s' `[B]` if there is
    stochastic depth; more: a `Mixing`, ε of the second norm.
    """

    @staticmethod
    def record(arrays: Arrays, keep: bool, *more: Any) -> tuple[Array, Arrays]:
        mixing, epsilon = more
        first, second, scales = Block._parts(arrays, mixing)
        y, of_mixer = halves.mixer(first, mixing, scales[0], keep)
        z, of_mlp = halves.mlp([y, *second], epsilon, scales[1], keep)
        return z, [y, *of_mlp, *of_mixer]

    @staticmethod
    def record_gradients(grad: Array, arrays: Arrays, kept: Arrays, *more: Any) -> list[Array | None]:
        mixing, _ = more
        first, second, scales = Block._parts(arrays, mixing)
        y, end = kept[0], 1 + halves.KEPT_BY_MLP
        dy, *d_second = halves.mlp_gradients(grad, [y, *second], kept[1:end], scales[1])
        d_first = halves.mixer_gradients(dy, first, kept[end:], mixing, scales[0])
        return [*d_first, *d_second, *[None for _ in arrays[len(first) + len(second) :]]]

    @staticmethod
    def _parts(arrays: Arrays, mixing: Mixing) -> tuple[Arrays, Arrays, list[Array | None]]:
        end = mixing.tensors
        scales: list[Array | None] = [*arrays[end + halves.OF_MLP :]]
        return arrays[:end], arrays[end : end + halves.OF_MLP], scales or [None, None]


class Part(NamedTuple):
    """A part of the network, for `run_parts`.

    Args:
        record: records it: `record(arrays, *more)`, whose arrays are x `[B, H, W, C]` and the part's own.
        own: how many are its own.
        more: can be hashed.
        is_output: whether its result is one of those that are returned.
    """

    record: Callable[..., Array]
    own: int
    more: tuple[Any, ...]
    is_output: bool


def block_part(arrays: Arrays, mixing: Mixing, epsilon: float) -> Array:
    """A block, without gradients; see `Block`."""
    return Block.record(arrays, False, mixing, epsilon)[0]


def convolution_part(arrays: Arrays, geometry: Geometry) -> Array:
    """A convolution of a map with the channels last; weight and bias."""
    return Convolution.record(arrays, False, geometry, False, False)[0]


def merging_part(arrays: Arrays, epsilon: float) -> Array:
    """Patch merging; weight and bias of the norm, weight of the linear layer."""
    x, gamma, beta, weight = arrays
    merged = Merge.record([x], False)[0]
    y = product(layer_norm(halves.rows_of(merged), gamma, beta, epsilon)[0], weight)
    return y.reshape([*merged.shape[:3], -1])


def run_parts(tensors: Tensors, parts: tuple[Part, ...]) -> Tensors:
    """Parts one after the other, without gradients, as one program.

    Args:
        tensors: x `[B, H, W, C]`, then those of each part.
        parts: in their order.

    Returns:
        The result of each part that is an output.
    """
    tensors = _contiguous(tensors)
    with paddle.no_grad():
        return _parts_program(_shapes(tensors), tensors[0].dtype, parts)(tensors)[0]


@functools.lru_cache(PROGRAMS)
def _parts_program(shapes: Any, dtype: Any, parts: tuple[Part, ...]) -> Program:
    program = Program(dtype)
    x, *arrays = (program.input(shape) for shape in shapes)
    rest, outputs = iter(arrays), []
    for part in parts:
        x = part.record([x, *itertools.islice(rest, part.own)], *part.more)
        outputs += [x] if part.is_output else []
    return program.finish(outputs)


def _contiguous(tensors: Tensors) -> Tensors:
    return [tensor if tensor.is_contiguous() else tensor.contiguous() for tensor in tensors]


def _shapes(tensors: Tensors) -> tuple[tuple[int, ...], ...]:
    return tuple([tuple(tensor.shape) for tensor in tensors])
