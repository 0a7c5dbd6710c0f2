# SPDX-License-Identifier: Apache-2.0
"""What ``/metrics`` says: requests, times, the engine, the process, and the watched node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from perception_node.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from perception_node.engines.pipeline import StageTimes
    from perception_node.live.live_view import LiveView
    from perception_node.serving.classification import ClassificationQueue

# From a fast GPU to a small CPU with a full queue.
BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
STAGE_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
LEVELS = {"ok": 0, "warn": 1, "error": 2}
RECEIVED = "received"
NODE = "perception_node"
OTHER = "other"  # the endpoint of what matches no route


class Metrics:
    """The measurements of one server; each has a registry of its own."""

    def __init__(self, classifier: ClassificationQueue, live: LiveView | None = None) -> None:
        """Measure ``classifier``, this process and, if there is one, the watched node."""
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "perception_http_requests",
            "Requests that were answered",
            ("endpoint", "status"),
            registry=registry,
        )
        self._predict = Histogram(
            "perception_predict_seconds",
            "From the arrival of a request to its classification",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._stages = Histogram(
            "perception_stage_seconds",
            "Time of an image in one stage of the pipeline",
            ("stage",),
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        ProcessCollector(registry=registry)
        registry.register(_EngineCollector(classifier))
        if live is not None:
            registry.register(_NodeCollector(live))

    def count_request(self, status: int, route: str | None = None) -> None:
        """Count an answer; the route is never a path that a client chose, None: there is none."""
        self._requests.labels(route or OTHER, str(status)).inc()

    def observe_prediction(self, took_ns: int, times: StageTimes) -> None:
        """Note how long an image took, from its arrival on, and its stages."""
        self._predict.observe(took_ns / 1e9)
        for name, stage_ns in times._asdict().items():
            self._stages.labels(name.removesuffix("_ns")).observe(stage_ns / 1e9)

    def render(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Queue and engine, as they are at the moment they are asked for."""

    def __init__(self, classifier: ClassificationQueue) -> None:
        self._classifier = classifier

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        classifier, pipeline = self._classifier, self._classifier.pipeline
        yield _gauge("perception_queue_depth", "Images that wait or are at work", classifier.depth)
        yield _gauge("perception_queue_capacity", "Images that may wait", classifier.capacity)
        names = {
            "model": printable(classifier.model),
            "engine": printable(pipeline.description),
        }
        yield InfoMetricFamily("perception_engine", "What classifies", names)
        lost, exhausted = pipeline.lost is not None, pipeline.is_exhausted
        yield _gauge("perception_engine_degraded", "1: an engine was given up", lost)
        yield _gauge("perception_engine_failed", "1: no engine is left", exhausted)


class _NodeCollector(Collector):
    """The watched node, from its own diagnostics."""

    def __init__(self, live: LiveView) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        state = self._live.snapshot()
        level = LEVELS[state["level"]]
        yield _gauge(f"{NODE}_level", "Of /diagnostics: 0 ok, 1 warning, 2 error", level)
        yield _gauge(f"{NODE}_up", "1: the node is active", state["state"] == "active")
        yield _gauge(f"{NODE}_viewers", "Pages that watch the node", self._live.viewers_now)
        cameras = _name_apart(state["cameras"])
        yield from _frames(cameras)
        yield _ages(cameras)


def _name_apart(cameras: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the cameras by names that differ: two may have one topic, or such as look alike.

    A scrape with the same series twice is refused as a whole.
    """
    named: dict[str, dict[str, Any]] = {}
    for camera in cameras:
        name, number = camera["topic"], 1
        while name in named:
            number += 1
            name = f"{camera['topic']} ({number})"
        named[name] = camera
    return named


def _frames(cameras: dict[str, dict[str, Any]]) -> Iterator[Metric]:
    received = CounterMetricFamily(
        f"{NODE}_frames_received", "Images that reached the node", labels=("camera",)
    )
    frames = CounterMetricFamily(
        f"{NODE}_frames", "Images by what became of them", labels=("camera", "outcome")
    )
    for topic, camera in cameras.items():
        for name, count in camera["counters"].items():
            if name == RECEIVED:
                received.add_metric((topic,), count)
            else:
                frames.add_metric((topic, name), count)
    yield from (received, frames)


def _ages(cameras: dict[str, dict[str, Any]]) -> Metric:
    ages = GaugeMetricFamily(
        f"{NODE}_age_seconds", "Age of the newest results", labels=("camera", "quantile")
    )
    for topic, camera in cameras.items():
        if camera["ages"] is not None:
            for quantile, key in (("0.5", "p50_ms"), ("0.99", "p99_ms")):
                ages.add_metric((topic, quantile), camera["ages"][key] / 1e3)
    return ages


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, float(value))
