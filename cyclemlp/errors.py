"""What is raised when the user's input is at fault.

Each message says what was found, what was expected and what to do about it. The command line prints these
without a traceback and exits with 2.
"""

from __future__ import annotations

from collections.abc import Sequence


class CycleMLPError(ValueError):
    """Base of every error that a user can correct: a wrong option, file or value."""


class ModelError(CycleMLPError):
    """An unknown model name, an unknown or impossible override, an impossible image size."""


class WeightsError(CycleMLPError):
    """A weight file that cannot be read, is refused, or does not fit the model."""


class MismatchError(WeightsError):
    """A weight file whose tensors are not the model's.

    Attributes:
        mismatches: one line a tensor that is missing, unexpected or mis-shaped; the message has the first of them.
    """

    def __init__(self, message: str, mismatches: Sequence[str]) -> None:
        super().__init__(message)
        self.mismatches = tuple(mismatches)


class DataError(CycleMLPError):
    """An image, list file or folder that cannot be used; the message names the file and the line."""


class ConfigError(CycleMLPError):
    """A training or evaluation setting that is unknown or impossible."""


class MissingDependencyError(CycleMLPError, ImportError):
    """A library that an optional part needs is not installed; the message says how to install it."""
