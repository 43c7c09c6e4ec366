"""Sheets of feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cyclemlp.explain.features import FeatureMaps
from cyclemlp.explain.plots.common import PathLike, show_image
from cyclemlp.report.plots import _figure, _save, _style


def plot_features(maps: Sequence[FeatureMaps], pixels: np.ndarray, path: PathLike, *, title: str) -> Path:
    """Feature maps of one image, a row a stage, each by its own range of values.

    Args:
        maps: of each stage, as many channels each.
        pixels: the image, uint8 [H, W, 1] or [H, W, 3].
        path: where to write; the suffix decides the form (.png, .svg, .pdf).

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    columns = 1 + max(len(stage.channels) for stage in maps)
    with _style():
        figure = _figure(1.25 * columns, 1.5 * len(maps) + 0.35)
        grid = figure.subplots(len(maps), columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for i, (row, stage) in enumerate(zip(grid, maps, strict=True)):
            if i == 0:
                show_image(row[0], pixels, "image", "")
            for axes, channel, values in zip(row[1:], stage.channels, stage.maps, strict=False):
                axes.axis("on")
                axes.imshow(values, cmap="viridis", interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
                axes.set_title(f"channel {channel}", fontsize=8, fontweight="normal")
            height, width = stage.maps.shape[1:]
            row[1].set_ylabel(f"stage {stage.stage}\n{height}×{width}", fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
        return _save(figure, path)
