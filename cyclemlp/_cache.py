"""Where what is fetched or found out once is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$CYCLEMLP_HOME`, else `~/.cache/cyclemlp`."""
    home = os.environ.get("CYCLEMLP_HOME")
    return Path(home).expanduser() if home else Path.home() / ".cache" / "cyclemlp"
