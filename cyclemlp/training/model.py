"""Which network is trained, and where it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from paddle import nn
from pydantic import field_validator

from cyclemlp.config import Config, Field, Names, Text
from cyclemlp.errors import ConfigError
from cyclemlp.models import create_model, load_weights
from cyclemlp.network.init import init_xavier
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.training.data import PreprocessingConfig
from cyclemlp.weights import pretrained_file, read_weights


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
    overrides: Names = Field(
        {},
        description="further arguments of `create_model`: `in_chans`, `drop_rate`, `embed_dims`, `recompute`, …",
    )

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
) -> nn.Layer:
    """The model for these classes, with its weights and metadata; says what was loaded.

    Args:
        preprocessing: what differs from the model's own.
        names, count: the classes' names, if they are known, and their number.

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
            f"data.preprocessing has {ready.channels} channels (the length of mean and std) and the model takes "
            f"{model.config.in_chans}; set model.overrides.in_chans, or mean and std, to agree"
        )
    model.metadata.preprocessing = ready
    model.metadata.classes = None if names is None else list(names)
    return model


def freeze_stages(model: nn.Layer, count: int) -> list[nn.Layer]:
    """Stop the gradients of the first stages' parameters.

    A stage is its blocks and what leads into it, so the first one's includes the patch embedding.

    Args:
        model: a CycleMLP.
        count: how many stages, 0 to 4.

    Returns:
        The frozen layers, to be given to `training_mode`.
    """
    frozen = [model.patch_embed, *model.network[: 2 * count - 1]] if count else []
    for layer in frozen:
        for parameter in layer.parameters():
            parameter.stop_gradient = True
    return frozen


def training_mode(model: nn.Layer, frozen: list[nn.Layer]) -> None:
    """Training mode, but evaluation mode for frozen layers, which are to be without dropout."""
    model.train()
    for layer in frozen:
        layer.eval()
