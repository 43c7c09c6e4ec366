"""Dense prediction: backbones registered with PaddleSeg and PaddleDetection, and their engines' runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclemlp.dense.compat import Patch

__all__ = ["patch"]


def patch(engine: str | None = None) -> list[Patch]:
    """Apply the compatibility patches that the installed PaddleSeg and PaddleDetection need under this Paddle.

    Importing `cyclemlp.dense.seg` or `cyclemlp.dense.det` does it for that engine; a second time changes nothing more.
    After it the engines' own loops and tools work with our backbones and with others.

    Args:
        engine: "paddleseg" or "ppdet"; None for whichever is installed.

    Returns:
        What is in force, each with its place, what it changes, and how to see that it is no longer needed.
    """
    import importlib

    from cyclemlp.dense.compat import apply_patches
    from cyclemlp.dense.versions import ENGINES, installed_version

    found: list[Patch] = []
    for name in [engine] if engine is not None else list(ENGINES):
        if installed_version(ENGINES[name].package) is not None:
            # Not only the patches: importing PaddleDetection by itself changes how Pillow and the log behave.
            importlib.import_module({"paddleseg": "cyclemlp.dense.seg", "ppdet": "cyclemlp.dense.det"}[name])
            found += apply_patches(name)
    return found
