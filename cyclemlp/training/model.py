"""Which network is trained, and where it starts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from paddle import nn
from pydantic import field_validator, model_validator

from cyclemlp.config import MAX_COUNT, Config, Expected, Field, Names, Text
from cyclemlp.errors import ConfigError
from cyclemlp.metadata import CLASSIFICATION, MULTI_LABEL
from cyclemlp.models import create_model, load_weights
from cyclemlp.network.init import init_xavier
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.text import counted
from cyclemlp.training.data import PreprocessingConfig
from cyclemlp.weights import pretrained_file, read_weights

EpochCount = Annotated[int, Field(ge=1, le=MAX_COUNT)]
UnfreezeEpochs = Annotated[
    EpochCount | Annotated[tuple[EpochCount, ...], Field(strict=False, min_length=1)] | None,
    Expected("a whole number from 1, a list of them, or null"),
]


class ModelConfig(Config):
    """Which network, and where it starts."""

    name: Text = Field("cyclemlp_b1", description="a variant, one of `cyclemlp.list_models()`")
    weights: Text | None = Field(
        None,
        description="file or run to start from; `published` for the authors' ImageNet weights, `cifar10` for small "
        "ones of this package; null for random ones",
    )
    init: Literal["paper", "xavier"] = Field(
        "paper",
        description="random weights to start from: `paper` as the authors', N(0, 0.02²) in fully-connected layers; or "
        "`xavier`, uniform by the number of a layer's inputs and outputs, with which narrow networks learn faster",
    )
    drop_path_rate: float = Field(0.1, ge=0, lt=1, description="stochastic depth of the last block")
    freeze_stages: int = Field(
        0,
        ge=0,
        le=4,
        description="how many of the first stages keep the weights they start with; 1 or more freezes the patch "
        "embedding too, 4 leaves the last norm and the head",
    )
    unfreeze_epochs: UnfreezeEpochs = Field(
        None,
        description="after how many epochs frozen stages are trained too: one number for all of them, such as 2 with "
        "`freeze_stages: 4`, a head-only warm-up; or a number each, the last frozen stage first, such as [1, 2, 3, 4], "
        "gradual unfreezing; null keeps them frozen",
    )
    overrides: Names = Field(
        {},
        description="further arguments of `create_model`: `in_chans`, `drop_rate`, `embed_dims`, `recompute`, …",
    )

    @model_validator(mode="after")
    def _stages_to_unfreeze(self) -> ModelConfig:
        epochs = self.unfreeze_epochs
        if epochs is not None and not self.freeze_stages:
            raise ConfigError(
                "model.unfreeze_epochs is set and model.freeze_stages is 0, so there is nothing to unfreeze; "
                "set model.freeze_stages (--freeze), or leave model.unfreeze_epochs out"
            )
        if isinstance(epochs, tuple) and (
            len(epochs) > self.freeze_stages or any(b < a for a, b in itertools.pairwise(epochs))
        ):
            raise ConfigError(
                f"model.unfreeze_epochs is {list(epochs)}; with model.freeze_stages {self.freeze_stages} give at most "
                "so many numbers, not falling: after how many epochs the last frozen stage is trained too, then the "
                "one before it"
            )
        return self

    def freezing_without_effect(self, epochs: int) -> list[str]:
        """Warnings of stages that would never learn, or of an unfreezing that a run of so many epochs never reaches."""
        found = []
        if self.freeze_stages and self.weights is None:
            last = "before they are unfrozen" if self.unfreeze_epochs else "at all"
            found.append(
                f"model.freeze_stages is {self.freeze_stages} (--freeze), and the model has random weights: the frozen "
                f"stages do not learn {last}. Give --pretrained, or --weights FILE"
            )
        after = self.unfreeze_epochs
        late = [n for n in ([after] if isinstance(after, int) else after or []) if n >= epochs]
        if late:
            found.append(
                f"model.unfreeze_epochs has {late[0]} (--unfreeze), and the run has {counted(epochs, 'epoch')}: what "
                f"would be unfrozen after {counted(late[0], 'epoch')} stays frozen. Give more --epochs, or a smaller "
                "number"
            )
        return found

    def frozen_stages(self, epoch: int) -> int:
        """How many of the first stages are frozen in an epoch, counted from 0."""
        epochs = self.unfreeze_epochs
        each = [epochs] * self.freeze_stages if isinstance(epochs, int) else epochs or []
        return self.freeze_stages - sum(epoch >= after for after in each)

    @field_validator("overrides")
    @classmethod
    def _without_own_keys(cls, overrides: dict[str, object]) -> dict[str, object]:
        for key, way in (
            ("num_classes", "it comes from the data"),
            ("drop_path_rate", "set model.drop_path_rate"),
        ):
            if key in overrides:
                raise ConfigError(f"model.overrides holds {key}; leave it out: {way}")
        return overrides


def build_model(
    config: ModelConfig,
    preprocessing: PreprocessingConfig,
    names: Sequence[str] | None,
    count: int,
    say: Callable[[str], None],
    *,
    multi_label: bool = False,
) -> nn.Layer:
    """The model for these classes, with its weights and metadata; says what was loaded.

    Args:
        preprocessing: what differs from the model's own.
        names, count: the classes' names, if they are known, and their number.
        multi_label: images have any number of labels.

    Raises:
        ConfigError, ModelError, WeightsError: from the config.
    """
    overrides = {**config.overrides, "num_classes": count, "drop_path_rate": config.drop_path_rate}
    model = create_model(config.name, **overrides)
    if config.init == "xavier":
        init_xavier(model)
    own = model.metadata.preprocessing
    if config.weights is not None:
        file = read_weights(pretrained_file(config.name, config.weights))
        say(str(load_weights(model, file)))
        if "preprocessing" in file.metadata:
            own = Preprocessing.from_dict(file.metadata["preprocessing"])
    ready = preprocessing.applied_to(own)
    if ready.channels != model.config.in_chans:
        raise ConfigError(
            f"data.preprocessing has {counted(ready.channels, 'channel')} (the length of mean and std) and the model "
            f"takes {model.config.in_chans}; set model.overrides.in_chans, or mean and std, to agree"
        )
    model.metadata.preprocessing = ready
    model.metadata.classes = None if names is None else list(names)
    model.metadata.task = MULTI_LABEL if multi_label else CLASSIFICATION
    return model


def freeze_stages(model: nn.Layer, count: int) -> list[nn.Layer]:
    """Stop the gradients of the first stages' parameters, and let those of the other stages through.

    A stage is its blocks and what leads into it, so the first one's includes the patch embedding.

    Args:
        model: a CycleMLP.
        count: how many stages, 0 to 4.

    Returns:
        The frozen layers, to be given to `training_mode`.
    """
    layers = [model.patch_embed, *model.network]
    frozen = layers[: 2 * count] if count else []
    for i, layer in enumerate(layers):
        for parameter in layer.parameters():
            parameter.stop_gradient = i < len(frozen)
    return frozen


def training_mode(model: nn.Layer, frozen: list[nn.Layer]) -> None:
    """Training mode, but evaluation mode for frozen layers, which are to be without dropout."""
    model.train()
    for layer in frozen:
        layer.eval()
