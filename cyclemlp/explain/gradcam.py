"""Grad-CAM: which positions of a stage's map speak for a class.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017, arXiv
1610.02391. For the last stage no gradient is needed: the logit is the head's weights times the mean of the normalised
map, so the map of a class is exactly those weights times the map (CAM, Zhou et al., CVPR 2016).

Shapes: B images, K classes, C channels, H height, W width; h, w of a stage's map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from cyclemlp.errors import ModelError
from cyclemlp.explain.watch import as_images, check_stages, evaluating, forward_with_stages
from cyclemlp.network import CycleMLP


@dataclass(frozen=True)
class GradCam:
    """Maps of one class for each of some images.

    Attributes:
        classes: int64 [B], whose map it is.
        logits: float32 [B, K].
        maps: stage, from 1 → float32 [B, h, w], before the ReLU, in logits: Grad-CAM's times the number of positions,
            so that the last stage's mean plus the head's bias is the logit of the class.
    """

    classes: np.ndarray
    logits: np.ndarray
    maps: dict[int, np.ndarray]

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
        return np.exp(chosen - np.logaddexp.reduce(logits, axis=1))


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
                f"classes {wanted.tolist()} for {len(values)} images; give one an image, from 0 to "
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
    return GradCam(wanted, values, found)
