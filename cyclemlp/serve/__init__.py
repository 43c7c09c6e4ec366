"""An exported model as a small HTTP service with a page. The framework is imported when a service is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclemlp.serve.limits import Limits

if TYPE_CHECKING:
    from cyclemlp.serve.app import build_app
    from cyclemlp.serve.server import serve

__all__ = ["Limits", "build_app", "serve"]


def __getattr__(name: str) -> Any:
    if name == "build_app":
        from cyclemlp.serve.app import build_app

        return build_app
    if name == "serve":
        from cyclemlp.serve.server import serve

        return serve
    raise AttributeError(f"module 'cyclemlp.serve' has no attribute {name!r}")
