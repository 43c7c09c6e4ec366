"""Evaluation and prediction over any callable from a batch of pictures to logits."""

from cyclemlp.evaluation.metrics import (
    confusion_matrix,
    cross_entropy,
    label_ranks,
    log_softmax,
    top_classes,
)
from cyclemlp.evaluation.run import EvaluationResult, Prediction, as_callable, evaluate, predict
from cyclemlp.evaluation.tables import (
    PredictionFiles,
    outcome_to_dict,
    prediction_to_dict,
    write_evaluation_csv,
)

__all__ = [
    "EvaluationResult",
    "Prediction",
    "PredictionFiles",
    "as_callable",
    "confusion_matrix",
    "cross_entropy",
    "evaluate",
    "label_ranks",
    "log_softmax",
    "outcome_to_dict",
    "predict",
    "prediction_to_dict",
    "top_classes",
    "write_evaluation_csv",
]
