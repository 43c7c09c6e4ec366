"""What is measured, and the processes that do it. Nothing is measured in the process that asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cyclemlp.errors import CycleMLPError

#: The runtime's name for the network as it is trained, in Paddle, without export.
NETWORK = "network"
#: Precisions of each runtime.
WAYS = {
    NETWORK: ("float32",),
    "onnxruntime": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
    "paddle": ("float32",),
}


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        model: what was asked for: a variant's name, or a path.
        runtime, precision: of `WAYS`.
        height, width: of the images, in pixels.
        batch: images at once.
        threads: of the runtime.
        overrides: values of the architecture that differ from the variant's.
        size: height and width as they are shown, and as the keys of `Model.macs` are.
    """

    model: str
    runtime: str
    precision: str
    height: int
    width: int
    batch: int
    threads: int
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> str:
        return f"{self.height}×{self.width}"


@dataclass(frozen=True)
class Model:
    """What `prepare` found and made.

    Attributes:
        name: of the architecture.
        macs: by "height×width", of one image; empty if the architecture is not known.
        published_top1_percent: ImageNet top-1 in the paper, for a variant with 1000 classes.
        min_size: least side of an image, in pixels.
        files: precision and format, as "float32 onnx", → the folder to run; none for `NETWORK`. What OpenVINO runs is
            called onnx, whichever of the two it is.
    """

    name: str
    macs: dict[str, int]
    published_top1_percent: float | None
    min_size: int
    files: dict[str, str]


@dataclass(frozen=True)
class Machine:
    """What the machine can do.

    Attributes:
        macs_per_second: of NumPy's product of two float32 matrices of `matrix_side`, at best.
    """

    macs_per_second: float
    matrix_side: int
    threads: int


def prepare(
    model: str,
    ways: Collection[tuple[str, str]],
    sizes: Sequence[tuple[int, int]],
    folder: Path,
    overrides: Mapping[str, Any] | None = None,
) -> Model:
    """Export a model in the forms that some runtimes need, and count its MACs.

    Args:
        model: a variant's name (it gets random weights), a run folder, a weight file or an exported model.
        ways: runtime and precision.
        sizes: height and width.
        folder: where exported models go.
        overrides: values of the architecture that differ from the variant's.

    Raises:
        CycleMLPError: the model cannot be found, read or exported.
    """
    request = {
        "model": model,
        "ways": sorted(ways),
        "sizes": sizes,
        "folder": str(folder),
        "overrides": dict(overrides or {}),
    }
    answer = _work("prepare", request, None)
    return Model(**_checked(answer))


def measure(case: Case, model: Model, seconds: float) -> dict[str, Any]:
    """Run a case for some seconds, after warming up.

    Returns:
        `images_per_second`, `latency_p50_ms`, `latency_p95_ms` of a batch, `runs`, `peak_memory_mib` of the whole
        process; or `error`, in words.
    """
    form = "paddle" if case.runtime == "paddle" else "onnx"  # OpenVINO reads ONNX
    request = {**asdict(case), "file": model.files.get(f"{case.precision} {form}"), "seconds": seconds}
    return _work("case", request, case.threads)


def measure_machine(threads: int) -> Machine:
    """See `Machine`."""
    return Machine(**_checked(_work("machine", {"threads": threads}, threads)))


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise CycleMLPError(answer["error"])
    return answer


def _work(kind: str, request: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """The answer of a process of its own; an error in words if it dies."""
    environment = dict(os.environ)
    if threads is not None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment |= dict.fromkeys(names, str(threads))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "cyclemlp.bench.worker", kind],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
    )
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])  # above it may stand what libraries print
        return answer
    if done.returncode < 0:
        return {
            "error": f"the process was ended by signal {-done.returncode}; 9 mostly means that memory ran out"
        }
    return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
