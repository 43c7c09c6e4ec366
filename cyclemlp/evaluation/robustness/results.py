"""What was found on the robustness sets and under corruptions: accuracies, errors, their tables and files.

Figures are in percent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.evaluation.robustness.corruptions import CORRUPTIONS, COUNTED, EXTRA, SEVERITIES
from cyclemlp.evaluation.robustness.figure import plot_severities
from cyclemlp.evaluation.run import EvaluationResult
from cyclemlp.files import write_text
from cyclemlp.report import format_table, markdown_table

#: AlexNet's top-1 errors in percent, means over the five severities, which normalise the corruption error of Hendrycks
#: and Dietterich 2019 (arXiv 1903.12261): the figures of the authors' repository hendrycks/robustness, as AugMix's
#: evaluation (google-research/augmix, imagenet.py) has them.
ALEXNET_ERRORS: dict[str, float] = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}


@dataclass(frozen=True)
class SetResult:
    """Accuracy on one set.

    Attributes:
        title: the set.
        images: number of images.
        classes: among how many classes the model could choose.
        top1: percent of right answers.
        top5: percent of images with a right class among the five most probable; None where the set's protocol
            has no such figure.
        notes: what a reader of the figures should know.
    """

    title: str
    images: int
    classes: int
    top1: float
    top5: float | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, title: str, result: EvaluationResult, notes: Sequence[str] = ()) -> SetResult:
        """From what `evaluate` found."""
        return cls(title, result.images, result.classes, result.top1, result.top5, (*result.notes, *notes))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "notes": list(self.notes)}


@dataclass
class CorruptionResult:
    """Top-1 errors by corruption and severity.

    Attributes:
        title: whose.
        published: they are of ImageNet-C's own files, so that they may be normalised by AlexNet's.
        errors: corruption → severity → percent of wrong answers.
        notes: what a reader of the figures should know.
    """

    title: str
    published: bool
    errors: dict[str, dict[int, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def add(self, corruption: str, severity: int, error: float) -> None:
        """Note one error."""
        self.errors.setdefault(corruption, {})[severity] = error

    def record(self, corruption: str, severity: int, result: EvaluationResult) -> None:
        """Note the error that `evaluate` found."""
        self.add(corruption, severity, 100 - result.top1)

    def mean(self, corruption: str) -> float:
        """A corruption's mean error over the severities that were measured."""
        return float(np.mean(list(self.errors[corruption].values())))

    def severity_mean(self, severity: int) -> float | None:
        """The mean error in one severity over those of the 15 corruptions that were measured in it."""
        return _mean(self.errors[name].get(severity) for name in COUNTED if name in self.errors)

    @property
    def severities(self) -> list[int]:
        """The severities that were measured."""
        return sorted({severity for errors in self.errors.values() for severity in errors})

    def by_group(self) -> dict[str, dict[str, dict[int, float]]]:
        """Group → corruption → severity → error, in the paper's order; the extra corruptions are a group."""
        groups = {
            group: {name: self.errors[name] for name in names if name in self.errors}
            for group, names in {**CORRUPTIONS, "extra": EXTRA}.items()
        }
        return {group: errors for group, errors in groups.items() if errors}

    def corruption_error(self, corruption: str) -> float | None:
        """A corruption's error as a percentage of AlexNet's: the paper's CE.

        None for extra corruptions, for ones made here, and if not all severities were measured.
        """
        if not self.published or corruption not in ALEXNET_ERRORS:
            return None
        if set(self.errors[corruption]) != set(SEVERITIES):
            return None
        return 100 * self.mean(corruption) / ALEXNET_ERRORS[corruption]

    @property
    def mean_error(self) -> float | None:
        """Mean of `mean` over the 15 corruptions, or those of them that were measured: not normalised."""
        return _mean(self.mean(name) for name in COUNTED if name in self.errors)

    @property
    def mean_corruption_error(self) -> float | None:
        """The paper's mCE, mean of `corruption_error` over the 15 corruptions; None if one of them is None."""
        errors = [self.corruption_error(name) for name in COUNTED if name in self.errors]
        return _mean(errors) if len(errors) == len(COUNTED) and None not in errors else None

    def table(self) -> tuple[list[str], list[list[object]]]:
        """Head and rows: a line a corruption, then the means."""
        severities = self.severities
        header = ["corruption", "group", *(f"severity {s}" for s in severities), "mean"]
        rows: list[list[object]] = [
            [name, group, *map(errors.get, severities), self.mean(name), self.corruption_error(name)]
            for group, names in self.by_group().items()
            for name, errors in names.items()
        ]
        if self.mean_error is not None:
            means = map(self.severity_mean, severities)
            rows.append(["mean, without extra", "", *means, self.mean_error, self.mean_corruption_error])
        if self.published:
            return [*header, "of AlexNet's, %"], rows
        return header, [row[:-1] for row in rows]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "title": self.title,
            "errors": {
                name: {
                    "by_severity": {str(severity): error for severity, error in errors.items()},
                    "mean": self.mean(name),
                    "corruption_error": self.corruption_error(name),
                }
                for name, errors in self.errors.items()
            },
            "mean_error": self.mean_error,
            "mean_corruption_error": self.mean_corruption_error,
            "notes": list(self.notes),
        }


@dataclass
class Results:
    """All that was measured.

    Attributes:
        sets: a line each in the first table.
        corruptions: a table each.
    """

    sets: list[SetResult] = field(default_factory=list)
    corruptions: list[CorruptionResult] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "sets": [result.to_dict() for result in self.sets],
            "corruptions": [result.to_dict() for result in self.corruptions],
        }

    def notes(self) -> list[str]:
        """Every note once, in order."""
        results: list[SetResult | CorruptionResult] = [*self.sets, *self.corruptions]
        return list(dict.fromkeys(note for result in results for note in result.notes))

    def tables(self, *, markdown: bool = False) -> list[tuple[str, str]]:
        """(title, table) of each, in Markdown or as columns aligned by spaces.

        The first one's title is "Sets". A table of corruptions ends with its means.
        """
        table = markdown_table if markdown else format_table
        found = []
        if self.sets:
            header = ["set", "images", "among classes", "top-1, %", "top-5, %"]
            found.append(
                ("Sets", table(header, [[s.title, s.images, s.classes, s.top1, s.top5] for s in self.sets]))
            )
        found += [
            (f"{result.title}: top-1 errors, %", table(*result.table()))
            for result in self.corruptions
            if result.errors
        ]
        return found

    def write(self, folder: Path, facts: Mapping[str, Any], *, complete: bool = True) -> list[Path]:
        """Write robustness.json and robustness.md and, of complete results, a figure of each kind of corruptions.

        Args:
            folder: an existing folder.
            facts: what they were measured with: `model`, `weights` and whatever else.
            complete: whether all was measured that was asked for.

        Returns:
            The files written.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        written = [folder / "robustness.json", folder / "robustness.md"]
        values = {**facts, "complete": complete, **self.to_dict()}
        write_text(written[0], json.dumps(values, indent=2) + "\n", errors="replace")
        lines = [f"# Robustness of {facts['model']}", "", f"Weights: {facts['weights']}."]
        if not complete:
            lines += ["", "Not complete yet."]
        for title, table in self.tables(markdown=True):
            lines += ["", f"## {title}", "", table]
        if notes := self.notes():
            lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
        write_text(written[1], "\n".join(lines) + "\n", errors="replace")
        if complete:
            clean = next((100 - result.top1 for result in self.sets if result.title == "clean"), None)
            written += [
                plot_severities(
                    result.by_group(),
                    folder / ("robustness_imagenet_c.png" if result.published else "robustness.png"),
                    clean_error=clean,
                    title=f"{result.title}: {facts['model']}, {facts['weights']}",
                )
                for result in self.corruptions
            ]
        return written


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
