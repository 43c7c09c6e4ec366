"""Published figures measured again: what was found for each image, kept so that a stopped run goes on, and the table.

Nothing here knows a model or where a figure was published: both are given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.data import Loader
from cyclemlp.errors import DataError
from cyclemlp.evaluation.metrics import cross_entropy, label_ranks
from cyclemlp.evaluation.run import Classifier, checked_labels, checked_logits, read_ahead
from cyclemlp.files import write_text
from cyclemlp.report import JsonLines, Progress, format_table, markdown_table, read_json_lines

TABLE = (
    *("model", "weights", "runtime", "top-1", "top-5", "loss"),
    *("Paddle-CycleMLP's top-1", "top-5", "loss", "difference", "top-5", "loss"),
    *("paper's top-1", "difference"),
)
#: The same with a line a figure, for a terminal.
NARROW_TABLE = (
    "model",
    "weights",
    "runtime",
    "",
    "measured",
    "Paddle-CycleMLP",
    "difference",
    "paper",
    "difference",
)

SOURCES = (
    "Accuracies in percent, loss in nats. Published figures: Paddle-CycleMLP's by that project's authors, "
    "the paper's are of arXiv 2107.10224, table 2. Differences are measured minus published."
)


@dataclass(frozen=True)
class Figures:
    """Accuracies in percent, mean cross entropy in nats; None where unknown."""

    top1: float | None = None
    top5: float | None = None
    loss: float | None = None

    def minus(self, other: Figures) -> Figures:
        """Differences, None where one of the two is unknown."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Figures(*(None if a is None or b is None else a - b for a, b in pairs))


@dataclass(frozen=True)
class Row:
    """One weight file in one runtime.

    Attributes:
        model: the variant's name.
        weights: the file's name.
        runtime: what computed, in words.
        images: how many images the figures are of.
        measured: here.
        reproduced: by Paddle-CycleMLP, as published.
        paper: as published in the paper.
    """

    model: str
    weights: str
    runtime: str
    images: int
    measured: Figures
    reproduced: Figures
    paper: Figures

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the differences: measured minus published."""
        return {
            **asdict(self),
            "minus_reproduced": asdict(self.measured.minus(self.reproduced)),
            "minus_paper": asdict(self.measured.minus(self.paper)),
        }


class ImageLog:
    """What a model answered for each image of a source, on disk as it is found.

    A JSON-lines file: what the answers depend on, then a line a batch with the rank of the true class (0: right) and
    the cross entropy of each image, in the source's order. What a crash cut off is asked again.

    Args:
        path: the file; continued if it is about the same, else begun anew.
        identity: what the answers depend on, as JSON values.
        count: images of the source.

    Attributes:
        done: how many images, from the first on, have an answer.
        changed: of an older file, the parts of the identity that were others; empty if it is continued, or new.

    Raises:
        DataError: the file is damaged; it names the line.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], count: int) -> None:
        self.ranks = np.full(count, -1, dtype=np.int64)
        self.losses = np.full(count, np.nan)
        self.changed: list[str] = []
        records = read_json_lines(path) if path.exists() else []
        if records and (found := records[0].get("identity")) != identity:
            found = found if isinstance(found, dict) else {}
            self.changed = [name for name, value in identity.items() if found.get(name) != value] or ["form"]
            records = []
        if not records:
            path.unlink(missing_ok=True)
        for number, record in enumerate(records[1:], 2):
            try:
                first, ranks, losses = record["first"], record["ranks"], record["losses"]
                part = slice(first, first + len(ranks))
                if not 0 <= first <= count - len(ranks):
                    raise ValueError(f"images {first} to {first + len(ranks) - 1} of {count}")
                self.ranks[part], self.losses[part] = ranks, losses
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{path}:{number}: is no record of results ({error}); delete the file"
                ) from error
        self._lines = JsonLines(path)
        if not records:
            self._lines.write({"identity": identity})

    @property
    def done(self) -> int:
        unknown = np.flatnonzero(self.ranks < 0)
        return int(unknown[0]) if len(unknown) else len(self.ranks)

    @property
    def complete(self) -> bool:
        return self.done == len(self.ranks)

    def write(self, first: int, ranks: np.ndarray, losses: np.ndarray) -> None:
        """The answers for images `first`, `first` + 1 …"""
        self._lines.write({"first": first, "ranks": ranks, "losses": losses})
        part = slice(first, first + len(ranks))
        self.ranks[part], self.losses[part] = ranks, losses

    def figures(self) -> Figures:
        """Of the images done so far; at least one."""
        ranks, losses = self.ranks[: self.done], self.losses[: self.done]
        top1, top5 = (100 * int((ranks < k).sum()) / len(ranks) for k in (1, 5))
        return Figures(top1, top5, float(losses.mean()))

    def __enter__(self) -> ImageLog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lines.close()


def evaluate_logged(fn: Classifier, loader: Loader, log: ImageLog, *, progress: bool = True) -> Figures:
    """`evaluate` with every answer in a log: images that are in it are not read again.

    Args:
        fn: classifier.
        loader: of the log's source, in order. It goes on with the batch in which the first image without answer
            lies, so that batches, and with them the last bits of the logits, are those of a run that was not stopped.
        log: what is known, and where the rest is written.
        progress: show a bar on stderr.

    Raises: as `evaluate`.
    """
    first_batch = log.done // loader.batch_size
    loader.set_epoch(0, first_batch=first_batch)
    if not log.complete:
        bar: Progress[Any] = Progress(
            desc="evaluate",
            total=len(loader.source),
            initial=first_batch * loader.batch_size,
            unit="image",
            disable=not progress,
        )
        with bar, read_ahead(loader) as batches:
            for batch in batches:
                logits = checked_logits(fn, batch, loader)
                labels = checked_labels(batch, loader, logits.shape[1])
                log.write(int(batch.indices[0]), label_ranks(logits, labels), cross_entropy(logits, labels))
                bar.figures(**{name: x for name, x in asdict(log.figures()).items() if x is not None})
                bar.update(len(labels))
    return log.figures()


def write_reproduction(folder: Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write reproduce.json and reproduce.md; the JSON values.

    Args:
        folder: an existing folder.
        facts: what the figures were measured with, name → value; `data_sha256`, where it is given, stands in the JSON
            only.
    """
    report = {**facts, "rows": [row.to_dict() for row in rows]}
    write_text(folder / "reproduce.json", json.dumps(report, indent=2) + "\n", errors="replace")
    shown = {name: value for name, value in facts.items() if name != "data_sha256"}
    lines = [
        "# CycleMLP on ImageNet: published figures, measured again",
        "",
        *(f"- {name}: {f'`{value}`' if name == 'command' else value}" for name, value in shown.items()),
        "",
        markdown_table(TABLE, [_wide(row) for row in rows]),
        "",
        SOURCES,
        "",
    ]
    write_text(folder / "reproduce.md", "\n".join(lines), errors="replace")
    return report


def narrow_table(rows: Sequence[Row]) -> str:
    """A table for a terminal: a line a figure."""
    cells: list[list[str | None]] = []
    for row in rows:
        columns = zip(("top-1", "top-5", "loss"), *_columns(row), strict=True)
        named = [(row.model, row.weights, row.runtime), ("", "", ""), ("", "", "")]
        cells += [[*names, *words] for names, words in zip(named, columns, strict=True)]
    return format_table(NARROW_TABLE, cells)


def _wide(row: Row) -> list[str | None]:
    """Cells under `TABLE`; the paper has no more than a top-1."""
    measured, reproduced, minus_reproduced, paper, minus_paper = _columns(row)
    return [
        row.model,
        row.weights,
        row.runtime,
        *measured,
        *reproduced,
        *minus_reproduced,
        paper[0],
        minus_paper[0],
    ]


def _columns(row: Row) -> list[list[str | None]]:
    """Measured, Paddle-CycleMLP's, the difference, the paper's, the difference: top-1, top-5, loss of each."""
    return [
        _words(row.measured),
        _words(row.reproduced),
        _words(row.measured.minus(row.reproduced), sign="+"),
        _words(row.paper),
        _words(row.measured.minus(row.paper), sign="+"),
    ]


def _words(figures: Figures, sign: str = "") -> list[str | None]:
    return [
        None if value is None else f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # no "-0.000"
        for value, digits in zip(astuple(figures), (3, 3, 4), strict=True)
    ]
