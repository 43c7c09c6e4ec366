"""Muon (Jordan et al., 2024): momentum whose matrices are made orthogonal before they are subtracted.

    V ← μ V + G;  U = G + μ V (Nesterov);  O = NS(U) ≈ U (Uᵀ U)^(−½);  W ← (1 − lr · decay) W − lr · 0.2 √max(n, m) O

G is the gradient of a weight W as a matrix `[n, m]`: the first dimension by all others, so that a convolution's is
`[O, C · k_H · k_W]`. NS is five steps of the Newton-Schulz iteration X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, whose
coefficients bring the singular values near 1, not to it. The factor 0.2 √max(n, m) gives an update the size that
AdamW's usually has (Liu et al., 2025), so that both take the same learning rate and decay. All else, that is biases,
norms, and the first and the last weight of the model (patch embedding and head), is AdamW's.

A step takes fifteen small matrix products for each weight (`cyclemlp.kernels.muon`), and one moment less of memory than
AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import paddle

from cyclemlp.kernels.muon import MuonUpdate, as_matrix, muon_step


class Muon(paddle.optimizer.AdamW):
    """Muon for some parameters and AdamW for the others.

    Args:
        matrices: Paddle's names of the parameters that are Muon's; each has two dimensions or more.
        arguments: as of `paddle.optimizer.AdamW`.
    """

    def __init__(self, matrices: Iterable[str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._matrices = frozenset(matrices)
        self._updates: list[MuonUpdate] = []

    def _add_moments_pows(self, p: paddle.Tensor) -> None:
        if p.name in self._matrices:
            self._add_accumulator(self._moment1_acc_str, p, dtype=p.dtype)
        else:
            super()._add_moments_pows(p)

    def _append_optimize_op(self, block: Any, param_and_grad: Any) -> None:
        parameter, gradient = param_and_grad
        if parameter.name not in self._matrices:
            super()._append_optimize_op(block, param_and_grad)
            return
        lr = self.get_lr() * parameter.optimize_attr["learning_rate"]
        decayed = self._apply_decay_param_fun is None or self._apply_decay_param_fun(parameter.name)
        momentum = self._get_accumulator_master(self._moment1_acc_str, parameter)
        kept = 1 - lr * self._weight_decay if decayed else 1.0
        rate = lr * 0.2 * math.sqrt(max(as_matrix(parameter.shape)))
        self._updates.append(MuonUpdate(parameter, gradient, momentum, kept, rate))

    def _finish_update(self, block: Any, parameters_and_grads: Any) -> None:
        super()._finish_update(block, parameters_and_grads)
        muon_step(self._updates)
        self._updates.clear()
