"""How a classifier of ImageNet does on images unlike its own, and how its error grows with corruptions.

Figures are in percent. Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cyclemlp.data import Loader
from cyclemlp.data.robustness import (
    CORRUPTIONS,
    COUNTED,
    EXTRA,
    IMAGENET_CLASSES,
    SEVERITIES,
    VALIDATION_IMAGES,
)
from cyclemlp.errors import DataError
from cyclemlp.evaluation.run import Classifier, EvaluationResult, evaluate, predict
from cyclemlp.report import Progress, format_table, markdown_table

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
        return {
            "title": self.title,
            "images": self.images,
            "classes": self.classes,
            "top1": self.top1,
            "top5": self.top5,
            "notes": list(self.notes),
        }


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


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def evaluate_among(fn: Classifier, loader: Loader, classes: Sequence[int]) -> EvaluationResult:
    """`evaluate`, with the model's choice restricted to some of its classes.

    Args:
        fn: as for `evaluate`.
        loader: of images whose labels are places in `classes`.
        classes: the model's classes that may be chosen.

    Raises: as `evaluate`.
    """
    columns = np.asarray(classes)
    return evaluate(lambda images: np.asarray(fn(images))[:, columns], loader, progress=False)


def evaluate_real(
    fn: Classifier, loader: Loader, numbers: np.ndarray, real: Sequence[frozenset[int]]
) -> list[SetResult]:
    """Accuracy by the original labels, and by ReaL's (Beyer et al. 2020, arXiv 2006.07159), in one pass.

    An answer is right if it is one of the image's labels. Images that have none are left out.

    Args:
        fn: as for `evaluate`.
        loader: of ImageNet's validation images, or some of them.
        numbers: which of them each image of the source is, from 1: int [N].
        real: the labels of each, from `read_real_labels`.

    Returns:
        By the source's own labels, if it has any, and by ReaL's.

    Raises:
        DataError: no image has a label; otherwise as `predict`.
    """
    right = counted = 0
    own: list[tuple[bool, bool]] = []
    for prediction in predict(fn, loader, progress=False):
        labels = real[int(numbers[prediction.index]) - 1]
        if labels:
            counted += 1
            right += prediction.indices[0] in labels
        if prediction.label is not None:
            own.append((prediction.indices[0] == prediction.label, prediction.label in prediction.indices))
    if not counted:
        raise DataError("none of the images has a ReaL label, so there is nothing to compare with")
    left_out = len(numbers) - counted
    notes = [f"ReaL: {left_out:,} of {len(numbers):,} images have no label and are left out"]
    if len(numbers) < VALIDATION_IMAGES:
        notes.append(f"ReaL is incomplete: {len(numbers):,} images instead of {VALIDATION_IMAGES:,}")
    by_real = SetResult("ReaL", counted, IMAGENET_CLASSES, 100 * right / counted, None, tuple(notes))
    if not own:
        return [by_real]
    top1, top5 = (100 * float(np.mean(hits)) for hits in zip(*own, strict=True))
    return [SetResult("clean", len(own), IMAGENET_CLASSES, top1, top5), by_real]


# ---- for people


def result_tables(
    sets: Sequence[SetResult], corruptions: Sequence[CorruptionResult], *, markdown: bool = False
) -> list[tuple[str, str]]:
    """The results as tables.

    Args:
        sets: a line each.
        corruptions: a table each, a line a corruption.
        markdown: in Markdown, instead of columns aligned by spaces.

    Returns:
        (title, table) of each; the first one's title is "Sets". A table of corruptions ends with its means.
    """
    table = markdown_table if markdown else format_table
    found = []
    if sets:
        rows: list[list[object]] = [[s.title, s.images, s.classes, s.top1, s.top5] for s in sets]
        found.append(("Sets", table(["set", "images", "among classes", "top-1, %", "top-5, %"], rows)))
    for result in corruptions:
        if not (severities := result.severities):
            continue
        header = ["corruption", "group", *(f"severity {s}" for s in severities), "mean"]
        rows = []
        for group, names in result.by_group().items():
            for name, errors in names.items():
                rows.append([name, group, *(errors.get(s) for s in severities), result.mean(name)])
                if result.published:
                    rows[-1].append(result.corruption_error(name))
        if result.mean_error is not None:
            rows.append(
                ["mean, without extra", "", *map(result.severity_mean, severities), result.mean_error]
            )
            if result.published:
                rows[-1].append(result.mean_corruption_error)
        if result.published:
            header.append("of AlexNet's, %")
        found.append((f"{result.title}: top-1 errors, %", table(header, rows)))
    return found


def all_notes(sets: Sequence[SetResult], corruptions: Sequence[CorruptionResult]) -> list[str]:
    """Every note once, in order."""
    notes = [result.notes for result in sets] + [result.notes for result in corruptions]
    return list(dict.fromkeys(note for some in notes for note in some))


def counting(fn: Classifier, bar: Progress[Any]) -> Classifier:
    """`fn`, telling a bar of every batch: one bar for many evaluations."""

    def classify(images: Any) -> np.ndarray:
        logits = np.asarray(fn(images))
        bar.update(len(logits))
        return logits

    return classify
