"""Parts of the network as functions with a gradient by hand: each is a few kernels and matrix products.

Each takes its tensors as one list, whose first wants a gradient: Paddle looks at the first to know whether the
gradients of a list are wanted, and `paddle.grad` for some of several separate tensors would fail. Without a gradient
the same forward runs, and keeps nothing.

Shapes: B batch, H height, W width, C channels, K branches, N = B · H · W rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from cyclemlp.errors import ModelError
from cyclemlp.kernels.fused.gate import gate as branch_weights
from cyclemlp.kernels.fused.gate import gate_backward as branch_weights_backward
from cyclemlp.kernels.fused.gelu import bias_gelu, bias_gelu_backward
from cyclemlp.kernels.fused.norm import layer_norm, layer_norm_backward, layer_norm_into
from cyclemlp.kernels.fused.residual import add_residual, add_residual_backward
from cyclemlp.kernels.fused.scaling import scaled, scaled_backward
from cyclemlp.kernels.fused.shift import Moves, shift, shift_backward
from cyclemlp.kernels.fused.unfold import Window, fold, turned, unfold
from cyclemlp.kernels.fused.weighting import (
    mean_of_sum,
    weighted_sum,
    weighted_sum_backward,
    weighted_sum_gradients,
)

Tensors = list[paddle.Tensor]


class Function(PyLayer):
    """`run` computes; subclasses define `compute` and `gradients`."""

    @classmethod
    def run(cls, tensors: Tensors, *more: Any) -> paddle.Tensor:
        """The result, with a gradient if one is wanted.

        Args:
            tensors: what gradients can be taken of.
            more: what else `compute` takes.
        """
        wanted = [not tensor.stop_gradient for tensor in tensors]
        if not (any(wanted) and paddle.is_grad_enabled()):
            with paddle.no_grad():
                return cls.compute(None, tensors, *more)
        first = wanted.index(True)
        return cls.apply([tensors[first], *tensors[:first], *tensors[first + 1 :]], first, more)

    @classmethod
    def forward(cls, ctx: Any, tensors: Tensors, first: int, more: tuple[Any, ...]) -> paddle.Tensor:
        ctx.first, ctx.more = first, more
        tensors = [*tensors[1 : first + 1], tensors[0], *tensors[first + 1 :]]
        ctx.kept = []
        result = cls.compute(ctx.kept, tensors, *more)
        ctx.save_for_backward(*tensors)
        return result

    @classmethod
    def backward(cls, ctx: Any, grad: paddle.Tensor) -> Any:
        if paddle.is_grad_enabled():
            raise ModelError(
                "second derivatives (create_graph=True) are not there for the fused kernels; take the plain layers: "
                'cyclemlp.create_model(…, kernels="plain"), or CYCLEMLP_KERNELS=plain in the environment'
            )
        gradients = cls.gradients(grad.contiguous(), list(ctx.saved_tensor()), ctx.kept, *ctx.more)
        # Whole rows: `DataParallel` averages the memory of a gradient, whatever strides a view of it has.
        gradients[1:] = [g if g is None else g.contiguous() for g in gradients[1:]]
        return [gradients[ctx.first], *gradients[: ctx.first], *gradients[ctx.first + 1 :]]

    @staticmethod
    def compute(kept: list[Any] | None, tensors: Tensors, *more: Any) -> paddle.Tensor:
        """The result; what `gradients` needs beside the tensors is appended to `kept`, if that is a list."""
        raise NotImplementedError

    @staticmethod
    def gradients(grad: paddle.Tensor, tensors: Tensors, kept: list[Any], *more: Any) -> list[Any]:
        """The gradient of each tensor."""
        raise NotImplementedError


class LayerNorm(Function):
    """Tensors: x `[…, C]`, weight, bias `[C]`; more: ε."""

    @staticmethod
    def compute(kept: list[Any] | None, tensors: Tensors, *more: Any) -> paddle.Tensor:
        x, weight, bias = tensors
        y, mean, scale = layer_norm(_rows(x), weight, bias, *more)
        if kept is not None:
            kept += [mean, scale]
        return y.reshape(x.shape)

    @staticmethod
    def gradients(grad: paddle.Tensor, tensors: Tensors, kept: list[Any], *more: Any) -> list[Any]:
        x, weight, _ = tensors
        dx, d_weight, d_bias = layer_norm_backward(_rows(grad), _rows(x), weight, *kept)
        return [dx.reshape(x.shape), d_weight, d_bias]


class Convolution(Function):
    """Tensors: x `[B, C, H, W]`, weight `[O, C, k_H, k_W]`, bias `[O]`; more: the window. → `[B, O, H', W']`.

    Its result is a view of a map with the channels last, and so may x be.
    """

    @staticmethod
    def compute(kept: list[Any] | None, tensors: Tensors, *more: Any) -> paddle.Tensor:
        x, weight, bias = tensors
        (window,) = more
        columns = Convolution.columns(x, window)
        matrix = turned(weight.flatten(2)).flatten(1)  # [O, k_H · k_W · C]
        if kept is not None:
            kept += [columns, matrix]
        y = add_residual(None, paddle.matmul(columns, matrix, transpose_y=True), bias, 1)
        return y.reshape([x.shape[0], *window.out, -1]).transpose([0, 3, 1, 2])

    @staticmethod
    def columns(x: paddle.Tensor, window: Window) -> paddle.Tensor:
        """The patches, from whichever layout x has."""
        if x.is_contiguous():
            return unfold(x, window, channels_first=True)
        return unfold(x.transpose([0, 2, 3, 1]).contiguous(), window, channels_first=False)

    @staticmethod
    def gradients(grad: paddle.Tensor, tensors: Tensors, kept: list[Any], *more: Any) -> list[Any]:
        x, weight, _ = tensors
        (window,) = more
        columns, matrix = kept
        grad = _rows(grad.transpose([0, 2, 3, 1]))
        out, channels = weight.shape[:2]
        d_matrix = paddle.matmul(grad, columns, transpose_x=True)
        d_weight = turned(d_matrix.reshape([out, -1, channels])).reshape(weight.shape)
        dx = None
        if not x.stop_gradient:
            shape = [x.shape[0], x.shape[2], x.shape[3], channels]
            dx = fold(paddle.matmul(grad, matrix), window, shape).transpose([0, 3, 1, 2])
        d_bias = add_residual_backward(grad, 1)[1].squeeze(0)
        return [dx, d_weight, d_bias]


class Merge(Function):
    """Tensors: x `[B, H, W, C]`. → `[B, ⌈H / 2⌉, ⌈W / 2⌉, 4 C]`, as `cyclemlp.network.embedding.merge_patches`."""

    @staticmethod
    def compute(kept: list[Any] | None, tensors: Tensors, *more: Any) -> paddle.Tensor:
        (x,) = tensors
        window = Merge.window(x)
        return unfold(x.contiguous(), window, channels_first=False).reshape([x.shape[0], *window.out, -1])

    @staticmethod
    def window(x: paddle.Tensor) -> Window:
        """2×2 neighbours, column by column."""
        out = (-(-x.shape[1] // 2), -(-x.shape[2] // 2))
        return Window((2, 2), (2, 2), (0, 0), out, by_columns=True)

    @staticmethod
    def gradients(grad: paddle.Tensor, tensors: Tensors, kept: list[Any], *more: Any) -> list[Any]:
        (x,) = tensors
        return [fold(grad, Merge.window(x), x.shape)]


class MlpHalf(Function):
    """x + s · (FC₂ GELU(FC₁ norm(x))), the second half of a block.

    Tensors: x `[B, H, W, C]`, the norm's weight and bias, the FCs' weights and biases; more: ε, s `[B]` or None.
    """

    @staticmethod
    def compute(kept: list[Any] | None, tensors: Tensors, *more: Any) -> paddle.Tensor:
        x, gamma, beta, w1, b1, w2, b2 = tensors
        epsilon, scale = more
        rows = _rows(x)
        y, mean, inverse = layer_norm(rows, gamma, beta, epsilon)
        hidden = paddle.matmul(y, w1)
        if kept is not None:
            kept += [y, mean, inverse, hidden]
        out = paddle.matmul(bias_gelu(hidden, b1, in_place=kept is None), w2)
        return add_residual(rows, out, b2, x.shape[0], scale).reshape(x.shape)

    @staticmethod
    def gradients(grad: paddle.Tensor, tensors: Tensors, kept: list[Any], *more: Any) -> list[Any]:
        x, gamma, _, w1, b1, w2, _ = tensors
        y, mean, inverse, hidden = kept
        grad = _rows(grad)
        d_out, sums = add_residual_backward(grad, x.shape[0], more[1])
        d_hidden, d_b1, activated = bias_gelu_backward(paddle.matmul(d_out, w2, transpose_y=True), hidden, b1)
        d_w2 = paddle.matmul(activated, d_out, transpose_x=True)
        d_w1 = paddle.matmul(y, d_hidden, transpose_x=True)
        dy = paddle.matmul(d_hidden, w1, transpose_y=True)
        dx, d_gamma, d_beta = layer_norm_backward(dy, _rows(x), gamma, mean, inverse, grad)
        return [dx.reshape(x.shape), d_gamma, d_beta, d_w1, d_b1, d_w2, sums.sum(axis=0)]


class Mixing(NamedTuple):
    """How a mixer is made.

    Args:
        epsilon: of its norm.
        moves: the shifts of its branches.
        plain: which branch is not shifted; None if there is none.
        transposed: of each branch, whether its weight is `[O, C]`.
        biased: of each branch, whether it has a bias.
        gated: whether there is a gate.
    """

    epsilon: float
    moves: Moves
    plain: int | None
    transposed: tuple[bool, ...]
    biased: tuple[bool, ...]
    gated: bool

    def parts(self, parameters: Tensors) -> tuple[Tensors, Tensors, Tensors, Tensors]:
        """A `MixerHalf`'s tensors after those of the norm: weights, biases, the gate's, the projection's."""
        first, end = len(self.biased), len(self.biased) + sum(self.biased)
        return parameters[:first], parameters[first:end], parameters[end:-2], parameters[-2:]

    def of_biased(self, rows: paddle.Tensor) -> Tensors:
        """The rows of a `[K, C]` that belong to branches with a bias."""
        return [rows[k] for k, biased in enumerate(self.biased) if biased]

    def biases(self, found: Tensors, like: paddle.Tensor) -> paddle.Tensor:
        """`[K, C]` from a list that begins with those that there are; zeros where there is none."""
        rest, none = iter(found), paddle.zeros(like.shape[-1:], like.dtype)
        return paddle.stack([next(rest) if biased else none for biased in self.biased])

    def choose(
        self, kept: list[Any] | None, summed: paddle.Tensor, biases: paddle.Tensor, gate: Tensors
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Weights of the branches `[B, K, C]`, and the row that their biases come to, `[B, C]`.

        Args:
            kept: as in `Function.compute`.
            summed: the mean over positions of the branches' sum, biases included, `[B, C]`.
            biases: of the branches, `[K, C]`.
            gate: its four tensors; without them all weights are 1.
        """
        if not gate:
            shape = [summed.shape[0], *biases.shape]
            return paddle.ones(shape, summed.dtype), biases.sum(axis=0).expand_as(summed).contiguous()
        w1, b1, w2, b2 = gate
        hidden = paddle.matmul(summed, w1)
        logits = paddle.matmul(bias_gelu(hidden, b1, in_place=kept is None), w2)
        weights, row = branch_weights(logits, b2, biases)
        if kept is not None:
            kept += [summed, hidden]
        return weights, row

    def choose_gradients(
        self,
        d_weights: paddle.Tensor,
        d_row: paddle.Tensor,
        weights: paddle.Tensor,
        biases: paddle.Tensor,
        gate: Tensors,
        kept: list[Any],
    ) -> tuple[paddle.Tensor | None, paddle.Tensor, Tensors]:
        """Gradients of `choose`'s `summed` (None without a gate), of the biases, and of the gate's tensors."""
        if not gate:
            return None, d_row.sum(axis=0).expand_as(biases), []
        w1, b1, w2, _ = gate
        summed, hidden = kept
        d_logits, d_biases = branch_weights_backward(
            d_weights.contiguous(), d_row.contiguous(), weights, biases
        )
        d_hidden, d_b1, activated = bias_gelu_backward(
            paddle.matmul(d_logits, w2, transpose_y=True), hidden, b1
        )
        d_w1 = paddle.matmul(summed, d_hidden, transpose_x=True)
        d_w2 = paddle.matmul(activated, d_logits, transpose_x=True)
        d_summed = paddle.matmul(d_hidden, w1, transpose_y=True)
        return d_summed, d_biases + d_summed.sum(axis=0), [d_w1, d_b1, d_w2, d_logits.sum(axis=0)]

    def stacked(self, weights: Tensors) -> paddle.Tensor:
        """The branches' matrices below each other, `[K · C, C]`."""
        return paddle.concat(
            [w.flatten(1).t() if across else w for w, across in zip(weights, self.transposed, strict=True)]
        )

    def unstacked(self, stacked: paddle.Tensor, weights: Tensors) -> Tensors:
        """The gradient of each branch's weight from that of `stacked`."""
        parts = stacked.chunk(len(weights))
        return [
            (part.t() if across else part).reshape(w.shape)
            for part, across, w in zip(parts, self.transposed, weights, strict=True)
        ]


class MixerHalf(Function):
    """x + s · mixer(norm(x)), the first half of a block.

    Tensors: x `[B, H, W, C]`, the norm's weight and bias, the branches' weights, the biases that there are, the gate's
    four if there is one, the projection's weight and bias; more: a `Mixing`, s `[B]` or None.

    Two forms, equal but for rounding. Where the map has at least K · C positions, one product with a matrix of each
    image's own: making the matrices takes K·C³ and saves H·W·C² MACs. Elsewhere branch by branch, as the equation
    stands. Without a gate all images share one matrix, and their positions count together.

    The one product: the gate is linear up to its softmax, so that its input follows from the means of the branches'
    inputs. With the weights a₁…a_K of an image known, Σₖ aₖ ⊙ (Wₖ xₖ + bₖ), then the projection P, is the product of
    the inputs side by side with the matrices Wₖ diag(aₖ) P below each other, plus a row. No branch's output is stored.
    """

    @staticmethod
    def compute(kept: list[Any] | None, tensors: Tensors, *more: Any) -> paddle.Tensor:
        mixing, scale = more
        x = tensors[0]
        if MixerHalf.is_one_product(x, mixing):
            return MixerHalf.one_product(kept, tensors, mixing, scale)
        return MixerHalf.branch_by_branch(kept, tensors, mixing, scale)

    @staticmethod
    def gradients(grad: paddle.Tensor, tensors: Tensors, kept: list[Any], *more: Any) -> list[Any]:
        mixing, scale = more
        if MixerHalf.is_one_product(tensors[0], mixing):
            return MixerHalf.one_product_gradients(grad, tensors, kept, mixing, scale)
        return MixerHalf.branch_by_branch_gradients(grad, tensors, kept, mixing, scale)

    @staticmethod
    def is_one_product(x: paddle.Tensor, mixing: Mixing) -> bool:
        positions = x.shape[1] * x.shape[2] * (1 if mixing.gated else x.shape[0])
        return bool(positions >= len(mixing.biased) * x.shape[3])

    @staticmethod
    def inputs(
        tensors: Tensors, mixing: Mixing, targets: list[int], stride: int
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Write norm(x), shifted for each branch, to addresses; mean and scale of the norm."""
        x, gamma, beta = tensors[:3]
        rows, channels = _rows(x), x.shape[3]
        if mixing.plain is None:
            spare = paddle.empty_like(rows)
            source, source_stride = spare.data_ptr(), channels
        else:
            source, source_stride = targets[mixing.plain], stride
        mean, inverse = layer_norm_into(rows, gamma, beta, mixing.epsilon, source, source_stride)
        targets = [0 if k == mixing.plain else target for k, target in enumerate(targets)]
        if any(targets):
            shift(source, x.dtype, x.shape, mixing.moves, targets, (source_stride, stride))
        return mean, inverse

    @staticmethod
    def one_product(
        kept: list[Any] | None, tensors: Tensors, mixing: Mixing, scale: paddle.Tensor | None
    ) -> paddle.Tensor:
        x, parameters = tensors[0], tensors[3:]
        batch, height, width, channels = x.shape
        wide = len(mixing.biased) * channels
        matrices = batch if mixing.gated else 1
        inputs = paddle.empty([matrices, batch * height * width // matrices, wide], x.dtype)
        mean, inverse = MixerHalf.inputs(tensors, mixing, _side_by_side(inputs, channels), wide)
        weights, biases, gate, (projection, bias) = mixing.parts(parameters)
        means, stacked = mean_of_sum([inputs.flatten(0, 1)], matrices), mixing.stacked(weights)
        biases = mixing.biases(biases, bias)
        of_gate: list[Any] | None = None if kept is None else []
        summed = paddle.matmul(means, stacked) + biases.sum(axis=0)
        chosen, row = mixing.choose(of_gate, summed, biases, gate)
        each = scaled(stacked, chosen)
        matrix = paddle.matmul(each.flatten(0, 1), projection).reshape(each.shape)
        y = paddle.matmul(inputs, matrix).reshape([-1, channels])
        if kept is not None:
            kept += [mean, inverse, inputs, means, stacked, biases, of_gate, chosen, each, row, matrix]
        row = F.linear(row, projection, bias)
        row = row if mixing.gated else row.squeeze(0)
        return add_residual(_rows(x), y, row, batch, scale).reshape(x.shape)

    @staticmethod
    def one_product_gradients(
        grad: paddle.Tensor, tensors: Tensors, kept: list[Any], mixing: Mixing, scale: paddle.Tensor | None
    ) -> list[Any]:
        x, gamma, parameters = tensors[0], tensors[1], tensors[3:]
        mean, inverse, inputs, means, stacked, biases, of_gate, chosen, each, row, matrix = kept
        weights, _, gate, (projection, _) = mixing.parts(parameters)
        batch, height, width, channels = x.shape
        grad = _rows(grad)
        dy, sums = add_residual_backward(grad, batch, scale)
        dy = dy.reshape([inputs.shape[0], -1, channels])
        d_matrix = paddle.matmul(inputs, dy, transpose_x=True).reshape([-1, channels])
        d_bias = sums.sum(axis=0)
        d_projected = sums if mixing.gated else d_bias.unsqueeze(0)
        d_projection = paddle.matmul(each.flatten(0, 1), d_matrix, transpose_x=True)
        d_projection += paddle.matmul(row, d_projected, transpose_x=True)
        d_row = paddle.matmul(d_projected, projection, transpose_y=True)
        d_each = paddle.matmul(d_matrix, projection, transpose_y=True)
        d_stacked, d_chosen = scaled_backward(d_each, stacked, chosen)
        d_summed, d_biases, d_gate = mixing.choose_gradients(d_chosen, d_row, chosen, biases, gate, of_gate)
        more = None
        if d_summed is not None:
            d_stacked += paddle.matmul(means, d_summed, transpose_x=True)
            more = paddle.matmul(d_summed, stacked, transpose_y=True) / (height * width)
        d_inputs = paddle.matmul(dy, matrix, transpose_y=True)
        sources = _side_by_side(d_inputs, channels)
        d_norm = shift_backward(sources, x.dtype, x.shape, mixing.moves, inputs.shape[2], more)
        dx, d_gamma, d_beta = layer_norm_backward(_rows(d_norm), _rows(x), gamma, mean, inverse, grad)
        d_parameters = mixing.unstacked(d_stacked, weights) + mixing.of_biased(d_biases) + d_gate
        return [dx.reshape(x.shape), d_gamma, d_beta, *d_parameters, d_projection, d_bias]

    @staticmethod
    def branch_by_branch(
        kept: list[Any] | None, tensors: Tensors, mixing: Mixing, scale: paddle.Tensor | None
    ) -> paddle.Tensor:
        x, parameters = tensors[0], tensors[3:]
        batch, channels = x.shape[0], x.shape[3]
        weights, biases, gate, (projection, bias) = mixing.parts(parameters)
        inputs = [paddle.empty([x.size // channels, channels], x.dtype) for _ in weights]
        mean, inverse = MixerHalf.inputs(tensors, mixing, [y.data_ptr() for y in inputs], channels)
        products = [
            paddle.matmul(y, w.flatten(1), transpose_y=across)
            for y, w, across in zip(inputs, weights, mixing.transposed, strict=True)
        ]
        biases = mixing.biases(biases, bias)
        of_gate: list[Any] | None = None if kept is None else []
        summed = mean_of_sum(products, batch) + biases.sum(axis=0)
        chosen, row = mixing.choose(of_gate, summed, biases, gate)
        mixed = weighted_sum(products, chosen, row)
        if kept is not None:
            kept += [mean, inverse, biases, of_gate, chosen, mixed, inputs, products]
        y = paddle.matmul(mixed, projection)
        return add_residual(_rows(x), y, bias, batch, scale).reshape(x.shape)

    @staticmethod
    def branch_by_branch_gradients(
        grad: paddle.Tensor, tensors: Tensors, kept: list[Any], mixing: Mixing, scale: paddle.Tensor | None
    ) -> list[Any]:
        x, gamma, parameters = tensors[0], tensors[1], tensors[3:]
        mean, inverse, biases, of_gate, chosen, mixed, inputs, products = kept
        weights, _, gate, (projection, _) = mixing.parts(parameters)
        branches = len(weights)
        batch, height, width, channels = x.shape
        grad = _rows(grad)
        dy, sums = add_residual_backward(grad, batch, scale)
        d_projection = paddle.matmul(mixed, dy, transpose_x=True)
        d_mixed = paddle.matmul(dy, projection, transpose_y=True)
        sums_of = weighted_sum_gradients(d_mixed, products, batch)
        d_summed, d_biases, d_gate = mixing.choose_gradients(
            sums_of[:, :branches], sums_of[:, branches], chosen, biases, gate, of_gate
        )
        if d_summed is None:
            more = paddle.zeros([batch, branches, channels], x.dtype)
        else:
            more = (d_summed / (height * width)).unsqueeze(1).expand([batch, branches, channels]).contiguous()
        d_products = weighted_sum_backward(d_mixed, chosen, more)
        d_weights, d_inputs = [], []
        for y, d, w, across in zip(inputs, d_products, weights, mixing.transposed, strict=True):
            d_weight = paddle.matmul(*((d, y) if across else (y, d)), transpose_x=True)
            d_weights.append(d_weight.reshape(w.shape))
            d_inputs.append(paddle.matmul(d, w.flatten(1), transpose_y=not across))
        sources = [d.data_ptr() for d in d_inputs]
        d_norm = shift_backward(sources, x.dtype, x.shape, mixing.moves, channels, None)
        dx, d_gamma, d_beta = layer_norm_backward(_rows(d_norm), _rows(x), gamma, mean, inverse, grad)
        d_parameters = d_weights + mixing.of_biased(d_biases) + d_gate
        return [dx.reshape(x.shape), d_gamma, d_beta, *d_parameters, d_projection, sums.sum(axis=0)]


def _rows(x: paddle.Tensor) -> paddle.Tensor:
    """`[…, C]` → `[N, C]`, one row after the other in memory."""
    return x.contiguous().reshape([-1, x.shape[-1]])


def _side_by_side(x: paddle.Tensor, channels: int) -> list[int]:
    """Addresses of parts of C channels in the first row of a map."""
    return [x.data_ptr() + start * x.element_size() for start in range(0, x.shape[-1], channels)]
