"""PaddleDetection without its remarks on trackers that nobody asked for."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from PIL import ImageFile


def import_engine() -> None:
    """Import PaddleDetection; what it prints then, that lap, numba and motmetrics are missing, is left out.

    Pillow stays as strict as it was: the engine tells it, for the whole process, to take images that are cut short.
    """
    if "ppdet" in sys.modules:
        return
    said, strictness = io.StringIO(), ImageFile.LOAD_TRUNCATED_IMAGES
    with contextlib.redirect_stdout(said), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        importlib.import_module("ppdet.engine")
    ImageFile.LOAD_TRUNCATED_IMAGES = strictness
    # Its loggers took what stdout was at that moment.
    for handler in _handlers():
        if handler.stream is said:
            _set_stream(handler, sys.stdout)


@contextlib.contextmanager
def warnings_only(stream: TextIO | None = None) -> Iterator[None]:
    """Within it, the engine's loggers speak on `stream` (stderr by default), and from warnings on.

    Not the tracebacks that its reader prints: `cyclemlp.dense.loading` says what is wrong with which image.
    """
    reader = importlib.import_module("ppdet.data.reader").logger
    reader.addFilter(_no_tracebacks)
    before = [(logger, logger.level) for logger in _loggers()]
    streams = [(handler, _set_stream(handler, stream or sys.stderr)) for handler in _handlers()]
    for logger, _ in before:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        reader.removeFilter(_no_tracebacks)
        for logger, level in before:
            logger.setLevel(level)
        for handler, old in streams:
            _set_stream(handler, old)


@contextlib.contextmanager
def no_prints() -> Iterator[None]:
    """Within it, `print` goes nowhere: pycocotools tells on stdout how long it read."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _set_stream(handler: logging.StreamHandler[TextIO], stream: TextIO) -> TextIO:
    """The stream that it had. In a notebook or a test that one may be closed, and `setStream` would flush it."""
    before = handler.stream
    if not before.closed:
        before.flush()
    handler.stream = stream
    return before


def _no_tracebacks(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("fail to map")


def _loggers() -> list[logging.Logger]:
    from ppdet.utils.logger import logger_initialized

    return [logging.getLogger(name) for name in logger_initialized]


def _handlers() -> list[logging.StreamHandler[TextIO]]:
    return [h for logger in _loggers() for h in logger.handlers if type(h) is logging.StreamHandler]
