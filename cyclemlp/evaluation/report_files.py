"""What `cyclemlp eval --report` writes: tables, figures and a page in Markdown, from an `Analysis`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.data import Source
from cyclemlp.evaluation.analysis import (
    LEVEL,
    RESAMPLES,
    Analysis,
    accuracy_intervals,
    confused_pairs,
    wilson_interval,
    worst_mistakes,
)
from cyclemlp.evaluation.run import EvaluationResult
from cyclemlp.evaluation.tables import write_csv
from cyclemlp.preprocessing import size_words
from cyclemlp.report import markdown_table
from cyclemlp.report.evaluation_plots import (
    plot_calibration,
    plot_class_accuracy,
    plot_confused_pairs,
    plot_mistakes,
)
from cyclemlp.report.plots import MAX_CLASSES_WITH_NAMES, plot_confusion

INTERVAL, BOOTSTRAP = f"{100 * LEVEL:.0f} % interval", " ¹"
#: In the figures, and in the page's tables.
MISTAKES_DRAWN, PAIRS_DRAWN, ROWS_LISTED = 32, 25, 10
#: Longer side of an image on a sheet, in pixels; a larger one is reduced.
SHEET_SIDE = 256


def write_report(
    folder: Path,
    result: EvaluationResult,
    analysis: Analysis,
    source: Source,
    classes: Sequence[str],
    facts: Mapping[str, Any],
) -> list[Path]:
    """Write the report's files; a figure of a former report that now has nothing to show is removed.

    Args:
        folder: an existing folder.
        result: what was analysed.
        source: its images.
        classes: names of all classes.
        facts: what the evaluation was made with: `model`, `weights`, `data`, `preprocessing`.

    Returns:
        The files written, report.md last.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        DataError: an image cannot be read again.
    """
    often = Counter(classes)  # two of ImageNet's names are those of two classes each
    numbered = [f"{name} [{i}]" if often[name] > 1 else name for i, name in enumerate(classes)]
    model = str(facts["model"])
    tables = [folder / name for name in ("classes.csv", "confusion.csv", "confusions.csv")]
    _write_classes(tables[0], analysis, classes)
    write_csv(
        tables[1],
        ["index", "true \\ predicted", *numbered],
        ([i, numbered[i], *row] for i, row in enumerate(analysis.confusion.tolist())),
    )
    pairs = confused_pairs(analysis.confusion)
    write_csv(
        tables[2],
        ["true", "true_index", "predicted", "predicted_index", "images", "share_percent"],
        (
            [classes[p.true], p.true, classes[p.predicted], p.predicted, p.images, f"{p.share:.6g}"]
            for p in pairs
        ),
    )
    figures = {name: folder / f"{name}.png" for name in ("calibration", "classes", "confusion", "mistakes")}
    for path in figures.values():
        path.unlink(missing_ok=True)
    found = analysis.calibration
    plot_calibration(
        found.counts,
        found.confidence,
        found.accuracy,
        wilson_interval(np.nan_to_num(found.accuracy) * found.counts, found.counts) / 100,
        figures["calibration"],
        title=f"Calibration of {model} · ECE {found.error:.4f}",
    )
    by_class = analysis.classes
    plot_class_accuracy(
        numbered,
        by_class.accuracy,
        by_class.interval,
        by_class.images,
        figures["classes"],
        mean=by_class.mean,
        title=f"Accuracy of {model} by class",
    )
    if result.classes <= MAX_CLASSES_WITH_NAMES:
        plot_confusion(analysis.confusion, list(classes), figures["confusion"])
    elif pairs:
        named = [(numbered[p.true], numbered[p.predicted], p.images, p.share) for p in pairs[:PAIRS_DRAWN]]
        wrong = sum(p.images for p in pairs)
        plot_confused_pairs(
            named,
            figures["confusion"],
            title=f"Most frequent confusions of {model} · {wrong:,} of {result.images:,} wrong",
        )
    mistakes = worst_mistakes(analysis.outcomes, MISTAKES_DRAWN)
    if len(mistakes):
        draw_mistakes(figures["mistakes"], result, analysis, source, classes, mistakes)
    page = folder / "report.md"
    partial = page.with_suffix(".partial.md")
    partial.write_text(
        _page(result, analysis, source, classes, facts, mistakes[:ROWS_LISTED]),
        encoding="utf-8",
        errors="replace",
    )
    partial.replace(page)
    return [*tables, *(path for path in figures.values() if path.exists()), page]


def draw_mistakes(
    path: Path,
    result: EvaluationResult,
    analysis: Analysis,
    source: Source,
    classes: Sequence[str],
    positions: Iterable[int],
) -> None:
    """A sheet of the images at some positions of the evaluation, with what was said and what is true."""
    outcomes, indices = analysis.outcomes, np.asarray(result.indices)
    plot_mistakes(
        [sheet_image(source, int(indices[i])) for i in positions],
        [classes[outcomes.predicted[i]] for i in positions],
        [outcomes.confidence[i] for i in positions],
        [classes[outcomes.labels[i]] for i in positions],
        [np.exp(-outcomes.losses[i]) for i in positions],
        path,
    )


def sheet_image(source: Source, index: int) -> Any:
    """An image of a source as a sheet shows it: cut to its central square, as evaluation cuts it."""
    image = source[index].image
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    image.thumbnail((SHEET_SIDE, SHEET_SIDE))
    return image


def _write_classes(path: Path, analysis: Analysis, classes: Sequence[str]) -> None:
    by_class, confusions = analysis.classes, confused_pairs(analysis.confusion)
    most_taken_for = {pair.true: pair for pair in reversed(confusions)}  # the most frequent one stays
    order = np.argsort(by_class.accuracy, kind="stable").tolist()  # classes without images stand last

    def percent(value: float) -> str:
        return "" if np.isnan(value) else f"{value:.6g}"

    write_csv(
        path,
        [
            *("class", "index", "images", "right", "accuracy_percent", "low_percent", "high_percent"),
            *("predicted", "precision_percent", "most_taken_for", "most_taken_for_images"),
        ],
        (
            [
                *(classes[i], i, by_class.images[i], by_class.right[i], percent(by_class.accuracy[i])),
                *(percent(end) for end in by_class.interval[i]),
                *(by_class.predicted[i], percent(by_class.precision[i])),
                *(
                    (classes[most_taken_for[i].predicted], most_taken_for[i].images)
                    if i in most_taken_for
                    else ("", "")
                ),
            ]
            for i in order
        ),
    )


def _page(
    result: EvaluationResult,
    analysis: Analysis,
    source: Source,
    classes: Sequence[str],
    facts: Mapping[str, Any],
    mistakes: np.ndarray,
) -> str:
    found, by_class, outcomes = analysis.calibration, analysis.classes, analysis.outcomes
    preprocessing = facts["preprocessing"]
    figures = [
        *(
            [f"top-{k}", f"{value:.2f} %", _ends(accuracy_intervals(result)[k])]
            for k, value in result.accuracy.items()
        ),
        ["mean accuracy of the classes", f"{by_class.mean:.2f} %", _ends(by_class.mean_interval) + BOOTSTRAP],
        ["loss (negative log-likelihood), nats", f"{found.loss:.4f}", "–"],
        ["Brier score, 0 to 2", f"{found.brier:.4f}", "–"],
        [
            *("expected calibration error, 0 to 1", f"{found.error:.4f}"),
            _ends(found.error_interval, digits=4) + BOOTSTRAP,
        ],
        ["mean probability of the answer − accuracy", f"{found.overconfidence:+.4f}", "–"],
    ]
    lowest = [i for i in np.argsort(by_class.accuracy, kind="stable") if by_class.images[i]][:ROWS_LISTED]
    empty = int((by_class.images == 0).sum())
    direction = "above" if found.overconfidence > 0 else "below"
    lines = [
        f"# Evaluation of {facts['model']}",
        "",
        (
            f"Weights: `{facts['weights']}`. Images: {result.images:,} of `{facts['data']}`, prepared to "
            f"{size_words(preprocessing['input_size'], '²')} pixels, {preprocessing['interpolation']}; "
            f"{result.classes:,} classes."
        ),
        "",
        markdown_table(["figure", "value", INTERVAL], figures),
        "",
        f"Intervals are Wilson's; ¹ by the bootstrap, {RESAMPLES:,} resamples, seed {analysis.seed}.",
        *(f"\nNote: {note}." for note in result.notes),
        "",
        "## Calibration",
        "",
        "![Reliability diagram](calibration.png)",
        "",
        (
            "The calibration error is the mean distance between the answers' probability and the share of right "
            f"answers, over {len(found.counts)} equally wide bins of the probability, weighted by their images. On "
            f"average the probability is {abs(found.overconfidence):.4f} {direction} the share of right answers."
        ),
        "",
        "## Classes",
        "",
        "![Accuracy by class](classes.png)",
        "",
        "The lowest (all of them, with precision: [classes.csv](classes.csv)):",
        "",
        markdown_table(
            ["class", "accuracy", INTERVAL, "images"],
            [
                [
                    classes[i],
                    f"{by_class.accuracy[i]:.2f} %",
                    _ends(by_class.interval[i]),
                    int(by_class.images[i]),
                ]
                for i in lowest
            ],
        ),
        *([f"\n{empty:,} classes have no image and count nowhere."] if empty else []),
        "",
        "## Confusions",
        "",
    ]
    pairs = confused_pairs(analysis.confusion, ROWS_LISTED)
    if not pairs:
        return "\n".join([*lines, "None: every answer is right.", ""])
    lines += [
        "![Confusions](confusion.png)",
        "",
        "The most frequent (all: [confusions.csv](confusions.csv), as a matrix: [confusion.csv](confusion.csv)):",
        "",
        markdown_table(
            ["true class", "predicted class", "images", "share of the true class's images"],
            [[classes[p.true], classes[p.predicted], p.images, f"{p.share:.1f} %"] for p in pairs],
        ),
        "",
        "## Worst mistakes",
        "",
        "![Worst mistakes](mistakes.png)",
        "",
        "The wrong answers with the greatest probability (all images: [eval.csv](eval.csv)):",
        "",
        markdown_table(
            ["image", "predicted class", "probability", "true class", "its probability"],
            [
                [
                    source.name(int(result.indices[i])),  # type: ignore[index]
                    classes[outcomes.predicted[i]],
                    _percent(outcomes.confidence[i]),
                    classes[outcomes.labels[i]],
                    _percent(np.exp(-outcomes.losses[i])),
                ]
                for i in mistakes
            ],
        ),
        "",
    ]
    return "\n".join(lines)


def _ends(interval: Any, digits: int = 2) -> str:
    low, high = interval
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"
