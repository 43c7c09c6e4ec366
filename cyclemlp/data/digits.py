"""Real images that need no download: scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from cyclemlp.data.sources import Sample
from cyclemlp.errors import ConfigError, MissingDependencyError


class Digits:
    """scikit-learn's bundled handwritten digits: 1797 real scans of 8×8 pixels, greyscale.

    A fixed fifth of each class is held out for validation. Pixels go from 0..16 to 0..255.

    Args:
        split: "train" (four fifths) or "val" (one fifth).

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        ConfigError: another split.
    """

    SPLIT_SEED = 0

    def __init__(self, split: Literal["train", "val"] = "train") -> None:
        if split not in ("train", "val"):
            raise ConfigError(f"the split of the digits is {split!r}; use train or val")
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise MissingDependencyError(
                "the bundled digits come with scikit-learn, which is not installed: "
                'pip install "paddle-cyclemlp[digits]"'
            ) from error
        digits = load_digits()
        rng = np.random.default_rng(self.SPLIT_SEED)
        held_out = np.zeros(len(digits.target), dtype=bool)
        for digit in range(10):
            members = rng.permutation(np.flatnonzero(digits.target == digit))
            held_out[members[: round(len(members) / 5)]] = True
        self.split = split
        self.classes: list[str] | None = [str(digit) for digit in range(10)]
        self.num_classes: int | None = 10
        self._scans = np.flatnonzero(held_out == (split == "val"))
        self._labels = digits.target[self._scans].astype(np.int64)
        self._pixels = np.rint(digits.images[self._scans] * (255 / 16)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        return Sample(index, Image.fromarray(self._pixels[index]), self.label(index))

    def name(self, index: int) -> str:
        """`digits/0123`: the scan's number in scikit-learn's data set."""
        return f"digits/{self._scans[index]:04d}"

    def location(self, index: int) -> str:
        """As `name`."""
        return self.name(index)

    def label(self, index: int) -> int:
        """The digit."""
        return int(self._labels[index])
