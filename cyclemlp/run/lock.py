"""One process at a time writes a run's folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import warnings
from pathlib import Path
from typing import IO

from cyclemlp.errors import ConfigError
from cyclemlp.text import shown

LOCK = ".lock"
#: The file system has no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


class RunLock:
    """A lock on a run's folder, in a file `.lock` there, which says who holds it.

    The system releases it when the process ends, however it ends. Processes that were forked do not hold it, and it
    works over NFS where that has locks; elsewhere a warning says that there is none.
    """

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._path = Path()

    def take(self, folder: Path) -> None:
        """Take the lock, once; a second call does nothing.

        Args:
            folder: exists.

        Raises:
            ConfigError: another process has it.
            OSError: the file cannot be written.
        """
        if self._file is not None:
            return
        path = folder / LOCK
        while True:
            file = path.open("a+", encoding="utf-8")
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = _holder(file)
                file.close()
                if error.errno in _NO_LOCKS:
                    warnings.warn(
                        f"{folder}: its file system has no locks; do not train into it twice at a time",
                        stacklevel=2,
                    )
                    return
                raise ConfigError(
                    f"{folder} is in use by {holder}, which trains into it; wait until it has ended, stop it, or "
                    "choose another --output"
                ) from None
            # Who held it before may have removed the file between our two steps.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    break
            file.close()
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": platform.node()}, file)
        file.flush()
        self._file, self._path = file, path

    def release(self) -> None:
        """Give it back, if it was taken."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        facts = json.loads(file.read(1000))
        return f"process {int(facts['pid'])} on {shown(str(facts['host']))}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
