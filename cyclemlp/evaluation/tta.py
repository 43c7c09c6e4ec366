"""Test-time augmentation: a network's probabilities averaged over several views of each image.

Shapes: B images, C channels, H height and W width of the network's input, K classes, N crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cyclemlp.data.transforms import CROPS, EvaluationTransform, FiveCropsTransform
from cyclemlp.errors import ConfigError
from cyclemlp.evaluation.metrics import log_softmax
from cyclemlp.evaluation.multilabel.measures import log_sigmoid
from cyclemlp.evaluation.run import Classifier
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.text import counted

MIRRORED = "mirrored"


@dataclass(frozen=True)
class Views:
    """Which views of an image the network is given.

    Attributes:
        name: "none", "flip" or "crops".
        crops: their names, the centre first.
        flips: whether each crop is given mirrored (left to right), too.
    """

    name: str
    crops: tuple[str, ...]
    flips: bool

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each view."""
        return tuple(
            name for crop in self.crops for name in ((crop, f"{crop}, {MIRRORED}") if self.flips else (crop,))
        )

    def transform(self, preprocessing: Preprocessing) -> EvaluationTransform:
        """From an image to its crops, one below the other: float32 [C, N·H, W]; of one crop the plain evaluation."""
        if len(self.crops) == 1:
            return EvaluationTransform(preprocessing)
        return FiveCropsTransform(preprocessing)

    def classifier(self, fn: Classifier, *, multi_label: bool = False) -> Classifier:
        """`fn` over the views.

        Args:
            fn: from images [B, C, H, W] to logits [B, K].
            multi_label: the probability of each class is its logit's sigmoid; else they are the logits' softmax.

        Returns:
            A function from what `transform` gives, [B, C, N·H, W], NumPy or Paddle, to the logarithms of the mean
            probabilities, float32 [B, K]: logits, whose softmax (with `multi_label` sigmoid) is these probabilities.
            NaN for an image for which a view's logits are not finite. For a single view it is `fn`.
        """
        return _Averaged(fn, self, multi_label) if len(self.names) > 1 else fn

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the name, the views, and how many forward passes an image takes."""
        return {"name": self.name, "views": list(self.names), "forward_passes": len(self.names)}

    def __str__(self) -> str:
        crops = "centre" if len(self.crops) == 1 else "centre and corners"
        return (
            f"{counted(len(self.names), 'view')}, {crops}, each also {MIRRORED}; probabilities are averaged"
        )


#: The choices by their names.
TTA = {
    views.name: views
    for views in (
        Views("none", CROPS[:1], flips=False),
        Views("flip", CROPS[:1], flips=True),
        Views("crops", CROPS, flips=True),
    )
}


def choose_views(name: str) -> Views:
    """The views of a choice. Raises ConfigError for an unknown one."""
    if name not in TTA:
        raise ConfigError(f"tta is {name!r}; use one of {', '.join(TTA)}")
    return TTA[name]


class _Averaged:
    def __init__(self, fn: Classifier, views: Views, multi_label: bool) -> None:
        self._fn, self._views, self._multi_label = fn, views, multi_label

    def __call__(self, images: Any) -> np.ndarray:
        count = len(self._views.crops)
        height = images.shape[2] // count
        total: np.ndarray | None = None
        for place in range(count):
            crop = images[:, :, place * height : (place + 1) * height]
            for view in (crop, _mirrored(crop)) if self._views.flips else (crop,):
                logits = np.asarray(self._fn(_whole(view)))
                if logits.ndim != 2:
                    return logits  # whoever called says what is wrong with it
                finite = np.isfinite(logits).all(axis=1)
                logarithms = self._logarithms(logits[finite])
                found = np.full((len(logits), *logarithms.shape[1:]), np.nan)
                found[finite] = logarithms
                with np.errstate(invalid="ignore"):  # NaN stays NaN
                    total = found if total is None else np.logaddexp(total, found)
        assert total is not None
        if self._multi_label:
            return (total[:, 0] - total[:, 1]).astype(np.float32)
        return (total - np.log(len(self._views.names))).astype(np.float32)

    def _logarithms(self, logits: np.ndarray) -> np.ndarray:
        """Of the probabilities, [B, K]; or of those of each class and of its absence, [B, 2, K]."""
        if self._multi_label:
            return np.stack([log_sigmoid(logits), log_sigmoid(-logits)], axis=1)
        return log_softmax(logits)


def _mirrored(images: Any) -> Any:
    return images[..., ::-1] if isinstance(images, np.ndarray) else images.flip(3)


def _whole(images: Any) -> Any:
    """Runtimes take arrays whose memory is in their order."""
    return np.ascontiguousarray(images) if isinstance(images, np.ndarray) else images
