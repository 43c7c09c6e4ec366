"""Training: the recipe, loss, optimizer and schedule, checkpoints, the loop.

`Recipe` needs no Paddle; the rest is imported at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclemlp._paddle import require_paddle
from cyclemlp.training.recipe import Recipe

if TYPE_CHECKING:
    from cyclemlp.training.loop import (
        TrainingFailedError,
        TrainingResult,
        TrainingStoppedError,
        train,
    )

__all__ = ["Recipe", "TrainingFailedError", "TrainingResult", "TrainingStoppedError", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        require_paddle()
        from cyclemlp.training import loop

        return getattr(loop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
