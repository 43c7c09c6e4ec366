"""Figures of an evaluation: what is drawn is what was measured, for few classes and for many."""

from __future__ import annotations

import numpy as np
import pytest
from figure_texts import texts
from matplotlib.patches import Rectangle
from PIL import Image

from cyclemlp.errors import DataError
from cyclemlp.evaluation import (
    plot_calibration,
    plot_class_accuracy,
    plot_confused_pairs,
    plot_confusion,
    plot_mistakes,
    wilson_interval,
)
from cyclemlp.evaluation.analysis.measures import Calibration, ClassAccuracy, Confusion


def bars(axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def calibrated(counts, confidence, accuracy):
    counts, confidence, accuracy = map(np.asarray, (counts, confidence, accuracy))
    return Calibration(counts, confidence, accuracy, 0.1, (0, 1), 0.2, 0.3, 0.0)


def by_class(accuracy, images=50):
    """Accuracies in percent, of so many images each."""
    count = len(accuracy)
    intervals = wilson_interval(np.nan_to_num(accuracy) * images / 100, np.full(count, images))
    counts = np.full(count, images)
    return ClassAccuracy(counts, counts, counts, accuracy, intervals, accuracy, 49.5, (40.0, 60.0))


def test_calibration_draws_shares_gaps_and_counts(tmp_path, drawn):
    found = calibrated([0, 4, 0, 12], [np.nan, 0.4, np.nan, 0.9], [np.nan, 0.5, np.nan, 0.75])
    path = plot_calibration(found, tmp_path / "c.png", title="pets")
    assert Image.open(path).width > 500
    above, below = drawn[0].axes
    assert [bar.get_height() for bar in bars(above)] == pytest.approx([0.5, 0.75, 0.1, 0.15])
    assert [bar.get_y() for bar in bars(above)[2:]] == pytest.approx([0.4, 0.75])
    assert [bar.get_height() for bar in bars(below)] == pytest.approx([25, 75])
    ends = [segment[:, 1] for segment in above.containers[2][2][0].get_segments()]
    np.testing.assert_allclose(ends, wilson_interval([2, 9], [4, 12]) / 100)
    with pytest.raises(DataError, match="no image"):
        plot_calibration(calibrated([0, 0], [np.nan] * 2, [np.nan] * 2), tmp_path / "c.png")


@pytest.mark.parametrize("count", [3, 1000])
def test_classes_are_sorted_and_those_without_images_left_out(tmp_path, drawn, count):
    accuracy = np.linspace(95, 5, count)
    accuracy[0] = np.nan
    names = [f"kind {i}" for i in range(count)]
    path = plot_class_accuracy(names, by_class(accuracy), tmp_path / "c.png", title="pets")
    assert Image.open(path).height < 1000
    axes = drawn[0].axes[-1]
    shown = min(20, count - 1) if count > 40 else count - 1
    assert [bar.get_width() for bar in bars(axes)] == pytest.approx(accuracy[::-1][:shown])
    words = texts(drawn[0])
    assert f"kind {count - 1} (50)" in words
    assert "kind 0 (50)" not in words
    assert "pets · mean 49.50 %" in words
    assert ("All 999 classes" in words) == (count == 1000)


@pytest.mark.parametrize(("names", "accuracy"), [(["a"], [np.nan]), (["a"], [50.0, 60.0])])
def test_classes_without_any_image_or_name_are_refused(tmp_path, names, accuracy):
    with pytest.raises(DataError, match=f"found 1 name and {len(accuracy)} class"):
        plot_class_accuracy(names, by_class(np.array(accuracy)), tmp_path / "c.png")


def test_confused_pairs_are_named_and_counted(tmp_path, drawn):
    names = ["tabby", "Egyptian cat", "a very long name indeed, of a class", "dog"]
    pairs = [Confusion(0, 1, 34, 68.0), Confusion(2, 3, 3, 6.0)]
    plot_confused_pairs(pairs, names, tmp_path / "p.png", title="pets")
    words = texts(drawn[0])
    assert "tabby → Egyptian cat" in words
    assert "34 (68 %)" in words
    assert [bar.get_width() for bar in bars(drawn[0].axes[0])] == [34, 3]
    with pytest.raises(DataError, match="no confusion"):
        plot_confused_pairs([], names, tmp_path / "p.png")


@pytest.mark.parametrize("count", [1, 3, 10, 45, 300])
def test_confusion_for_few_and_many_classes(tmp_path, drawn, count):
    matrix = np.eye(count, dtype=int) * 9
    if count > 1:
        matrix[0, 1] = 7
    names = [f"kind of dog {i}" for i in range(count)]
    path = plot_confusion(matrix, names, tmp_path / "confusion.png", title="dogs")
    assert Image.open(path).width > 300
    words = texts(drawn[0])
    right = 9 * count
    assert f"dogs · {right:,} of {int(matrix.sum()):,} right" in words
    if count > 1:
        assert "kind of dog 1" in words
        assert ("kind of dog 0 → kind of dog 1\n" in words) == (count > 60)
        assert ("\n7 (44 %)\n" in words) == (count > 60)
        written = [text.get_text() for text in drawn[0].axes[0].texts]
        assert ("7" in written) == (count <= 30)


def test_confusion_tells_right_from_wrong(tmp_path, drawn):
    plot_confusion(np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]]), None, tmp_path / "c.png")
    colours = drawn[0].axes[0].images[0].get_array()
    assert colours[0, 0, 2] > colours[0, 0, 0]  # blue
    assert colours[0, 1, 0] > colours[0, 1, 2]  # orange
    assert (colours[0, 2] == colours[2, 2]).all()  # nothing counted: paper, an empty row too
    assert colours[1, 2, 2] < colours[0, 1, 2]  # the larger share is the deeper


def test_many_classes_without_a_mistake(tmp_path, drawn):
    plot_confusion(np.eye(70, dtype=int), None, tmp_path / "c.png")
    assert "70 of 70 right" in texts(drawn[0])


def test_confusion_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"shape \[2, 3\]"):
        plot_confusion(np.zeros((2, 3), int), None, tmp_path / "c.png")
    with pytest.raises(DataError, match="1 class name for a confusion matrix of 2"):
        plot_confusion(np.zeros((2, 2), int), ["a"], tmp_path / "c.png")


def test_mistakes_say_both_classes_and_probabilities(tmp_path, drawn):
    image = np.zeros((8, 8), np.uint8)
    plot_mistakes([image], ["dog"], [0.987], ["cat"], [0.004], tmp_path / "m.png")
    assert drawn[0].axes[0].get_xlabel() == "dog (98.7 %)\ntrue: cat (0.4 %)"
