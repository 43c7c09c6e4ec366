"""The images: written whole, of every size of problem, telling right from wrong without colour alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from cyclemlp.errors import DataError, MissingDependencyError
from cyclemlp.report import plot_confusion, plot_curves, plot_predictions, plots

EPOCHS = [
    {"epoch": i + 1, "train_loss": 2 / (i + 1), "val_loss": 1.5 / (i + 1), "val_top1": 90.0 + i, "lr": 1e-3}
    for i in range(5)
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they are saved, so that a test can read what stands in them."""
    figures = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure) or save(figure, path))
    return figures


def texts(figure) -> str:
    figure.draw_without_rendering()
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_curves_draw_the_panels_that_have_figures(tmp_path, drawn):
    path = plot_curves(EPOCHS, tmp_path / "new" / "curves.png")
    assert Image.open(path).width > 1000
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["Loss", "Accuracy (%)", "Learning rate"]
    assert "validation top-1 (best 94.00, epoch 5)" in texts(drawn[0])
    plot_curves([{"epoch": 1, "train_loss": 0.3, "val_loss": None}], tmp_path / "one.svg")
    assert [axes.get_title(loc="left") for axes in drawn[1].axes] == ["Loss"]


def test_curves_draw_the_values_and_gaps(tmp_path, drawn):
    plot_curves([*EPOCHS, {"epoch": 6, "train_loss": 0.1}], tmp_path / "curves.png")
    training, validation = drawn[0].axes[0].lines
    assert list(training.get_ydata()) == pytest.approx([2, 1, 2 / 3, 0.5, 0.4, 0.1])
    assert np.isnan(validation.get_ydata()[-1])


def test_curves_without_any_figure_are_refused(tmp_path):
    for records in ([], [{"epoch": 1, "loss": 3}]):
        with pytest.raises(DataError, match="no epoch to draw"):
            plot_curves(records, tmp_path / "curves.png")


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
        assert ("7  kind of dog 0 → kind of dog 1" in words) == (count > 60)
        assert ("\n7\n" in words) == (count <= 30)


def test_confusion_tells_right_from_wrong():
    colours = plots._confusion_colours(np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]]))
    assert colours[0, 0, 2] > colours[0, 0, 0]  # blue
    assert colours[0, 1, 0] > colours[0, 1, 2]  # orange
    assert (colours[0, 2] == colours[2, 2]).all()  # nothing counted: paper, an empty row too
    assert colours[1, 2, 2] < colours[0, 1, 2]  # the larger share is the deeper


def test_confusion_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"shape \[2, 3\]"):
        plot_confusion(np.zeros((2, 3), int), None, tmp_path / "c.png")
    with pytest.raises(DataError, match="1 class names for a confusion matrix of 2"):
        plot_confusion(np.zeros((2, 2), int), ["a"], tmp_path / "c.png")


def test_sheet_marks_the_wrong_ones_by_sign_and_frame(tmp_path, drawn):
    images = [np.zeros((8, 8)), Image.new("RGB", (40, 20), "red"), np.zeros((6, 6, 1), np.uint8)]
    plot_predictions(
        images, ["cat", "dog", "x"], [0.9, 0.512, 1], tmp_path / "s.png", true=["cat", "cat", "x"], columns=2
    )
    right, wrong, _, empty = drawn[0].axes
    assert right.get_xlabel() == "✓ cat (90 %)\ntrue: cat"
    assert wrong.get_xlabel() == "✗ dog (51 %)\ntrue: cat"
    assert wrong.spines["top"].get_linewidth() > right.spines["top"].get_linewidth()
    assert not empty.get_visible()


def test_sheet_without_true_labels_marks_nothing(tmp_path, drawn):
    plot_predictions([np.zeros((8, 8))], ["cat"], [0.9], tmp_path / "s.png")
    assert drawn[0].axes[0].get_xlabel() == "cat (90 %)"


def test_sheet_refuses_lists_that_do_not_match(tmp_path):
    with pytest.raises(DataError, match="as many of each"):
        plot_predictions([np.zeros((8, 8))], ["cat", "dog"], [0.9], tmp_path / "s.png")
    with pytest.raises(DataError, match="at least one"):
        plot_predictions([], [], [], tmp_path / "s.png")


def test_an_image_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = plot_curves(EPOCHS, tmp_path / "curves.png")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        plots._save(type("Broken", (), {"savefig": lambda self, p: p.write_bytes(b"half") + None})(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_matplotlib_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install \"paddle-cyclemlp\[plot\]\""):
        plot_curves(EPOCHS, tmp_path / "curves.png")
