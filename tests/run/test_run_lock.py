"""One process at a time writes a run's folder, and a process that ended leaves no lock."""

from __future__ import annotations

import os
import signal

import pytest
from lock_fixtures import holder

from cyclemlp.errors import ConfigError
from cyclemlp.run import LOCK, RunLock


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
