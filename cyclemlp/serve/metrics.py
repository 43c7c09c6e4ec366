"""What the service counts, in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service.

    Args:
        under_way: says how many images are under way.
    """

    def __init__(self, under_way: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # resident memory, processor time, open files
        GCCollector(registry=registry)
        self._requests = Counter(
            "cyclemlp_requests",
            "requests answered, by route and status",
            ["route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "cyclemlp_request_seconds",
            "from a request's head to its answer",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._parts = Histogram(
            "cyclemlp_part_seconds",
            "of an answered image: read, decode, wait for the batch, network",
            ["part"],
            buckets=SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "cyclemlp_batch_images", "images in a batch", buckets=BATCHES, registry=registry
        )
        Gauge(
            "cyclemlp_images_under_way", "being read, prepared, waiting or computed", registry=registry
        ).set_function(under_way)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def image(self, seconds: Mapping[str, float]) -> None:
        """An image was answered; by part."""
        for part, value in seconds.items():
            self._parts.labels(part).observe(value)

    def batch(self, images: int) -> None:
        """A batch begins."""
        self._batches.observe(images)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self._registry)
