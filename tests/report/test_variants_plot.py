"""Variants of an experiment: what is drawn is what was measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cyclemlp.errors import DataError
from cyclemlp.report import variants_plot
from cyclemlp.report.variants_plot import Variant, plot_variants


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they are saved, so that a test can read what stands in them."""
    figures = []
    save = variants_plot._save
    monkeypatch.setattr(
        variants_plot, "_save", lambda figure, path: figures.append(figure) or save(figure, path)
    )
    return figures


def test_every_run_the_means_and_their_intervals(drawn, tmp_path):
    panels = {
        "Branches": {
            "two": Variant([80.0, 82.0, 84.0], 82.0, 5.0),
            "three": Variant([90.0, 91.0, 92.0], 91.0, 2.5, marked=True),
        },
        "Steps": {"7": Variant([70.0], 70.0, math.nan)},
    }
    path = plot_variants(panels, tmp_path / "variants.png", title="5 images", label="top-1, %")
    assert path.read_bytes().startswith(b"\x89PNG")
    left, right = drawn[0].axes
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["Branches", "Steps"]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["two", "three"]
    assert left.get_ylabel() == "top-1, %"
    dots = [line.get_ydata().tolist() for line in left.lines if line.get_marker() == "."]
    assert dots == [[80.0, 82.0, 84.0], [90.0, 91.0, 92.0]]
    bars = [np.ptp(segment[:, 1]) for bar in left.containers for segment in bar[2][0].get_segments()]
    np.testing.assert_allclose(bars, [10.0, 5.0])
    colours = [bar[0].get_color() for bar in left.containers]
    assert colours[0] != colours[1]
    assert not right.containers[0][2]  # one run has no interval


def test_nothing_to_draw(tmp_path):
    with pytest.raises(DataError, match="no variant to draw"):
        plot_variants({"Branches": {}}, tmp_path / "variants.png", title="", label="")
