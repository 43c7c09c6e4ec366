"""Mixed precision: products in half precision, everything delicate in float32.

The weights stay float32 (Paddle's level O1): products cast them as they run. The other way, O2, keeps half-precision
weights in the model and float32 copies in the optimizer; with O1 the one float32 set is what is updated, clipped,
averaged and saved, so a checkpoint is the same file with and without mixed precision and a run may change its mind when
it is resumed. The price is a cast a step of weights that are small beside the activations.

Norms, softmax (the gate's too, which casts by itself), means and the loss are computed in float32.

Nothing of this was ever run on a GPU. On a CPU Paddle has no half-precision kernels: it would warn at each step and
compute in float32, so a warning says so once and it is left out.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import paddle

from cyclemlp.config import MAX_COUNT, Config, Field
from cyclemlp.errors import ConfigError

#: Half precision whatever Paddle thinks: a shift by a one-hot kernel is exact, and a product follows it.
WHITE = ("conv2d", "depthwise_conv2d", "matmul", "linear_v2")
#: Float32 always, whatever Paddle's own list has: norms, the gate and the loss, sums over many positions.
BLACK = (
    "layer_norm",
    "softmax",
    "log_softmax",
    "logsumexp",
    "mean",
    "reduce_mean",
    "sum",
    "reduce_sum",
    "exp",
)
#: A loss scaled by less than this still overflows: then it is not the scale.
LEAST_SCALE = 2.0**-14


class AmpConfig(Config):
    """Mixed precision; see `cyclemlp.training.amp`. On a CPU it changes nothing, and a warning says so."""

    dtype: Literal["float16", "bfloat16"] | None = Field(
        "float16", description="`float16` (with a scaled loss), `bfloat16`, or null for float32 throughout"
    )
    init_loss_scaling: float = Field(
        65536.0, ge=1, le=2.0**64, description="factor of a float16 loss at first"
    )
    growth_steps: int = Field(
        2000,
        ge=1,
        le=MAX_COUNT,
        description="steps without an overflow after which that factor doubles; an overflow halves it",
    )


class MixedPrecision:
    """How a step's forward pass, gradients and update are done in the recipe's precision.

    Args:
        config: `dtype` None computes in float32 throughout.

    Attributes:
        dtype: what is really used: "float16", "bfloat16" or None. On a CPU it is None.

    Raises:
        ConfigError: the GPU cannot compute in that type.
    """

    def __init__(self, config: AmpConfig) -> None:
        self.dtype: str | None = config.dtype
        if config.dtype is not None and paddle.get_device() == "cpu":
            warnings.warn(
                f"MIXED PRECISION IS OFF: Paddle computes {config.dtype} on GPUs only, and this runs on the CPU. "
                "Training goes on in float32; `--amp none` says that this is meant",
                stacklevel=2,
            )
            self.dtype = None
        if self.dtype is not None and not getattr(paddle.amp, f"is_{self.dtype}_supported")():
            other = {"float16": "bfloat16", "bfloat16": "float16"}[self.dtype]
            raise ConfigError(f"amp.dtype is {self.dtype}, which this GPU does not have; use {other} or none")
        # bfloat16 has float32's range, so its gradients need no scale.
        self._scaler = (
            paddle.amp.GradScaler(
                init_loss_scaling=config.init_loss_scaling,
                incr_ratio=2.0,
                decr_ratio=0.5,
                incr_every_n_steps=config.growth_steps,
                decr_every_n_nan_or_inf=1,
            )
            if self.dtype == "float16"
            else None
        )

    def autocast(self) -> AbstractContextManager[Any]:
        """For the forward pass, without the loss."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(
            level="O1", dtype=self.dtype, custom_white_list=WHITE, custom_black_list=BLACK
        )

    def backward(self, loss: paddle.Tensor) -> None:
        """Add the gradients of a loss, of one part of a batch say."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def step(self, optimizer: paddle.optimizer.Optimizer) -> bool:
        """Update the parameters by their gradients.

        Returns:
            Whether it was done. A float16 step whose gradients overflow changes neither parameters nor optimizer, and
            halves the scale.

        Raises:
            FloatingPointError: gradients are infinite or no number, and scaling the loss less does not help.
        """
        if self._scaler is None:
            optimizer.step()
            return True
        before = self.scale
        with _quiet():
            self._scaler.step(optimizer)
            self._scaler.update()
        if self.scale < LEAST_SCALE:
            raise FloatingPointError(
                f"the gradients are infinite or no number even with the loss scaled by {self.scale:.2g}"
            )
        return not self.scale < before

    @property
    def scale(self) -> float:
        """What the loss is multiplied by; 1 without scaling."""
        return 1.0 if self._scaler is None else float(self._scaler.state_dict()["scale"][0])

    def state_dict(self) -> dict[str, float]:
        """The scaler's state as JSON values; empty without one."""
        if self._scaler is None:
            return {}
        state = self._scaler.state_dict()
        return {"scale": self.scale, **{key: int(state[key]) for key in ("incr_count", "decr_count")}}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a checkpoint's state; an empty one, of a run in another precision, changes nothing."""
        if self._scaler is not None and state:
            scale = np.asarray([state["scale"]], dtype=np.float32)
            self._scaler.load_state_dict({**self._scaler.state_dict(), **state, "scale": scale})

    def __str__(self) -> str:
        if self.dtype is None:
            return "float32"
        return f"{self.dtype} products, float32 weights" + (
            f", loss scaled by {self.scale:g} at first" if self._scaler else ""
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Paddle prints each overflow on stdout, where a command's JSON goes; the loop counts and logs them."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its float() of an array of one element
        yield
