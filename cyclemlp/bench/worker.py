"""The processes that measure: `python -m cyclemlp.bench.worker KIND`, a request on stdin, an answer on stdout."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.bench.timing import time_batches
from cyclemlp.errors import CycleMLPError, ModelError

MATRIX_SIDE = 2048
CALIBRATION_IMAGES = 4


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """What `cases.prepare` returns."""
    from cyclemlp._tune import tune_quietly
    from cyclemlp.deploy import is_exported

    tune_quietly()
    given, ways = request["model"], [tuple(way) for way in request["ways"]]
    return _describe_exported(request) if is_exported(given) else _export(given, ways, request)


def _export(given: str, ways: list[tuple[str, str]], request: dict[str, Any]) -> dict[str, Any]:
    from cyclemlp.deploy import export_model

    model = _open(given, request["overrides"])
    preprocessing = model.metadata.preprocessing
    files = {}
    for runtime, precision in ways:
        form = "paddle" if runtime == "paddle" else "onnx"
        name = f"{precision} {form}" if precision == "int8" else f"float32 {form}"
        if runtime == "network" or name in files:
            continue
        folder = Path(request["folder"]) / f"{Path(given).name} {name}".replace(" ", "-")
        # Its speed does not depend on what the images show.
        shape = (
            CALIBRATION_IMAGES,
            preprocessing.channels,
            preprocessing.input_height,
            preprocessing.input_width,
        )
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        export_model(model, folder, form, calibration=[images] if precision == "int8" else None)
        files[name] = str(folder)
    if "float32 onnx" in files:
        files["bfloat16 onnx"] = files["float32 onnx"]
    return {**_facts(model.metadata.model, model.config, request["sizes"]), "files": files}


def _describe_exported(request: dict[str, Any]) -> dict[str, Any]:
    from cyclemlp.deploy import load_exported

    exported = load_exported(request["model"])
    metadata = exported.metadata
    forms = ("paddle",) if exported.runtime == "paddle" else ("onnx",)
    precisions = ("int8",) if metadata.precision == "int8" else ("float32", "bfloat16")
    files = {f"{precision} {form}": request["model"] for precision in precisions for form in forms}
    return {
        **_facts(metadata.model, exported_config(exported), request["sizes"]),
        "min_size": metadata.min_size,
        "files": files,
    }


def exported_config(exported: Any) -> Any:
    """The `CycleMLPConfig` of a model that `export_model` exported; None of any other."""
    from cyclemlp.network.variants import VARIANTS

    metadata = exported.metadata
    if metadata.model not in VARIANTS or "overrides" not in metadata.extra:
        return None
    return VARIANTS[metadata.model].config.replace(metadata.extra["overrides"])


def _open(given: str, overrides: dict[str, Any]) -> Any:
    """A Paddle model by its name, with random weights, or from a path."""
    import paddle

    import cyclemlp

    if Path(given).exists():
        return cyclemlp.load_model(given)
    paddle.seed(0)
    return cyclemlp.create_model(given, **overrides)


def _facts(name: str, config: Any, sizes: list[tuple[int, int]]) -> dict[str, Any]:
    from cyclemlp.network import count_macs
    from cyclemlp.network.variants import VARIANTS

    variant = VARIANTS.get(name)
    whole = config is not None and config.num_classes == 1000
    return {
        "name": name,
        "macs": {} if config is None else {f"{h}×{w}": count_macs(config, h, w) for h, w in sizes},
        # Of an inferred variant it is not known whether the published accuracy is this network's.
        "published_top1_percent": variant.top1_published
        if variant and whole and not variant.inferred
        else None,
        "min_size": 1 if config is None else config.min_size,
    }


def case(request: dict[str, Any]) -> dict[str, Any]:
    """What `cases.measure` returns."""
    run, channels = _runnable(request)
    shape = (request["batch"], channels, request["height"], request["width"])
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return {
        **time_batches(run, images, request["seconds"]),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # KiB on Linux
    }


def _runnable(request: dict[str, Any]) -> tuple[Callable[[np.ndarray], Any], int]:
    """What runs a batch, and the channels that it takes."""
    if request["runtime"] in ("network", "paddle"):
        from cyclemlp._tune import tune_quietly

        tune_quietly()
    if request["runtime"] == "network":
        from cyclemlp.evaluation import as_callable

        model = _open(request["model"], request["overrides"])
        return as_callable(model), model.config.in_chans
    from cyclemlp.deploy import load_exported

    if request["file"] is None:
        raise ModelError(
            f"{request['model']} is no model for {request['runtime']} in {request['precision']}; export it again"
        )
    exported = load_exported(request["file"], request["runtime"], request["precision"], request["threads"])
    return exported, exported.metadata.preprocessing.channels


def machine(request: dict[str, Any]) -> dict[str, Any]:
    """What `cases.measure_machine` returns."""
    a, b = np.random.default_rng(0).standard_normal((2, MATRIX_SIDE, MATRIX_SIDE), dtype=np.float32)
    out = np.empty_like(a)
    best, end = float("inf"), time.perf_counter() + 2
    while time.perf_counter() < end:
        begun = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - begun)
    return {
        "macs_per_second": MATRIX_SIDE**3 / best,
        "matrix_side": MATRIX_SIDE,
        "threads": request["threads"],
    }


def main() -> int:
    """Do what is asked."""
    work = {"prepare": prepare, "case": case, "machine": machine}[sys.argv[1]]
    try:
        answer = work(json.load(sys.stdin))
    except (CycleMLPError, MemoryError) as error:
        answer = {"error": str(error) or "memory ran out"}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
