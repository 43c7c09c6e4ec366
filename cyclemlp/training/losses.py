"""The training loss: of images with one class, or with any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.config import Config, Expected, Field
from cyclemlp.errors import ConfigError
from cyclemlp.text import counted, listed, shown

#: Largest weight of a class: beyond it a number is a slip, and float32 would overflow.
MAX_WEIGHT = 1e6
#: Below it the base of a power counts as this much.
SMALLEST_BASE = 1e-8
#: Largest exponent of the asymmetric loss.
MAX_GAMMA = 20.0
#: So many classes without images are named.
MOST_NAMES = 5

Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
ClassWeights = Annotated[
    Literal["balanced"] | Annotated[tuple[Weight, ...], Field(strict=False, min_length=1)] | None,
    Expected(f"`balanced`, a list of numbers above 0 and up to {MAX_WEIGHT:.0f}, one a class, or null"),
]


class LossConfig(Config):
    """Soft-target cross entropy; of several labels an image binary cross entropy, or asymmetric loss."""

    kind: Literal["cross_entropy", "bce", "asymmetric"] | None = Field(
        None,
        description="`cross_entropy`, of one class an image; of several labels an image (`data.labels: multi`) `bce`, "
        "binary cross entropy of each class, or `asymmetric` (Ridnik et al., arXiv 2009.14119), which counts the many "
        "absent classes less. null takes `cross_entropy`, or `bce`",
    )
    label_smoothing: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share s of the target that is spread over all classes: off value s / classes, on value "
        "1 − s + s / classes; of several labels an image off value s / 2, on value 1 − s / 2. null takes 0.1, and 0 of "
        "several labels",
    )
    class_weights: ClassWeights = Field(
        None,
        description="how much an image counts by its class: `balanced`, images / (classes · images of the class), so "
        "that the classes count alike and the mean over the training images is 1; or a weight a class, in class order, "
        "as it is. Of several labels an image only a weight a class",
    )
    pos_weight: ClassWeights = Field(
        None,
        description="of several labels an image: how much an image that has a class counts in the loss of this class, "
        "beside one that has it not: `balanced`, (images − images with the class) / images with the class, or a number "
        "a class",
    )
    gamma_neg: float = Field(
        4.0, ge=0, le=MAX_GAMMA, description="of `asymmetric`: focusing on absent classes, γ−"
    )
    gamma_pos: float = Field(0.0, ge=0, le=MAX_GAMMA, description="of `asymmetric`: focusing on labels, γ+")
    clip: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="of `asymmetric`: what is taken off the probabilities of absent classes; lower ones do not count",
    )


@dataclass(frozen=True)
class ClassCounts:
    """What weights of classes are computed from.

    Attributes:
        counts: training images of each class, int [K].
        images: training images in all.
        names: the classes' names, for messages, where they are known.
    """

    counts: np.ndarray
    images: int
    names: Sequence[str] | None = None

    def weights(self, key: str, given: Sequence[float] | str) -> Sequence[float]:
        """The weights that `loss.KEY` gives: a list as it is, or `balanced` ones.

        Of `class_weights` these are N / (K · n) for a class with n of N images, whose mean over the images is 1; of
        `pos_weight` (N − n) / n.

        Raises:
            ConfigError: a list for another number of classes; `balanced` for a class that no image has, or every one.
        """
        if not isinstance(given, str):
            if len(given) != len(self.counts):
                raise ConfigError(
                    f"loss.{key} has {counted(len(given), 'number')}, and there are "
                    f"{counted(len(self.counts), 'class')}: give one number a class, or `balanced`"
                )
            return given
        way_out = "leave such classes out, or give the weights as a list"
        if empty := self._named(self.counts == 0):
            raise ConfigError(
                f"loss.{key} is balanced, but there are no training images of {empty}: add some, {way_out}"
            )
        if key == "class_weights":
            return list(self.images / (len(self.counts) * self.counts))
        if full := self._named(self.counts == self.images):
            raise ConfigError(f"loss.{key} is balanced, but every training image has {full}: {way_out}")
        return list((self.images - self.counts) / self.counts)

    def _named(self, chosen: np.ndarray) -> str:
        names = [shown(str(self.names[i]) if self.names else str(i)) for i in np.flatnonzero(chosen).tolist()]
        return listed(names, MOST_NAMES)


def build_base_loss(
    config: LossConfig, classes: ClassCounts | None = None, *, multi_label: bool = False
) -> nn.Layer:
    """The loss of logits [B, K] and targets [B, K], which are smoothed where they are mixed.

    Args:
        classes: only without weights it may be None.
        multi_label: images have any number of labels.

    Raises:
        ConfigError: weights for another number of classes, or for a class without images.
    """
    weights: dict[str, Sequence[float] | None] = {}
    for key in ("class_weights", "pos_weight"):
        given = getattr(config, key)
        if given is not None and classes is None:
            raise ConfigError(
                f"loss.{key} is {shown(given)}, and it is not known how many images each class has"
            )
        weights[key] = None if given is None or classes is None else classes.weights(key, given)
    if not multi_label:
        return SoftTargetCrossEntropy(class_weights=weights["class_weights"])
    if config.kind == "asymmetric":
        return AsymmetricLoss(config.gamma_neg, config.gamma_pos, config.clip, **weights)
    return BinaryCrossEntropy(**weights)


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
        self.register_buffer("class_weights", _tensor(class_weights), persistable=False)

    def forward(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        """Mean loss of a batch, in nats.

        Args:
            logits: [B, K], any float type; half types are computed in float32.
            targets: class numbers, integers [B], or rows that sum to 1, floats [B, K].

        Returns:
            A scalar tensor. With class weights it is divided by the number of images too, not by their weights: in a
            step of several parts or processes each image then counts as in the whole batch.
        """
        logits = _full_precision(logits)
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


class BinaryCrossEntropy(nn.Layer):
    """Of images with any number of labels: −(w⁺ · t · log p + (1 − t) · log(1 − p)), p the sigmoid of a class's logit.

    Args:
        class_weights: K numbers by which the loss of each class is multiplied. None: each counts once.
        pos_weight: w⁺, K numbers. None: 1.
    """

    def __init__(
        self, class_weights: Sequence[float] | None = None, pos_weight: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", _tensor(class_weights), persistable=False)
        self.register_buffer("pos_weight", _tensor(pos_weight), persistable=False)

    def forward(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        """Mean loss of a batch over images and classes, in nats.

        Args:
            logits: [B, K], any float type; half types are computed in float32.
            targets: [B, K], in 0..1: 1 at the labels of an image, or a mean of several images'.

        Returns:
            A scalar tensor.
        """
        logits = _full_precision(logits)
        targets = targets.astype(logits.dtype)
        positive, negative = self._log_likelihoods(logits)
        positive = targets * positive
        if self.pos_weight is not None:
            positive = positive * self.pos_weight.astype(logits.dtype)
        losses = -(positive + (1 - targets) * negative)
        if self.class_weights is not None:
            losses = losses * self.class_weights.astype(logits.dtype)
        return losses.mean()

    def _log_likelihoods(self, logits: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Of a class as a label, and as none, [B, K] each."""
        return F.log_sigmoid(logits), F.log_sigmoid(-logits)

    def extra_repr(self) -> str:
        weights = {name: getattr(self, name) for name in ("class_weights", "pos_weight")}
        return ", ".join(f"{name}={value.tolist()}" for name, value in weights.items() if value is not None)


class AsymmetricLoss(BinaryCrossEntropy):
    """Binary cross entropy that counts easy absent classes less (Ridnik et al., arXiv 2009.14119, equation 7).

    A label costs −(1 − p)^γ+ · log p, an absent class −q^γ− · log(1 − q) with q = max(p − clip, 0) and p the sigmoid of
    the class's logit. With γ+ = γ− = clip = 0 it is `BinaryCrossEntropy`.

    Args:
        gamma_neg, gamma_pos: γ− and γ+, from 0.
        clip: in [0, 1).
        class_weights, pos_weight: as of `BinaryCrossEntropy`.
    """

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        class_weights: Sequence[float] | None = None,
        pos_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_weights, pos_weight)
        self.gamma_neg, self.gamma_pos, self.clip = float(gamma_neg), float(gamma_pos), float(clip)

    def _log_likelihoods(self, logits: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        positive, negative = super()._log_likelihoods(logits)
        probabilities = F.sigmoid(logits)
        if self.clip:
            probabilities_left = F.relu(probabilities - self.clip)
            negative = paddle.log(1 - probabilities_left)
        else:
            probabilities_left = probabilities
        # 1 − p from −logit, for 1 − sigmoid(30) is 0 in float32.
        return _focused(positive, F.sigmoid(-logits), self.gamma_pos), _focused(
            negative, probabilities_left, self.gamma_neg
        )

    def extra_repr(self) -> str:
        own = f"gamma_neg={self.gamma_neg}, gamma_pos={self.gamma_pos}, clip={self.clip}"
        return ", ".join(filter(None, (own, super().extra_repr())))


def _focused(values: paddle.Tensor, base: paddle.Tensor, gamma: float) -> paddle.Tensor:
    """values · base^γ; its gradient is finite at 0 too, where that of a power below 1 is not."""
    return values if gamma == 0 else values * paddle.clip(base, min=SMALLEST_BASE) ** gamma


def _tensor(values: Sequence[float] | None) -> paddle.Tensor | None:
    return None if values is None else paddle.to_tensor(list(values), dtype="float64")


def _full_precision(logits: paddle.Tensor) -> paddle.Tensor:
    return logits.astype("float32") if logits.dtype in (paddle.float16, paddle.bfloat16) else logits
