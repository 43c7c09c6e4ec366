"""One process at a time writes a run's folder, and a process that ended leaves no lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cyclemlp.errors import ConfigError
from cyclemlp.run_lock import LOCK, RunLock

HOLD = """
import os, sys, time
from pathlib import Path
from cyclemlp.run_lock import RunLock
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


def test_another_process_is_refused_until_the_first_has_ended(tmp_path):
    first = holder(tmp_path)
    try:
        with pytest.raises(
            ConfigError, match=f"in use by process {first.pid} on .*; wait until it has ended"
        ):
            RunLock().take(tmp_path)
    finally:
        first.kill()
        first.wait()
    lock = RunLock()
    lock.take(tmp_path)
    lock.take(tmp_path)  # it has it
    lock.release()
    lock.release()
    assert not (tmp_path / LOCK).exists()


def test_a_forked_process_does_not_keep_it(tmp_path):
    first = holder(tmp_path, "fork")
    try:
        first.kill()
        first.wait()
        lock = RunLock()
        lock.take(tmp_path)
        lock.release()
    finally:
        os.killpg(first.pid, signal.SIGKILL)


def test_a_file_of_nonsense_is_no_lock(tmp_path):
    (tmp_path / LOCK).write_text("nonsense")
    lock = RunLock()
    lock.take(tmp_path)
    lock.release()
