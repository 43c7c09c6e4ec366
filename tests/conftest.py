"""For the whole suite: a skip that is not meant fails the run; and the processor is tuned, as our commands do."""

from __future__ import annotations

import os
from typing import Any

import pytest

# One thread a process: there is a process a core. Before any test imports Paddle.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cyclemlp

cyclemlp.tune()

#: Every skip that is meant: beginning of a test's id → why. Anything else that skips, a missing library say, fails.
MEANT_TO_SKIP: dict[str, str] = {
    "tests/weights/test_pretrained.py::test_the_test_images_give": "CIFAR-10 is not in the repository",
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """matplotlib's figures as they are saved, so that a test can read what stands in them."""
    from matplotlib.figure import Figure

    figures: list[Any] = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kw: figures.append(self) or savefig(self, *args, **kw)
    )
    return figures


_skipped = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = []
    config.pluginmanager.register(_SkipGuard(config), "skip-guard")


class _SkipGuard:
    """Collects skips in the process that the user started: with pytest-xdist, the reports of all workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not any(report.nodeid.startswith(meant) for meant in MEANT_TO_SKIP):
            self._config.stash[_skipped].append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._config.stash[_skipped] and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        skipped = self._config.stash[_skipped]
        if skipped:
            terminalreporter.section("skipped, and not meant to be: this fails the run", red=True)
            for nodeid in skipped:
                terminalreporter.line(nodeid)
            terminalreporter.line("mend what they lack, or list them in MEANT_TO_SKIP with the reason")
