"""What `cyclemlp eval --report` writes: tables, figures and a page in Markdown, from an `Analysis`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.data import Source
from cyclemlp.evaluation.analysis.figures import (
    MAX_CLASSES_WITH_NAMES,
    plot_calibration,
    plot_class_accuracy,
    plot_confused_pairs,
    plot_confusion,
    plot_mistakes,
)
from cyclemlp.evaluation.analysis.measures import (
    LEVEL,
    RESAMPLES,
    Analysis,
    Confusion,
    accuracy_intervals,
    confused_pairs,
    worst_mistakes,
)
from cyclemlp.evaluation.run import EvaluationResult
from cyclemlp.evaluation.tables import write_csv
from cyclemlp.files import write_text
from cyclemlp.preprocessing import size_words
from cyclemlp.report import markdown_table
from cyclemlp.report.sheet import square_thumbnail
from cyclemlp.text import counted

INTERVAL, BOOTSTRAP = f"{100 * LEVEL:.0f} % interval", " ¹"
#: In the figures, and in the page's tables.
MISTAKES_DRAWN, PAIRS_DRAWN, ROWS_LISTED = 32, 25, 10


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
        facts: what the evaluation was made with: `model`, `weights`, `data`, `preprocessing`, and `tta`
            (`Views.to_dict`) where the probabilities may be means over views.

    Returns:
        The files written, report.md last.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        DataError: an image cannot be read again.
    """
    report = _Report(folder, result, analysis, source, classes, facts)
    written = [*report.tables(), *report.figures(), folder / "report.md"]
    write_text(written[-1], report.page(), errors="replace")
    return written


class _Report:
    def __init__(
        self,
        folder: Path,
        result: EvaluationResult,
        analysis: Analysis,
        source: Source,
        classes: Sequence[str],
        facts: Mapping[str, Any],
    ) -> None:
        self._folder, self._result, self._analysis = folder, result, analysis
        self._source, self._classes, self._facts = source, classes, facts
        often = Counter(classes)  # two of ImageNet's names are those of two classes each
        self._numbered = [f"{name} [{i}]" if often[name] > 1 else name for i, name in enumerate(classes)]
        self._pairs = confused_pairs(analysis.confusion)
        self._mistakes = worst_mistakes(analysis.outcomes, MISTAKES_DRAWN)

    # ---- tables

    def tables(self) -> list[Path]:
        """classes.csv, confusion.csv, confusions.csv."""
        paths = [self._folder / f"{name}.csv" for name in ("classes", "confusion", "confusions")]
        header = [
            *("class", "index", "images", "right", "accuracy_percent", "low_percent", "high_percent"),
            *("predicted", "precision_percent", "most_taken_for", "most_taken_for_images"),
        ]
        order = np.argsort(self._analysis.classes.accuracy, kind="stable").tolist()  # without images: last
        most = {pair.true: pair for pair in reversed(self._pairs)}  # the most frequent one stays
        write_csv(paths[0], header, (self._class_row(i, most.get(i)) for i in order))
        write_csv(
            paths[1],
            ["index", "true \\ predicted", *self._numbered],
            ([i, self._numbered[i], *row] for i, row in enumerate(self._analysis.confusion.tolist())),
        )
        header = ["true", "true_index", "predicted", "predicted_index", "images", "share_percent"]
        names = self._classes
        write_csv(
            paths[2],
            header,
            (
                [names[p.true], p.true, names[p.predicted], p.predicted, p.images, f"{p.share:.6g}"]
                for p in self._pairs
            ),
        )
        return paths

    def _class_row(self, i: int, most_taken_for: Confusion | None) -> list[Any]:
        def percent(value: float) -> str:
            return "" if np.isnan(value) else f"{value:.6g}"

        found, pair = self._analysis.classes, most_taken_for
        return [
            *(self._classes[i], i, found.images[i], found.right[i], percent(found.accuracy[i])),
            *map(percent, found.interval[i]),
            *(found.predicted[i], percent(found.precision[i])),
            *(("", "") if pair is None else (self._classes[pair.predicted], pair.images)),
        ]

    # ---- figures

    def figures(self) -> list[Path]:
        """calibration.png, classes.png and, where an answer is wrong, confusion.png and mistakes.png."""
        paths = [self._folder / f"{name}.png" for name in ("calibration", "classes", "confusion", "mistakes")]
        for path in paths:
            path.unlink(missing_ok=True)
        model, found, pairs = self._facts["model"], self._analysis, self._pairs
        error = found.calibration.error
        plot_calibration(found.calibration, paths[0], title=f"Calibration of {model} · ECE {error:.4f}")
        plot_class_accuracy(self._numbered, found.classes, paths[1], title=f"Accuracy of {model} by class")
        if self._result.classes <= MAX_CLASSES_WITH_NAMES:
            plot_confusion(found.confusion, list(self._classes), paths[2])
        elif pairs:
            wrong = f"{sum(pair.images for pair in pairs):,} of {self._result.images:,} wrong"
            title = f"Most frequent confusions of {model} · {wrong}"
            plot_confused_pairs(pairs[:PAIRS_DRAWN], self._numbered, paths[2], title=title)
        if len(self._mistakes):
            images = [square_thumbnail(self._source[self._index(i)].image) for i in self._mistakes]
            said, p, true, q = zip(*map(self._mistake, self._mistakes), strict=True)
            plot_mistakes(images, said, p, true, q, paths[3])
        return [path for path in paths if path.exists()]

    def _index(self, position: int) -> int:
        """The place in the source of the image at a position of the evaluation."""
        return int(np.asarray(self._result.indices)[position])

    def _mistake(self, position: int) -> tuple[str, float, str, float]:
        """The class said with its probability, the true one with its own."""
        found, names = self._analysis.outcomes, self._classes
        return (
            names[found.predicted[position]],
            float(found.confidence[position]),
            names[found.labels[position]],
            float(np.exp(-found.losses[position])),
        )

    # ---- the page

    def page(self) -> str:
        """report.md."""
        return "\n".join([*self._summary(), *self._calibration(), *self._by_class(), *self._confusions(), ""])

    def _summary(self) -> list[str]:
        result, facts, found = self._result, self._facts, self._analysis
        calibration, preprocessing = found.calibration, facts["preprocessing"]
        tops = accuracy_intervals(result)
        figures = [
            *([f"top-{k}", f"{value:.2f} %", _ends(tops[k])] for k, value in result.accuracy.items()),
            [
                *("mean accuracy of the classes", f"{found.classes.mean:.2f} %"),
                _ends(found.classes.mean_interval) + BOOTSTRAP,
            ],
            ["loss (negative log-likelihood), nats", f"{calibration.loss:.4f}", "–"],
            ["Brier score, 0 to 2", f"{calibration.brier:.4f}", "–"],
            [
                *("expected calibration error, 0 to 1", f"{calibration.error:.4f}"),
                _ends(calibration.error_interval, digits=4) + BOOTSTRAP,
            ],
            ["mean probability of the answer − accuracy", f"{calibration.overconfidence:+.4f}", "–"],
        ]
        views = facts.get("tta", {}).get("views", [])
        averaged = f" Probabilities are the mean over {counted(len(views), 'view')}: {'; '.join(views)}."
        return [
            f"# Evaluation of {facts['model']}",
            "",
            (
                f"Weights: `{facts['weights']}`. Images: {result.images:,} of `{facts['data']}`, prepared to "
                f"{size_words(preprocessing['input_size'], '²')} pixels, {preprocessing['interpolation']}; "
                f"{counted(result.classes, 'class')}.{averaged if len(views) > 1 else ''}"
            ),
            "",
            markdown_table(["figure", "value", INTERVAL], figures),
            "",
            f"Intervals are Wilson's; ¹ by the bootstrap, {RESAMPLES:,} resamples, seed {found.seed}.",
            *(f"\nNote: {note}." for note in result.notes),
        ]

    def _calibration(self) -> list[str]:
        found = self._analysis.calibration
        direction = "above" if found.overconfidence > 0 else "below"
        return [
            *_heading("Calibration", "Reliability diagram", "calibration.png"),
            (
                "The calibration error is the mean distance between the answers' probability and the share of right "
                f"answers, over {counted(len(found.counts), 'equally wide bin')} of the probability, weighted by their "
                f"images. On average the probability is {abs(found.overconfidence):.4f} {direction} the share of right "
                "answers."
            ),
        ]

    def _by_class(self) -> list[str]:
        found = self._analysis.classes
        lowest = [i for i in np.argsort(found.accuracy, kind="stable") if found.images[i]][:ROWS_LISTED]
        empty = int((found.images == 0).sum())
        rows = [
            [self._classes[i], f"{found.accuracy[i]:.2f} %", _ends(found.interval[i]), int(found.images[i])]
            for i in lowest
        ]
        return [
            *_heading("Classes", "Accuracy by class", "classes.png"),
            "The lowest (all of them, with precision: [classes.csv](classes.csv)):",
            "",
            markdown_table(["class", "accuracy", INTERVAL, "images"], rows),
            *(
                [
                    f"\n{counted(empty, 'class has no image and counts', 'classes have no image and count')} nowhere."
                ]
                if empty
                else []
            ),
        ]

    def _confusions(self) -> list[str]:
        if not self._pairs:
            return [*_heading("Confusions"), "None: every answer is right."]
        pairs = [
            [self._classes[p.true], self._classes[p.predicted], p.images, f"{p.share:.1f} %"]
            for p in self._pairs[:ROWS_LISTED]
        ]
        mistakes = [
            [self._source.name(self._index(i)), said, f"{100 * p:.1f} %", true, f"{100 * q:.1f} %"]
            for i in self._mistakes[:ROWS_LISTED]
            for said, p, true, q in [self._mistake(i)]
        ]
        return [
            *_heading("Confusions", "Confusions", "confusion.png"),
            "The most frequent (all: [confusions.csv](confusions.csv), as a matrix: [confusion.csv](confusion.csv)):",
            "",
            markdown_table(
                ["true class", "predicted class", "images", "share of the true class's images"], pairs
            ),
            *_heading("Worst mistakes", "Worst mistakes", "mistakes.png"),
            "The wrong answers with the greatest probability (all images: [eval.csv](eval.csv)):",
            "",
            markdown_table(
                ["image", "predicted class", "probability", "true class", "its probability"], mistakes
            ),
        ]


def _heading(text: str, figure: str | None = None, file: str | None = None) -> list[str]:
    return ["", f"## {text}", "", *([f"![{figure}]({file})", ""] if figure else [])]


def _ends(interval: Any, digits: int = 2) -> str:
    low, high = interval
    return f"{low:.{digits}f} to {high:.{digits}f}"
