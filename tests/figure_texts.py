"""What stands in a matplotlib figure."""

from __future__ import annotations

from typing import Any


def texts(figure: Any) -> str:
    """All texts of a figure, a line each."""
    figure.draw_without_rendering()
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))
