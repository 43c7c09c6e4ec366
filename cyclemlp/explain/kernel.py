"""The pseudo-kernel of a Cycle FC: where it reads, by channel and after several blocks. NumPy only.

Source: the Cycle FC of CycleMLP (Chen et al., ICLR 2022, arXiv 2107.10224), figure 2, with the offsets of the
published weights, see `cyclemlp.offsets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cyclemlp.errors import ConfigError
from cyclemlp.offsets import cycle_offsets

#: Beyond this many positions in one direction nothing can be seen in a drawing, and the sets take long to make.
WIDEST = 2001


@dataclass(frozen=True)
class Kernel:
    """Where the branches of a block read, and what is reached through several blocks.

    Attributes:
        branches: which of h, w (Cycle FCs) and c (channel FC) the block has.
        step_sizes: branch h or w → its step size (S_H, S_W).
        channels: number of channels, C.
        offsets: branch h or w → int64 [C, 2], the offset (δ_h, δ_w) in positions at which each channel is read.
        paths: number of blocks n → float64 [2·R_H + 1, 2·R_W + 1], centred on the position itself: the share of the
            ways through n blocks that end at this offset. In a block, the way round the mixer and each branch count
            alike, and within a branch each channel. Sums to 1; above 0 exactly where something is read.
    """

    branches: tuple[str, ...]
    step_sizes: dict[str, tuple[int, int]]
    channels: int
    offsets: dict[str, np.ndarray]
    paths: dict[int, np.ndarray]

    def positions(self, blocks: int) -> set[tuple[int, int]]:
        """The offsets (δ_h, δ_w) that are reached through so many blocks, the position itself among them."""
        paths = self.paths[blocks]
        radius = np.array(paths.shape) // 2
        return {(int(h), int(w)) for h, w in np.argwhere(paths > 0) - radius}


def cycle_kernel(
    step_sizes: Sequence[tuple[int, int]] = ((1, 3), (3, 1)),
    channels: int = 64,
    blocks: Sequence[int] = (1, 2, 4),
    branches: Sequence[str] = ("h", "w", "c"),
) -> Kernel:
    """The pseudo-kernel of a block's Cycle FCs, and the positions reached through several blocks.

    The gate is left out: it weights the branches, and sees all positions through its mean.

    Args:
        step_sizes: (S_H, S_W) of branch h and of branch w.
        channels: C, at least 1.
        blocks: for which numbers of blocks to follow the paths.
        branches: which of h, w and c.

    Raises:
        ConfigError: for a step, a number of channels or of blocks below 1, an unknown branch, or more than `WIDEST`
            positions in a direction.
    """
    if not branches or not set(branches) <= {"h", "w", "c"}:
        raise ConfigError(f"branches are {', '.join(branches) or 'none'}; choose some of h, w and c")
    if channels < 1 or min([*blocks, 1]) < 1 or any(min(step) < 1 for step in step_sizes):
        raise ConfigError(
            f"channels={channels}, blocks={list(blocks)}, steps {list(step_sizes)}: each must be at least 1"
        )
    reach = max((max(step) // 2 for step in step_sizes), default=0) * max(blocks, default=0)
    if 2 * reach + 1 > WIDEST:
        raise ConfigError(
            f"{max(blocks)} blocks with steps {list(step_sizes)} reach {reach} positions each way; at most "
            f"{WIDEST // 2} are drawn: give fewer blocks or smaller steps"
        )
    steps = {branch: step for branch, step in zip("hw", step_sizes, strict=True) if branch in branches}
    offsets = {branch: np.stack(cycle_offsets(channels, step), axis=1) for branch, step in steps.items()}
    radius = [max([step[axis] // 2 for step in steps.values()], default=0) for axis in (0, 1)]

    one = np.zeros([2 * r + 1 for r in radius])
    one[tuple(radius)] = 1 + ("c" in branches)  # round the mixer, and the channel FC
    for of_channel in offsets.values():
        np.add.at(one, tuple((of_channel + radius).T), 1 / channels)
    one /= one.sum()

    paths, through, done = {}, np.ones((1, 1)), 0
    for count in sorted(set(blocks)):
        for _ in range(count - done):
            through = _spread(through, one)
        paths[count], done = through, count
    return Kernel(tuple(branches), steps, channels, offsets, paths)


def _spread(paths: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Paths continued through one more block: the full convolution, [h, w] and [a, b] → [h + a − 1, w + b − 1]."""
    height, width = paths.shape
    total = np.zeros((height + one.shape[0] - 1, width + one.shape[1] - 1))
    for h, w in np.argwhere(one > 0):
        total[h : h + height, w : w + width] += one[h, w] * paths
    return total
