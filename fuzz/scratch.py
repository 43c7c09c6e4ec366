"""A folder of this process's own for inputs that must be files, in memory where the system has such a place."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
FOLDER = Path(tempfile.mkdtemp(prefix="cyclemlp_fuzz_", dir=_MEMORY if _MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
os.environ["CYCLEMLP_HOME"] = str(FOLDER / "cache")


def written(data: bytes, name: str) -> Path:
    """A file in the folder with this content."""
    path = FOLDER / name
    path.write_bytes(data)
    return path
