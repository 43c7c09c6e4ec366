"""Figures of a run: curves, confusion matrix, sheet of predictions.

matplotlib is optional and imported at first use, without pyplot: no display, no global state.
Blue and orange (Okabe and Ito's) carry all meaning, together with a form or a word:
every reader sees it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import DataError, MissingDependencyError

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8A8F98", "#22262B"
# Of several runs, in this order; an eighth run begins anew, with a marker.
RUN_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#000000", "#E69F00", "#56B4E9")
RUN_MARKERS = (None, "s", "^", "D", "v", "o")

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E6EA",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 130,
}

# (title, keys of the records, axis); a panel without a single figure is left out.
CURVE_PANELS: tuple[tuple[str, Mapping[str, tuple[str, str, str]], Mapping[str, Any]], ...] = (
    (
        "Loss",
        {"train_loss": ("training", BLUE, "-"), "val_loss": ("validation", ORANGE, "--")},
        {},
    ),
    (
        "Accuracy (%)",
        {
            "train_top1": ("training top-1", BLUE, "-"),
            "val_top1": ("validation top-1", ORANGE, "--"),
            "val_top5": ("validation top-5", GREEN, ":"),
            "ema_top1": ("validation top-1, EMA", INK, "-."),
        },
        {},
    ),
    ("Learning rate", {"lr": ("learning rate", BLUE, "-")}, {"bottom": 0}),
)

# The same for several runs, where the colour says which run.
RUN_PANELS: tuple[tuple[str, Mapping[str, tuple[str, str]]], ...] = (
    ("Loss", {"train_loss": ("training", "-"), "val_loss": ("validation", "--")}),
    ("Accuracy (%)", {"val_top1": ("validation top-1", "-"), "ema_top1": ("of the EMA", ":")}),
    ("Learning rate", {"lr": ("learning rate", "-")}),
)

#: Of a sheet of images: with fewer images it is as wide, for its title.
LEAST_COLUMNS = 4
MAX_CLASSES_WITH_COUNTS = 30
MAX_CLASSES_WITH_NAMES = 60


def plot_curves(
    records: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, title: str | None = None
) -> Path:
    """Loss, accuracy and learning rate by epoch.

    Args:
        records: one mapping an epoch with `epoch` (from 1) and any of `train_loss`, `val_loss`, `train_top1`,
            `val_top1`, `val_top5` (percent), `lr`; a missing or null figure is a gap.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: no record holds a figure to draw.
        MissingDependencyError: matplotlib is not installed.
    """
    epochs = [r["epoch"] for r in records]
    panels = []
    for name, lines, limits in CURVE_PANELS:
        found = {k: style for k, style in lines.items() if any(r.get(k) is not None for r in records)}
        if found:
            panels.append((name, found, limits))
    if not panels:
        raise DataError("no epoch to draw: the records hold neither loss, accuracy nor learning rate")

    with _style():
        figure = _figure(4.3 * len(panels), 3.4)
        for axes, (name, lines, limits) in zip(
            np.ravel(figure.subplots(1, len(panels))), panels, strict=True
        ):
            for key, (label, colour, dash) in lines.items():
                values = [np.nan if r.get(key) is None else float(r[key]) for r in records]
                if key == "val_top1":
                    best = int(np.nanargmax(values))
                    axes.plot(
                        epochs[best], values[best], "o", markersize=8, markerfacecolor="none", color=INK
                    )
                    label += f" (best {values[best]:.2f}, epoch {epochs[best]})"
                # Few points: a single epoch must still be visible, so each gets a dot.
                axes.plot(
                    epochs, values, dash, color=colour, label=label, marker="." if len(epochs) <= 40 else None
                )
            axes.set(title=name, xlabel="epoch")
            axes.set_ylim(**limits)
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(lines) > 1 or "val_top1" in lines:
                axes.legend()
            if name == "Learning rate":
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        return _save(figure, path)


def plot_runs(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> Path:
    """Loss, validation top-1 and learning rate of several runs in one figure: a colour a run.

    Args:
        runs: the legend's name of each run → its epochs, as `plot_curves` takes them.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: a run without a figure to draw, or no run.
        MissingDependencyError: matplotlib is not installed.
    """
    for name, records in runs.items():
        if not any(r.get(key) is not None for r in records for _, lines in RUN_PANELS for key in lines):
            raise DataError(f"{name}: no epoch to draw: it holds neither loss, accuracy nor learning rate")
    every = [r for records in runs.values() for r in records]
    panels = [
        (t, found) for t, lines in RUN_PANELS if (found := {k: v for k, v in lines.items() if _any(every, k)})
    ]
    if not panels:
        raise DataError("no run to draw")
    with _style():
        from matplotlib.lines import Line2D

        rows = -(-len(runs) // 3)
        figure = _figure(4.6 * len(panels), 3.6 + 0.22 * rows)
        for axes, (name, lines) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
            for i, records in enumerate(runs.values()):
                for key, (_, dash) in lines.items():
                    _draw_run(axes, records, key, i, dash)
            axes.set(title=name, xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(lines) > 1:
                kinds = [
                    Line2D([], [], color=GREY, linestyle=dash, label=label) for label, dash in lines.values()
                ]
                axes.legend(handles=kinds)
            if name == "Learning rate":
                axes.set_ylim(bottom=0)
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        names = [
            Line2D([], [], **_run_style(i), label=_run_label(name, records))
            for i, (name, records) in enumerate(runs.items())
        ]
        figure.legend(handles=names, loc="outside lower left", ncols=min(3, len(runs)))
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        return _save(figure, path)


def plot_confusion(
    matrix: np.ndarray,
    classes: Sequence[str] | None,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> Path:
    """Confusion matrix: a row a true class, a column a predicted class, coloured by the share of the row.

    Right answers are blue, wrong ones orange. Up to 30 classes the counts are written in the cells, up to 60
    the names stand at the edges; beyond, the most frequent confusions are listed beside the matrix.

    Args:
        matrix: int [K, K], `matrix[true, predicted]` counts images.
        classes: K names; None numbers them.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        DataError: the matrix is not square, or the names are not as many.
        MissingDependencyError: matplotlib is not installed.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"a confusion matrix is square [K, K]; this one has shape {list(matrix.shape)}")
    count = len(matrix)
    names = [str(i) for i in range(count)] if classes is None else [str(c) for c in classes]
    if len(names) != count:
        raise DataError(f"{len(names)} class names for a confusion matrix of {count} classes")

    total = max(int(matrix.sum()), 1)
    right = int(np.trace(matrix))
    heading = title or "Confusion matrix"
    heading += f" · {right:,} of {int(matrix.sum()):,} right ({100 * right / total:.2f} %)"
    with _style():
        if count <= MAX_CLASSES_WITH_NAMES:
            longest = max(map(len, map(_shorten, names)))
            side = max(3.6, min(0.36 * count + 1.2, 13.0) + 0.06 * longest)
            figure = _figure(side + 0.4, side)
            axes = figure.subplots()
        else:
            figure = _figure(12.5, 8.0)
            axes, beside = figure.subplots(1, 2, width_ratios=(8, 4))
            _list_confusions(beside, matrix, names)
        axes.imshow(_confusion_colours(matrix), interpolation="nearest", resample=False)
        axes.grid(False)
        axes.spines[:].set_visible(count > MAX_CLASSES_WITH_NAMES)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if count <= MAX_CLASSES_WITH_NAMES:
            upright = max(map(len, names)) > 2
            labels = [_shorten(n) for n in names]
            axes.set_xticks(range(count), labels, rotation=90 if upright else 0)
            axes.set_yticks(range(count), labels)
            axes.tick_params(length=0, labelsize=9 if count <= 30 else 7)
            axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
            axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
            axes.grid(which="minor", color="white", linewidth=1.2)
            axes.tick_params(which="minor", length=0)
        if count <= MAX_CLASSES_WITH_COUNTS:
            _write_counts(axes, matrix)
        figure.suptitle(heading, x=0.01, ha="left", fontweight="bold", fontsize=11)
        return _save(figure, path)


def plot_predictions(
    images: Sequence[Any],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    path: str | os.PathLike[str],
    *,
    true: Sequence[str] | None = None,
    columns: int = 8,
    title: str | None = None,
) -> Path:
    """Sheet of images with what the network said; wrong answers have a thick orange frame and a cross.

    Args:
        images: PIL images, or arrays [H, W], [H, W, 1] or [H, W, 3], uint8 or floats in [0, 1].
        predicted: the predicted class name of each.
        probabilities: its probability, in [0, 1].
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        true: the true class name of each; without it nothing is marked right or wrong.
        columns: images a row.

    Raises:
        DataError: no image, or the sequences differ in length.
        MissingDependencyError: matplotlib is not installed.
    """
    lengths = {"images": len(images), "predicted": len(predicted), "probabilities": len(probabilities)}
    if true is not None:
        lengths["true"] = len(true)
    if len(set(lengths.values())) != 1 or not images:
        raise DataError(f"a sheet of predictions needs as many of each, at least one; found {lengths}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    with _style():
        figure = _figure(1.55 * columns, 1.95 * rows + (0.45 if title else 0.1))
        grid = figure.subplots(rows, columns, squeeze=False)
        for i, axes in enumerate(grid.flat):
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            if i >= len(images):
                axes.set_visible(False)
                continue
            image = np.squeeze(np.asarray(images[i]))
            limits = {"vmin": 0, "vmax": 255 if image.dtype == np.uint8 else 1}
            axes.imshow(image, cmap="gray", **limits)
            said = f"{_shorten(str(predicted[i]), 18)} ({100 * probabilities[i]:.0f} %)"
            if true is None:
                colour, width, caption = GREY, 1.0, said
            elif str(true[i]) == str(predicted[i]):
                colour, width, caption = BLUE, 1.0, f"✓ {said}\ntrue: {_shorten(str(true[i]), 18)}"
            else:
                colour, width, caption = ORANGE, 3.5, f"✗ {said}\ntrue: {_shorten(str(true[i]), 18)}"
            axes.spines[:].set(visible=True, color=colour, linewidth=width)
            axes.set_xlabel(
                caption,
                color=colour,
                fontsize=8.5,
                fontweight="bold" if colour == ORANGE else "normal",
                linespacing=1.2,
            )
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        return _save(figure, path)


def plot_samples(
    images: Sequence[Any],
    captions: Sequence[str],
    path: str | os.PathLike[str],
    *,
    columns: int = 8,
    title: str | None = None,
) -> Path:
    """Sheet of images with a text under each.

    Args:
        images: PIL images, or arrays [H, W], [H, W, 1] or [H, W, 3], uint8 or floats in [0, 1].
        captions: the text of each, of any number of lines.
        path: where to write; the suffix decides the form (.png, .svg, .pdf).
        columns: images a row.

    Raises:
        DataError: no image, or not as many texts.
        MissingDependencyError: matplotlib is not installed.
    """
    if len(images) != len(captions) or not len(images):
        raise DataError(
            f"a sheet needs a caption an image, and at least one; found {len(images)} images and {len(captions)} "
            "captions"
        )
    columns = min(columns, max(len(images), LEAST_COLUMNS))
    rows = -(-len(images) // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    with _style():
        heading = title.count("\n") + 1 if title else 0
        figure = _figure(1.6 * columns, (1.6 + 0.16 * lines) * rows + 0.2 * heading + 0.1)
        for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            if i >= len(images):
                axes.set_visible(False)
                continue
            image = np.squeeze(np.asarray(images[i]))
            axes.imshow(image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
            axes.spines[:].set(visible=True, color=GREY, linewidth=1.0)
            axes.set_xlabel(captions[i], fontsize=8.5, linespacing=1.2)
            axes.set_anchor("N")  # the layout does not know of the room that a square leaves
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
        return _save(figure, path)


def _any(records: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(r.get(key) is not None for r in records)


def _run_style(index: int) -> dict[str, Any]:
    turn, colour = divmod(index, len(RUN_COLOURS))
    return {"color": RUN_COLOURS[colour], "marker": RUN_MARKERS[turn % len(RUN_MARKERS)], "markersize": 5}


def _draw_run(axes: Any, records: Sequence[Mapping[str, Any]], key: str, index: int, dash: str) -> None:
    if not _any(records, key):
        return
    epochs = [r["epoch"] for r in records]
    values = [np.nan if r.get(key) is None else float(r[key]) for r in records]
    style = _run_style(index)
    if style["marker"] is None and len(epochs) <= 40:
        style["marker"] = "."
    axes.plot(epochs, values, dash, **style, markevery=max(1, len(epochs) // 15), linewidth=1.5)


def _run_label(name: str, records: Sequence[Mapping[str, Any]]) -> str:
    best: Mapping[str, Any] = max(records, key=lambda r: -1.0 if r.get("val_top1") is None else r["val_top1"])
    if best.get("val_top1") is None:
        return name
    return f"{name} (best top-1 {best['val_top1']:.2f} %, epoch {best['epoch']})"


def _confusion_colours(matrix: np.ndarray) -> np.ndarray:
    """[K, K, 3] in [0, 1]: from white to blue on the diagonal, to orange off it, by share of the row."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # The square root lifts the few wrong answers, which are what the reader looks for.
    depth = np.sqrt(share)[..., None]
    full = np.where(np.eye(len(matrix), dtype=bool)[..., None], _rgb(BLUE), _rgb(ORANGE))
    paper = _rgb("#F5F6F8")
    return paper + (full - paper) * depth


def _write_counts(axes: Any, matrix: np.ndarray) -> None:
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = 9 if len(matrix) <= 20 and matrix.max() < 1000 else 6.5
    for true, predicted in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[true, predicted] > 0.3 else INK
        axes.text(
            predicted,
            true,
            f"{matrix[true, predicted]}",
            ha="center",
            va="center",
            fontsize=size,
            color=colour,
        )


def _list_confusions(axes: Any, matrix: np.ndarray, names: Sequence[str], most: int = 25) -> None:
    """Write the most frequent confusions; in a matrix of hundreds of classes no single cell can be read."""
    axes.axis("off")
    wrong = np.array(matrix)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:most]
    lines = [
        f"{wrong.flat[k]:>5}  {_shorten(names[k // len(names)])} → {_shorten(names[k % len(names)])}"
        for k in order
        if wrong.flat[k]
    ]
    axes.set_title("Most frequent confusions\n(count, true → predicted)", fontsize=10)
    axes.text(
        0, 0.99, "\n".join(lines) or "none", va="top", fontsize=8.5, family="monospace", linespacing=1.6
    )


def _shorten(name: str, longest: int = 22) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def require_matplotlib() -> Any:
    """matplotlib; to be asked for before long work whose end is a figure.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingDependencyError(
            'drawing needs matplotlib, which is not installed: pip install "paddle-cyclemlp[plot]"'
        ) from None
    return matplotlib


def _style() -> Any:
    return require_matplotlib().rc_context(STYLE)


def _figure(width_inches: float, height_inches: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def _save(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Write whole or not at all: a reader of the old figure never meets half a new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        written = Path(folder) / path.name
        figure.savefig(written)
        written.replace(path)
    return path
