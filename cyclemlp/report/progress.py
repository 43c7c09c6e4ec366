"""Progress on stderr: a bar on a terminal, a few plain lines where the output goes to a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Generic, TextIO, TypeVar

from tqdm import tqdm

from cyclemlp.text import printable, raw_stream

T = TypeVar("T")

# A plain line is due after a tenth of the work, but a short task must not flood a log,
# nor a long one look dead.
LINE_EVERY_FRACTION = 0.1
LINE_NOT_BEFORE_SECONDS = 10.0
LINE_AT_LATEST_SECONDS = 30.0
LINE_FORMAT = "{desc}{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
LINE_FORMAT_NO_TOTAL = "{desc}{n_fmt}{unit} [{elapsed}, {rate_fmt}{postfix}]"


class Progress(Generic[T]):
    """Iterable over `iterable`'s items that shows how far it is; by hand: `update(n)` and `close()`.

    Figures given to `figures(loss=0.31)` stand at the end of the bar or line.
    """

    def __init__(
        self,
        iterable: Iterable[T] | None = None,
        *,
        desc: str = "",
        total: int | None = None,
        initial: int = 0,
        unit: str = "it",
        unit_scale: bool = False,
        disable: bool = False,
        leave: bool = True,
        file: TextIO | None = None,
    ) -> None:
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        self._iterable = iterable
        self._file = file or sys.stderr
        desc = printable(desc, lines=False)
        self._plain = not self._file.isatty()
        self._disable, self._leave = disable, leave
        self._desc, self._unit, self._unit_scale, self._total = desc, unit, unit_scale, total
        self._figures: dict[str, str] = {}
        self._n = self._n_shown = self._initial = initial
        self._begin = self._shown_at = time.monotonic()
        self._bar = tqdm(
            desc=desc,
            total=total,
            initial=initial,
            unit=unit,
            unit_scale=unit_scale,
            disable=disable or self._plain,
            leave=leave,
            file=raw_stream(self._file),
            **_terminal_size(self._file),
        )

    def __iter__(self) -> Iterator[T]:
        if self._iterable is None:
            raise TypeError("this Progress was made without an iterable: use update() and close()")
        with self:
            for item in self._iterable:
                yield item
                self.update()

    def __enter__(self) -> Progress[T]:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def figures(self, **figures: float | str) -> None:
        """Replace the figures shown at the end; numbers are shown with four significant digits."""
        self._figures = {
            k: printable(v, lines=False) if isinstance(v, str) else f"{v:.4g}" for k, v in figures.items()
        }
        self._bar.set_postfix(self._figures, refresh=False)

    def update(self, n: int = 1) -> None:
        """Count `n` more as done."""
        self._n += n
        self._bar.update(n)
        waited = time.monotonic() - self._shown_at
        tenth = bool(self._total) and self._n - self._n_shown >= LINE_EVERY_FRACTION * (self._total or 0)
        if (tenth and waited >= LINE_NOT_BEFORE_SECONDS) or waited >= LINE_AT_LATEST_SECONDS:
            self._print_line()

    def close(self) -> None:
        """End the bar. With `leave`, its last state stays on the terminal or is the last plain line."""
        if self._leave and self._n_shown < self._n:
            self._print_line()
        self._bar.close()

    def _print_line(self) -> None:
        self._n_shown, self._shown_at = self._n, time.monotonic()
        if self._plain and not self._disable:
            line = tqdm.format_meter(
                self._n,
                self._total or 0,  # tqdm takes 0 for unknown
                time.monotonic() - self._begin,
                initial=self._initial,
                prefix=f"{self._desc}: " if self._desc else "",
                unit=self._unit,
                unit_scale=self._unit_scale,
                postfix=", ".join(f"{k}={v}" for k, v in self._figures.items()),
                bar_format=LINE_FORMAT if self._total else LINE_FORMAT_NO_TOTAL,
            )
            print(line, file=self._file, flush=True)


def _terminal_size(file: TextIO) -> dict[str, Any]:
    """tqdm's own way, but for a terminal that says it is 0×0, as in some containers: tqdm would show nothing."""
    try:
        unknown = 0 in os.get_terminal_size(file.fileno())
    except OSError:  # no terminal
        unknown = False
    return {"ncols": 80, "nrows": 24} if unknown else {"dynamic_ncols": True}


def progress(
    iterable: Iterable[T] | None = None,
    *,
    desc: str = "",
    total: int | None = None,
    initial: int = 0,
    unit: str = "it",
    unit_scale: bool = False,
    disable: bool = False,
    leave: bool = True,
    file: TextIO | None = None,
) -> Progress[T]:
    """Show progress over `iterable` on stderr.

    On a terminal this is tqdm's bar. Elsewhere it is one line a tenth of the work, at most one in 10 s and
    at least one in 30 s; a shorter task gets its last line only.

    Args:
        iterable: what to go through; None to call `update(n)` and `close()` by hand (bytes of a download).
        desc: words before the bar.
        total: number of items, where `iterable` has no length.
        initial: how many of them were done before, by a run that is resumed.
        unit: what one item is called ("batch"); `unit_scale` writes 12.3M for 12300000.
        disable: show nothing.
        leave: keep the finished bar; False where a summary line follows.
        file: where to write, stderr by default.
    """
    return Progress(
        iterable,
        desc=desc,
        total=total,
        initial=initial,
        unit=unit,
        unit_scale=unit_scale,
        disable=disable,
        leave=leave,
        file=file,
    )
