"""What a run folder is: layout, lock, recipe, log, checkpoints, and how a run is resumed. Needs no Paddle.

Classification, segmentation and detection share it.
"""

from cyclemlp.run.checkpoints import (
    CHECKPOINTS,
    BrokenCheckpointError,
    is_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    read_state,
    write_checkpoint,
)
from cyclemlp.run.curves import draw_runs
from cyclemlp.run.folder import CURVES, LOG, PREDICTIONS, README, RunFolder
from cyclemlp.run.lock import LOCK, RunLock
from cyclemlp.run.log import RunLog, best_record
from cyclemlp.run.resume import (
    AUTO,
    BEST,
    BEST_EMA,
    BEST_PADDLE,
    MODEL,
    MODEL_PADDLE,
    RECIPE,
    find_checkpoint,
    find_weights,
    places_of_resume,
    require_same_classes,
    run_folder,
)

__all__ = [
    "AUTO",
    "BEST",
    "BEST_EMA",
    "BEST_PADDLE",
    "CHECKPOINTS",
    "CURVES",
    "LOCK",
    "LOG",
    "MODEL",
    "MODEL_PADDLE",
    "PREDICTIONS",
    "README",
    "RECIPE",
    "BrokenCheckpointError",
    "RunFolder",
    "RunLock",
    "RunLog",
    "best_record",
    "draw_runs",
    "find_checkpoint",
    "find_weights",
    "is_checkpoint",
    "list_checkpoints",
    "newest_checkpoint",
    "places_of_resume",
    "read_state",
    "require_same_classes",
    "run_folder",
    "write_checkpoint",
]
