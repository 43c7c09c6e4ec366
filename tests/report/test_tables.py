from __future__ import annotations

import pytest

from cyclemlp.report import format_duration, format_table, markdown_table


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right():
    text = format_table(["model", "parameters", "top-1"], [["b1", 15155400, 78.9], ["cyclemlp_b2", 26, None]])
    assert text.splitlines() == [
        "model        parameters  top-1",
        "───────────  ──────────  ─────",
        "b1           15,155,400   78.9",
        "cyclemlp_b2          26      –",
    ]


def test_a_table_without_rows_is_its_header():
    assert format_table(["a", "bc"], []).splitlines() == ["a  bc", "─  ──"]


def test_a_row_too_short_is_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        format_table(["a", "b"], [[1]])


def test_markdown_has_the_same_cells_and_keeps_bars_in_them():
    rows = [["b|1", 15155400, 78.9], ["b2\nx", 26, None]]
    assert markdown_table(["model", "parameters", "top-1"], rows).splitlines() == [
        "| model | parameters | top-1 |",
        "| --- | ---: | ---: |",
        r"| b\|1 | 15,155,400 | 78.9 |",
        "| b2 x | 26 | – |",
    ]
    assert markdown_table(["a"], []).splitlines() == ["| a |", "| --- |"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (59.94, "59.9 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (3599.7, "1 h 00 min")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text
