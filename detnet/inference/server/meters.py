"""What a server counts for Prometheus, in a registry of its own."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40)


class Meters:
    """Counters, histograms and gauges; names and labels are few, whatever is asked for."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "detnet_requests", "Answered requests.", ("path", "status"), registry=registry
        )
        self.latency = Histogram(
            "detnet_request_seconds",
            "From a request's header to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "detnet_batch_images",
            "Images that ran together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.detect = Histogram(
            "detnet_batch_seconds",
            "The engine's time for images that ran together.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = Gauge("detnet_queue_images", "Images that wait.", registry=registry)

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Asks how long the queue is whenever somebody looks."""
        self._queue.set_function(length)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
