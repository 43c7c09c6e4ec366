"""Says how to get PaddlePaddle where it is missing; rooms that need it call this before they import it."""

from __future__ import annotations

import importlib.util

from cyclemlp.errors import MissingDependencyError

HOW_TO_INSTALL = (
    'install one: `pip install "paddle-cyclemlp[cpu]"` for processors, or the paddlepaddle-gpu wheel '
    "(3.0 or later) for your CUDA version as https://www.paddlepaddle.org.cn/install/quick describes"
)


def require_paddle() -> None:
    """Raise MissingDependencyError if no PaddlePaddle is installed."""
    if importlib.util.find_spec("paddle") is None:
        raise MissingDependencyError(f"PaddlePaddle is not installed; {HOW_TO_INSTALL}")
