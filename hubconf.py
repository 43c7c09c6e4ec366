"""Entry points of `paddle.hub`: one function for each variant of the paper and each small one.

    model = paddle.hub.load("REPOSITORY", "cyclemlp_b1", source="local", pretrained=True)

Arguments are `cyclemlp.create_model`'s: `pretrained`, and overrides such as `num_classes`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# paddle.hub imports this file from a clone, where the package need not be installed.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cyclemlp import create_model as _create_model
from cyclemlp import list_models as _list_models

dependencies = ["paddle", "numpy", "packaging", "PIL", "yaml", "safetensors", "tqdm"]


def _entry(name: str) -> Callable[..., Any]:
    def entry(pretrained: bool | str | os.PathLike[str] | None = None, **overrides: Any) -> Any:
        return _create_model(name, pretrained=pretrained, **overrides)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = (
        f"Make {name}; arguments as for `cyclemlp.create_model`.\n\n"
        "Args:\n"
        "    pretrained: True for the published weights, or the path of a weight file.\n"
        "    overrides: values of the architecture that differ, such as num_classes."
    )
    return entry


globals().update({name: _entry(name) for name in _list_models()})
