"""The learning rate by position in the run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from cyclemlp.config import MAX_COUNT, Config, Field
from cyclemlp.errors import ConfigError

if TYPE_CHECKING:
    from cyclemlp.training.recipe import Recipe


class ScheduleConfig(Config):
    """Linear warm-up, a cosine to the minimum, and a cool-down at it."""

    by: Literal["epoch", "step"] = Field(
        "epoch",
        description="`epoch` as the authors step it, after each epoch and with that epoch's number, so that the first "
        "two share the first rate; or `step`",
    )
    warmup_epochs: float = Field(
        5.0,
        ge=0,
        le=MAX_COUNT,
        description="length of the warm-up, may be a fraction; part of the cosine's epochs",
    )
    warmup_lr: float = Field(1e-6, ge=0, description="rate at the start; never taken above the highest")
    min_lr: float = Field(1e-5, ge=0, description="rate at the end; never taken above the highest")
    cooldown_epochs: int = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        description="the run's last epochs, at `schedule.min_lr`; the authors' 10 lie past the end of their run",
    )
    cosine_epochs: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="epoch at which the cosine ends, whatever the length of the run; null is the cool-down's beginning",
    )
    shift_epochs: int = Field(
        0,
        ge=-MAX_COUNT,
        le=MAX_COUNT,
        description="epochs that the schedule is ahead of the run; with `schedule.by` epoch, 1 makes the first step "
        "down after the first epoch, not the second",
    )

    @model_validator(mode="after")
    def _one_end(self) -> ScheduleConfig:
        if self.cooldown_epochs and self.cosine_epochs is not None:
            raise ConfigError(
                "schedule.cosine_epochs and schedule.cooldown_epochs both set where the cosine ends; give one"
            )
        return self


@dataclass(frozen=True)
class Schedule:
    """Learning rate by position in the run: a function without state, so that a resumed run needs none.

    With a cosine of T epochs, base rate b, minimum m and a warm-up of W epochs from w, the rate at position t (in
    epochs) is w + (b − w) · t / W for t < W, then m + (b − m) · (1 + cos(π · t / T)) / 2, and m from T on.

    Attributes:
        base_lr: b.
        epochs: T.
        by: "step": t moves with every step. "epoch": t is the number of the epoch before, from 0, and 0 in the
            first epoch: the authors step their schedule after each epoch with that epoch's number.
        warmup_epochs, warmup_lr, min_lr: W, w, m; w and m are taken as b where they are above it.
        shift: added to t, which stays at least 0.
    """

    base_lr: float
    epochs: int
    by: str = "epoch"
    warmup_epochs: float = 5.0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    shift: int = 0

    @classmethod
    def from_recipe(cls, recipe: Recipe, devices: int = 1) -> Schedule:
        """The recipe's schedule, for the rate scaled to the batch of all devices together."""
        config = recipe.schedule
        return cls(
            base_lr=recipe.optimizer.scaled_lr(recipe.data.batch_size * devices),
            epochs=config.cosine_epochs or recipe.run.epochs - config.cooldown_epochs,
            by=config.by,
            warmup_epochs=config.warmup_epochs,
            warmup_lr=config.warmup_lr,
            min_lr=config.min_lr,
            shift=config.shift_epochs,
        )

    def lr(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Rate of one step.

        Args:
            epoch: from 0.
            step: within the epoch, from 0.
            steps_per_epoch: steps of one epoch.
        """
        position = epoch + step / steps_per_epoch if self.by == "step" else epoch - 1
        return self.at(max(position + self.shift, 0))

    def at(self, position: float) -> float:
        """Rate at a position, in epochs from the start."""
        if position < self.warmup_epochs:
            start = min(self.warmup_lr, self.base_lr)
            return start + (self.base_lr - start) * position / self.warmup_epochs
        floor = min(self.min_lr, self.base_lr)
        turned = math.pi * min(position / self.epochs, 1.0)
        return floor + (self.base_lr - floor) * (1 + math.cos(turned)) / 2
