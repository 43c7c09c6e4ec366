"""Which epoch of a run is the best: by one figure of its validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A figure that `run.best_metric` may name.

    Attributes:
        key: of the figure in an epoch's record, after `val_` or `ema_`.
        title: what it is called in messages.
        percent: whether it is in percent.
        rises: whether more of it is better.
    """

    key: str
    title: str
    percent: bool = True
    rises: bool = True

    def is_best(self, record: dict[str, Any], part: str, best: float | None) -> bool:
        """Whether an epoch is better than the best so far: without validation images always.

        Args:
            record: the epoch's.
            part: "val" or "ema".
            best: the figure's best value; None before there is one.
        """
        value = self.value(record, part)
        return value is None or best is None or (value > best if self.rises else value < best)

    def value(self, record: dict[str, Any], part: str) -> float | None:
        """The figure of an epoch; None without validation images."""
        return record.get(f"{part}_{self.key}")

    def text(self, value: float) -> str:
        """A value with its name, for people."""
        return f"{self.title}: {value:.2f} %" if self.percent else f"{self.title}: {value:.4f}"


#: `run.best_metric` → the figure.
METRICS = {
    "accuracy": Metric("top1", "top-1"),
    "macro_f1": Metric("macro_f1", "macro F1"),
    "map": Metric("map", "mAP"),
    "loss": Metric("loss", "validation loss", percent=False, rises=False),
}
