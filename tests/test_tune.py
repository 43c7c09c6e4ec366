"""Tuning of the processor: what is set, what is left alone, and that it says so. Each case is a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from cyclemlp import _tune

TUNING = ("CYCLEMLP_TUNE", "OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "GLIBC_TUNABLES", "PADDLE_LOCAL_SIZE")
CPU = _tune._cpu_facts()
HAS_SLOW_MKL = CPU.vendor != "GenuineIntel" and "avx2" in CPU.flags
CORES = _tune._usable_cores(CPU)


def python(code, **environment):
    """Run code in a fresh process with none of this one's tuning; what it printed as JSON, and its stderr."""
    clean = {k: v for k, v in os.environ.items() if k not in TUNING and not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore:No ccache", "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


SETTINGS = "import json; from cyclemlp import tune; print(json.dumps({s.name: s.value for s in tune()}))"
WHY = "import json; from cyclemlp import tune; print(json.dumps({s.name: s.why for s in tune()}))"

#: Page faults of 20 results of 8 MB in Paddle, threads that a product uses, and the MKL path.
#: The fewest of five times: the heap may still grow once or twice in the first of them.
EFFECT = """
import json, os, resource, sys
import cyclemlp
assert "paddle" not in sys.modules
import ctypes, paddle
from pathlib import Path
x = paddle.ones([2 << 20])
def faults_of_20():
    global y
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20): y = x + x
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults = min(faults_of_20() for _ in range(5))
library = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
threads = ctypes.CDLL(str(library)).omp_get_max_threads() if library.exists() else None
print(json.dumps([faults, threads, os.environ.get("MKL_DEBUG_CPU_TYPE")]))
"""


def test_importing_the_library_changes_nothing():
    (faults, threads, path), _ = python(EFFECT)
    assert faults > 20 * 1000  # each result of 2048 pages is mapped anew
    assert threads in (1, None)
    assert path is None


def test_asked_for_in_the_environment():
    (faults, threads, path), errors = python(EFFECT, CYCLEMLP_TUNE="1")
    assert faults < 100
    assert threads in (CORES, None)
    assert (path in ("5", "7")) == HAS_SLOW_MKL
    assert errors == ""  # Paddle's own warning of several threads among them


@pytest.mark.parametrize(
    ("environment", "name", "reason"),
    [
        ({"MALLOC_TOP_PAD_": "131072"}, "memory", "MALLOC_TOP_PAD_"),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, "memory", "glibc.malloc"),
        ({"MKL_DEBUG_CPU_TYPE": "4"}, "BLAS", "MKL_DEBUG_CPU_TYPE=4"),
        ({"OMP_NUM_THREADS": "1"}, "threads", "OMP_NUM_THREADS=1"),
        ({"CYCLEMLP_TUNE": "0"}, "all", "CYCLEMLP_TUNE=0"),
    ],
)
def test_what_the_user_has_set_is_honoured(environment, name, reason):
    assert python(SETTINGS, **environment)[0][name] is None
    assert reason in python(WHY, **environment)[0][name]


def launched(code, size, **environment):
    """As `python`, in one of `size` ranks: a launcher sets OMP_NUM_THREADS=1 in itself, and its ranks inherit it."""
    launcher = (
        f"import os, subprocess, sys; os.environ |= {{'PADDLE_LOCAL_SIZE': '{size}', 'OMP_NUM_THREADS': '1'}}; "
        f"sys.exit(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    )
    return python(launcher, **environment)


def test_ranks_share_the_cores():
    why, _ = launched(WHY, CORES)
    if CORES > 1:
        assert f"shared by {CORES} processes" in why["threads"]
    values, _ = launched(SETTINGS, CORES)
    assert values["threads"] is None  # one each: nothing to set


def test_a_rank_tells_the_launchers_thread_count_from_the_users():
    assert "cores may be used" in launched(WHY, 1)[0]["threads"] or CORES == 1
    assert "OMP_NUM_THREADS=3 is set" in launched(WHY, 1, OMP_NUM_THREADS="3")[0]["threads"]


@pytest.mark.heavy
def test_too_late_is_said():
    (memory, blas, threads), errors = python(
        "import json, paddle, cyclemlp; print(json.dumps([setting.late for setting in cyclemlp.tune()]))"
    )
    assert not memory  # works at any time
    assert blas == HAS_SLOW_MKL
    assert threads == (CORES > 1)
    assert ("comes too late for" in errors) == (blas or threads)


@pytest.mark.heavy
def test_info_prints_it():
    code = (
        "import contextlib, io, json\nfrom cyclemlp.cli.main import main\nout = io.StringIO()\n"
        "with contextlib.redirect_stdout(out): assert main(['info', '--json']) == 0\nprint(out.getvalue())"
    )
    tuned = {row["name"]: row for row in python(code)[0]["tuning"]}
    assert set(tuned) == {"memory", "BLAS", "threads"}
    assert tuned["memory"]["value"]
    (off,) = python(code, CYCLEMLP_TUNE="0")[0]["tuning"]
    assert (off["name"], off["value"], off["why"]) == ("all", None, "CYCLEMLP_TUNE=0")


def test_cores_are_counted_without_their_second_threads(tmp_path):
    row = "processor : {}\nvendor_id : AuthenticAMD\nphysical id : {}\ncore id : {}\nflags : fpu avx2 fma\n"
    path = tmp_path / "cpuinfo"
    path.write_text("\n".join(row.format(i, i // 4, i % 2) for i in range(8)))
    cpu = _tune._cpu_facts(str(path))
    assert (cpu.vendor, cpu.cores) == ("AuthenticAMD", 4)
    assert {"avx2", "fma"} <= cpu.flags
    assert _tune._cpu_facts(str(tmp_path / "none")) == _tune._Cpu("unknown", frozenset(), 0)
