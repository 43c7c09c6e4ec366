"""Two evaluations on the same images compared, image by image.

N images. Two networks differ only in images that one of them gets right and the other does not; so the
test is McNemar's (1947), in its exact form: under equal chances the split of these images is binomial with ½.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.data import Source
from cyclemlp.errors import DataError
from cyclemlp.evaluation.analysis.measures import (
    LEVEL,
    RESAMPLES,
    Interval,
    bootstrap_interval,
    scipy_stats,
)
from cyclemlp.evaluation.tables import EVALUATION_COLUMNS, TEXT, write_csv
from cyclemlp.report.figures import PathLike
from cyclemlp.report.sheet import plot_samples, square_thumbnail
from cyclemlp.text import counted, shortened

#: Images on a sheet.
MOST_DRAWN = 32


@dataclass(frozen=True)
class RecordedEvaluation:
    """An evaluation as `cyclemlp eval --predictions` wrote it; arrays [N].

    Attributes:
        folder: that it was read from.
        facts: of `eval.json`.
        names: of the images.
        labels: the true class.
        true_names: its name.
        predicted: the most probable class.
        predicted_names: its name.
        probability: the answer's probability, in 0..1.
        right: whether the answer is the true class.
        losses: −log of the true class's probability, in nats.
    """

    folder: Path
    facts: dict[str, Any]
    names: list[str]
    labels: np.ndarray
    true_names: list[str]
    predicted: np.ndarray
    predicted_names: list[str]
    probability: np.ndarray
    right: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """What two evaluations, A and B, of the same images tell of each other.

    Attributes:
        only_a, only_b: positions, in A's order, of the images that one gets right and the other does not; those in
            which the wrong one was most sure stand first.
        both_right, both_wrong: how many images.
        order: the position in B of each image of A: [N].
        difference: B's top-1 minus A's, in percentage points.
        difference_interval: its ends, by the paired bootstrap.
        p_value: of the exact McNemar test, two-sided.
        loss_difference: B's mean loss minus A's, in nats.
        loss_interval: its ends, by the paired bootstrap.
        seed: of the bootstraps.
    """

    only_a: np.ndarray
    only_b: np.ndarray
    both_right: int
    both_wrong: int
    order: np.ndarray
    difference: float
    difference_interval: Interval
    p_value: float
    loss_difference: float
    loss_interval: Interval
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "images": len(self.order),
            "both_right": self.both_right,
            "only_a_right": len(self.only_a),
            "only_b_right": len(self.only_b),
            "both_wrong": self.both_wrong,
            "top1_difference_points": self.difference,
            "top1_difference_interval": list(self.difference_interval),
            "mcnemar_exact_p": self.p_value,
            "loss_difference": self.loss_difference,
            "loss_difference_interval": list(self.loss_interval),
            "level": LEVEL,
            "bootstrap": {"resamples": RESAMPLES, "seed": self.seed},
            "meaning": self.meaning(),
        }

    def meaning(self) -> str:
        """What the test says, for who does not know it."""
        a, b = len(self.only_a), len(self.only_b)
        if a + b == 0:
            return "Both are right about the same images and wrong about the same: nothing tells them apart."
        chance = (
            f"in {100 * self.p_value:.1f} % of cases"
            if self.p_value >= 0.001
            else "in fewer than 1 of 1000 cases"
        )
        split = (
            f"Of the {counted(a + b, 'image')} that only one gets right, A gets {a:,} and B {b:,}. If both were "
            f"equally good, a split at least as uneven would come about by chance {chance}."
        )
        if self.p_value < 1 - LEVEL:
            return (
                f"{split} So {'A' if a > b else 'B'} is better on images like these, beyond reasonable chance. That "
                "is said of these two sets of weights: each training ends a little differently, so to compare two ways "
                "of training, train each several times."
            )
        return (
            f"{split} So these images do not tell which is better; that is not to say that they are equal: the "
            "interval shows how large a difference would go unnoticed."
        )


def read_evaluation(folder: Path) -> RecordedEvaluation:
    """Read `eval.json` and `eval.csv` in a folder.

    Raises:
        DataError: one of them is missing, damaged, or of another evaluation than the other.
    """
    report, table = folder / "eval.json", folder / "eval.csv"
    again = "run `cyclemlp eval … --predictions --output` again"
    for path in (report, table):
        if not path.is_file():
            raise DataError(
                f"{path}: there is no such file; {folder} must be what `cyclemlp eval` wrote to its --output with "
                "--predictions or --report"
            )
    try:
        facts = json.loads(report.read_text("utf-8"))
        if "map" in facts:
            raise DataError(
                f"{report} is of a model of several labels an image; those of one class an image can be compared"
            )
        top1, images = float(facts["top1"]), int(facts["images"])
    except DataError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{report}: is no report of `cyclemlp eval` ({error!r}); {again}") from error
    with table.open(**TEXT) as file:
        rows = csv.reader(file)
        header = tuple(next(rows, ()))
        if header != EVALUATION_COLUMNS:
            raise DataError(
                f"{table}:1: the columns are {', '.join(header) or 'missing'}; expected {', '.join(EVALUATION_COLUMNS)}"
            )
        columns: list[list[Any]] = [[] for _ in EVALUATION_COLUMNS]
        kinds = (str, str, int, str, int, float, int, float)
        try:
            for row in rows:
                for column, kind, cell in zip(columns, kinds, row, strict=True):
                    column.append(kind(cell))
        except ValueError as error:
            raise DataError(f"{table}:{rows.line_num}: {error}; {again}") from error
    names, true_names, labels, predicted_names, predicted, probability, ranks, losses = columns
    right = np.array(ranks) == 1
    if len(names) != images or round(100 * right.sum() / max(images, 1), 6) != round(top1, 6):
        raise DataError(
            f"{table} and {report} are of different evaluations: {counted(len(names), 'image')}, {right.sum():,} of "
            f"them right, and {counted(images, 'image')} with a top-1 of {top1:.4f} %; {again}"
        )
    return RecordedEvaluation(
        folder,
        facts,
        names,
        np.array(labels),
        true_names,
        np.array(predicted),
        predicted_names,
        np.array(probability),
        right,
        np.array(losses),
    )


def compare(a: RecordedEvaluation, b: RecordedEvaluation, *, seed: int = 0) -> Comparison:
    """Compare two evaluations.

    Args:
        seed: of the bootstraps.

    Raises:
        DataError: they are not of the same images with the same labels, or there is one image only; the message
            names the first difference.
        MissingDependencyError: SciPy is not installed.
    """
    order = _matching(a, b)
    if len(order) < 2:
        raise DataError(f"{a.folder} holds one image only; a comparison needs at least two")
    right_a, right_b = a.right, b.right[order]
    only_a, only_b = np.flatnonzero(right_a & ~right_b), np.flatnonzero(right_b & ~right_a)
    only_a = only_a[np.argsort(-b.probability[order][only_a], kind="stable")]
    only_b = only_b[np.argsort(-a.probability[only_b], kind="stable")]
    told_apart = len(only_a) + len(only_b)
    gains = 100.0 * (right_b.astype(np.int64) - right_a)
    losses = b.losses[order] - a.losses
    return Comparison(
        only_a=only_a,
        only_b=only_b,
        both_right=int((right_a & right_b).sum()),
        both_wrong=int((~right_a & ~right_b).sum()),
        order=order,
        difference=float(gains.mean()),
        difference_interval=_mean_interval(gains, seed),
        p_value=float(scipy_stats().binomtest(len(only_b), told_apart, 0.5).pvalue) if told_apart else 1.0,
        loss_difference=float(losses.mean()),
        loss_interval=_mean_interval(losses, seed),
        seed=seed,
    )


def write_differences(path: Path, a: RecordedEvaluation, b: RecordedEvaluation, found: Comparison) -> None:
    """A line an image that only one gets right, written whole or not at all."""
    header = ["image", "right", "true", "a_predicted", "a_probability", "b_predicted", "b_probability"]
    write_csv(
        path,
        header,
        (
            [
                *(a.names[i], who, a.true_names[i]),
                *(a.predicted_names[i], f"{a.probability[i]:.6g}"),
                *(b.predicted_names[j], f"{b.probability[j]:.6g}"),
            ]
            for who, positions in (("A", found.only_a), ("B", found.only_b))
            for i, j in zip(positions.tolist(), found.order[positions].tolist(), strict=True)
        ),
    )


def draw_differences(
    folder: Path, source: Source, a: RecordedEvaluation, b: RecordedEvaluation, found: Comparison
) -> list[Path]:
    """Sheets of the images that only one gets right, at most 32 each: only_a.png and only_b.png in a folder.

    Args:
        source: the images, by A's names.

    Returns:
        The files written. A former sheet that now has nothing to show is removed.

    Raises:
        DataError: an image is not in the source.
        MissingDependencyError: matplotlib is not installed.
    """
    places = {source.name(index): index for index in range(len(source))}
    written = []
    for who, positions in (("a", found.only_a), ("b", found.only_b)):
        path = folder / f"only_{who}.png"
        path.unlink(missing_ok=True)
        if not len(positions):
            continue
        shown = positions[:MOST_DRAWN].tolist()
        lost = next((a.names[i] for i in shown if a.names[i] not in places), None)
        if lost is not None:
            raise DataError(
                f"the image {lost!r} of {a.folder} is not among the {counted(len(places), 'image')} to draw; "
                "name where it is with --data and --list, as for `cyclemlp eval`"
            )
        written.append(
            plot_differences(
                [square_thumbnail(source[places[a.names[i]]].image) for i in shown],
                [a.true_names[i] for i in shown],
                [(a.predicted_names[i], float(a.probability[i])) for i in shown],
                [(b.predicted_names[j], float(b.probability[j])) for j in found.order[shown].tolist()],
                path,
                title=f"Only {who.upper()} is right ({len(positions):,}); first where the other was surest",
            )
        )
    return written


def plot_differences(
    images: Sequence[Any],
    true: Sequence[str],
    answers_a: Sequence[tuple[str, float]],
    answers_b: Sequence[tuple[str, float]],
    path: PathLike,
    *,
    title: str | None = None,
) -> Path:
    """Sheet of images with the true class and what two networks said.

    Args:
        images: as `plot_samples` takes them.
        true: names of the true classes.
        answers_a, answers_b: what each said, and its probability in 0..1.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no image, or not as many texts.
        MissingDependencyError: matplotlib is not installed.
    """
    captions = [
        f"true: {shortened(truth, 16)}\n"
        f"A: {shortened(a, 12)} ({100 * p:.0f} %)\nB: {shortened(b, 12)} ({100 * q:.0f} %)"
        for truth, (a, p), (b, q) in zip(true, answers_a, answers_b, strict=True)
    ]
    return plot_samples(images, captions, path, title=title)


def _mean_interval(values: np.ndarray, seed: int) -> Interval:
    """Of the mean, over resamples of images. An image keeps both networks' results: the bootstrap is paired."""
    return bootstrap_interval(values, np.mean, method="percentile", vectorized=True, seed=seed)


def _matching(a: RecordedEvaluation, b: RecordedEvaluation) -> np.ndarray:
    """The position in B of each image of A. Raises DataError if there is none, or its label is another."""
    order = np.arange(len(a.names))
    if a.names != b.names:
        places = {name: i for i, name in enumerate(b.names)}
        _only_once(a)
        _only_once(b)
        _all_there(a, places, b)
        _all_there(b, set(a.names), a)
        order = np.array([places[name] for name in a.names])
    other = np.flatnonzero(a.labels != b.labels[order])
    if len(other):
        i = int(other[0])
        j = int(order[i])
        raise DataError(
            f"{a.names[i]!r} has the class {a.labels[i]} ({a.true_names[i]}) in {a.folder} and {b.labels[j]} "
            f"({b.true_names[j]}) in {b.folder}, the first of {counted(len(other), 'image')}; only evaluations "
            "with the same labels can be compared"
        )
    return order


def _only_once(of: RecordedEvaluation) -> None:
    seen: set[str] = set()
    for name in of.names:
        if name in seen:
            raise DataError(
                f"{of.folder} has the image {name!r} twice, and the images stand in another order than in the "
                "other evaluation; evaluate both with the same list"
            )
        seen.add(name)


def _all_there(of: RecordedEvaluation, names: Any, other: RecordedEvaluation) -> None:
    missing = [name for name in of.names if name not in names]
    if missing:
        raise DataError(
            f"{of.folder} has the image {missing[0]!r}, which {other.folder} has not, the first of {len(missing):,}; "
            "only evaluations of the same images can be compared: give both the same --data and --list"
        )
