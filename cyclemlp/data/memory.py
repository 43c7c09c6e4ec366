"""Memory for batches that is used again once nobody holds the batch any more.

New memory comes from the system page by page, cleared: for a batch of floats that takes as long as computing it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np

KEPT = 2  # one being filled while the reader still holds the one before


class BatchMemory:
    """Gives out float32 arrays of undefined content.

    An array's memory comes back when the array, and whatever was made of it without copying, is gone.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def array(self, shape: Sequence[int]) -> np.ndarray:
        """float32 of that shape."""
        count = math.prod(shape)
        owner = next((one for one in self._free if one.size >= count), None)
        if owner is None:
            owner = np.empty(count, dtype=np.float32)
            self._free.clear()  # too small for what is read now
        else:
            self._free = [one for one in self._free if one is not owner]
        # Over a memoryview: views of views hold on to the first NumPy array below them, which so is `array`.
        array = np.frombuffer(owner.data, dtype=np.float32, count=count)
        weakref.finalize(array, self._take_back, owner).atexit = False
        return array.reshape(shape)

    def _take_back(self, owner: np.ndarray) -> None:
        if len(self._free) < KEPT:
            self._free.append(owner)
