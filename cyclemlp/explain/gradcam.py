"""Grad-CAM: which positions of a stage's map speak for a class.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017, arXiv
1610.02391. For the last stage no gradient is needed: the logit is the head's weights times the mean of the normalised
map, so the map of a class is exactly those weights times the map (CAM, Zhou et al., CVPR 2016).

Shapes: B images, K classes, C channels, H height, W width; h, w of a stage's map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

from cyclemlp.errors import DataError, ModelError
from cyclemlp.explain.watch import as_images, check_stages, evaluating, forward_with_stages
from cyclemlp.metadata import MULTI_LABEL
from cyclemlp.network import CycleMLP
from cyclemlp.report.figures import ORANGE, PathLike, rgb, saved_figure
from cyclemlp.report.sheet import image_grid, sheet_title, show_image
from cyclemlp.text import counted


@dataclass(frozen=True)
class GradCam:
    """Maps of one class for each of some images.

    Attributes:
        classes: int64 [B], whose map it is.
        logits: float32 [B, K].
        maps: stage, from 1 → float32 [B, h, w], before the ReLU, in logits: Grad-CAM's times the number of positions,
            so that the last stage's mean plus the head's bias is the logit of the class.
        multi_label: whether each class has a probability of its own.
    """

    classes: np.ndarray
    logits: np.ndarray
    maps: dict[int, np.ndarray]
    multi_label: bool = False

    def heat(self, stage: int) -> np.ndarray:
        """What speaks for the class, by share of the image's greatest value: float32 [B, h, w] in [0, 1].

        All 0 where nothing speaks for it.
        """
        positive = np.maximum(self.maps[stage], 0)
        return positive / np.maximum(positive.max(axis=(1, 2), keepdims=True), np.finfo(positive.dtype).tiny)

    def probabilities(self) -> np.ndarray:
        """float64 [B]: of the class."""
        logits = self.logits.astype(np.float64)
        chosen = logits[np.arange(len(logits)), self.classes]
        return np.exp(
            -np.logaddexp(0, -chosen) if self.multi_label else chosen - np.logaddexp.reduce(logits, axis=1)
        )


def grad_cam(
    model: CycleMLP,
    images: np.ndarray | paddle.Tensor,
    classes: Sequence[int] | np.ndarray | None = None,
    stages: Iterable[int] | None = None,
) -> GradCam:
    """Grad-CAM of one class for each image.

    Args:
        model: with a head; left as it is.
        images: prepared images `[B, C, H, W]`, of any size that the network takes.
        classes: [B]; None for the most probable one of each image.
        stages: which maps, from 1; None for the last.

    Raises:
        ModelError: a network without a head, a class or stage that it has not, an image that does not fit it.
        FloatingPointError: the logits are not finite.
    """
    if model.config.features_only or not model.config.num_classes:
        raise ModelError("Grad-CAM asks what speaks for a class, and this network has no classification head")
    last = model.config.stages
    chosen = check_stages(model, stages or [last])
    with evaluating(model):
        features, maps = forward_with_stages(model, as_images(images))
        logits = model.forward_head(features)
        values = logits.numpy().astype(np.float32)
        if not np.isfinite(values).all():
            raise FloatingPointError(
                "the network gives NaN or infinity; the weights or the preprocessing (mean, std) may be broken"
            )
        wanted = values.argmax(axis=1) if classes is None else np.asarray(classes, dtype=np.int64)
        if wanted.shape != (len(values),) or (wanted < 0).any() or (wanted >= values.shape[1]).any():
            raise ModelError(
                f"classes {wanted.tolist()} for {counted(len(values), 'image')}; give one an image, from 0 to "
                f"{values.shape[1] - 1}"
            )
        found = {}
        lower = [stage for stage in chosen if stage != last]
        if lower:
            picked = logits[paddle.arange(len(wanted)), paddle.to_tensor(wanted)].sum()
            gradients = paddle.grad(picked, [maps[stage - 1] for stage in lower], retain_graph=True)
            for stage, gradient in zip(lower, gradients, strict=True):
                weights = gradient.sum(axis=[1, 2], keepdim=True)  # Grad-CAM's mean, times the positions
                found[stage] = (weights * maps[stage - 1]).sum(axis=-1).numpy().astype(np.float32)
        if last in chosen:
            of_class = model.class_maps(features).numpy().astype(np.float32)
            found[last] = of_class[np.arange(len(wanted)), wanted]
    about = model.metadata
    return GradCam(wanted, values, found, multi_label=about is not None and about.task == MULTI_LABEL)


# ---- the figure


#: Side in pixels below which an image is enlarged before something is laid over it.
OVERLAY_SIDE = 224


@dataclass(frozen=True)
class CamPanel:
    """One overlay: heat [h, w] in [0, 1], and what stands above and below it."""

    heat: np.ndarray
    title: str
    caption: str


def overlay_heat(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image with heat in orange over it: uint8 [H', W', 3], enlarged by a whole factor if it is small.

    Args:
        pixels: uint8 [H, W, 1] or [H, W, 3].
        heat: [h, w] in [0, 1], spread over the image by linear interpolation.
    """
    factor = max(1, round(OVERLAY_SIDE / min(pixels.shape[:2])))
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    image = Image.fromarray(pixels.squeeze()).convert("RGB").resize(size, Image.Resampling.NEAREST)
    spread = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    share = 0.8 * np.clip(np.asarray(spread), 0, 1)[..., None]
    return np.rint((1 - share) * np.asarray(image) + share * 255 * rgb(ORANGE)).astype(np.uint8)


def plot_cams(
    images: Sequence[tuple[str, np.ndarray, Sequence[CamPanel]]], path: PathLike, *, title: str
) -> Path:
    """Images, each followed by its overlays.

    Args:
        images: (caption, uint8 [H, W, C], overlays) each; all with as many overlays.

    Raises:
        DataError: no image.
    """
    if not images:
        raise DataError("no image to draw")
    width = 1 + len(images[0][2])
    side_by_side = max(1, min(len(images), 10 // width))
    rows = -(-len(images) // side_by_side)
    with saved_figure(path, 1.7 * width * side_by_side, 2.25 * rows + 0.4) as figure:
        grid = image_grid(figure, rows, width * side_by_side)
        for i, (caption, pixels, panels) in enumerate(images):
            first = (i % side_by_side) * width
            row = grid[i // side_by_side][first : first + width]
            show_image(row[0], pixels, caption=caption)
            for axes, panel in zip(row[1:], panels, strict=True):
                overlay = overlay_heat(pixels, panel.heat)
                show_image(axes, overlay, title=panel.title, caption=panel.caption)
        sheet_title(figure, title)
    return Path(path)
