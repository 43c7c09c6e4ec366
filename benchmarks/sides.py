"""Processes that work in turn, each on one side of a comparison: used by speed.py and runtimes.py."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Threads of OpenMP and of the runtimes go on turning for some 0.2 s after their work, and would take a core from the
#: next side. So each side waits before its turn, and then works once unmeasured, to be warm again.
PAUSE_S = 0.4
#: What takes less is repeated within a turn until it has taken so long; a turn's figure is the mean.
TURN_S = 0.3


class Sample(NamedTuple):
    """One turn: seconds of the clock, seconds of the processor, peak resident memory so far in MB."""

    wall: float
    cpu: float
    megabytes: float


def work_when_told(once: Callable[[], Any]) -> None:
    """A side's own part, in its process: works once for each line of stdin and prints a sample."""
    once()
    once()
    print("ready", flush=True)
    for _ in sys.stdin:
        time.sleep(PAUSE_S)
        once()
        repeats, clock, processor = 0, time.perf_counter(), time.process_time()
        while repeats == 0 or time.perf_counter() - clock < TURN_S:
            once()
            repeats += 1
        clock = (time.perf_counter() - clock) / repeats
        processor = (time.process_time() - processor) / repeats
        print(json.dumps([clock, processor, peak_megabytes()]), flush=True)


def peak_megabytes() -> float:
    """Peak resident memory of this process. Not from getrusage(2), where that of the parent before exec counts."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Side:
    """A process that works when it is told to.

    Args:
        program: file of the program, which calls `work_when_told` when its first argument is `--worker`.
        words: its further arguments.
        threads: how many it may use; whatever else tunes a processor is taken out of its environment.
        python: what runs the program.
    """

    def __init__(
        self, program: str, words: Sequence[str], threads: int, python: str = sys.executable
    ) -> None:
        tuned = ("CYCLEMLP_TUNE", "MKL_DEBUG_CPU_TYPE", "GLIBC_TUNABLES")
        environment = {k: v for k, v in os.environ.items() if k not in tuned and not k.startswith("MALLOC_")}
        environment["OMP_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            [python, "-W", "ignore", program, "--worker", *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # Paddle's word about threads
            text=True,
        )
        self.samples: list[Sample] = []
        self._answer("ready")

    def work(self) -> None:
        """One turn."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.samples.append(Sample(*json.loads(self._answer())))

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()

    def median(self, clock: str) -> float:
        """Milliseconds of a turn, by the clock "wall" or "cpu"."""
        return 1000 * statistics.median(getattr(sample, clock) for sample in self.samples)

    def _answer(self, expected: str | None = None) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            raise SystemExit(f"a side failed: {line}\n{self.process.communicate()[1]}")
        return line


def judge(what: str, value: float, bar: float, most: bool) -> None:
    """Prints a figure beside what it is held to: at most, or at least."""
    good = value <= bar if most else value >= bar
    wanted = f"{'at most' if most else 'at least'} {bar}"
    print(f"  {what:52} {value:6.2f}   {wanted:13}   {'met' if good else 'NOT MET'}")
