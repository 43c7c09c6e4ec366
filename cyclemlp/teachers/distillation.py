"""Knowledge distillation: a loss that also asks a teacher.

Shapes: B images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.config import Config, Field, Share, Text
from cyclemlp.errors import ConfigError
from cyclemlp.teachers.creation import create_teacher

#: From images [B, C, H, W] to logits [B, K].
Answer = Callable[[paddle.Tensor], paddle.Tensor]
#: From images, the student's logits and the targets to a scalar: how the training loop calls its loss.
Loss = Callable[[paddle.Tensor, paddle.Tensor, paddle.Tensor], paddle.Tensor]


class DistillationConfig(Config):
    """Whether the student also learns from a teacher's answers."""

    kind: Literal["none", "soft", "hard"] = Field(
        "none", description="`soft` (the teacher's probabilities) or `hard` (its most probable class)"
    )
    teacher: Text = Field(
        "regnetx_4gf",
        description="one of `cyclemlp.teachers.list_teachers()`, or a run's folder or file of ours",
    )
    weights: Text | None = Field(
        None,
        description="the teacher's weight file, or `published` or `cifar10` for a CycleMLP that has such; null only if "
        "`distillation.teacher` is a folder or file",
    )
    alpha: Share = Field(0.5, description="the teacher's share of the loss")
    tau: float = Field(1.0, gt=0, description="temperature of both softmaxes; only for `soft`")


class DistillationLoss(nn.Layer):
    """A loss on targets and one on a teacher's answers, added (Hinton, Vinyals and Dean, 2015; DeiT, 2020).

    soft: (1 − α) · base + α · τ² · Σ KL(teacher ‖ student) / (B · K), both softmaxes at temperature τ. The sum over
    batch and classes is divided by B · K as in DeiT and by CycleMLP's authors; a mean over the batch alone would weigh
    the teacher K times more.
    hard: (1 − α) · base + α · cross entropy with the teacher's most probable class (mean over the batch, no smoothing).

    Args:
        base_loss: of (logits, targets), a scalar.
        teacher: from the student's images to logits `[B, K]`, such as `create_teacher` makes. Its answers get no
            gradient. It is not part of this layer: no state dict, optimizer or `train()` reaches it.
        kind: "soft" or "hard".
        alpha: α, the teacher's share, in [0, 1].
        tau: τ, above 0; only for "soft".

    Raises:
        ConfigError: a value outside these; a teacher that is a bare network.
    """

    def __init__(
        self,
        base_loss: Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor],
        teacher: Answer,
        kind: str = "soft",
        alpha: float = 0.5,
        tau: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in ("soft", "hard"):
            raise ConfigError(f"the kind of distillation is {kind!r}; use soft or hard")
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha is {alpha}; the teacher's share must be in [0, 1]")
        if not (math.isfinite(tau) and tau > 0):
            raise ConfigError(f"tau is {tau}; a temperature must be above 0")
        self.base_loss = base_loss
        if isinstance(
            teacher, nn.Layer
        ):  # which would become part of this layer, with its parameters and its mode
            raise ConfigError("the teacher is a bare network; freeze it as a cyclemlp.teachers.Teacher")
        self._ask = teacher
        self.kind, self.alpha, self.tau = kind, float(alpha), float(tau)

    def forward(self, images: paddle.Tensor, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        """Loss of a batch, in nats.

        Args:
            images: `[B, C, H, W]`, as the student got them (mixed, say), for the teacher.
            logits: the student's, `[B, K]`, any float type; half types are computed in float32.
            targets: for `base_loss`: class numbers `[B]` or soft targets `[B, K]`.

        Returns:
            A scalar tensor.

        Raises:
            ConfigError: student and teacher have different numbers of classes.
        """
        with paddle.no_grad():
            answers = self._ask(images)
        theirs, ours = list(answers.shape), list(logits.shape)
        if theirs != ours:
            raise ConfigError(
                f"the teacher answers with {theirs} and the student with {ours}; both need the same classes"
            )
        base = self.base_loss(logits, targets)
        if logits.dtype in (paddle.float16, paddle.bfloat16):
            logits = logits.astype("float32")
        answers = answers.astype(logits.dtype)
        if self.kind == "hard":
            chosen = F.one_hot(answers.argmax(axis=-1), logits.shape[-1]).astype(logits.dtype)
            asked = -(chosen * _log_softmax(logits)).sum(axis=-1).mean()
        else:
            student, teacher = _log_softmax(logits / self.tau), _log_softmax(answers / self.tau)
            asked = (teacher.exp() * (teacher - student)).sum() * (self.tau**2 / math.prod(logits.shape))
        return (1 - self.alpha) * base + self.alpha * asked

    def extra_repr(self) -> str:
        return f"kind={self.kind}, alpha={self.alpha}, tau={self.tau}"


def build_loss(
    base_loss: Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor],
    config: DistillationConfig,
    model: nn.Layer,
    say: Callable[[str], None] = print,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Loss:
    """The recipe's loss: `base_loss` alone, or with the teacher that the recipe names.

    Args:
        base_loss: of (logits, targets).
        model: the student, from `create_model`; its number and names of classes must be the teacher's, and its
            preprocessing says how the teacher's images have been normalised.
        say: takes a text for people on the teacher.
        autocast: makes what the teacher is asked in: mixed precision, where the student is trained so.

    Raises:
        ModelError, WeightsError: there is no such teacher, or it does not fit; see `create_teacher`.
    """
    if config.kind == "none":
        return lambda images, logits, targets: base_loss(logits, targets)
    teacher = create_teacher(
        config.teacher,
        config.weights,
        num_classes=model.config.num_classes,
        images=model.metadata.preprocessing,
        classes=model.metadata.classes,
    )
    say(teacher.summary)

    def ask(images: paddle.Tensor) -> paddle.Tensor:
        with autocast():
            return teacher(images)

    return DistillationLoss(base_loss, ask, config.kind, config.alpha, config.tau)


def _log_softmax(logits: paddle.Tensor) -> paddle.Tensor:
    # Not F.log_softmax, which Paddle cuts off at −64 on processors.
    return logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
