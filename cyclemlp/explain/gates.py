"""What the gates do over a data set: how they weight the branches in each block.

Shapes: B images, C channels, K branches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from cyclemlp.errors import DataError, ModelError
from cyclemlp.explain.watch import as_images, evaluating, mixers, removed_at_end
from cyclemlp.network import CycleMLP
from cyclemlp.report.figures import BLUE, GREEN, GREY, INK, ORANGE, PathLike, saved_figure
from cyclemlp.text import counted

BRANCH_NAMES = {"h": "Cycle FC, branch h", "w": "Cycle FC, branch w", "c": "channel FC"}
BRANCH_STYLES = {"h": (BLUE, "o"), "w": (ORANGE, "s"), "c": (GREEN, "^")}


@dataclass(frozen=True)
class BlockGates:
    """The gate of one block.

    Attributes:
        stage, block: from 1.
        mean: float64 [C, K], mean weight over the images; each row sums to 1.
        spread: float64 [C, K], standard deviation over the images.
    """

    stage: int
    block: int
    mean: np.ndarray
    spread: np.ndarray

    @property
    def branch_mean(self) -> np.ndarray:
        """float64 [K]: mean over images and channels; sums to 1."""
        return self.mean.mean(axis=0)

    @property
    def over_channels(self) -> np.ndarray:
        """float64 [K]: standard deviation over the channels of their means."""
        return self.mean.std(axis=0)

    @property
    def over_images(self) -> np.ndarray:
        """float64 [K]: standard deviation over the images, in a channel, averaged over channels."""
        return self.spread.mean(axis=0)


@dataclass(frozen=True)
class Gates:
    """The gates of all blocks.

    Attributes:
        branches: names of the K branches: h, w, c.
        images: over how many.
        blocks: in the order of the network.
    """

    branches: tuple[str, ...]
    images: int
    blocks: list[BlockGates]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""

        def by_branch(values: np.ndarray) -> dict[str, Any]:
            return dict(zip(self.branches, values.tolist(), strict=True))

        return {
            "images": self.images,
            "branches": self.branches,
            "blocks": [
                {
                    "stage": block.stage,
                    "block": block.block,
                    "mean": by_branch(block.branch_mean),
                    "over_channels": by_branch(block.over_channels),
                    "over_images": by_branch(block.over_images),
                    "channel_means": by_branch(block.mean.T.round(5)),
                }
                for block in self.blocks
            ],
        }


def gate_weights(model: CycleMLP, batches: Iterable[np.ndarray | paddle.Tensor]) -> Gates:
    """Mean and spread of the gates' weights over images.

    Args:
        model: left as it is.
        batches: prepared images `[B, C, H, W]`; their sizes may differ.

    Raises:
        ModelError: a network without gates, or with one branch only; an image that does not fit it.
        DataError: no image.
        FloatingPointError: the weights are not finite.
    """
    if not model.config.gate:
        raise ModelError("this network sums its branches: it has no gates")
    if len(model.config.branches) == 1:
        raise ModelError(
            f"this network has branch {model.config.branches[0]} only, which every gate weights with 1"
        )
    watched = mixers(model)
    means: dict[tuple[int, int], paddle.Tensor] = {}
    sums = {place: [0.0, 0.0] for place in watched}
    count = 0
    with evaluating(model), paddle.no_grad():
        for batch in batches:
            # The gate's own function is asked again, outside of the forward: no second copy of its formula.
            hooks = [
                mixer.reweight.register_forward_pre_hook(
                    lambda _, inputs, place=place: means.update({place: inputs[0]})
                )
                for place, mixer in watched.items()
            ]
            with removed_at_end(hooks):
                model.forward_features(as_images(batch))
            for place, mixer in watched.items():
                weights = mixer.gate(means[place]).numpy().astype(np.float64)  # [B, C, K]
                sums[place][0] += weights.sum(axis=0)
                sums[place][1] += (weights**2).sum(axis=0)
            count += len(batch)
    if not count:
        raise DataError("no image is given: the gates' weights depend on images")
    blocks = []
    for (stage, block), (total, squares) in sums.items():
        mean = np.asarray(total) / count
        if not np.isfinite(mean).all():
            raise FloatingPointError("the gates' weights are not finite; the network's weights may be broken")
        blocks.append(BlockGates(stage, block, mean, np.sqrt(np.maximum(squares / count - mean**2, 0))))
    return Gates(model.config.branches, count, blocks)


# ---- the figure


def plot_gates(gates: Gates, path: PathLike) -> Path:
    """How the gates weight the branches in each block: a dot a channel, the mean, and the spread over images."""
    count, branches = len(gates.blocks), len(gates.branches)
    rng = np.random.default_rng(0)  # dots side by side, not on top of each other
    with saved_figure(path, min(max(7.0, 2.2 + 0.75 * count), 22), 4.2) as figure:
        axes = figure.subplots()
        for k, branch in enumerate(gates.branches):
            colour, marker = BRANCH_STYLES[branch]
            places = np.arange(count) + (k - (branches - 1) / 2) * 0.26
            for x, block in zip(places, gates.blocks, strict=True):
                jitter = rng.uniform(-0.09, 0.09, len(block.mean))
                axes.scatter(x + jitter, block.mean[:, k], s=4, color=colour, alpha=0.25, linewidth=0)
            axes.errorbar(
                places,
                [block.branch_mean[k] for block in gates.blocks],
                yerr=[block.over_images[k] for block in gates.blocks],
                fmt=marker,
                markersize=6,
                markeredgecolor="white",
                color=colour,
                ecolor=INK,
                elinewidth=1.4,
                capsize=3,
                label=BRANCH_NAMES[branch],
                zorder=3,
            )
        axes.axhline(1 / branches, color=GREY, linewidth=1, linestyle=":", zorder=0)
        axes.set_xticks(range(count), [f"{block.stage}.{block.block}" for block in gates.blocks])
        for i in range(1, count):
            if gates.blocks[i].stage != gates.blocks[i - 1].stage:
                axes.axvline(i - 0.5, color="#C9CDD3", linewidth=0.8)
        axes.grid(axis="x", visible=False)
        axes.set(
            xlabel="stage.block (dots: a channel's mean; bars: standard deviation over images)",
            ylabel="weight",
            xlim=(-0.6, count - 0.4),
            title=f"Gate weights over {counted(gates.images, 'image')}",
        )
        figure.legend(loc="outside lower left", ncols=branches, fontsize=9)
    return Path(path)
