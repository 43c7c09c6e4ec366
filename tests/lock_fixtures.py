"""A process that holds the lock of a run's folder."""

from __future__ import annotations

import subprocess
import sys

HOLD = """
import os, sys, time
from pathlib import Path
from cyclemlp.run import RunLock
lock = RunLock()
lock.take(Path(sys.argv[1]))
if len(sys.argv) > 2 and os.fork() == 0:  # a data worker, which lives on for a while
    time.sleep(60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


def holder(folder, *words):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, *words],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline()
    return process
