"""Tuning of the processor for Paddle: memory, BLAS code path, threads. Runs before Paddle, so standard library only.

What is wrong with Paddle as installed, each measured in docs/speed.md:

* **Memory.** Every operator's result is a fresh allocation. Above glibc's threshold each is mapped, faulted in page by
  page and unmapped again, which takes longer than most operators. `mallopt(3)` keeps the memory in the process.
* **BLAS.** Paddle's wheels carry a MKL of 2019, which takes its slowest path on a processor that is not Intel's.
  `MKL_DEBUG_CPU_TYPE` names a faster one, if it stands in the environment when MKL starts.
* **Threads.** Paddle sets OMP_NUM_THREADS to 1 unless the user sets it.

Our commands tune; importing the library does not, unless CYCLEMLP_TUNE=1. CYCLEMLP_TUNE=0 turns all of it off.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

SWITCH = "CYCLEMLP_TUNE"

#: Parameters of mallopt(3), as in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
#: Blocks from this size on are mapped by themselves and given back; in bytes.
_MMAP_BYTES = 1 << 30
#: By how much more than needed the heap grows, in bytes: address space, which becomes memory when touched.
_TOP_PAD_BYTES = 256 << 20
_MALLOC_WORDS = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "glibc.malloc",  # in GLIBC_TUNABLES
)
_OTHER_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")

#: Value of MKL_DEBUG_CPU_TYPE, and what /proc/cpuinfo must list for it: best first.
_MKL_PATHS = (
    ("7", "AVX-512", {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}),
    ("5", "AVX2", {"avx2", "fma"}),
)


@dataclass(frozen=True)
class Setting:
    """One thing that was tuned or left alone.

    Attributes:
        name: memory, BLAS or threads.
        value: what was set; None if nothing was.
        why: the reason, in words.
        late: whether it would have been set, had Paddle not been loaded already.
    """

    name: str
    value: str | None
    why: str
    late: bool = False

    def __str__(self) -> str:
        return f"{self.value or 'left alone'} ({self.why})"


_done: list[Setting] | None = None


def tune() -> list[Setting]:
    """Tune this process for Paddle on the processor; call it before Paddle is imported.

    What the user has set in the environment is left as it is. Nothing is done twice.

    Returns:
        What was set or left alone, each with the reason.

    Warns:
        if Paddle was imported before, for what then can no longer be set.
    """
    settings = tune_quietly()
    if late := [setting.name for setting in settings if setting.late]:
        warnings.warn(
            f"cyclemlp.tune() comes too late for {' and '.join(late)}: Paddle is already loaded. Call it before "
            f"anything imports Paddle, or set {SWITCH}=1 in the environment and import cyclemlp first",
            stacklevel=2,
        )
    return settings


def tune_quietly() -> list[Setting]:
    """`tune` without the warning, as the commands use it."""
    global _done
    if _done is None:
        if os.environ.get(SWITCH) == "0":
            _done = [Setting("all", None, f"{SWITCH}=0")]
        elif platform.system() != "Linux":
            _done = [Setting("all", None, f"this is {platform.system()}; only Linux is tuned")]
        else:
            cpu = _cpu_facts()
            _done = [_tune_memory(), _tune_blas(cpu), _tune_threads(cpu)]
    return _done


def tuning_facts() -> dict[str, str]:
    """What `cyclemlp info` prints: name → what was set and why."""
    if _done is None:
        return {"all": f"left alone (neither a command nor {SWITCH}=1 nor cyclemlp.tune() asked)"}
    return {setting.name: str(setting) for setting in _done}


def tuning_json() -> list[dict[str, str | bool | None]]:
    """The same as JSON values."""
    return [asdict(setting) for setting in _done or []]


# ---- memory


def _tune_memory() -> Setting:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for word in _MALLOC_WORDS:
        if word in os.environ or word in tunables:
            return Setting("memory", None, f"{word} is set in the environment")
    for name in _OTHER_ALLOCATORS:
        if name in os.environ.get("LD_PRELOAD", ""):
            return Setting("memory", None, f"{name} is preloaded in place of glibc's malloc")
    if platform.libc_ver()[0] != "glibc":
        return Setting("memory", None, "the C library is not glibc")
    mallopt = ctypes.CDLL(None).mallopt
    # Older glibc refuses a threshold above 32 MiB; without any mapping there is no threshold.
    kept = bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) or mallopt(_M_MMAP_MAX, 0))
    kept = kept and bool(mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_TOP_PAD, _TOP_PAD_BYTES))
    if not kept:
        return Setting("memory", None, "mallopt refused")
    return Setting("memory", "kept in the process once used", "mapping it anew for each result takes longer")


# ---- BLAS


def _tune_blas(cpu: _Cpu) -> Setting:
    name = "MKL_DEBUG_CPU_TYPE"
    if name in os.environ:
        return Setting("BLAS", None, f"{name}={os.environ[name]} is set in the environment")
    if platform.machine() != "x86_64":
        return Setting("BLAS", None, f"a {platform.machine()} processor has no MKL")
    if cpu.vendor == "GenuineIntel":
        return Setting("BLAS", None, "MKL chooses rightly on an Intel processor")
    for value, path, needed in _MKL_PATHS:
        if needed <= cpu.flags:
            if _paddle_is_loaded():
                return Setting("BLAS", None, f"too late for {name}={value}: Paddle is loaded", late=True)
            os.environ[name] = value
            return Setting("BLAS", f"{name}={value}", f"the {path} path of MKL, not chosen on {cpu.vendor}")
    return Setting("BLAS", None, "the processor has no AVX2")


# ---- threads


def _tune_threads(cpu: _Cpu) -> Setting:
    name = "OMP_NUM_THREADS"
    if given := environment_of_the_user().get(name):
        return Setting("threads", None, f"{name}={given} is set in the environment")
    ranks = _local_ranks()
    cores = _usable_cores(cpu)
    count = max(cores // ranks, 1)
    shared = f", shared by {ranks} processes" if ranks > 1 else ""
    why = f"{cores} core{'s' if cores > 1 else ''} may be used{shared}"
    if count == 1:
        return Setting("threads", None, why)
    if _paddle_is_loaded():
        return Setting("threads", None, f"too late for {count} threads: Paddle is loaded", late=True)
    spec = importlib.util.find_spec("paddle")
    folders = (spec and spec.submodule_search_locations) or []
    library = next((p for f in folders if (p := Path(f) / "libs" / "libiomp5.so").exists()), None)
    if library is None:
        return Setting("threads", None, "the installed Paddle has no OpenMP library of Intel")
    # Not by OMP_NUM_THREADS: on import Paddle prints a warning for any value above 1. Paddle will use this very
    # library, and its worker processes start it again, with one thread.
    ctypes.CDLL(str(library)).kmp_set_defaults(f"{name}={count}".encode())
    return Setting("threads", str(count), why)


def _local_ranks() -> int:
    """How many processes paddle.distributed.launch has started on this machine; 1 without it."""
    size = os.environ.get("PADDLE_LOCAL_SIZE", "1")
    return max(int(size), 1) if size.isdigit() else 1


def environment_of_the_user() -> Mapping[str, str]:
    """The environment before Paddle set OMP_NUM_THREADS=1, in this process or in the launcher that started it."""
    if "PADDLE_LOCAL_SIZE" in os.environ:  # started by paddle.distributed.launch
        process = str(os.getppid())
    elif _paddle_is_loaded():
        process = "self"
    else:
        return os.environ
    try:
        raw = Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return os.environ
    return dict(line.split("=", 1) for line in raw.split("\0") if "=" in line)


def _usable_cores(cpu: _Cpu) -> int:
    """Cores of this process: as its affinity and its control group allow, two threads of a core counted once."""
    cores = min(len(os.sched_getaffinity(0)), cpu.cores or sys.maxsize)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(min(cores, int(quota) // int(period)), 1)
    except (OSError, ValueError):
        return cores


# ---- the processor


@dataclass(frozen=True)
class _Cpu:
    vendor: str
    flags: frozenset[str]
    cores: int  # 0 if unknown
    name: str = "unknown processor"


def _cpu_facts(path: str = "/proc/cpuinfo") -> _Cpu:
    """The processor, as Linux describes it."""
    try:
        blocks = Path(path).read_text(errors="replace").strip().split("\n\n")
    except OSError:
        blocks = []
    rows = [
        {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in b.splitlines())} for b in blocks
    ]
    first = rows[0] if rows else {}
    cores = {
        (row["physical id"], row["core id"]) for row in rows if "core id" in row and "physical id" in row
    }
    return _Cpu(
        first.get("vendor_id", "unknown"),
        frozenset(first.get("flags", "").split()),
        len(cores),
        first.get("model name", "unknown processor"),
    )


def bfloat16_instructions() -> list[str]:
    """The processor's instructions for products in bfloat16, of which runtimes make use; empty if it has none."""
    return sorted({"avx512_bf16", "amx_bf16"} & _cpu_facts().flags)


def processor_facts() -> dict[str, str | int]:
    """Name, cores that may be used, and the instruction sets that products run on."""
    cpu = _cpu_facts()
    sets = {"sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni"} & cpu.flags
    sets |= {flag for flag in cpu.flags if flag.startswith(("avx512", "amx"))}
    return {
        "name": cpu.name,
        "cores": _usable_cores(cpu),
        "instruction sets": " ".join(sorted(sets)) or "unknown",
    }


def _paddle_is_loaded() -> bool:
    return "paddle" in sys.modules
