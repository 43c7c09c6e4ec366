"""The suite's own rule: a test that skips for want of something fails the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
pytest_plugins = ["pytester"]

SKIPS = """
import pytest

def test_good():
    pass

def test_wants_a_library():
    pytest.importorskip("no_such_library")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    shutil.copy(CONFTEST, pytester.path / "conftest.py")
    return pytester


def test_a_skip_fails_the_run_and_is_named(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPS)
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*not meant to be*", "test_it.py::test_wants_a_library"])


def test_also_with_workers(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPS)
    result = suite.runpytest_subprocess("-n", "1", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*not meant to be*", "test_it.py::test_wants_a_library"])


def test_a_module_that_skips_at_collection_fails_too(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_it='import pytest\npytest.importorskip("no_such_library")\n',
        test_other="def test_good(): pass\n",
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*not meant to be*", "test_it.py"])


def test_a_listed_skip_and_no_skip_pass(suite: pytest.Pytester) -> None:
    conftest = (suite.path / "conftest.py").read_text()
    listed = conftest.replace(
        "MEANT_TO_SKIP: dict[str, str] = {\n", 'MEANT_TO_SKIP = {"test_it.py::test_wants": "because",\n'
    )
    assert listed != conftest
    (suite.path / "conftest.py").write_text(listed)
    suite.makepyfile(test_it=SKIPS)
    assert suite.runpytest_subprocess("-p", "no:cacheprovider").ret == pytest.ExitCode.OK
