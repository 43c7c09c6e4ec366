"""Mixup and cutmix: images of a batch mixed with one another, and their labels with them.

    mixup    Zhang et al. 2017, arXiv 1710.09412
    cutmix   Yun et al. 2019, arXiv 1905.04899

Both are one formula. Image i meets its partner, image B − 1 − i, with a weight for every pixel: mixup's is the
same number λ everywhere, cutmix's is 0 in a rectangle and 1 outside:

    image = weight · own + (1 − weight) · partner's,   target = λ · own + (1 − λ) · partner's

where λ is the mean of the weight. Shapes: B images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cyclemlp.errors import ConfigError

MODES = ("batch", "pair", "elem")
STEP = 3  # first word of the seed, beside the loader's


def step_generator(seed: int, epoch: int, step: int, rank: int = 0) -> np.random.Generator:
    """The generator of what is drawn for a whole batch: a function of (seed, epoch, step, rank)."""
    return np.random.default_rng([STEP, seed, epoch, step, rank])


class Mixup:
    """(images, labels, generator) → (mixed images, soft targets).

    With neither mixup nor cutmix, or `prob` 0, the images stay as they are and the targets are smoothed labels.

    Args:
        num_classes: K.
        mixup_alpha: λ ~ Beta(alpha, alpha); 0 is no mixup.
        cutmix_alpha: the same for cutmix, whose rectangle has the area 1 − λ; 0 is no cutmix.
        cutmix_minmax: least and greatest side of the rectangle, as shares of the image's; drawn uniformly instead
            of from Beta, and turns cutmix on.
        prob: probability of mixing at all.
        switch_prob: probability of cutmix where both are on.
        mode: how often is drawn: "batch", once for all; "pair", once for two images that are each other's partner;
            "elem", for every image.
        label_smoothing: share s of each label that is spread over all classes; of several labels an image 1 becomes
            1 − s / 2, and 0 becomes s / 2. The loss must not smooth again.

    Raises:
        ConfigError: an impossible number, an unknown mode.
    """

    def __init__(
        self,
        num_classes: int,
        mixup_alpha: float = 0.8,
        cutmix_alpha: float = 1.0,
        cutmix_minmax: tuple[float, float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: str = "batch",
        label_smoothing: float = 0.1,
    ) -> None:
        for name, value, good, wanted in (
            ("num_classes", num_classes, num_classes >= 1, "at least 1"),
            ("mixup_alpha", mixup_alpha, 0 <= mixup_alpha < math.inf, "0 (none) or more"),
            ("cutmix_alpha", cutmix_alpha, 0 <= cutmix_alpha < math.inf, "0 (none) or more"),
            ("mixup_prob", prob, 0 <= prob <= 1, "a probability from 0 to 1"),
            ("mixup_switch_prob", switch_prob, 0 <= switch_prob <= 1, "a probability from 0 to 1"),
            ("mixup_mode", mode, mode in MODES, f"one of {', '.join(MODES)}"),
            ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "a share in [0, 1)"),
        ):
            if not good:
                raise ConfigError(f"{name} is {value!r}; give {wanted}")
        if cutmix_minmax is not None and not (
            len(cutmix_minmax) == 2 and 0 <= cutmix_minmax[0] <= cutmix_minmax[1] <= 1
        ):
            raise ConfigError(f"cutmix_minmax is {cutmix_minmax}; give two shares in [0, 1], rising")
        self.num_classes, self.label_smoothing, self.mode = num_classes, label_smoothing, mode
        self.mixup_alpha, self.cutmix_alpha, self.cutmix_minmax = mixup_alpha, cutmix_alpha, cutmix_minmax
        self.prob, self.switch_prob = prob, switch_prob
        self._cutmix = cutmix_alpha > 0 or cutmix_minmax is not None
        self.active = prob > 0 and (mixup_alpha > 0 or self._cutmix)  # whether it ever mixes

    def __call__(self, images: Any, labels: Any, rng: np.random.Generator) -> tuple[Any, Any]:
        """Mix a batch. In a batch of odd size the middle image is its own partner, so it stays as it is.

        Args:
            images: float32 [B, C, H, W], NumPy array or Paddle tensor; not changed.
            labels: class numbers, int64 [B], of the same kind; or, of several labels an image, float32 [B, K].
            rng: see `step_generator`.

        Returns:
            images [B, C, H, W] and targets float32 [B, K], of the kind that came in; of class numbers their rows sum
            to 1.
        """
        targets = self._smoothed(labels)
        if not self.active:
            return images, targets
        batch, _, height, width = images.shape
        weight, lam = self._draw(batch, height, width, rng)
        if (lam == 1).all():
            return images, targets
        weight, lam = _like(images, weight), _like(targets, lam[:, None])
        return (
            weight * images + (1 - weight) * images[::-1],
            lam * targets + (1 - lam) * targets[::-1],
        )

    def _smoothed(self, labels: Any) -> Any:
        """Rows with 1 − s + s / K at the label and s / K elsewhere; of several labels, each its own two classes."""
        if labels.ndim == 2:
            return labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        off = self.label_smoothing / self.num_classes
        on = 1 - self.label_smoothing + off
        hit = labels[:, None] == _like(labels, np.arange(self.num_classes)[None])
        return hit.astype("float32") * (on - off) + off

    def _draw(self, batch: int, height: int, width: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """Weight of the own image, float32 [B or 1, 1, H or 1, W or 1], and its mean λ, float32 [B or 1]."""
        if self.mode == "batch":
            weight, lam = self._draw_one(height, width, rng)
            return weight[None, None], np.asarray([lam], dtype=np.float32)
        pairs = batch // 2
        drawn = [self._draw_one(height, width, rng) for _ in range(pairs if self.mode == "pair" else batch)]
        if self.mode == "pair":
            own = [(np.ones((1, 1), dtype=np.float32), 1.0)] * (batch % 2)
            drawn = [*drawn, *own, *reversed(drawn)]
        elif batch % 2:
            drawn[pairs] = (np.ones((1, 1), dtype=np.float32), 1.0)
        full = [np.broadcast_to(weight, (height, width)) for weight, _ in drawn]
        return np.stack(full)[:, None], np.asarray([lam for _, lam in drawn], dtype=np.float32)

    def _draw_one(self, height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        if rng.random() >= self.prob:
            return np.ones((1, 1), dtype=np.float32), 1.0
        if self._cutmix and (self.mixup_alpha == 0 or rng.random() < self.switch_prob):
            top, bottom, left, right = self._rectangle(height, width, rng)
            weight = np.ones((height, width), dtype=np.float32)
            weight[top:bottom, left:right] = 0
            # Not the λ that was drawn: at the border the rectangle is cut off.
            return weight, 1 - (bottom - top) * (right - left) / (height * width)
        lam = rng.beta(self.mixup_alpha, self.mixup_alpha)
        return np.full((1, 1), lam, dtype=np.float32), lam

    def _rectangle(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) in pixels."""
        if self.cutmix_minmax is not None:
            low, high = self.cutmix_minmax
            h, w = (
                int(rng.integers(int(side * low), int(side * high), endpoint=True))
                for side in (height, width)
            )
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            return top, top + h, left, left + w
        share = math.sqrt(1 - rng.beta(self.cutmix_alpha, self.cutmix_alpha))
        half_h, half_w = int(height * share) // 2, int(width * share) // 2
        y, x = int(rng.integers(height)), int(rng.integers(width))
        return max(y - half_h, 0), min(y + half_h, height), max(x - half_w, 0), min(x + half_w, width)

    def __str__(self) -> str:
        parts = [f"mixup {self.mixup_alpha:g}"] if self.mixup_alpha > 0 else []
        if self.cutmix_minmax is not None:
            parts.append(f"cutmix of sides {self.cutmix_minmax[0]:g} to {self.cutmix_minmax[1]:g}")
        elif self._cutmix:
            parts.append(f"cutmix {self.cutmix_alpha:g}")
        if not self.active:
            return "no mixup, no cutmix"
        return f"{' or '.join(parts)}, p {self.prob:g}, by {self.mode}"


def _like(given: Any, values: np.ndarray) -> Any:
    """`values` as NumPy array or Paddle tensor of `given`'s type and place."""
    if isinstance(given, np.ndarray):
        return values.astype(given.dtype)
    import paddle

    return paddle.to_tensor(values, dtype=given.dtype, place=given.place)
