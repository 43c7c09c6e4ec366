"""Curves of a run and of several: which panels, which values, which gaps."""

from __future__ import annotations

import numpy as np
import pytest
from figure_texts import texts
from PIL import Image

from cyclemlp.errors import DataError
from cyclemlp.report import plot_curves, plot_runs

EPOCHS = [
    {"epoch": i + 1, "train_loss": 2 / (i + 1), "val_loss": 1.5 / (i + 1), "val_top1": 90.0 + i, "lr": 1e-3}
    for i in range(5)
]


def test_curves_draw_the_panels_that_have_figures(tmp_path, drawn):
    path = plot_curves(EPOCHS, tmp_path / "new" / "curves.png")
    assert Image.open(path).width > 1000
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["Loss", "Accuracy (%)", "Learning rate"]
    assert "validation top-1 (best 94.00, epoch 5)" in texts(drawn[0])
    plot_curves([{"epoch": 1, "train_loss": 0.3, "val_loss": None}], tmp_path / "one.svg")
    assert [axes.get_title(loc="left") for axes in drawn[1].axes] == ["Loss"]


def test_of_several_labels_an_image_the_map_is_drawn_and_its_best_named(tmp_path, drawn):
    epochs = [{**record, "val_map": record["val_top1"], "val_macro_f1": 50.0} for record in EPOCHS]
    for record in epochs:
        del record["val_top1"]
    plot_curves(epochs, tmp_path / "curves.png")
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == [
        "Loss",
        "mAP and F1 (%)",
        "Learning rate",
    ]
    assert "validation mAP (best 94.00, epoch 5)" in texts(drawn[0])
    plot_runs({"one": epochs, "two": epochs[:2]}, tmp_path / "r.png")
    assert {"one (best mAP 94.00 %, epoch 5)", "two (best mAP 91.00 %, epoch 2)"} <= set(
        texts(drawn[1]).splitlines()
    )
    plot_curves([{**record, "val_macro_f1": 50.0} for record in EPOCHS], tmp_path / "one_class.png")
    assert [axes.get_title(loc="left") for axes in drawn[2].axes] == ["Loss", "Accuracy (%)", "Learning rate"]


def test_curves_draw_the_values_and_gaps(tmp_path, drawn):
    plot_curves([*EPOCHS, {"epoch": 6, "train_loss": 0.1}], tmp_path / "curves.png")
    training, validation = drawn[0].axes[0].lines
    assert list(training.get_ydata()) == pytest.approx([2, 1, 2 / 3, 0.5, 0.4, 0.1])
    assert np.isnan(validation.get_ydata()[-1])


def test_curves_without_any_figure_are_refused(tmp_path):
    for records in ([], [{"epoch": 1, "loss": 3}]):
        with pytest.raises(DataError, match="no epoch to draw"):
            plot_curves(records, tmp_path / "curves.png")


def test_several_runs_have_a_colour_each_and_their_best_in_the_legend(tmp_path, drawn):
    other = [{**record, "val_top1": record["val_top1"] - 10} for record in EPOCHS[:3]]
    plot_runs(
        {"one": EPOCHS, "two": other, "no top-1": [{"epoch": 1, "train_loss": 0.5}]}, tmp_path / "r.png"
    )
    loss, accuracy, rate = drawn[0].axes
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["Loss", "Accuracy (%)", "Learning rate"]
    assert len({line.get_color() for line in loss.lines}) == 3
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[90, 91, 92, 93, 94], [80, 81, 82]]
    assert rate.get_ylim()[0] == 0
    assert {"one (best top-1 94.00 %, epoch 5)", "two (best top-1 82.00 %, epoch 3)", "no top-1"} <= set(
        texts(drawn[0]).splitlines()
    )


def test_runs_without_any_figure_are_refused(tmp_path):
    with pytest.raises(DataError, match="two: no epoch to draw"):
        plot_runs({"one": EPOCHS, "two": [{"epoch": 1, "loss": 3}]}, tmp_path / "r.png")
    with pytest.raises(DataError, match="no run to draw"):
        plot_runs({}, tmp_path / "r.png")
