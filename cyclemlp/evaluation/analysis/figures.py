"""Figures of an analysis: calibration, accuracy by class, confusions, the worst mistakes.

K classes. `path` is where to write; its suffix decides the form (.png, .svg, .pdf). All raise MissingDependencyError
where matplotlib is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import DataError
from cyclemlp.evaluation.analysis.measures import (
    Calibration,
    ClassAccuracy,
    Confusion,
    confused_pairs,
    wilson_interval,
)
from cyclemlp.report.figures import BLUE, GREY, INK, ORANGE, PathLike, cell_lines, rgb, saved_figure
from cyclemlp.report.sheet import plot_samples
from cyclemlp.text import counted, shortened

#: Up to so many classes each has a bar; of more, a curve shows all, and bars the lowest.
MOST_BARS, LOWEST_BARS = 40, 20
#: Of a confusion matrix, and pairs listed beside one whose classes have no names at its edges.
MAX_CLASSES_WITH_COUNTS, MAX_CLASSES_WITH_NAMES, PAIRS_LISTED = 30, 60, 25
#: Characters of a class's name.
LONGEST_NAME = 22


def plot_calibration(found: Calibration, path: PathLike, *, title: str | None = None) -> Path:
    """Reliability diagram: the share of right answers by the answer's probability; below, how many images there are.

    A well calibrated network's bars end on the diagonal. Orange marks how far a bar falls short of the bin's mean
    probability, or passes it. Intervals are Wilson's.

    Raises:
        DataError: there is no image.
    """
    there = found.counts > 0
    if not there.any():
        raise DataError("no image, so nothing to draw of its calibration")
    counts, probability, share = found.counts[there], found.confidence[there], found.accuracy[there]
    width = 1 / len(found.counts)
    places = (np.arange(len(found.counts)) + 0.5)[there] * width
    with saved_figure(path, 5.2, 5.8, title=title) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        above.bar(places, share, width * 0.92, color=BLUE, label="right answers")
        above.bar(
            places,
            np.abs(probability - share),
            width * 0.92,
            bottom=np.minimum(probability, share),
            facecolor="#FFFFFF80",
            edgecolor=ORANGE,
            linewidth=1.2,
            hatch="////",
            label="gap to the mean probability",
        )
        ends = wilson_interval(share * counts, counts) / 100
        _intervals(above, places, share, ends, label="95 % interval")
        above.plot([0, 1], [0, 1], "--", color=INK, linewidth=1.2, label="well calibrated")
        above.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1.02))
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
        below.bar(places, 100 * counts / counts.sum(), width * 0.92, color=GREY)
        below.set(xlabel="probability of the answer", ylabel="images, %")
    return Path(path)


def plot_class_accuracy(
    names: Sequence[str], found: ClassAccuracy, path: PathLike, *, title: str | None = None
) -> Path:
    """Accuracy of each class that has images, sorted, with its interval; the mean is a line.

    Up to 40 classes each has its bar; of more a curve shows all, and bars the 20 lowest.

    Args:
        names: of the K classes.

    Raises:
        DataError: no class has an image, or there are not as many names.
    """
    accuracy, intervals = found.accuracy, found.interval
    there = int((~np.isnan(accuracy)).sum())
    if len(names) != len(accuracy) or not there:
        raise DataError(
            f"accuracy by class needs a name for each, and a class with images; found {counted(len(names), 'name')} "
            f"and {counted(len(accuracy), 'class')}, {there} of them with images"
        )
    order = np.argsort(accuracy, kind="stable")[:there]  # NaN stands last
    shown = order if there <= MOST_BARS else order[:LOWEST_BARS]
    height = 0.9 + 0.24 * len(shown)
    size = (6.4, max(2.2, height)) if len(shown) == there else (11.0, height)
    heading = f"{title or 'Accuracy by class'} · mean {found.mean:.2f} %"
    with saved_figure(path, *size, title=heading) as figure:
        if len(shown) == there:
            bars = figure.subplots()
            mean_line = bars.axvline
        else:
            curve, bars = figure.subplots(1, 2, width_ratios=(1, 1.1))
            mean_line = curve.axhline
            places = np.arange(1, there + 1)
            curve.fill_between(places, *intervals[order].T, color=BLUE, alpha=0.2, linewidth=0, step="mid")
            curve.step(places, accuracy[order], where="mid", color=BLUE)
            curve.set(
                title=f"All {counted(there, 'class')}, 95 % intervals",
                xlabel="classes, sorted",
                ylabel="accuracy, %",
                ylim=(0, 102),
                xlim=(0.5, there + 0.5),
            )
            bars.set_title(f"The {len(shown)} lowest")
        mean_line(found.mean, color=INK, linestyle="--", linewidth=1.2)
        _named_bars(
            bars,
            accuracy[shown],
            [f"{shortened(names[i], LONGEST_NAME)} ({found.images[i]:,})" for i in shown],
            BLUE,
        )
        _intervals(bars, np.arange(len(shown)), accuracy[shown], intervals[shown], horizontal=True)
        bars.set(xlim=(0, 102), xlabel="accuracy, %; in brackets the images of the class")
    return Path(path)


def plot_confused_pairs(
    pairs: Sequence[Confusion], names: Sequence[str], path: PathLike, *, title: str | None = None
) -> Path:
    """The most frequent confusions as bars: in a matrix of hundreds of classes no single cell can be read.

    Args:
        pairs: in the order in which they are drawn.
        names: of the K classes.

    Raises:
        DataError: no pair.
    """
    if not pairs:
        raise DataError("no image was taken for another class, so there is no confusion to draw")
    with saved_figure(path, 8.2, 1.0 + 0.26 * len(pairs), title=title) as figure:
        _draw_pairs(figure.subplots(), pairs, names)
    return Path(path)


def plot_confusion(
    matrix: np.ndarray, classes: Sequence[str] | None, path: PathLike, *, title: str | None = None
) -> Path:
    """Confusion matrix: a row a true class, a column a predicted class, coloured by the share of the row.

    Right answers are blue, wrong ones orange. Up to 30 classes the counts are written in the cells, up to 60
    the names stand at the edges; beyond, the most frequent confusions are drawn beside the matrix.

    Args:
        matrix: int [K, K], `matrix[true, predicted]` counts images.
        classes: K names; None numbers them.

    Raises:
        DataError: the matrix is not square, or the names are not as many.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"a confusion matrix is square [K, K]; this one has shape {list(matrix.shape)}")
    count = len(matrix)
    names = [str(i) for i in range(count)] if classes is None else [str(c) for c in classes]
    if len(names) != count:
        raise DataError(
            f"{counted(len(names), 'class name')} for a confusion matrix of {counted(count, 'class')}"
        )
    images, right = int(matrix.sum()), int(np.trace(matrix))
    heading = f"{title or 'Confusion matrix'} · {right:,} of {images:,} right ({100 * right / max(images, 1):.2f} %)"
    labels = [shortened(name, LONGEST_NAME) for name in names]
    side = max(3.6, min(0.36 * count + 1.2, 13.0) + 0.06 * max(map(len, labels)))
    named = count <= MAX_CLASSES_WITH_NAMES
    size = (side + 0.4, side) if named else (14.0, 8.0)
    with saved_figure(path, *size, title=heading) as figure:
        axes, *beside = [figure.subplots()] if named else figure.subplots(1, 2, width_ratios=(8, 4))
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(_confusion_colours(share), interpolation="nearest", resample=False)
        axes.set(xlabel="predicted", ylabel="true")
        axes.grid(False)
        axes.spines[:].set_visible(not named)
        if named:
            axes.set_xticks(range(count), labels, rotation=90 if max(map(len, names)) > 2 else 0)
            axes.set_yticks(range(count), labels)
            axes.tick_params(length=0, labelsize=9 if count <= MAX_CLASSES_WITH_COUNTS else 7)
            cell_lines(axes, count, count, "white", 1.2)
        if count <= MAX_CLASSES_WITH_COUNTS:
            _write_counts(axes, matrix, share)
        pairs = confused_pairs(matrix, PAIRS_LISTED)
        for panel in beside:
            panel.set_visible(bool(pairs))
            if pairs:
                _draw_pairs(panel, pairs, names)
                panel.set_ylim(PAIRS_LISTED - 0.5, -0.5)  # bars of one height, however few there are
    return Path(path)


def plot_mistakes(
    images: Sequence[Any],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    true: Sequence[str],
    true_probabilities: Sequence[float],
    path: PathLike,
) -> Path:
    """Sheet of wrong answers: the class said and the true one, each with the probability that the network gave it.

    Args:
        images: as `plot_samples` takes them.
        predicted, true: names of the classes.
        probabilities, true_probabilities: theirs, in 0..1.

    Raises:
        DataError: no image, or not as many texts.
    """
    captions = [
        f"{shortened(said, 13)} ({100 * p:.1f} %)\ntrue: {shortened(truth, 10)} ({100 * q:.1f} %)"
        for said, p, truth, q in zip(predicted, probabilities, true, true_probabilities, strict=True)
    ]
    title = "The most confident wrong answers: what was said, what is true, each with its probability"
    return plot_samples(images, captions, path, title=title)


def _named_bars(axes: Any, values: Sequence[float] | np.ndarray, names: Sequence[str], colour: str) -> None:
    """Horizontal bars from above, each with its name."""
    places = np.arange(len(values))
    axes.barh(places, values, 0.75, color=colour)
    axes.set_yticks(places, names, fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def _intervals(
    axes: Any,
    places: np.ndarray,
    values: np.ndarray,
    ends: np.ndarray,
    *,
    horizontal: bool = False,
    **more: Any,
) -> None:
    """Intervals [N, 2] of the values [N] at some places along the axis."""
    # A share of 0 or 1 lies outside its interval by rounding.
    lengths = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
    where = (values, places, None, lengths) if horizontal else (places, values, lengths)
    axes.errorbar(*where, fmt="none", ecolor=INK, elinewidth=1.0, capsize=2.0, **more)


def _draw_pairs(axes: Any, pairs: Sequence[Confusion], names: Sequence[str]) -> None:
    def name(index: int) -> str:
        return shortened(str(names[index]), LONGEST_NAME)

    _named_bars(
        axes, [p.images for p in pairs], [f"{name(p.true)} → {name(p.predicted)}" for p in pairs], ORANGE
    )
    for place, pair in enumerate(pairs):
        axes.annotate(
            f"{pair.images:,} ({pair.share:.0f} %)",
            (pair.images, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(
        xlim=(0, 1.15 * max(pair.images for pair in pairs)),
        xlabel="images; in brackets the share of the true class's images",
        title="true class → predicted class",
    )


def _confusion_colours(share: np.ndarray) -> np.ndarray:
    """[K, K, 3] in [0, 1]: from white to blue on the diagonal, to orange off it, by share of the row [K, K]."""
    # The square root lifts the few wrong answers, which are what the reader looks for.
    depth = np.sqrt(share)[..., None]
    full = np.where(np.eye(len(share), dtype=bool)[..., None], rgb(BLUE), rgb(ORANGE))
    paper = rgb("#F5F6F8")
    return paper + (full - paper) * depth


def _write_counts(axes: Any, matrix: np.ndarray, share: np.ndarray) -> None:
    size = 9 if len(matrix) <= 20 and matrix.max() < 1000 else 6.5
    for true, predicted in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[true, predicted] > 0.3 else INK
        text = f"{matrix[true, predicted]}"
        axes.text(predicted, true, text, ha="center", va="center", fontsize=size, color=colour)
