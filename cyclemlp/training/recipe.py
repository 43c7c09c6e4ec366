"""The recipe: everything that decides what a training run computes, as a tree of the components' configs.

Where results go and which device computes them are not part of it. The defaults are the authors' whole recipe for
ImageNet; what makes no sense for little data, a file under `configs/` switches off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import model_validator

from cyclemlp.config import MAX_COUNT, Config, Field, assigned, build, plain_values
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.teachers.distillation import DistillationConfig
from cyclemlp.text import shown
from cyclemlp.training.amp import AmpConfig
from cyclemlp.training.augmentation import AugmentConfig
from cyclemlp.training.data import DataConfig
from cyclemlp.training.ema import EmaConfig
from cyclemlp.training.losses import LossConfig
from cyclemlp.training.model import ModelConfig
from cyclemlp.training.optimizer import OptimizerConfig
from cyclemlp.training.schedule import ScheduleConfig
from cyclemlp.yaml_files import read_yaml_with_lines


class RunConfig(Config):
    """How long, and what is kept."""

    epochs: int = Field(300, ge=1, le=MAX_COUNT, description="passes over the training images")
    start_epoch: int = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        description="how many of them count as done before the run: their places in the schedule and among the random "
        "draws are left out; to go on with a run, resume it",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        description="of initial weights, order, augmentation, dropout: one seed, one result",
    )
    log_steps: int = Field(
        10,
        ge=1,
        le=MAX_COUNT,
        description="the loss is read back from the device and checked every so many steps; a step whose loss or "
        "gradients are not finite changes nothing, whenever it is found",
    )
    checkpoint_epochs: int = Field(
        1, ge=1, le=MAX_COUNT, description="a checkpoint every so many epochs, and after the last"
    )
    keep_checkpoints: int = Field(
        3, ge=1, le=MAX_COUNT, description="how many of the newest stay; the best model stays anyway"
    )
    best_metric: Literal["accuracy", "map", "macro_f1", "loss"] | None = Field(
        None,
        description="figure of the validation images by which the best epoch is chosen: `accuracy`, the top-1; `map`, "
        "of several labels an image the mean of the classes' average precision; `macro_f1`, the mean of the classes' "
        "F1, in which each class counts alike; or `loss`. null takes `accuracy`, and `map` of several labels",
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="early stopping: the run ends after so many epochs in a row in which `run.best_metric` of the "
        "model did not improve; null trains all epochs",
    )

    @model_validator(mode="after")
    def _has_epochs(self) -> RunConfig:
        if self.start_epoch >= self.epochs:
            raise ConfigError(
                f"run.start_epoch is {self.start_epoch}; expected less than run.epochs, which is {self.epochs}"
            )
        return self


_SEVERAL = "for several labels an image set data.labels to multi (--labels multi)"
#: Key, values that need `data.labels: multi` (`...`: any but null), way out.
_MULTI_LABEL_ONLY: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("loss.kind", ("bce", "asymmetric"), _SEVERAL),
    ("loss.pos_weight", (...,), f"{_SEVERAL}; for one class an image use loss.class_weights"),
    ("run.best_metric", ("map",), f"{_SEVERAL}; for one class an image use accuracy, macro_f1 or loss"),
)
#: The same of those that need `data.labels: single`.
_SINGLE_LABEL_ONLY: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("loss.kind", ("cross_entropy",), "an image may have several labels; use bce or asymmetric"),
    ("loss.class_weights", ("balanced",), "use loss.pos_weight=balanced, or give a weight a class"),
    (
        "data.sampling",
        ("balanced",),
        "an image of several classes has no one share of the draws; use loss.pos_weight=balanced, or null",
    ),
    (
        "distillation.kind",
        ("soft", "hard"),
        "a teacher's answers are probabilities of one class an image; use none",
    ),
    ("run.best_metric", ("accuracy",), "an image may have several labels; use map, macro_f1 or loss"),
)


class Recipe(Config):
    """All components of a training run; see each."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig = DistillationConfig()
    ema: EmaConfig = EmaConfig()
    amp: AmpConfig = AmpConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="before")
    @classmethod
    def _without_empty_sections(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: section for name, section in values.items() if section is not None}

    @model_validator(mode="after")
    def _cools_down_within(self) -> Recipe:
        if self.schedule.cooldown_epochs >= self.run.epochs:
            raise ConfigError(
                f"schedule.cooldown_epochs is {self.schedule.cooldown_epochs}; it must be less than run.epochs, "
                f"{self.run.epochs}, of which it is the end"
            )
        return self

    @model_validator(mode="after")
    def _draws_one_way(self) -> Recipe:
        if self.data.sampling is not None and self.augment.repeats > 1:
            raise ConfigError(
                f"data.sampling is {self.data.sampling} and augment.repeats is {self.augment.repeats}: both decide how "
                "often an image comes in an epoch; set augment.repeats to 1, or data.sampling to null"
            )
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> Recipe:
        for key, refused, way_out in (
            _MULTI_LABEL_ONLY if self.data.labels == "single" else _SINGLE_LABEL_ONLY
        ):
            section, name = key.split(".")
            value = getattr(getattr(self, section), name)
            if value in refused or (value is not None and ... in refused):
                raise ConfigError(f"{key} is {shown(value)} and data.labels is {self.data.labels}: {way_out}")
        return self

    @property
    def multi_label(self) -> bool:
        """Whether images have any number of labels."""
        return self.data.labels == "multi"

    @property
    def label_smoothing(self) -> float:
        """`loss.label_smoothing`, or what null stands for."""
        given = self.loss.label_smoothing
        return given if given is not None else 0.0 if self.multi_label else 0.1

    @property
    def best_metric(self) -> str:
        """`run.best_metric`, or what null stands for."""
        return self.run.best_metric or ("map" if self.multi_label else "accuracy")

    def to_dict(self) -> dict[str, Any]:
        """As plain values, section by section."""
        plain: dict[str, Any] = plain_values(self.model_dump())
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
        """From `to_dict`'s values; what is left out has its default.

        Args:
            where: named in messages, the file's path say.

        Raises:
            ConfigError: an unknown key (the nearest known one is named), a value of the wrong type or range.
        """
        return build(cls, values, where=where)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a YAML file.

        Raises:
            ConfigError: it is no YAML of a recipe; the message names file and line.
        """
        values, lines = read_yaml_with_lines(path)
        return build(cls, {} if values is None else values, where=str(path), lines=lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as YAML, whole or not at all."""
        write_text(Path(path), self.to_yaml())

    def to_yaml(self) -> str:
        """The YAML text, with every key."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def updated(self, assignments: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
        """A copy with some keys changed.

        Args:
            assignments: dotted key (`optimizer.lr`) to value.

        Raises:
            ConfigError: as `from_dict`.
        """
        return assigned(type(self), self.to_dict(), assignments, where=where)
