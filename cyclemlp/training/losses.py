"""The training loss."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from cyclemlp.config import Config, Field
from cyclemlp.errors import ConfigError


class LossConfig(Config):
    """Soft-target cross entropy."""

    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share s of the target that is spread over all classes: off value s / classes, on value "
        "1 − s + s / classes",
    )


def build_base_loss(config: LossConfig) -> SoftTargetCrossEntropy:
    """The loss of logits [B, K] and targets [B, K], which are smoothed where they are mixed."""
    return SoftTargetCrossEntropy()


class SoftTargetCrossEntropy(nn.Layer):
    """Cross entropy with label smoothing (Szegedy et al., 2016), for class numbers and for soft targets.

    A one-hot target becomes 1 − s + s / K for its class and s / K for the others; a soft target t becomes
    t · (1 − s) + s / K, so that smoothing after mixing labels equals mixing smoothed labels.

    Args:
        label_smoothing: s, in [0, 1).

    Raises:
        ConfigError: s outside that.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {label_smoothing}; it must be in [0, 1)")
        self.label_smoothing = float(label_smoothing)

    def forward(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        """Mean loss of a batch, in nats.

        Args:
            logits: [B, K], any float type; half types are computed in float32.
            targets: class numbers, integers [B], or rows that sum to 1, floats [B, K].

        Returns:
            A scalar tensor.
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
        return -(targets * log_probabilities).sum(axis=-1).mean()

    def extra_repr(self) -> str:
        return f"label_smoothing={self.label_smoothing}"
