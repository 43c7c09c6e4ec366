"""Early stopping of segmentation and detection: after so many evaluations without a better one."""

from __future__ import annotations

from collections.abc import Iterable

from cyclemlp.errors import ConfigError
from cyclemlp.text import counted


class Patience:
    """Counts the evaluations since the best one; of equal ones the first is the best.

    Args:
        limit: `--patience`; None never ends a run.
        metric: what the evaluations are compared by, in words.
        values: of the evaluations so far, of a run that is resumed.
    """

    def __init__(self, limit: int | None, metric: str, values: Iterable[float] = ()) -> None:
        self.limit, self.metric = limit, metric
        self._best: float | None = None
        self._waited = 0
        for value in values:
            self.note(value)

    def note(self, value: float) -> None:
        """Count an evaluation."""
        better = self._best is None or value > self._best
        self._best, self._waited = (value, 0) if better else (self._best, self._waited + 1)

    @property
    def is_over(self) -> bool:
        """Whether there were so many in a row without a better one."""
        return self.limit is not None and self._waited >= self.limit

    def __str__(self) -> str:
        return (
            f"early stopping: no better {self.metric} in the last {counted(self.limit or 0, 'evaluation')} (--patience "
            f"{self.limit})"
        )


def require_evaluation(patience: int | None, evaluate: bool) -> None:
    """Raise ConfigError for patience without evaluations."""
    if patience is not None and not evaluate:
        raise ConfigError("--patience counts evaluations, and --no-eval has none; leave out one of them")
