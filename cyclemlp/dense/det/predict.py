"""A trained detector as a callable from an image to the objects in it.

Shapes: H and W the image's height and width, h and w those of the prepared one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
from ppdet.core.workspace import create

from cyclemlp.dense.det.configuration import Configuration
from cyclemlp.dense.det.engine import load_all, make_trainer, refusals
from cyclemlp.dense.detections import Detections, to_detections


class Preparation:
    """How an image becomes the engine's input: "TestReader" of the active configuration, without its decoding."""

    def __init__(self) -> None:
        reader = create("TestReader")
        self._each = [t for t in reader._sample_transforms.transforms_cls if type(t).__name__ != "Decode"]
        self._batch = reader._batch_transforms

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """RGB uint8 [H, W, 3] → `image` [1, 3, h, w], `im_shape` [1, 2] and `scale_factor` [1, 2], float32."""
        height, width = image.shape[:2]
        sample: dict[str, Any] = {
            "image": image,
            "im_id": np.array([0]),
            "h": height,
            "w": width,
            "im_shape": np.array([height, width], dtype=np.float32),
            "scale_factor": np.ones(2, dtype=np.float32),
        }
        for transform in self._each:
            sample = transform(sample)
        batch = self._batch([sample])
        return {name: np.asarray(batch[name], np.float32) for name in ("image", "im_shape", "scale_factor")}


class Detector:
    """A detector with its weights.

    Args:
        config: its configuration, which is made the active one.
        weights: a .pdparams file with all its tensors, or a run's folder or checkpoint.
        device: what Paddle computes on.

    Raises:
        ConfigError, WeightsError: from building it and from its weights.
    """

    def __init__(self, config: Configuration, weights: Path, *, device: str = "cpu") -> None:
        self.config = config
        self.trainer = make_trainer(config, "test", device=device, pretrained=False)
        load_all(self.trainer.model, weights)
        self.trainer.model.eval()
        with refusals(config, "TestReader"):
            self._prepare = Preparation()

    def __call__(self, image: np.ndarray) -> Detections:
        """What is in an image, RGB uint8 [H, W, 3] of any size."""
        batch = {name: paddle.to_tensor(value) for name, value in self._prepare(image).items()}
        with paddle.no_grad():
            outputs = self.trainer.model(batch)
        return to_detections({k: v.numpy() for k, v in outputs.items()}, image.shape[:2])
