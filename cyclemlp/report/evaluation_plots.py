"""Figures of an evaluation: calibration, accuracy by class, confused pairs, accuracy and cost by input size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import DataError
from cyclemlp.report.plots import BLUE, GREY, INK, ORANGE, _figure, _save, _shorten, _style, plot_samples

#: Up to so many classes each has a bar; of more, a curve shows all, and bars the lowest.
MOST_BARS, LOWEST_BARS = 40, 20
INTERVAL = {"ecolor": INK, "elinewidth": 1.0, "capsize": 2.0}


def plot_calibration(
    counts: np.ndarray,
    confidence: np.ndarray,
    accuracy: np.ndarray,
    intervals: np.ndarray,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> Path:
    """Reliability diagram: the share of right answers by the answer's probability; below, how many images there are.

    A well calibrated network's bars end on the diagonal. Orange marks how far a bar falls short of the bin's mean
    probability, or passes it.

    Args:
        counts: images in each of M equally wide bins of 0..1, [M].
        confidence: mean probability in each, [M]; NaN in an empty bin.
        accuracy: share of right answers in each, in 0..1, [M]; NaN likewise.
        intervals: ends of its confidence interval, in 0..1, [M, 2].
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: there is no image.
        MissingDependencyError: matplotlib is not installed.
    """
    there = np.asarray(counts) > 0
    if not there.any():
        raise DataError("no image, so nothing to draw of its calibration")
    bins = len(counts)
    width = 1 / bins
    middles = (np.arange(bins) + 0.5)[there] * width
    share, probability, ends = accuracy[there], confidence[there], intervals[there]
    with _style():
        figure = _figure(5.2, 5.8)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        above.bar(middles, share, width * 0.92, color=BLUE, label="right answers")
        above.bar(
            middles,
            np.abs(probability - share),
            width * 0.92,
            bottom=np.minimum(probability, share),
            facecolor="#FFFFFF80",
            edgecolor=ORANGE,
            linewidth=1.2,
            hatch="////",
            label="gap to the mean probability",
        )
        above.errorbar(
            middles,
            share,
            # A share of 0 or 1 lies outside its interval by rounding.
            np.maximum([share - ends[:, 0], ends[:, 1] - share], 0),
            fmt="none",
            label="95 % interval",
            **INTERVAL,
        )
        above.plot([0, 1], [0, 1], "--", color=INK, linewidth=1.2, label="well calibrated")
        above.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1.02), axisbelow=True)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
        below.bar(middles, 100 * counts[there] / counts.sum(), width * 0.92, color=GREY)
        below.set(xlabel="probability of the answer", ylabel="images, %", axisbelow=True)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        return _save(figure, path)


def plot_class_accuracy(
    names: Sequence[str],
    accuracy: np.ndarray,
    intervals: np.ndarray,
    images: np.ndarray,
    path: str | os.PathLike[str],
    *,
    mean: float,
    title: str | None = None,
) -> Path:
    """Accuracy of each class, sorted, with its interval.

    Up to 40 classes each has its bar; of more a curve shows all, and bars the 20 lowest.

    Args:
        names: of K classes.
        accuracy: in percent, [K]; NaN leaves a class out.
        intervals: their ends in percent, [K, 2].
        images: of each class, [K].
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        mean: of the accuracies, drawn as a line.

    Raises:
        DataError: no class has an accuracy, or the lengths differ.
        MissingDependencyError: matplotlib is not installed.
    """
    lengths = {len(names), len(accuracy), len(intervals), len(images)}
    if len(lengths) != 1 or np.isnan(accuracy).all():
        raise DataError(
            f"accuracy by class needs as many of each, and a class with images; found {sorted(lengths)}"
        )
    order = np.argsort(accuracy, kind="stable")[: int((~np.isnan(accuracy)).sum())]  # NaN stands last
    shown = order if len(order) <= MOST_BARS else order[:LOWEST_BARS]
    with _style():
        height = 0.9 + 0.24 * len(shown)
        if len(shown) == len(order):
            figure = _figure(6.4, max(2.2, height))
            bars = figure.subplots()
        else:
            figure = _figure(11.0, height)
            curve, bars = figure.subplots(1, 2, width_ratios=(1, 1.1))
            places = np.arange(1, len(order) + 1)
            curve.fill_between(places, *intervals[order].T, color=BLUE, alpha=0.2, linewidth=0, step="mid")
            curve.step(places, accuracy[order], where="mid", color=BLUE)
            curve.axhline(mean, color=INK, linestyle="--", linewidth=1.2)
            curve.set(
                title=f"All {len(order):,} classes, 95 % intervals",
                xlabel="classes, sorted",
                ylabel="accuracy, %",
                ylim=(0, 102),
                xlim=(0.5, len(order) + 0.5),
            )
            bars.set_title(f"The {len(shown)} lowest")
        places = np.arange(len(shown))
        values, ends = accuracy[shown], intervals[shown]
        bars.barh(places, values, 0.75, color=BLUE)
        bars.errorbar(
            values,
            places,
            xerr=np.maximum([values - ends[:, 0], ends[:, 1] - values], 0),
            fmt="none",
            **INTERVAL,
        )
        if len(shown) == len(order):
            bars.axvline(mean, color=INK, linestyle="--", linewidth=1.2)
        bars.set_yticks(places, [f"{_shorten(str(names[i]))} ({images[i]:,})" for i in shown], fontsize=9)
        bars.invert_yaxis()
        bars.grid(axis="y", visible=False)
        bars.set(xlim=(0, 102), xlabel="accuracy, %; in brackets the images of the class", axisbelow=True)
        figure.suptitle(
            f"{title or 'Accuracy by class'} · mean {mean:.2f} %",
            x=0.01,
            ha="left",
            fontweight="bold",
            fontsize=11,
        )
        return _save(figure, path)


def plot_confused_pairs(
    pairs: Sequence[tuple[str, str, int, float]],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> Path:
    """The most frequent confusions as bars: in a matrix of hundreds of classes no single cell can be read.

    Args:
        pairs: true class, predicted class, images, their share of the true class's images in percent; in the
            order in which they are drawn.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no pair.
        MissingDependencyError: matplotlib is not installed.
    """
    if not pairs:
        raise DataError("no image was taken for another class, so there is no confusion to draw")
    with _style():
        figure = _figure(8.2, 1.0 + 0.26 * len(pairs))
        axes = figure.subplots()
        places, counts = np.arange(len(pairs)), [pair[2] for pair in pairs]
        axes.barh(places, counts, 0.75, color=ORANGE)
        for place, (_, _, count, share) in enumerate(pairs):
            axes.annotate(
                f"{count:,} ({share:.0f} %)",
                (count, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        axes.set_yticks(
            places, [f"{_shorten(str(true))} → {_shorten(str(said))}" for true, said, *_ in pairs], fontsize=9
        )
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(
            xlim=(0, 1.15 * max(counts)),
            axisbelow=True,
            xlabel="images; in brackets the share of the true class's images",
            title="true class → predicted class",
        )
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        return _save(figure, path)


def plot_mistakes(
    images: Sequence[Any],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    true: Sequence[str],
    true_probabilities: Sequence[float],
    path: str | os.PathLike[str],
) -> Path:
    """Sheet of wrong answers: the class said and the true one, each with the probability that the network gave it.

    Args:
        images: as `plot_samples` takes them.
        predicted, true: names of the classes.
        probabilities, true_probabilities: theirs, in 0..1.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no image, or not as many texts.
        MissingDependencyError: matplotlib is not installed.
    """
    captions = [
        f"{_shorten(said, 13)} ({100 * p:.1f} %)\ntrue: {_shorten(truth, 10)} ({100 * q:.1f} %)"
        for said, p, truth, q in zip(predicted, probabilities, true, true_probabilities, strict=True)
    ]
    title = "The most confident wrong answers: what was said, what is true, each with its probability"
    return plot_samples(images, captions, path, title=title)


def plot_differences(
    images: Sequence[Any],
    true: Sequence[str],
    answers_a: Sequence[tuple[str, float]],
    answers_b: Sequence[tuple[str, float]],
    path: str | os.PathLike[str],
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
        f"true: {_shorten(truth, 16)}\nA: {_shorten(a, 12)} ({100 * p:.0f} %)\nB: {_shorten(b, 12)} ({100 * q:.0f} %)"
        for truth, (a, p), (b, q) in zip(true, answers_a, answers_b, strict=True)
    ]
    return plot_samples(images, captions, path, title=title)


def plot_sweep(
    sizes: Sequence[float],
    top1: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    images_per_second: Sequence[float],
    macs: Sequence[int | None],
    path: str | os.PathLike[str],
    *,
    own_size: float,
    title: str | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Accuracy, speed and, where they are known, MACs by input size.

    Args:
        sizes: sides of the input in pixels, ascending, [N]; of an input that is not square, of the square of the same
            area.
        top1: in percent, [N].
        intervals: ends of their 95 % intervals, [N].
        images_per_second: of the network alone, [N].
        macs: of an image, [N]; None if they are not known.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        own_size: the size that the model's file names, drawn as a line.
        labels: of the sizes, where they are not the numbers themselves, [N].

    Raises:
        DataError: no size.
        MissingDependencyError: matplotlib is not installed.
    """
    if not sizes:
        raise DataError("no size to draw")
    panels: list[tuple[str, str, Sequence[Any]]] = [
        ("Accuracy", "top-1, %", top1),
        ("Speed of the network", "images/s", images_per_second),
    ]
    if None not in macs:
        unit, name = (1e9, "G") if max(filter(None, macs)) >= 1e9 else (1e6, "M")
        cost = [(count or 0) / unit for count in macs]
        panels.append(("MACs of an image", f"MACs, {name}", cost))
    with _style():
        figure = _figure(4.0 * len(panels), 3.5)
        for axes, (heading, label, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            axes.plot(sizes, values, color=BLUE, marker="o", markersize=4.5)
            axes.axvline(own_size, color=GREY, linestyle="--", linewidth=1.2)
            axes.set(title=heading, xlabel="input size, pixels a side", ylabel=label)
            if values is top1:
                axes.fill_between(sizes, *np.transpose(intervals), color=BLUE, alpha=0.2, linewidth=0)
            else:
                axes.set_ylim(bottom=0)
            if len(sizes) <= 12:
                axes.set_xticks(sizes, labels or [f"{size:g}" for size in sizes], fontsize=8)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        return _save(figure, path)
