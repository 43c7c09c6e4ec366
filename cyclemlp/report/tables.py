"""Tables in plain text for the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from cyclemlp.text import printable


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with columns aligned by width, numbers to the right; floats show four significant digits.

    Args:
        header: one word or phrase a column.
        rows: cells, as many a row as in `header`; None shows as a dash.

    Returns:
        The lines, joined; no line end after the last.
    """
    header = [printable(word, lines=False) for word in header]
    cells = [[printable(_cell(value), lines=False) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = _numeric(header, rows)

    def line(row: Sequence[str]) -> str:
        aligned = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), "  ".join("─" * w for w in widths), *map(line, cells)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The same as a Markdown table; a bar in a cell is written so that it stays in its cell.

    Args: as for `format_table`.
    """

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"

    marks = ["---:" if right else "---" for right in _numeric(header, rows)]
    return "\n".join([line(header), line(marks), *(line([_cell(value) for value in row]) for row in rows)])


def format_duration(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s` or `2 h 07 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _numeric(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[bool]:
    """Which columns hold numbers, and so stand to the right."""
    return [
        any(isinstance(v, int | float) for v in column)
        and all(isinstance(v, int | float | None) for v in column)
        for column in zip(*rows, strict=True)
    ] or [False] * len(header)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
