"""Images of an evaluation: what is drawn is what was measured, for few classes and for many."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from cyclemlp.errors import DataError
from cyclemlp.report import evaluation_plots
from cyclemlp.report.evaluation_plots import (
    plot_calibration,
    plot_class_accuracy,
    plot_confused_pairs,
    plot_differences,
    plot_mistakes,
    plot_sweep,
)


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they are saved, so that a test can read what stands in them."""
    figures = []
    save = evaluation_plots._save
    monkeypatch.setattr(
        evaluation_plots, "_save", lambda figure, path: figures.append(figure) or save(figure, path)
    )
    return figures


def texts(figure) -> str:
    figure.draw_without_rendering()
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


def bars(axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_calibration_draws_shares_gaps_and_counts(tmp_path, drawn):
    counts = np.array([0, 4, 0, 12])
    confidence, accuracy = np.array([np.nan, 0.4, np.nan, 0.9]), np.array([np.nan, 0.5, np.nan, 0.75])
    ends = np.array([[np.nan, np.nan], [0.2, 0.8], [np.nan, np.nan], [0.5, 0.9]])
    path = plot_calibration(counts, confidence, accuracy, ends, tmp_path / "c.png", title="pets")
    assert Image.open(path).width > 500
    above, below = drawn[0].axes
    assert [bar.get_height() for bar in bars(above)] == pytest.approx([0.5, 0.75, 0.1, 0.15])
    assert [bar.get_y() for bar in bars(above)[2:]] == pytest.approx([0.4, 0.75])
    assert [bar.get_height() for bar in bars(below)] == pytest.approx([25, 75])
    with pytest.raises(DataError, match="no image"):
        plot_calibration(np.zeros(4), confidence, accuracy, ends, tmp_path / "c.png")


@pytest.mark.parametrize("count", [3, 1000])
def test_classes_are_sorted_and_those_without_images_left_out(tmp_path, drawn, count):
    accuracy = np.linspace(95, 5, count)
    accuracy[0] = np.nan
    ends = np.stack([accuracy - 3, accuracy + 4], axis=1)
    names = [f"kind {i}" for i in range(count)]
    path = plot_class_accuracy(
        names, accuracy, ends, np.full(count, 50), tmp_path / "c.png", mean=49.5, title="pets"
    )
    assert Image.open(path).height < 1000
    axes = drawn[0].axes[-1]
    shown = min(20, count - 1) if count > 40 else count - 1
    assert [bar.get_width() for bar in bars(axes)] == pytest.approx(accuracy[::-1][:shown])
    words = texts(drawn[0])
    assert f"kind {count - 1} (50)" in words
    assert "kind 0 (50)" not in words
    assert "pets · mean 49.50 %" in words
    assert ("All 999 classes" in words) == (count == 1000)


def test_classes_without_any_image_are_refused(tmp_path):
    with pytest.raises(DataError, match="a class with images"):
        plot_class_accuracy(
            ["a"], np.array([np.nan]), np.zeros((1, 2)), np.zeros(1), tmp_path / "c.png", mean=0
        )


def test_confused_pairs_are_named_and_counted(tmp_path, drawn):
    pairs = [("tabby", "Egyptian cat", 34, 68.0), ("a very long name indeed, of a class", "dog", 3, 6.0)]
    plot_confused_pairs(pairs, tmp_path / "p.png", title="pets")
    words = texts(drawn[0])
    assert "tabby → Egyptian cat" in words
    assert "34 (68 %)" in words
    assert [bar.get_width() for bar in bars(drawn[0].axes[0])] == [34, 3]
    with pytest.raises(DataError, match="no confusion"):
        plot_confused_pairs([], tmp_path / "p.png")


def test_sheets_say_both_classes_and_probabilities(tmp_path, monkeypatch):
    captions = []
    monkeypatch.setattr(
        evaluation_plots, "plot_samples", lambda images, words, path, title: captions.extend(words) or path
    )
    image = np.zeros((8, 8), np.uint8)
    plot_mistakes([image], ["dog"], [0.987], ["cat"], [0.004], tmp_path / "m.png")
    plot_differences([image], ["cat"], [("cat", 0.5)], [("dog", 0.75)], tmp_path / "d.png")
    assert captions == ["dog (98.7 %)\ntrue: cat (0.4 %)", "true: cat\nA: cat (50 %)\nB: dog (75 %)"]


@pytest.mark.parametrize(("cost", "unit"), [(2_000_000, "M"), (3_000_000_000, "G"), (None, None)])
def test_a_sweep_draws_accuracy_speed_and_cost_if_known(tmp_path, drawn, cost, unit):
    costs = [cost, cost and 2 * cost]
    plot_sweep([16, 32], [70, 90], [(60, 80), (85, 95)], [900, 250], costs, tmp_path / "s.png", own_size=32)
    axes = drawn[0].axes
    assert [list(a.lines[0].get_ydata()) for a in axes[:2]] == [[70, 90], [900, 250]]
    assert [a.lines[1].get_xdata()[0] for a in axes] == [32] * len(axes)
    assert len(axes) == (2 if unit is None else 3)
    if unit is not None:
        assert axes[2].get_ylabel() == f"MACs, {unit}"
        assert list(axes[2].lines[0].get_ydata()) == pytest.approx(
            [cost / 1e9, 2 * cost / 1e9] if unit == "G" else [2, 4]
        )
