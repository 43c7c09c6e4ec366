"""How a classifier does on images unlike those it was trained on, and how its error grows with corruptions.

`sets` opens the published sets, `real` has ReaL's labels, `corruptions` makes corrupted images; `plan` measures, and
`results` and `figure` show what was found.
"""

from cyclemlp.evaluation.robustness.corruptions import (
    CORRUPTIONS,
    COUNTED,
    EXTRA,
    SEVERITIES,
    CorruptionTransform,
    corrupt,
)
from cyclemlp.evaluation.robustness.figure import plot_severities
from cyclemlp.evaluation.robustness.plan import Plan, evaluate_among
from cyclemlp.evaluation.robustness.real import evaluate_real, read_real_labels, validation_numbers
from cyclemlp.evaluation.robustness.results import CorruptionResult, Results, SetResult
from cyclemlp.evaluation.robustness.sets import (
    CentreCropTransform,
    ImageNetC,
    Opened,
    PublishedSet,
    open_imagenet_v2,
    open_published,
    published_set,
)

__all__ = [
    "CORRUPTIONS",
    "COUNTED",
    "EXTRA",
    "SEVERITIES",
    "CentreCropTransform",
    "CorruptionResult",
    "CorruptionTransform",
    "ImageNetC",
    "Opened",
    "Plan",
    "PublishedSet",
    "Results",
    "SetResult",
    "corrupt",
    "evaluate_among",
    "evaluate_real",
    "open_imagenet_v2",
    "open_published",
    "plot_severities",
    "published_set",
    "read_real_labels",
    "validation_numbers",
]
