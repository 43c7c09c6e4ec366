"""ImageNet-C's corruptions: their names, and how they are made here (Hendrycks 2019, arXiv 1903.12261)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from cyclemlp.data.images import to_channels
from cyclemlp.data.resampling import as_array, as_image
from cyclemlp.data.transforms import Begun, EvaluationTransform, Left
from cyclemlp.errors import ConfigError, MissingDependencyError
from cyclemlp.preprocessing import Preprocessing, as_size

SEVERITIES = (1, 2, 3, 4, 5)

#: ImageNet-C's corruptions by group, in the order of the paper's table 1.
CORRUPTIONS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
#: The 15 that count in the mean corruption error.
COUNTED = tuple(name for group in CORRUPTIONS.values() for name in group)
#: Published beside them, for tuning; they count in no mean.
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")


class CorruptionTransform(EvaluationTransform):
    """Resizes, crops the centre, corrupts as ImageNet-C does, normalises.

    The library's corruptions need 32 pixels a side, and are meant for 224. Where the model takes fewer than 32,
    images are prepared at the least multiple of its size that has 32, corrupted, and averaged down.

    Args:
        preprocessing: as for evaluation.
        corruption: one of `COUNTED` or `EXTRA`.
        severity: 1 (weak) to 5.

    Raises:
        ConfigError: another corruption or severity.
        MissingDependencyError: imagecorruptions-imaug is not installed.
    """

    LEAST_PIXELS = 32

    def __init__(self, preprocessing: Preprocessing, corruption: str, severity: int) -> None:
        super().__init__(preprocessing)
        if corruption not in (*COUNTED, *EXTRA):
            raise ConfigError(f"the corruption is {corruption!r}; use one of {', '.join((*COUNTED, *EXTRA))}")
        if severity not in SEVERITIES:
            raise ConfigError(f"the severity is {severity}; give 1 to 5")
        _imagecorruptions()  # an error now rather than in a worker
        self.corruption, self.severity = corruption, severity
        height, width = preprocessing.input_height, preprocessing.input_width
        self._reduction = -(-self.LEAST_PIXELS // min(height, width))
        larger = as_size(height * self._reduction, width * self._reduction)
        self._prepare = EvaluationTransform(replace(preprocessing, input_size=larger))

    def begin(self, image: Image.Image, rng: np.random.Generator | None = None) -> Begun:
        """All randomness comes from `rng`, which must be given. Raises DataError as evaluation does."""
        if rng is None:
            raise TypeError("a corruption is random: it needs a numpy.random.Generator")
        pixels = corrupt(self._prepare.begin(image).pixels, self.corruption, self.severity, rng)
        if self._reduction > 1:
            pixels = as_array(as_image(pixels).reduce(self._reduction))
        return Begun(pixels, Left())


def corrupt(pixels: np.ndarray, corruption: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """An image, corrupted by imagecorruptions (Michaelis et al. 2019, arXiv 1907.07484; ImageNet-C's own code).

    Args:
        pixels: uint8 [H, W, C], C 1 or 3, H and W at least 32.
        corruption: one of `COUNTED` or `EXTRA`.
        severity: 1 to 5.
        rng: the same state gives the same result.

    Returns:
        uint8 [H, W, C].

    Raises:
        MissingDependencyError: the library is not installed.
    """
    seed = int(rng.integers(2**31))
    # Two of the corruptions take a seed; the others draw from NumPy's global generator, which is put back.
    own: Mapping[str, Any] = {"seed": seed} if corruption in ("glass_blur", "impulse_noise") else {}
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        # Where sizes differ by rounding, the library prints that.
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(invalid="raise"):
            corrupted = _imagecorruptions().corrupt(
                pixels, severity=severity, corruption_name=corruption, **own
            )
    except FloatingPointError:
        if corruption != "spatter":
            raise
        return pixels  # no drop fell on it, and the library divided 0 by 0
    finally:
        np.random.set_state(before)
    return as_array(to_channels(as_image(corrupted), pixels.shape[2]))


def _imagecorruptions() -> Any:
    try:
        import imagecorruptions
    except ImportError as error:
        raise MissingDependencyError(
            f"corruptions are made by imagecorruptions-imaug, which cannot be imported ({error}): "
            'pip install "paddle-cyclemlp[robustness]"; where libGL.so.1 is missing: '
            "pip install --force-reinstall --no-deps opencv-python-headless"
        ) from error
    return imagecorruptions
