"""Every target of `make fuzz` reads or refuses the inputs that it begins with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"
sys.path.append(str(FUZZ))

import run  # noqa: E402  (the path is set above)


@pytest.mark.parametrize("name", run.names())
def test_a_target_passes_its_own_seeds(name):
    module = run.load(name)
    check, count = run.one_input(module), 0
    for data in module.seeds():
        check(data)
        count += 1
    assert count >= 2


def test_what_is_no_error_of_the_package_is_a_finding(tmp_path):
    class Broken:
        @staticmethod
        def check(data):
            raise KeyError("x")

    with pytest.raises(KeyError):
        run.one_input(Broken)(b"")


def test_the_targets_are_listed_without_their_libraries():
    listed = subprocess.run([sys.executable, "-S", FUZZ / "run.py", "--list"], capture_output=True, text=True)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == run.names(), listed.stderr
