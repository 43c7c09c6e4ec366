"""The time that batches take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARM_UP_RUNS = 2
LEAST_RUNS = 5


def time_batches(run: Callable[[Any], Any], images: Any, seconds: float) -> dict[str, Any]:
    """Run a batch again and again for some seconds, after warming up.

    Args:
        run: returns when its work is done.
        images: the batch, [B, C, H, W].

    Returns:
        `images_per_second`; `latency_p50_ms`, `latency_p95_ms` of a batch; `runs`.
    """
    for _ in range(WARM_UP_RUNS):
        run(images)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_RUNS or time.perf_counter() < end:
        begun = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - begun)
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "images_per_second": images.shape[0] * len(times) / sum(times),
        "latency_p50_ms": 1000 * float(p50),
        "latency_p95_ms": 1000 * float(p95),
        "runs": len(times),
    }
