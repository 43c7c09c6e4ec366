"""Feature maps of an image, by stage.

Shapes: C channels, H height, W width; h, w of a stage's map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from cyclemlp.errors import ModelError
from cyclemlp.explain.watch import as_images, check_stages, evaluating, forward_with_stages
from cyclemlp.network import CycleMLP
from cyclemlp.report.figures import PathLike, saved_figure
from cyclemlp.report.sheet import image_grid, sheet_title, show_image
from cyclemlp.text import counted

ORDERS = ("active", "first")


@dataclass(frozen=True)
class FeatureMaps:
    """Some channels of a stage's map of one image.

    Attributes:
        stage: from 1.
        channels: int64 [n], which.
        maps: float32 [n, h, w], before the norm.
        activity: float32 [C], of all channels: the standard deviation over positions.
    """

    stage: int
    channels: np.ndarray
    maps: np.ndarray
    activity: np.ndarray


def feature_maps(
    model: CycleMLP,
    image: np.ndarray | paddle.Tensor,
    stages: Iterable[int] | None = None,
    *,
    count: int = 8,
    order: str = "active",
    channels: Sequence[int] | None = None,
) -> list[FeatureMaps]:
    """Maps of one image.

    Args:
        model: left as it is.
        image: a prepared image `[C, H, W]`, of any size that the network takes.
        stages: which, from 1; None for all.
        count: how many channels of each stage, where `channels` does not say which.
        order: "active", those that differ most from position to position; "first", in their own order.
        channels: which channels, of every stage.

    Raises:
        ModelError: a stage or channel that the network has not, another order, an image that does not fit it.
        FloatingPointError: the maps are not finite.
    """
    if order not in ORDERS or count < 1:
        raise ModelError(
            f"{counted(count, 'channel')} in order {order!r}; give at least 1, in order {' or '.join(ORDERS)}"
        )
    chosen = check_stages(model, stages or range(1, model.config.stages + 1))
    with evaluating(model), paddle.no_grad():
        _, maps = forward_with_stages(model, as_images(image).unsqueeze(0))
    found = []
    for stage in chosen:
        values = maps[stage - 1][0].transpose([2, 0, 1]).numpy().astype(np.float32)
        if not np.isfinite(values).all():
            raise FloatingPointError(f"stage {stage} gives NaN or infinity; the weights may be broken")
        activity = values.std(axis=(1, 2))
        if channels is not None:
            picked = np.asarray(channels, dtype=np.int64)
            if not len(picked) or picked.min() < 0 or picked.max() >= len(values):
                raise ModelError(
                    f"channels {picked.tolist()} of stage {stage} are asked for; it has 0 to {len(values) - 1}"
                )
        else:
            picked = np.argsort(-activity, kind="stable") if order == "active" else np.arange(len(values))
            picked = picked[:count]
        found.append(FeatureMaps(stage, picked, values[picked], activity))
    return found


# ---- the figure


def plot_features(maps: Sequence[FeatureMaps], pixels: np.ndarray, path: PathLike, *, title: str) -> Path:
    """Feature maps of one image, a row a stage, each by its own range of values.

    Args:
        maps: of each stage, as many channels each.
        pixels: the image, uint8 [H, W, 1] or [H, W, 3].
    """
    columns = 1 + max(len(stage.channels) for stage in maps)
    with saved_figure(path, 1.25 * columns, 1.5 * len(maps) + 0.35) as figure:
        grid = image_grid(figure, len(maps), columns)
        show_image(grid[0, 0], pixels, title="image")
        for row, stage in zip(grid, maps, strict=True):
            for axes, channel, values in zip(row[1:], stage.channels, stage.maps, strict=False):
                show_image(axes, values, title=f"channel {channel}", cmap="viridis", interpolation="nearest")
            height, width = stage.maps.shape[1:]
            row[1].set_ylabel(f"stage {stage.stage}\n{height}×{width}", fontsize=9)
        sheet_title(figure, title)
    return Path(path)
