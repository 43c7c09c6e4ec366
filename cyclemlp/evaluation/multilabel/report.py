"""What `cyclemlp eval` writes of a model of several labels an image: tables, figures and a page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.data import Source
from cyclemlp.errors import DataError
from cyclemlp.evaluation.multilabel.measures import Curve, sigmoid
from cyclemlp.evaluation.multilabel.run import MultiLabelResult
from cyclemlp.evaluation.tables import label_cell, write_csv
from cyclemlp.files import write_text
from cyclemlp.preprocessing import size_words
from cyclemlp.report import markdown_table
from cyclemlp.report.figures import BLUE, GREY, INK, ORANGE, PathLike, saved_figure
from cyclemlp.text import counted, shortened

#: Of the report: `report.md`, and what it refers to.
CLASS_COLUMNS = (
    *("class", "index", "images", "average_precision_percent", "threshold", "predicted", "right"),
    *("precision_percent", "recall_percent", "f1_percent", "best_threshold", "best_f1_percent"),
)
#: Classes that the figure of curves shows, and rows of the page's table: those of the lowest average precision.
MOST_CURVES, MOST_ROWS = 20, 30
COLUMNS = 4


def write_label_csv(path: Path, result: MultiLabelResult, source: Source, classes: Sequence[str]) -> None:
    """A line an image: its labels, the predicted ones, and the probability of each class.

    The column of predicted labels is called `labels`, so that the file can be read as a list file.
    """
    probabilities = sigmoid(result.answers.logits)
    rows = zip(
        result.answers.indices.tolist(),
        result.answers.labels > 0,
        probabilities >= result.thresholds,
        probabilities,
        strict=True,
    )
    write_csv(
        path,
        ["image", "labels", "true_labels", *classes],
        (
            [
                source.name(index),
                *(label_cell(np.flatnonzero(one).tolist(), classes) for one in (said, true)),
                *(f"{value:.6g}" for value in row),
            ]
            for index, true, said, row in rows
        ),
    )


def write_label_report(
    folder: Path, result: MultiLabelResult, classes: Sequence[str], facts: Mapping[str, Any]
) -> list[Path]:
    """Write classes.csv, curves.png, classes.png and report.md.

    Args:
        folder: an existing folder.
        classes: names of all classes.
        facts: what the evaluation was made with: `model`, `weights`, `data`, `preprocessing`, `tta`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        DataError: no image has a label.
    """
    paths = [folder / name for name in ("classes.csv", "curves.png", "classes.png", "report.md")]
    curves = [
        Curve.of(*columns) for columns in zip(result.answers.logits.T, result.answers.labels.T, strict=True)
    ]
    best = [_best_f1(curve) for curve in curves]
    order = np.argsort(result.average_precision, kind="stable")  # NaN, of classes without images, stands last
    write_csv(paths[0], CLASS_COLUMNS, (_class_row(result, classes, i, best[i]) for i in order.tolist()))
    model = facts["model"]
    plot_precision_recall(
        curves, result, classes, paths[1], title=f"Precision and recall of {model} · mAP {result.map:.2f} %"
    )
    plot_label_classes(result, classes, paths[2], title=f"Classes of {model} · mAP {result.map:.2f} %")
    write_text(paths[3], _page(result, classes, facts, order, best), errors="replace")
    return paths


def plot_precision_recall(
    curves: Sequence[Curve],
    result: MultiLabelResult,
    classes: Sequence[str],
    path: PathLike,
    *,
    title: str | None = None,
) -> Path:
    """Precision by recall of each class, with the point of its threshold; of many classes the 20 of the lowest AP.

    The dashed line is the share of images that have the class: the precision of chance.

    Args:
        curves: of the classes.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no image has a label.
        MissingDependencyError: matplotlib is not installed.
    """
    there = [i for i, curve in enumerate(curves) if curve.positives]
    if not there:
        raise DataError("no image has a label, so there is no precision and recall to draw")
    shown = sorted(there, key=lambda i: result.average_precision[i])[:MOST_CURVES]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    with saved_figure(path, 2.5 * columns + 0.4, 2.4 * rows + 0.6, title=title) as figure:
        panels = np.ravel(figure.subplots(rows, columns, sharex=True, sharey=True))
        for axes, i in zip(panels, shown, strict=False):
            curve = curves[i]
            axes.plot(
                [0, *100 * curve.recall],
                [100 * curve.precision[0], *100 * curve.precision],
                color=BLUE,
                drawstyle="steps-pre",
            )
            axes.axhline(100 * curve.positives / result.images, color=GREY, linestyle="--", linewidth=1)
            if result.outcomes[1, i]:
                axes.plot(result.recall[i], result.precision[i], "o", color=ORANGE, markersize=6)
            axes.set_title(f"{shortened(classes[i], 14)} · {result.average_precision[i]:.1f} %", fontsize=9)
            axes.set(xlim=(0, 102), ylim=(0, 102))
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        note = f", the {counted(len(shown), 'class')} of the lowest AP" if len(shown) < len(there) else ""
        figure.supxlabel(f"recall, % · point: at the threshold{note}", fontsize=9)
        figure.supylabel("precision, %", fontsize=9)
    return Path(path)


def plot_label_classes(
    result: MultiLabelResult, classes: Sequence[str], path: PathLike, *, title: str | None = None
) -> Path:
    """Average precision of each class as a bar, lowest first, and its F1 at the threshold as a mark.

    Of more than 30 classes the 30 lowest. Raises as `plot_precision_recall`.
    """
    order = [i for i in np.argsort(result.average_precision, kind="stable") if result.outcomes[0, i]][
        :MOST_ROWS
    ]
    if not order:
        raise DataError("no image has a label, so there is no average precision to draw")
    places = np.arange(len(order))
    with saved_figure(path, 6.4, 1.2 + 0.26 * len(order), title=title) as figure:
        axes = figure.subplots()
        axes.barh(places, result.average_precision[order], color=BLUE, height=0.7, label="average precision")
        axes.plot(result.f1[order], places, "D", color=ORANGE, markersize=5, label="F1 at the threshold")
        axes.axvline(result.map, color=INK, linestyle="--", linewidth=1.2, label="mAP")
        axes.set_yticks(places, [f"{shortened(classes[i], 22)} ({result.outcomes[0, i]:,})" for i in order])
        axes.set(xlim=(0, 102), xlabel="%; in brackets the images that have the class")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return Path(path)


def _best_f1(curve: Curve) -> float:
    """The highest F1 that a threshold can give, in percent."""
    if not curve.positives:
        return float("nan")
    return float((200 * curve.right / (curve.found + curve.positives)).max())


def _class_row(result: MultiLabelResult, classes: Sequence[str], i: int, best_f1: float) -> list[Any]:
    images, predicted, right = result.outcomes[:, i].tolist()
    ap, precision, recall, f1, best = (
        "" if np.isnan(value) else f"{value:.6g}"
        for value in (
            result.average_precision[i],
            result.precision[i],
            result.recall[i],
            result.f1[i],
            best_f1,
        )
    )
    return [
        *(classes[i], i, images, ap, f"{result.thresholds[i]:.6g}", predicted, right, precision, recall, f1),
        *(f"{result.best_thresholds[i]:.6g}", best),
    ]


def _page(
    result: MultiLabelResult,
    classes: Sequence[str],
    facts: Mapping[str, Any],
    order: np.ndarray,
    best: Sequence[float],
) -> str:
    macro, micro, preprocessing = result.macro(), result.micro(), facts["preprocessing"]
    views = facts.get("tta", {}).get("views", [])
    averaged = (
        f" Probabilities are the mean over {counted(len(views), 'view')}: {'; '.join(views)}."
        if len(views) > 1
        else ""
    )
    unlabelled = int((result.answers.labels.sum(axis=1) == 0).sum())
    rows = [
        [
            classes[i],
            int(result.outcomes[0, i]),
            _percent(result.average_precision[i]),
            f"{result.thresholds[i]:.3f}",
            *map(_percent, (result.precision[i], result.recall[i], result.f1[i], best[i])),
        ]
        for i in order[:MOST_ROWS]
    ]
    empty = int((result.outcomes[0] == 0).sum())
    figures = [
        ["mAP, the mean of the classes' average precision", _percent(result.map)],
        *(
            [f"{kind} {name.replace('f1', 'F1')}", _percent(value)]
            for kind, found in (("macro", macro), ("micro", micro))
            for name, value in found.items()
        ),
        ["images with all of their labels and no others", _percent(result.exact_match())],
        ["loss (binary cross entropy, mean over images and classes), nats", f"{result.loss:.4f}"],
    ]
    header = ["class", "images", "AP", "threshold", "precision", "recall", "F1", "best F1"]
    made_with = (
        f"Weights: `{facts['weights']}`. Images: {result.images:,} of `{facts['data']}`, prepared to "
        f"{size_words(preprocessing['input_size'], '²')} pixels, {preprocessing['interpolation']}; "
        f"{counted(result.classes, 'class')}, any number of them an image; "
        f"{counted(unlabelled, 'image has', 'images have')} none.{averaged}"
    )
    meaning = (
        "Precision, recall and F1 are those of labels whose probability reaches the class's threshold. Macro figures "
        "are means over the classes that images have; micro figures count all labels together."
    )
    lowest = (
        "Those of the lowest average precision (all: [classes.csv](classes.csv)). The best F1 is that of the threshold "
        "that suits these images best."
    )
    nowhere = counted(empty, "class has no image and counts", "classes have no image and count")
    nowhere = f"\n{nowhere} nowhere.\n" if empty else ""
    return f"""# Evaluation of {facts["model"]}

{made_with}

{markdown_table(["figure", "value"], figures)}

{meaning}

## Classes

![Average precision and F1 by class](classes.png)

{lowest}

{markdown_table(header, rows)}
{nowhere}
## Precision and recall

![Precision by recall](curves.png)
"""


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f} %"
