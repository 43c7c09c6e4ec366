"""Early stopping of segmentation and detection: after so many evaluations without a better one."""

from __future__ import annotations

from cyclemlp.errors import ConfigError


def require_evaluation(patience: int | None, evaluate: bool) -> None:
    """Raise ConfigError for patience without evaluations."""
    if patience is not None and not evaluate:
        raise ConfigError("--patience counts evaluations, and --no-eval has none; leave out one of them")


def early_stopping(metric: str, patience: int) -> str:
    """Why a run ends, for people."""
    return f"early stopping: no better {metric} in the last {patience} evaluations (--patience {patience})"
