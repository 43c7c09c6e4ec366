"""Which implementation of the network's layers runs, and putting it in their places."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from typing import TypeVar

import paddle
from paddle import nn

from cyclemlp.errors import ConfigError
from cyclemlp.network.cyclemlp import (
    CycleBlock,
    CycleMixer,
    CycleMLP,
    CycleShift,
    Mlp,
)
from cyclemlp.network.embedding import Downsample, PatchEmbed, PatchMerging

_Model = TypeVar("_Model", bound=nn.Layer)

#: Layers of ours; what lies in them is theirs, and no other layer of a model is touched.
_OURS = (CycleMLP, CycleBlock, CycleMixer, CycleShift, Mlp, PatchEmbed, Downsample, PatchMerging)
#: The environment's choice for models that are made from then on.
VARIABLE, CHOICES = "CYCLEMLP_KERNELS", ("auto", "plain")


@functools.cache
def why_not_fused() -> str | None:
    """Why the fused kernels cannot run here; None if they can. The first call tries one."""
    try:
        from cyclemlp.kernels.fused.program import try_out

        try_out()
    except ImportError as error:
        return f'{error}: pip install "paddle-cyclemlp[cpu]"'
    except Exception as error:  # whatever a compiler says on a processor or disk that nobody has tried
        return str(error).strip().splitlines()[0] or type(error).__name__
    return None


def chosen_kernels() -> str:
    """ "auto", or what the environment variable `CYCLEMLP_KERNELS` says: "plain".

    Raises:
        ConfigError: it says something else.
    """
    choice = os.environ.get(VARIABLE) or "auto"
    if choice not in CHOICES:
        raise ConfigError(f"the environment has {VARIABLE}={choice}; expected {' or '.join(CHOICES)}")
    return choice


def fused_kernels_run() -> bool:
    """Whether what is computed now on Paddle's device is to be computed by fused kernels."""
    return chosen_kernels() == "auto" and paddle.device.get_device() == "cpu" and why_not_fused() is None


def is_simple(tensor: paddle.Tensor, dtype: paddle.dtype) -> bool:
    """Whether a kernel can go through a tensor as numbers of a type, one after the other."""
    return bool(
        tensor.dtype == dtype
        and dtype in (paddle.float32, paddle.float64)
        and tensor.place.is_cpu_place()
        and tensor.is_contiguous()
        and tensor.size
    )


def describe_kernels() -> str:
    """Which layers a model that is made now gets, and why, for people."""
    if chosen_kernels() == "plain":
        return f"plain: {VARIABLE}=plain is set"
    reason = why_not_fused()
    if reason is not None:
        return f"plain: the fused kernels cannot run here ({reason})"
    return (
        "fused on a CPU in eager mode, float32 and float64; plain where a model is traced or exported, and on other "
        f"devices ({VARIABLE}=plain for plain everywhere)"
    )


def select_kernels(model: _Model, kernels: str | None = None) -> _Model:
    """Put the faster implementations in the places of a model's CycleMLP layers, or the plain ones back.

    A layer changes its class and nothing else: it is the same object, with its parameters, names, hooks, mode and place
    in the model. The faster ones compute on a CPU in eager mode, and as the plain ones everywhere else.

    Args:
        model: a CycleMLP, a part of one, or a model with one inside; changed in place.
        kernels: "auto", "plain", or None for `chosen_kernels`.

    Returns:
        The model.

    Raises:
        ConfigError: another word.
    """
    kernels = chosen_kernels() if kernels is None else kernels
    if kernels not in CHOICES:
        raise ConfigError(f"kernels is {kernels!r}; expected {' or '.join(CHOICES)}")
    if kernels == "plain" and "cyclemlp.kernels.cpu" not in sys.modules:
        return model  # no layer of the other kind can be there
    if kernels == "auto" and why_not_fused() is not None:
        return model
    from cyclemlp.kernels.cpu import CPU_LAYERS

    table = CPU_LAYERS if kernels == "auto" else {faster: plain for plain, faster in CPU_LAYERS.items()}
    for layer in _parts(model):
        other = table.get(type(layer))
        if other is not None:
            object.__setattr__(layer, "__class__", other)
    return model


def _parts(model: nn.Layer) -> Iterator[nn.Layer]:
    """Each layer that is ours or lies in one of ours, once."""
    seen: set[int] = set()
    for whole in model.sublayers(include_self=True):
        if isinstance(whole, _OURS):
            for part in whole.sublayers(include_self=True):
                if id(part) not in seen:
                    seen.add(id(part))
                    yield part
