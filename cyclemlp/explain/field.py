"""Effective receptive field: which pixels the centre of a stage's map depends on, and how much.

The gradient of the sum over channels at the centre with respect to the image; its absolute values, summed over the
image's channels and averaged over images (Luo et al., Understanding the Effective Receptive Field in Deep
Convolutional Neural Networks, NeurIPS 2016, arXiv 1701.04128).

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from cyclemlp.errors import DataError
from cyclemlp.explain.watch import (
    as_images,
    check_stages,
    evaluating,
    forward_with_stages,
    mixers,
    removed_at_end,
)
from cyclemlp.network import CycleMLP, CycleMLPConfig
from cyclemlp.report.figures import PathLike, saved_figure
from cyclemlp.report.sheet import show_image


@dataclass(frozen=True)
class Field:
    """The effective receptive fields of a network's stages.

    Attributes:
        stages: which, from 1.
        maps: float64 [stages, H, W], the share of the gradient at each pixel; each map sums to 1.
        centres: float64 [stages, 2], the middle of what the convolutions see of the map's position, in pixels from the
            upper left.
        images: over how many images the gradients are averaged.
    """

    stages: tuple[int, ...]
    maps: np.ndarray
    centres: np.ndarray
    images: int

    def area(self, share: float) -> np.ndarray:
        """float64 [stages]: the smallest part of the image, from 0 to 1, that holds this share of the gradient."""
        flat = -np.sort(-self.maps.reshape(len(self.maps), -1), axis=1)
        # An ulp of rounding in the sum must not ask for one pixel more.
        needed = (np.cumsum(flat, axis=1) < share - 1e-9).sum(axis=1) + 1
        return np.minimum(needed, flat.shape[1]) / flat.shape[1]

    def side(self, share: float) -> np.ndarray:
        """int64 [stages]: pixels of the side of the square round the centre that holds this share of the gradient."""
        rows, columns = (np.arange(n) + 0.5 for n in self.maps.shape[1:])
        sides = []
        for values, (y, x) in zip(self.maps, self.centres, strict=True):
            distance = np.maximum(abs(rows - y)[:, None], abs(columns - x)[None]).ravel()
            order = np.argsort(distance, kind="stable")
            last = int(np.searchsorted(np.cumsum(values.ravel()[order]), share - 1e-9))
            farthest = float(distance[order][min(last, len(order) - 1)])
            sides.append(round(2 * farthest + 1))
        return np.array(sides)

    def touched(self) -> np.ndarray:
        """int64 [stages, 4]: first and last row, first and last column with any gradient at all."""
        edges = []
        for values in self.maps:
            rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
            edges.append([rows[0], rows[-1], columns[0], columns[-1]])
        return np.array(edges)

    def to_dicts(self, shares: Sequence[float]) -> list[dict[str, Any]]:
        """The figures of each stage as JSON values: where these shares of the gradient are, and where any is."""
        areas = {f"{share:g}": self.area(share).tolist() for share in shares}
        sides = {f"{share:g}": self.side(share).tolist() for share in shares}
        return [
            {
                "stage": stage,
                "images": self.images,
                "size": list(self.maps.shape[1:]),
                "area": {share: values[i] for share, values in areas.items()},
                "side_pixels": {share: values[i] for share, values in sides.items()},
                "any_gradient_pixels": f"{bottom - top + 1}×{right - left + 1}",
            }
            for i, (stage, (top, bottom, left, right)) in enumerate(
                zip(self.stages, self.touched().tolist(), strict=True)
            )
        ]


def effective_field(
    model: CycleMLP,
    batches: Iterable[np.ndarray | paddle.Tensor],
    stages: Iterable[int] | None = None,
    *,
    through_gate: bool = True,
) -> Field:
    """The effective receptive field of the centre of each stage's map, before its norm.

    Args:
        model: left as it is.
        batches: prepared images `[B, C, H, W]`, all of one size.
        stages: which, from 1; None for all.
        through_gate: whether gradients go through the gates too. They see all positions through a mean, so with them
            no pixel is without influence; without them what is left is what the branches and convolutions read.

    Raises:
        DataError: no image, or images of several sizes.
        FloatingPointError: the gradients are not finite, or all zero.
        ModelError: a stage that the network has not, an image that does not fit it.
    """
    chosen = check_stages(model, stages or range(1, model.config.stages + 1))
    total: np.ndarray | None = None
    centres = np.zeros((len(chosen), 2))
    count = 0
    with evaluating(model), removed_at_end([] if through_gate else _detached_gates(model)):
        for batch in batches:
            images = as_images(batch)
            images.stop_gradient = False
            _, maps = forward_with_stages(model, images)
            gradients = []
            for i, stage in enumerate(chosen):
                height, width = maps[stage - 1].shape[1:3]
                row, column = height // 2, width // 2
                centres[i] = [_pixel(model.config, stage, index) for index in (row, column)]
                centre = maps[stage - 1][:, row, column].sum()
                (gradient,) = paddle.grad(centre, images, retain_graph=stage != chosen[-1])
                gradients.append(gradient.abs().sum(axis=[0, 1]).numpy().astype(np.float64))
            stacked = np.stack(gradients)
            if total is not None and total.shape != stacked.shape:
                raise DataError(
                    f"images of {total.shape[1]}×{total.shape[2]} and of {stacked.shape[1]}×{stacked.shape[2]} "
                    "pixels: the field is averaged over images of one size"
                )
            total = stacked if total is None else total + stacked
            count += len(images)
    if total is None:
        raise DataError("no image is given: the field is averaged over images")
    sums = total.sum(axis=(1, 2), keepdims=True)
    if not np.isfinite(sums).all() or not sums.all():
        raise FloatingPointError("the gradients are not finite, or all zero; the weights may be broken")
    return Field(chosen, total / sums, centres, count)


def _pixel(config: CycleMLPConfig, stage: int, index: float) -> float:
    """Of a row or column of a stage's map, the middle of what the convolutions see, in pixels from the edge."""
    for _ in range(stage - 1):
        index = 2 * index + (
            0.5 if config.downsample == "merge" else 0
        )  # a 3×3 kernel is centred on the even ones
    return index * config.patch_stride - config.patch_padding[0] + config.patch_size / 2


def _detached_gates(model: CycleMLP) -> list[Any]:
    """Hooks by which the gates' weights are numbers without a gradient."""
    gated = [mixer.reweight for mixer in mixers(model).values() if hasattr(mixer, "reweight")]
    return [layer.register_forward_post_hook(lambda _, __, out: out.detach()) for layer in gated]


# ---- the figure


#: Shares of the gradient whose area is given.
DRAWN_SHARES = (0.5, 0.95)


def plot_fields(fields: Mapping[str, Field], path: PathLike) -> Path:
    """Effective receptive fields: a row a network, a column a stage.

    Each map is drawn by the fourth root of its values; the squares hold half of the gradient, and 95 % of it.

    Raises:
        DataError: the networks' fields are not of the same stages, or there is none.
    """
    stages = {field.stages for field in fields.values()}
    if len(stages) != 1:
        raise DataError(f"fields of the same stages can be drawn side by side; these are of {sorted(stages)}")
    columns = len(next(iter(stages)))
    with saved_figure(path, 2.75 * columns + 0.3, 3.15 * len(fields) + 0.3) as figure:
        grid = figure.subplots(len(fields), columns, squeeze=False)
        for row, (name, field) in zip(grid, fields.items(), strict=True):
            areas = [field.area(share) for share in DRAWN_SHARES]
            for i, axes in enumerate(row):
                values, caption = (
                    field.maps[i],
                    [
                        f"{100 * share:g} % in {100 * area[i]:.2g} % of the area"
                        for share, area in zip(DRAWN_SHARES, areas, strict=True)
                    ],
                )
                shown = (values / values.max()) ** 0.25
                show_image(axes, shown, caption="\n".join(caption), cmap="magma", vmin=0, vmax=1)
                axes.set_title(f"stage {field.stages[i]}")
                for share, dash in zip(DRAWN_SHARES, ("-", ":"), strict=True):
                    _square(axes, field, i, share, dash)
            row[0].set_ylabel(name, fontsize=9)
    return Path(path)


def _square(axes: Any, field: Field, index: int, share: float, dash: str) -> None:
    """The square round the centre, as far as it lies in the image."""
    height, width = field.maps.shape[1:]
    (y, x), half = field.centres[index], field.side(share)[index] / 2
    top, left, bottom, right = max(y - half, 0), max(x - half, 0), min(y + half, height), min(x + half, width)
    xs = np.array([left, right, right, left, left]) - 0.5
    ys = np.array([top, top, bottom, bottom, top]) - 0.5
    axes.plot(xs, ys, dash, color="white", linewidth=1.0)
