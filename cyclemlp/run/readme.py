"""A run's README: command, versions and figures, from its log."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclemlp.report import format_duration, in_order
from cyclemlp.run.log import best_record, facts_of
from cyclemlp.text import counted

#: Figures of the table: title → key in the log, factor.
_FIGURES = {
    "training loss": ("train_loss", 1),
    "validation loss": ("val_loss", 1),
    "top-1 (%)": ("val_top1", 1),
    "top-5 (%)": ("val_top5", 1),
    "mAP (%)": ("val_map", 1),
    "macro F1 (%)": ("val_macro_f1", 1),
    "top-1 of the average (%)": ("ema_top1", 1),
    "mAP of the average (%)": ("ema_map", 1),
    "steps skipped": ("skipped_steps", 1),
    "mean IoU (%)": ("mean_iou", 100),
    "pixel accuracy (%)": ("pixel_accuracy", 100),
    "box AP (%)": ("bbox_ap", 100),
    "box AP50 (%)": ("bbox_ap50", 100),
    "mask AP (%)": ("mask_ap", 100),
    "mask AP50 (%)": ("mask_ap50", 100),
}


def readme(run: Path, records: Sequence[Mapping[str, Any]], program: str) -> str:
    """The text.

    Args:
        run: the run's folder.
        records: of its log.
        program: the command that trains it without `train`, such as "cyclemlp seg".
    """
    return "\n".join(_lines(run, records, program))


def _lines(run: Path, records: Sequence[Mapping[str, Any]], program: str) -> Iterator[str]:
    starts = [record for record in records if record["event"] == "start"]
    commands = [start["command"] for start in starts if start.get("command")]
    yield from (f"# {run.name}", "", "A training run of paddle-cyclemlp.", "")
    if commands:
        yield from ("```sh", *commands, "```", "")
    for title, row in (
        (("Run", facts_of(starts[-1])), ("Made with", starts[-1]["versions"])) if starts else ()
    ):
        yield from (f"| {title} | |", "|---|---|", *(f"| {k} | {v} |" for k, v in row.items()), "")
    key = "epoch" if any(record["event"] == "epoch" for record in records) else "step"
    evaluations = in_order(records, "epoch" if key == "epoch" else "evaluation", key)
    if evaluations:
        last = evaluations[-1]
        rows = {"best": best_record(records) or last, "last": last}
        columns = {
            title: column
            for title, column in _FIGURES.items()
            if any(column[0] in record for record in evaluations)
        }
        yield from (
            f"{counted(last[key], key)}, {format_duration(last['seconds'])} of training.",
            "",
            f"| {key} | {' | '.join(columns)} |",
            "|---" * (len(columns) + 1) + "|",
            *(
                f"| {record[key]} ({name}) | "
                + " | ".join(_number(record.get(column), factor) for column, factor in columns.values())
                + " |"
                for name, record in rows.items()
            ),
            "",
        )
    folder = shlex.quote(str(run))
    yield from (
        "`recipe.yaml` is the whole recipe, `log.jsonl` has a line an epoch or evaluation, `best.…` is the best model",
        "(`best_ema.…`, if there is one, the best average of the weights), and each `checkpoints/checkpoint_…/` can be",
        "resumed from.",
        "",
        "```sh",
        f"{program} predict {folder} IMAGE…   # what is on an image",
        f"{program} train --resume {folder}   # go on",
        "```",
        "",
    )


def _number(value: float | None, factor: int) -> str:
    return "–" if value is None else f"{factor * value:.4g}"
