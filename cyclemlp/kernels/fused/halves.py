"""The two halves of a block, forward and backward, as steps of a program.

Each takes arrays and records steps; see `cyclemlp.kernels.fused.program`. `mixer` and `mlp` return their result and a
list of what their gradients need; nothing of that is overwritten if `keep` is true.

Shapes: B batch, H height, W width, C channels, K branches, N = B · H · W rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from cyclemlp.kernels.fused.gate import gate as branch_weights
from cyclemlp.kernels.fused.gate import gate_backward as branch_weights_backward
from cyclemlp.kernels.fused.gelu import bias_gelu, bias_gelu_backward
from cyclemlp.kernels.fused.mlp import mlp_by_chunks, mlp_by_chunks_gradients, rows_of_a_chunk
from cyclemlp.kernels.fused.norm import layer_norm, layer_norm_backward, layer_norm_into
from cyclemlp.kernels.fused.program import Address, Array, empty, product
from cyclemlp.kernels.fused.residual import add_residual, add_residual_backward
from cyclemlp.kernels.fused.scaling import scaled, scaled_backward
from cyclemlp.kernels.fused.shift import Moves, shift, shift_backward
from cyclemlp.kernels.fused.stacking import stacked, stacked_rows, unstacked
from cyclemlp.kernels.fused.sums import filled, parts_total, repeated_total, total
from cyclemlp.kernels.fused.weighting import (
    mean_of_sum,
    weighted_sum,
    weighted_sum_backward,
    weighted_sum_gradients,
)

Arrays = list[Array]
#: Tensors of `mlp` beside x, and arrays that it keeps.
OF_MLP, KEPT_BY_MLP = 6, 4


def rows_of(x: Array) -> Array:
    """`[…, C]` → `[N, C]`."""
    return x.reshape([-1, x.shape[-1]])


# ---- the MLP: x + s · (FC₂ GELU(FC₁ norm(x)))


def mlp(tensors: Arrays, epsilon: float, scale: Array | None, keep: bool) -> tuple[Array, Arrays]:
    """`[B, H, W, C]` → `[B, H, W, C]`.

    Args:
        tensors: x, the norm's weight and bias, the FCs' weights and biases.
        epsilon: of the norm.
        scale: s, `[B]`; None is 1.
    """
    x, gamma, beta, w1, b1, w2, b2 = tensors
    rows = rows_of(x)
    if rows_of_a_chunk(rows.shape[0], *w1.shape):
        z, kept = mlp_by_chunks([rows, *tensors[1:]], x.shape[0], epsilon, scale, keep)
        return z.reshape(x.shape), kept
    y, mean, inverse = layer_norm(rows, gamma, beta, epsilon)
    hidden = product(y, w1)
    out = product(bias_gelu(hidden, b1, in_place=not keep), w2)
    return add_residual(rows, out, b2, x.shape[0], scale).reshape(x.shape), [y, mean, inverse, hidden]


def mlp_gradients(grad: Array, tensors: Arrays, kept: Arrays, scale: Array | None) -> Arrays:
    """Of all tensors."""
    x, gamma, _, w1, b1, w2, _ = tensors
    y, mean, inverse, hidden = kept
    grad, rows = rows_of(grad), rows_of(x)
    if rows_of_a_chunk(rows.shape[0], *w1.shape):
        dx, *others = mlp_by_chunks_gradients(grad, [rows, *tensors[1:]], x.shape[0], kept, scale)
        return [dx.reshape(x.shape), *others]
    d_out, sums = add_residual_backward(grad, x.shape[0], scale)
    d_hidden, d_b1, activated = bias_gelu_backward(product(d_out, w2, transpose_b=True), hidden, b1)
    d_w2 = product(activated, d_out, transpose_a=True)
    d_w1 = product(y, d_hidden, transpose_a=True)
    dy = product(d_hidden, w1, transpose_b=True)
    dx, d_gamma, d_beta = layer_norm_backward(dy, rows, gamma, mean, inverse, grad)
    return [dx.reshape(x.shape), d_gamma, d_beta, d_w1, d_b1, d_w2, total(sums)]


# ---- the mixer: x + s · mixer(norm(x))


@dataclass(frozen=True, eq=False)
class Mixing:
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

    @property
    def tensors(self) -> int:
        """How many arrays `mixer` takes."""
        return 3 + len(self.biased) + sum(self.biased) + 4 * self.gated + 2

    def parts(self, parameters: Arrays) -> tuple[Arrays, Arrays, Arrays, Arrays]:
        """A mixer's arrays after those of the norm: weights, biases, the gate's, the projection's."""
        first, end = len(self.biased), len(self.biased) + sum(self.biased)
        return parameters[:first], parameters[first:end], parameters[end:-2], parameters[-2:]

    def biases(self, found: Arrays, like: Array) -> Array:
        """`[K, C]` from those that there are; zeros where there is none."""
        rest = iter(found)
        return stacked_rows([next(rest) if biased else None for biased in self.biased], like)

    def is_one_product(self, shape: tuple[int, ...]) -> bool:
        """Which of the two forms a map `[B, H, W, C]` takes; see `mixer`."""
        positions = shape[1] * shape[2] * (1 if self.gated else shape[0])
        return bool(positions >= len(self.biased) * shape[3])


def mixer(tensors: Arrays, mixing: Mixing, scale: Array | None, keep: bool) -> tuple[Array, Arrays]:
    """`[B, H, W, C]` → `[B, H, W, C]`.

    Two forms, equal but for rounding. Where the map has at least K · C positions, one product with a matrix of each
    image's own: making the matrices takes K·C³ and saves H·W·C² MACs. Elsewhere branch by branch, as the equation
    stands. Without a gate all images share one matrix, and their positions count together.

    The one product: the gate is linear up to its softmax, so that its input follows from the means of the branches'
    inputs. With the weights a₁…a_K of an image known, Σₖ aₖ ⊙ (Wₖ xₖ + bₖ), then the projection P, is the product of
    the inputs side by side with the matrices Wₖ diag(aₖ) P below each other, plus a row. No branch's output is stored.

    Args:
        tensors: x, the norm's weight and bias, the branches' weights, the biases that there are, the gate's four if
            there is one, the projection's weight and bias.
        mixing: the form.
        scale: s, `[B]`; None is 1.
    """
    if mixing.is_one_product(tensors[0].shape):
        return _one_product(tensors, mixing, scale, keep)
    return _branch_by_branch(tensors, mixing, scale, keep)


def mixer_gradients(
    grad: Array, tensors: Arrays, kept: Arrays, mixing: Mixing, scale: Array | None
) -> Arrays:
    """Of all tensors."""
    if mixing.is_one_product(tensors[0].shape):
        return _one_product_gradients(grad, tensors, kept, mixing, scale)
    return _branch_by_branch_gradients(grad, tensors, kept, mixing, scale)


def _inputs(tensors: Arrays, mixing: Mixing, targets: list[Address], stride: int) -> tuple[Array, Array]:
    """Write norm(x), shifted for each branch, to addresses; mean and scale of the norm."""
    x, gamma, beta = tensors[:3]
    rows = rows_of(x)
    if mixing.plain is None:
        source, source_stride = empty(x.shape, x).data_ptr(), x.shape[3]
    else:
        source, source_stride = targets[mixing.plain], stride
    mean, inverse = layer_norm_into(rows, gamma, beta, mixing.epsilon, source, source_stride)
    if len(targets) > (mixing.plain is not None):
        shifted = [0 if k == mixing.plain else target for k, target in enumerate(targets)]
        shift(source, x, mixing.moves, shifted, (source_stride, stride))
    return mean, inverse


def _one_product(tensors: Arrays, mixing: Mixing, scale: Array | None, keep: bool) -> tuple[Array, Arrays]:
    x = tensors[0]
    batch, height, width, channels = x.shape
    branches = len(mixing.biased)
    matrices = batch if mixing.gated else 1
    inputs = empty([matrices, batch * height * width // matrices, branches * channels], x)
    mean, inverse = _inputs(tensors, mixing, _side_by_side(inputs, channels), branches * channels)
    weights, biases, gate, (projection, bias) = mixing.parts(tensors[3:])
    below, rows = stacked(weights, mixing.transposed), mixing.biases(biases, bias)
    kept = [mean, inverse, inputs, below, rows]
    if gate:
        means = mean_of_sum([rows_of(inputs)], matrices)
        summed = product(means, below, to=repeated_total(rows, matrices))
        chosen, row, of_gate = _choose(summed, rows, gate, keep)
        each = scaled(below, chosen)
        kept += [means, chosen, each, *of_gate]
    else:
        each, row = below.reshape([1, *below.shape]), repeated_total(rows, 1)
    matrix = product(each.reshape([-1, channels]), projection).reshape(each.shape)
    y = rows_of(product(inputs, matrix))
    added = product(row, projection, to=repeated_total(bias.reshape([1, -1]), matrices))
    added = added if mixing.gated else added.reshape([channels])
    return add_residual(rows_of(x), y, added, batch, scale).reshape(x.shape), [row, matrix, *kept]


def _one_product_gradients(
    grad: Array, tensors: Arrays, kept: Arrays, mixing: Mixing, scale: Array | None
) -> Arrays:
    x, gamma = tensors[:2]
    row, matrix, mean, inverse, inputs, below, rows, *of_gate = kept
    weights, _, gate, (projection, _) = mixing.parts(tensors[3:])
    batch, height, width, channels = x.shape
    grad = rows_of(grad)
    dy, sums = add_residual_backward(grad, batch, scale)
    dy = dy.reshape([inputs.shape[0], -1, channels])
    d_matrix = rows_of(product(inputs, dy, transpose_a=True))
    d_bias = total(sums)
    d_projected = sums if gate else d_bias.reshape([1, channels])
    d_row = product(d_projected, projection, transpose_b=True)
    d_each = product(d_matrix, projection, transpose_b=True)
    if gate:
        means, chosen, each, *of_gate = of_gate
        d_below, d_chosen = scaled_backward(d_each, below, chosen)
        d_summed, d_rows, d_gate = _choose_gradients(d_chosen, d_row, chosen, rows, gate, of_gate)
        from_biases = d_summed
        product(means, d_summed, transpose_a=True, to=d_below)
        more = product(d_summed, below, transpose_b=True, alpha=1 / (height * width))
    else:
        each, d_below, more, d_rows, d_gate, from_biases = below, d_each, None, None, [], d_row
    d_projection = product(rows_of(each), d_matrix, transpose_a=True)
    product(row, d_projected, transpose_a=True, to=d_projection)
    d_inputs = product(dy, matrix, transpose_b=True)
    d_norm = shift_backward(_side_by_side(d_inputs, channels), x, mixing.moves, inputs.shape[2], more)
    dx, d_gamma, d_beta = layer_norm_backward(rows_of(d_norm), rows_of(x), gamma, mean, inverse, grad)
    d_parameters = (
        unstacked(d_below, weights, mixing.transposed) + _bias_gradients(mixing, d_rows, from_biases) + d_gate
    )
    return [dx.reshape(x.shape), d_gamma, d_beta, *d_parameters, d_projection, d_bias]


def _branch_by_branch(
    tensors: Arrays, mixing: Mixing, scale: Array | None, keep: bool
) -> tuple[Array, Arrays]:
    x = tensors[0]
    batch, channels = x.shape[0], x.shape[3]
    weights, biases, gate, (projection, bias) = mixing.parts(tensors[3:])
    inputs = [empty([x.size // channels, channels], x) for _ in weights]
    mean, inverse = _inputs(tensors, mixing, [y.data_ptr() for y in inputs], channels)
    products = [
        product(y, w.reshape([channels, channels]), transpose_b=across)
        for y, w, across in zip(inputs, weights, mixing.transposed, strict=True)
    ]
    rows = mixing.biases(biases, bias)
    of_gate: Arrays = []
    if gate:
        summed = add_residual(None, mean_of_sum(products, batch), total(rows), 1)
        chosen, row, of_gate = _choose(summed, rows, gate, keep)
    else:
        chosen = filled([batch, len(weights), channels], 1.0, x)
        row = repeated_total(rows, batch)
    mixed = weighted_sum(products, chosen, row)
    y = add_residual(rows_of(x), product(mixed, projection), bias, batch, scale)
    return y.reshape(x.shape), [mean, inverse, rows, chosen, mixed, *inputs, *products, *of_gate]


def _branch_by_branch_gradients(
    grad: Array, tensors: Arrays, kept: Arrays, mixing: Mixing, scale: Array | None
) -> Arrays:
    x, gamma = tensors[:2]
    weights, _, gate, (projection, _) = mixing.parts(tensors[3:])
    branches = len(weights)
    mean, inverse, rows, chosen, mixed, *more = kept
    inputs, products, of_gate = more[:branches], more[branches : 2 * branches], more[2 * branches :]
    batch, height, width, channels = x.shape
    grad = rows_of(grad)
    dy, sums = add_residual_backward(grad, batch, scale)
    d_projection = product(mixed, dy, transpose_a=True)
    d_mixed = product(dy, projection, transpose_b=True)
    d_chosen, d_row = weighted_sum_gradients(d_mixed, products, batch)
    d_rows, from_biases = None, d_row
    d_gate: Arrays = []
    if gate:
        from_biases, d_rows, d_gate = _choose_gradients(d_chosen, d_row, chosen, rows, gate, of_gate)
    through_mean = from_biases if gate else None
    d_products = weighted_sum_backward(d_mixed, chosen, through_mean, 1 / (height * width))
    d_weights, d_inputs = [], []
    for y, d, w, across in zip(inputs, d_products, weights, mixing.transposed, strict=True):
        first, second = (d, y) if across else (y, d)
        d_weights.append(product(first, second, transpose_a=True).reshape(w.shape))
        d_inputs.append(product(d, w.reshape([channels, channels]), transpose_b=not across))
    d_norm = shift_backward([d.data_ptr() for d in d_inputs], x, mixing.moves, channels, None)
    dx, d_gamma, d_beta = layer_norm_backward(rows_of(d_norm), rows_of(x), gamma, mean, inverse, grad)
    d_parameters = d_weights + _bias_gradients(mixing, d_rows, from_biases) + d_gate
    return [dx.reshape(x.shape), d_gamma, d_beta, *d_parameters, d_projection, total(sums)]


# ---- what both forms need


def _choose(summed: Array, rows: Array, gate: Arrays, keep: bool) -> tuple[Array, Array, Arrays]:
    """The gate: weights of the branches `[B, K, C]`, the row that their biases come to `[B, C]`, what is kept.

    Args:
        summed: the mean over positions of the branches' sum, biases included, `[B, C]`.
        rows: the branches' biases, `[K, C]`.
        gate: its four tensors.
    """
    w1, b1, w2, b2 = gate
    hidden = product(summed, w1)
    logits = product(bias_gelu(hidden, b1, in_place=not keep), w2)
    return *branch_weights(logits, b2, rows), [summed, hidden]


def _choose_gradients(
    d_chosen: Array, d_row: Array, chosen: Array, rows: Array, gate: Arrays, kept: Arrays
) -> tuple[Array, Array, Arrays]:
    """Gradients of `_choose`'s `summed`, of the biases through the row `[K, C]`, and of the gate's tensors."""
    w1, b1, w2, _ = gate
    summed, hidden = kept
    d_logits, d_rows = branch_weights_backward(d_chosen, d_row, chosen, rows)
    d_hidden, d_b1, activated = bias_gelu_backward(product(d_logits, w2, transpose_b=True), hidden, b1)
    d_w1 = product(summed, d_hidden, transpose_a=True)
    d_w2 = product(activated, d_logits, transpose_a=True)
    d_summed = product(d_hidden, w1, transpose_b=True)
    return d_summed, d_rows, [d_w1, d_b1, d_w2, total(d_logits)]


def _bias_gradients(mixing: Mixing, each: Array | None, all_alike: Array) -> Arrays:
    """Of the biases that there are.

    Args:
        each: a part of its own for each branch, `[K, C]`.
        all_alike: `[n, C]`, whose sum is the part that is the same for all.
    """
    gradients, channels = [], all_alike.shape[1]
    for k, biased in enumerate(mixing.biased):
        if biased:
            gradient = repeated_total(all_alike, 1)
            if each is not None:
                gradient = add_residual(None, gradient, parts_total(each, 1, k, 1).reshape([channels]), 1)
            gradients.append(gradient.reshape([channels]))
    return gradients


def _side_by_side(x: Array, channels: int) -> list[Address]:
    """Addresses of parts of C channels in the first row of a map."""
    return [x.data_ptr() + start * x.element_size() for start in range(0, x.shape[-1], channels)]
