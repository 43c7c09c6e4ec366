"""A sweep over input sizes: which sizes, the table, the figure."""

from __future__ import annotations

import csv

import pytest

from cyclemlp.errors import ConfigError, DataError
from cyclemlp.evaluation.sweep import choose_sizes, plot_sweep, write_sweep_csv


def rows(macs):
    figures = [(16, 20, 70, [60, 80], 900), ((24, 32), 40, 90, [85, 95], 250)]
    return [
        {
            "size": size,
            "resize": resize,
            "top1": top1,
            "top1_interval": ends,
            "images_per_second": speed,
            "macs": macs and times * macs,
        }
        for times, (size, resize, top1, ends, speed) in enumerate(figures, 1)
    ]


def test_default_sizes_are_the_papers_in_proportion():
    assert choose_sizes(None, 224, 32) == list(range(128, 417, 32))
    assert choose_sizes(None, 32, 16) == [20, 24, 28, 32, 36, 40, 44, 52, 56, 60]
    assert choose_sizes(None, 16, 16)[0] == 16
    assert choose_sizes([64, 32, 64], 224, 32) == [32, 64]
    with pytest.raises(ConfigError, match="has 16; this model needs at least 32"):
        choose_sizes([64, 16], 224, 32)


@pytest.mark.parametrize(("macs", "unit"), [(2_000_000, "M"), (3_000_000_000, "G"), (None, None)])
def test_the_figure_has_accuracy_speed_and_cost_if_known(tmp_path, drawn, macs, unit):
    plot_sweep(rows(macs), tmp_path / "s.png", own_size=32)
    axes = drawn[0].axes
    assert [list(a.lines[0].get_ydata()) for a in axes[:2]] == [[70, 90], [900, 250]]
    assert list(axes[0].lines[0].get_xdata()) == pytest.approx([16, (24 * 32) ** 0.5])
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["16", "24×32"]
    assert [a.lines[1].get_xdata()[0] for a in axes] == [32] * len(axes)
    assert len(axes) == (2 if unit is None else 3)
    if unit is not None:
        assert axes[2].get_ylabel() == f"MACs, {unit}"
        assert list(axes[2].lines[0].get_ydata()) == pytest.approx([2, 4] if unit == "M" else [3, 6])
    with pytest.raises(DataError, match="no size"):
        plot_sweep([], tmp_path / "none.png", own_size=32)


def test_the_table_has_the_intervals_ends(tmp_path):
    write_sweep_csv(tmp_path / "s.csv", rows(None))
    with (tmp_path / "s.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["top1_low"], first["top1_high"]) == ("60", "80")
    assert (second["size"], second["macs"]) == ("24×32", "")
