"""Evaluation and prediction over any callable from a batch of images to logits."""

from cyclemlp.evaluation.analysis.figures import (
    plot_calibration,
    plot_class_accuracy,
    plot_confused_pairs,
    plot_confusion,
    plot_mistakes,
)
from cyclemlp.evaluation.analysis.measures import (
    Analysis,
    accuracy_intervals,
    analyse,
    calibration_error,
    confused_pairs,
    wilson_interval,
)
from cyclemlp.evaluation.analysis.report import write_report
from cyclemlp.evaluation.comparison import Comparison, compare, read_evaluation
from cyclemlp.evaluation.metrics import (
    class_outcomes,
    confusion_matrix,
    cross_entropy,
    label_ranks,
    log_softmax,
    macro_f1,
    top_classes,
)
from cyclemlp.evaluation.multilabel.measures import average_precisions, best_thresholds
from cyclemlp.evaluation.multilabel.run import MultiLabelResult, evaluate_multilabel
from cyclemlp.evaluation.run import (
    EvaluationResult,
    Prediction,
    as_callable,
    evaluate,
    merge_results,
    predict,
)
from cyclemlp.evaluation.tables import (
    PredictionFiles,
    outcome_to_dict,
    prediction_to_dict,
    write_csv,
    write_evaluation_csv,
)
from cyclemlp.evaluation.tta import TTA, Views, choose_views

__all__ = [
    "TTA",
    "Analysis",
    "Comparison",
    "EvaluationResult",
    "MultiLabelResult",
    "Prediction",
    "PredictionFiles",
    "Views",
    "accuracy_intervals",
    "analyse",
    "as_callable",
    "average_precisions",
    "best_thresholds",
    "calibration_error",
    "choose_views",
    "class_outcomes",
    "compare",
    "confused_pairs",
    "confusion_matrix",
    "cross_entropy",
    "evaluate",
    "evaluate_multilabel",
    "label_ranks",
    "log_softmax",
    "macro_f1",
    "merge_results",
    "outcome_to_dict",
    "plot_calibration",
    "plot_class_accuracy",
    "plot_confused_pairs",
    "plot_confusion",
    "plot_mistakes",
    "predict",
    "prediction_to_dict",
    "read_evaluation",
    "top_classes",
    "wilson_interval",
    "write_csv",
    "write_evaluation_csv",
    "write_report",
]
