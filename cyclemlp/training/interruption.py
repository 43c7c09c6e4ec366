"""Ctrl-C and SIGTERM, taken at a moment when the run can be saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Interruption:
    """While it is entered, the first Ctrl-C or SIGTERM is only noted; a second Ctrl-C stops at once.

    Another SIGTERM does not: Paddle's launcher sends up to three within half a second. What cannot wait sends SIGKILL.

    Attributes:
        signal: number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}
        self._at_once = False
        self._again = False
        self._process = os.getpid()

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._again and kind is not None and issubclass(kind, Exception):
            # Paddle wraps a KeyboardInterrupt that meets a backward function in an error of its own.
            raise KeyboardInterrupt from None

    def unless_stopped(self, work: Callable[[], T]) -> T | None:
        """Do work that a signal may end at once, for it spoils nothing; None if one came, then or before."""
        self._at_once = True
        try:
            return work() if self.signal is None else None
        except (KeyboardInterrupt, Exception):
            if self.signal is None:  # not by a signal of ours
                raise
            return None
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A process that reads images, forked with this handler. A terminal sends it Ctrl-C too: the run
            # ends it when it has saved, and does so by SIGTERM.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        again, self.signal = self.signal is not None, self.signal or number
        if number == signal.SIGINT if again else self._at_once:
            self._again = again
            raise KeyboardInterrupt
        if not again:
            # Not print: the signal may have come in the middle of a line, and a buffer cannot be entered twice.
            os.write(2, b"\nstopping after this step and saving; Ctrl-C once more to stop without saving\n")
