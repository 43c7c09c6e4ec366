"""Training: components with their configs, the recipe that is the tree of them, checkpoints, the trainer."""

from cyclemlp._paddle import require_paddle

require_paddle()

from cyclemlp.training.recipe import Recipe
from cyclemlp.training.trainer import (
    Trainer,
    TrainingFailedError,
    TrainingOptions,
    TrainingResult,
    TrainingStoppedError,
    train,
)

__all__ = [
    "Recipe",
    "Trainer",
    "TrainingFailedError",
    "TrainingOptions",
    "TrainingResult",
    "TrainingStoppedError",
    "train",
]
