"""Sheets of images: what stands under each, and how right is told from wrong without colour alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cyclemlp.errors import DataError
from cyclemlp.report import plot_predictions
from cyclemlp.report.sheet import square_thumbnail


def test_sheet_marks_the_wrong_ones_by_sign_and_frame(tmp_path, drawn):
    images = [np.zeros((8, 8)), Image.new("RGB", (40, 20), "red"), np.zeros((6, 6, 1), np.uint8)]
    plot_predictions(
        images, ["cat", "dog", "x"], [0.9, 0.512, 1], tmp_path / "s.png", true=["cat", "cat", "x"], columns=2
    )
    right, wrong, _, empty = drawn[0].axes
    assert right.get_xlabel() == "✓ cat (90 %)\ntrue: cat"
    assert wrong.get_xlabel() == "✗ dog (51 %)\ntrue: cat"
    assert wrong.spines["top"].get_linewidth() > right.spines["top"].get_linewidth()
    assert right.axison
    assert not empty.axison


def test_sheet_without_true_labels_marks_nothing(tmp_path, drawn):
    plot_predictions([np.zeros((8, 8))], ["cat"], [0.9], tmp_path / "s.png")
    assert drawn[0].axes[0].get_xlabel() == "cat (90 %)"


def test_sheet_refuses_lists_that_do_not_match(tmp_path):
    with pytest.raises(DataError, match="as many of each"):
        plot_predictions([np.zeros((8, 8))], ["cat", "dog"], [0.9], tmp_path / "s.png")
    with pytest.raises(DataError, match="at least one"):
        plot_predictions([], [], [], tmp_path / "s.png")


def test_thumbnails_are_the_central_square():
    pixels = np.zeros((300, 600), np.uint8)
    pixels[:, 150:450] = 255
    thumbnail = square_thumbnail(Image.fromarray(pixels))
    assert (thumbnail.size, thumbnail.mode) == ((256, 256), "L")
    assert np.asarray(thumbnail).min() == 255
    assert square_thumbnail(Image.new("CMYK", (8, 5))).size == (5, 5)
