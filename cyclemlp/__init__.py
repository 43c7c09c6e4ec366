"""CycleMLP (Chen et al., ICLR 2022, arXiv 2107.10224) for PaddlePaddle.

Paddle is imported at first use of a model, not with this package: reading weight files and lists needs none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cyclemlp._tune import SWITCH, tune
from cyclemlp._version import __version__

if TYPE_CHECKING:
    from cyclemlp.deploy import export_model, load_exported
    from cyclemlp.models import create_model, list_models, load_model, load_weights, model_info, save_model
    from cyclemlp.parameters import param_groups
    from cyclemlp.predictor import Predictor

__all__ = [
    "Predictor",
    "__version__",
    "create_model",
    "export_model",
    "list_models",
    "load_exported",
    "load_model",
    "load_weights",
    "model_info",
    "param_groups",
    "save_model",
    "tune",
]

if os.environ.get(SWITCH) == "1":
    tune()


def __getattr__(name: str) -> Any:
    if name in ("export_model", "load_exported"):
        from cyclemlp import deploy

        return getattr(deploy, name)
    if name == "param_groups":
        from cyclemlp.parameters import param_groups

        return param_groups
    if name == "Predictor":
        from cyclemlp.predictor import Predictor

        return Predictor
    if name in __all__:
        from cyclemlp import models

        return getattr(models, name)
    raise AttributeError(f"module 'cyclemlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
