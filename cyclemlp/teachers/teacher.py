"""A frozen network that answers what a student's images show.

Shapes: B images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from cyclemlp.errors import ModelError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.text import counted


class Teacher:
    """A network that only answers: in evaluation mode, without gradients, from images normalised for the student.

    It is no `paddle.nn.Layer`, so that nothing that holds it takes its parameters for its own, or its mode.

    Args:
        name: what messages call it.
        network: from `[B, C, H, W]` to logits `[B, K]`, or to a list of which they are the first. It is frozen.
        preprocessing: what the network was trained with.
        num_classes: K.
        images: how the images that it will get were made; None: as its own.
        summary: says where its weights are from.

    Attributes:
        name, network, preprocessing, num_classes, summary: as given.

    Raises:
        ModelError: the images' channels cannot be made into the network's.
    """

    def __init__(
        self,
        name: str,
        network: nn.Layer,
        preprocessing: Preprocessing,
        *,
        num_classes: int,
        images: Preprocessing | None = None,
        summary: str = "",
    ) -> None:
        self.name, self.network, self.preprocessing = name, network, preprocessing
        self.num_classes, self.summary = num_classes, summary
        network.eval()
        for parameter in network.parameters():
            parameter.stop_gradient = True
        self._scale = self._shift = None
        given = images or preprocessing
        if given.channels not in (1, preprocessing.channels):
            raise ModelError(
                f"the student reads images of {counted(given.channels, 'channel')} and the teacher {name} of "
                f"{preprocessing.channels}; only greyscale can be made into something else"
            )
        if (given.mean, given.std) != (preprocessing.mean, preprocessing.std):
            # x σₛ + μₛ is a pixel's value, and (that − μₜ) / σₜ what the teacher wants: a product and a sum in all.
            # Greyscale broadcasts to the teacher's channels.
            (ours_mean, ours_std), (mean, std) = (np.array([p.mean, p.std]) for p in (given, preprocessing))
            self._scale = _per_channel(ours_std / std)
            self._shift = _per_channel((ours_mean - mean) / std)

    @paddle.no_grad()
    def __call__(self, images: paddle.Tensor) -> paddle.Tensor:
        """Images `[B, C, H, W]`, normalised for the student → logits `[B, K]`, without a gradient.

        Raises:
            ModelError: the network gives something else.
        """
        if self._scale is not None:
            images = images.astype("float32") * self._scale + self._shift
        logits = self.network(images)
        if isinstance(logits, list | tuple):  # GoogLeNet's auxiliary heads follow
            logits = logits[0]
        found, expected = list(logits.shape), [images.shape[0], self.num_classes]
        if found != expected:
            raise ModelError(
                f"the teacher {self.name} gives {found} for {expected[0]} images; expected {expected}"
            )
        return logits


def _per_channel(values: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(values.astype(np.float32).reshape(1, -1, 1, 1))
