"""Export of models, and runtimes that run what was exported. Running needs no Paddle, but for Paddle's own runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclemlp.deploy.metadata import ExportError, ExportMetadata, Output
from cyclemlp.deploy.runtimes import PRECISIONS, RUNS, RUNTIMES, ExportedModel, is_exported, load_exported

if TYPE_CHECKING:
    from cyclemlp.deploy.export import export_layer, export_model, feature_form

__all__ = [
    "PRECISIONS",
    "RUNS",
    "RUNTIMES",
    "ExportError",
    "ExportMetadata",
    "ExportedModel",
    "Output",
    "export_layer",
    "export_model",
    "feature_form",
    "is_exported",
    "load_exported",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from cyclemlp.deploy import export

        return getattr(export, name)
    raise AttributeError(f"module 'cyclemlp.deploy' has no attribute {name!r}")
