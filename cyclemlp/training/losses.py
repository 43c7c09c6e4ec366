"""The training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.config import Config, Expected, Field
from cyclemlp.errors import ConfigError
from cyclemlp.text import listed, shown

#: Largest weight of a class: beyond it a number is a slip, and float32 would overflow.
MAX_WEIGHT = 1e6
#: So many classes without images are named.
MOST_NAMES = 5

Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
ClassWeights = Annotated[
    Literal["balanced"] | Annotated[tuple[Weight, ...], Field(strict=False, min_length=1)] | None,
    Expected(f"`balanced`, a list of numbers above 0 and up to {MAX_WEIGHT:.0f}, one a class, or null"),
]


class LossConfig(Config):
    """Soft-target cross entropy."""

    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share s of the target that is spread over all classes: off value s / classes, on value "
        "1 − s + s / classes",
    )
    class_weights: ClassWeights = Field(
        None,
        description="how much an image counts by its class: `balanced`, images / (classes · images of the class), so "
        "that the classes count alike and the mean over the training images is 1; or a weight a class, in class order, "
        "as it is",
    )


def build_base_loss(
    config: LossConfig, class_counts: np.ndarray | None = None, classes: Sequence[str] | None = None
) -> SoftTargetCrossEntropy:
    """The loss of logits [B, K] and targets [B, K], which are smoothed where they are mixed.

    Args:
        class_counts: training images of each class, int [K]; only without class weights it may be None.
        classes: the classes' names, for messages, where they are known.

    Raises:
        ConfigError: class weights for another number of classes, or for a class without images.
    """
    if config.class_weights is None:
        return SoftTargetCrossEntropy()
    if class_counts is None:
        raise ConfigError(
            f"loss.class_weights is {shown(config.class_weights)}, and it is not known how many images each class has"
        )
    if config.class_weights == "balanced":
        return SoftTargetCrossEntropy(class_weights=balanced_weights(class_counts, classes))
    if len(config.class_weights) != len(class_counts):
        raise ConfigError(
            f"loss.class_weights has {len(config.class_weights)} numbers, and there are {len(class_counts)} classes: "
            "give one number a class, or `balanced`"
        )
    return SoftTargetCrossEntropy(class_weights=config.class_weights)


def balanced_weights(class_counts: np.ndarray, classes: Sequence[str] | None = None) -> list[float]:
    """Weights N / (K · n_k) of K classes with n_k of N images; their mean over the images is 1.

    Raises:
        ConfigError: a class without images.
    """
    empty = np.flatnonzero(class_counts == 0)
    if len(empty):
        names = listed([shown(str(classes[i]) if classes else str(i)) for i in empty.tolist()], MOST_NAMES)
        raise ConfigError(
            f"loss.class_weights is balanced, but there are no training images of {names}: add some, "
            "leave such classes out, or give the weights as a list"
        )
    weights: list[float] = (class_counts.sum() / (len(class_counts) * class_counts)).tolist()
    return weights


class SoftTargetCrossEntropy(nn.Layer):
    """Cross entropy with label smoothing (Szegedy et al., 2016), for class numbers and for soft targets.

    A one-hot target becomes 1 − s + s / K for its class and s / K for the others; a soft target t becomes
    t · (1 − s) + s / K, so that smoothing after mixing labels equals mixing smoothed labels.

    Args:
        label_smoothing: s, in [0, 1).
        class_weights: w, K numbers: the loss of an image with the target t, smoothed if it is, counts Σ t_k · w_k
            times. None: each counts once.

    Raises:
        ConfigError: s outside that.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {label_smoothing}; it must be in [0, 1)")
        self.label_smoothing = float(label_smoothing)
        weights = None if class_weights is None else paddle.to_tensor(list(class_weights), dtype="float64")
        self.register_buffer("class_weights", weights, persistable=False)

    def forward(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        """Mean loss of a batch, in nats.

        Args:
            logits: [B, K], any float type; half types are computed in float32.
            targets: class numbers, integers [B], or rows that sum to 1, floats [B, K].

        Returns:
            A scalar tensor. With class weights it is divided by the number of images too, not by their weights: in a
            step of several parts or processes each image then counts as in the whole batch.
        """
        if logits.dtype in (paddle.float16, paddle.bfloat16):
            logits = logits.astype("float32")
        classes = logits.shape[-1]
        if targets.ndim == 1:
            targets = F.one_hot(targets.astype("int64"), classes)
        targets = targets.astype(logits.dtype)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / classes
        # Not F.log_softmax: on processors Paddle's cuts it off at −64, and the loss of a diverging run with it.
        log_probabilities = logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
        losses = -(targets * log_probabilities).sum(axis=-1)
        if self.class_weights is not None:
            losses = losses * (targets * self.class_weights.astype(targets.dtype)).sum(axis=-1)
        return losses.mean()

    def extra_repr(self) -> str:
        weights = "" if self.class_weights is None else f", class_weights={self.class_weights.tolist()}"
        return f"label_smoothing={self.label_smoothing}{weights}"
