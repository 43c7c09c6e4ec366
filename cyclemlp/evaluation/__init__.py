"""Evaluation and prediction over any callable from a batch of pictures to logits."""

from cyclemlp.evaluation.metrics import (
    confusion_matrix,
    cross_entropy,
    label_ranks,
    log_softmax,
    top_classes,
)
from cyclemlp.evaluation.run import EvaluationResult, Prediction, as_callable, evaluate, predict

__all__ = [
    "EvaluationResult",
    "Prediction",
    "as_callable",
    "confusion_matrix",
    "cross_entropy",
    "evaluate",
    "label_ranks",
    "log_softmax",
    "predict",
    "top_classes",
]
