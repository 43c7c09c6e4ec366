"""Where a Cycle FC reads: the one formula that the network and the weight files must share. NumPy only."""

from __future__ import annotations

import numpy as np


def cycle_offsets(channels: int, step_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (δ_h, δ_w) in pixels, int64 `[channels]` each, at which each input channel is read.

    With (S_H, S_W) and t = c + (S_H · S_W) // 2: δ_h(c) = (t mod S_H) − S_H // 2 and
    δ_w(c) = (⌊t / S_H⌋ mod S_W) − S_W // 2. This is what the published weights were trained with; the paper's
    formula and figure start the cycle at −1 instead.

    Args:
        channels: number of input channels, C.
        step_size: (S_H, S_W), both at least 1.
    """
    step_h, step_w = step_size
    t = np.arange(channels) + (step_h * step_w) // 2
    return t % step_h - step_h // 2, (t // step_h) % step_w - step_w // 2
