"""A figure is written whole or not at all, in every form, and matplotlib is asked for in words."""

from __future__ import annotations

import sys

import pytest
from figure_texts import texts
from matplotlib.artist import Artist

from cyclemlp.errors import MissingDependencyError
from cyclemlp.report import require_matplotlib, saved_figure
from cyclemlp.report.figures import FORMS, rgb


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_a_folder_that_is_not_there_yet(tmp_path, form):
    with saved_figure(tmp_path / "new" / f"figure{form}", 2, 1, title="over it") as figure:
        figure.subplots().plot([1, 2])
    begin = (tmp_path / "new" / f"figure{form}").read_bytes()[:5]
    assert begin in (b"\x89PNG\r", b"<?xml", b"%PDF-")
    assert "over it" in texts(figure)


class Broken(Artist):
    def draw(self, renderer):
        raise ValueError("broken")


def draw_broken(path, *, earlier):
    with saved_figure(path, 2, 1) as figure:
        figure.subplots()
        if earlier:
            raise ValueError("broken")
        figure.add_artist(Broken())


@pytest.mark.parametrize("earlier", [True, False])
def test_a_figure_that_cannot_be_drawn_leaves_the_old_one(tmp_path, earlier):
    path = tmp_path / "figure.svg"  # is written while it is drawn
    path.write_text("the old one")
    with pytest.raises(ValueError, match="broken"):
        draw_broken(path, earlier=earlier)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_the_style_ends_with_the_figure(tmp_path):
    matplotlib = require_matplotlib()
    before = dict(matplotlib.rcParams)
    with saved_figure(tmp_path / "figure.png", 2, 1):
        assert matplotlib.rcParams["axes.grid"] != before["axes.grid"]
    assert dict(matplotlib.rcParams) == before


def test_colours_as_numbers():
    assert rgb("#FF8000").tolist() == [1, 128 / 255, 0]


def test_without_matplotlib_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with (
        pytest.raises(MissingDependencyError, match=r"pip install \"paddle-cyclemlp\[plot\]\""),
        saved_figure(tmp_path / "figure.png", 2, 1),
    ):
        raise AssertionError("there is no figure")
