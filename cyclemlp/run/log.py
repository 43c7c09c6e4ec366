"""A run's log, `log.jsonl`: a JSON object a line, with the same keys for classification, segmentation and detection.

Every record has `event` and `time` (ISO 8601, UTC). What several have is called the same:

    epoch, step         epochs and steps done, in all starts of the run together
    seconds             of training so far, in all starts; evaluating and saving are not counted
    loss, train_loss    mean since the record before; mean over an epoch
    lr                  learning rate of the last step
    best                whether the model of this evaluation was kept as the best

The events:

    start       command, from (the checkpoint that is resumed, or null), versions, and facts of the run
    step        step, seconds, loss, its parts (loss_0 …, loss_cls …), lr; of detection also epoch
    evaluation  step, seconds, best and the figures in [0, 1]. Segmentation: mean_iou, pixel_accuracy, class_iou, kappa.
                Detection: epoch, bbox_ap …, mask_ap …, per_class
    epoch       of classification, step and evaluation in one: epoch, seconds, epoch_seconds (evaluation included),
                train_loss, lr, best, val_loss, val_top1, val_top5, val_macro_f1 (%) and the same with ema_;
                of several labels an image val_map instead of val_top1 and val_top5
    end         epoch or step, seconds, reason: "finished", "early stopping", "time" or "signal"

A run that was killed has no end. What it did after its last checkpoint is done again when it is resumed: of two records
of one epoch or step the later counts.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp._version import __version__
from cyclemlp.report import JsonLines

#: Keys of a `start` that are no facts of the run.
_START = ("event", "time", "command", "from", "versions")


class RunLog(JsonLines):
    """Continues a run's log."""

    def event(self, event: str, **values: Any) -> None:
        """Write a record."""
        self.write({"event": event, "time": now(), **values})

    def start(
        self,
        facts: Mapping[str, Any],
        *,
        command: str | None,
        checkpoint: Path | None,
        packages: Iterable[str] = (),
    ) -> None:
        """Write a start.

        Args:
            facts: of what is trained, title → value.
            command: what was typed.
            checkpoint: what is resumed.
            packages: names of distributions that the result depends on besides.
        """
        head = {"command": command, "from": checkpoint, "versions": versions(packages)}
        self.event("start", **head, **facts)


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """What a result may depend on: this program, Paddle, its device, NumPy, what reads images, Python, the machine."""
    found = {"paddle-cyclemlp": __version__, "numpy": np.__version__}
    paddle = sys.modules.get("paddle")  # this room does not import it
    if paddle is not None:
        found["paddle"] = f"{paddle.__version__} on {paddle.get_device()}"
    for name in ("pillow", "simplejpeg", "cykooz-resizer", *packages):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return {
        **found,
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}",
    }


def facts_of(start: Mapping[str, Any]) -> dict[str, Any]:
    """What a `start` says of what is trained."""
    return {key: value for key, value in start.items() if key not in _START}


def best_record(records: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The evaluation, or epoch, whose model is kept as the best; None before there is one."""
    found = [r for r in records if r.get("event") in ("epoch", "evaluation") and r.get("best")]
    return dict(found[-1]) if found else None


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
