# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import MAX_CAMERAS
from perception_node.engines.pipeline import StageTimes
from perception_node.errors import EngineError
from perception_node.flow.health import Level, Status
from perception_node.live.live_view import LiveView
from perception_node.live.node_status import read_status
from perception_node.model.bundle import load_bundle
from perception_node.serving.app import create_app
from perception_node.serving.classification import ClassificationQueue
from perception_node.serving.metrics import Metrics
from perception_node.serving.settings import ServerSettings
from tests.builders import RED, encode, solid
from tests.engine_builders import Rig, raising
from tests.foreign_text import FOREIGN, find_unprintable

IMAGE = {"data": encode(solid(RED)), "content_type": "image/jpeg"}
CAMERA = {
    "topic": "/front/image",
    "counters": {"received": 10, "published": 7, "superseded": 2, "stale": 1},
    "ages": {"p50_ms": 11.5, "p99_ms": 20.0, "max_ms": 21.0},
}
SILENT = {"topic": "/rear/image", "counters": {}, "ages": None}


class Watched(LiveView):
    """A view of a node that says what the test wants."""

    state = "active"
    level = "warn"
    cameras = (CAMERA, SILENT)

    def snapshot(self):
        names = {"state": self.state, "level": self.level, "cameras": list(self.cameras)}
        return {**super().snapshot(), **names}


@pytest.fixture
def rig(color_bundle):
    rig = Rig(load_bundle(color_bundle))
    rig.open()
    yield rig
    rig.close()


@pytest.fixture
def queue(rig):
    with ClassificationQueue(rig.pipeline, NodeConfig(), ServerSettings(queue=7)) as queue:
        yield queue


def read(metrics):
    """Return the samples by name and labels, as Prometheus reads them."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.decode())
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_never_by_path(queue):
    client = create_app(queue, ServerSettings()).test_client()
    for path in ("/healthz", "/healthz", "/secret/1", "/secret/2", "/static/../x"):
        client.get(path)
    client.post("/predict", **IMAGE)
    client.post("/predict")
    found = read(client.get("/metrics").data)
    name = "perception_http_requests_total"
    assert {key[1:]: value for key, value in found.items() if key[0] == name} == {
        ("/healthz", "200"): 2,
        ("404", "other"): 3,
        ("/predict", "200"): 1,
        ("/predict", "400"): 1,
    }
    assert found["perception_predict_seconds_count",] == 1, "of those that were classified"
    assert found["perception_stage_seconds_count", "infer"] == 1


def test_times_are_in_seconds(queue):
    metrics = Metrics(queue)
    metrics.observe_prediction(30_000_000, StageTimes(2_000_000, 20_000_000, 1_000_000))
    found = read(metrics.render())
    assert found["perception_predict_seconds_sum",] == pytest.approx(0.03)
    assert found["perception_stage_seconds_sum", "preprocess"] == pytest.approx(0.002)
    assert found["perception_stage_seconds_sum", "infer"] == pytest.approx(0.02)
    assert found["perception_stage_seconds_sum", "postprocess"] == pytest.approx(0.001)


def test_queue_and_engine_are_what_they_are_when_asked(queue, rig):
    metrics = Metrics(queue)
    found = read(metrics.render())
    assert (found["perception_queue_depth",], found["perception_queue_capacity",]) == (0, 7)
    assert found["perception_engine_info", "colors", "the first"] == 1
    assert (found["perception_engine_degraded",], found["perception_engine_failed",]) == (0, 0)
    rig.first.fault = raising(EngineError("lost"))
    queue.classify(IMAGE["data"])
    found = read(metrics.render())
    assert found["perception_engine_info", "colors", "the second"] == 1
    assert (found["perception_engine_degraded",], found["perception_engine_failed",]) == (1, 0)
    rig.pipeline.interrupt()
    assert read(metrics.render())["perception_engine_failed",] == 1


def test_the_process_is_measured(queue):
    found = read(Metrics(queue).render())
    assert found["process_resident_memory_bytes",] > 1 << 20
    assert found["process_cpu_seconds_total",] > 0
    assert found["process_open_fds",] > 0


def test_a_watched_node_is_measured_by_camera_and_outcome(queue):
    live = Watched("/perception", 0, 3)
    metrics = Metrics(queue, live)
    with live.viewing():
        found = read(metrics.render())
    assert found["perception_node_frames_received_total", "/front/image"] == 10
    assert found["perception_node_frames_total", "/front/image", "published"] == 7
    assert found["perception_node_frames_total", "/front/image", "stale"] == 1
    assert ("perception_node_frames_total", "/front/image", "received") not in found
    assert found["perception_node_age_seconds", "/front/image", "0.5"] == pytest.approx(0.0115)
    assert found["perception_node_age_seconds", "/front/image", "0.99"] == pytest.approx(0.02)
    assert not [key for key in found if "/rear/image" in key]
    assert (found["perception_node_up",], found["perception_node_level",]) == (1, 1)
    assert found["perception_node_viewers",] == 1


def test_a_node_that_is_not_there_is_down(queue):
    found = read(Metrics(queue, LiveView("/perception", 0, 3)).render())
    assert (found["perception_node_up",], found["perception_node_level",]) == (0, 2)
    assert not [key for key in found if key[0].startswith("perception_node_frames")]


def test_several_servers_of_a_process_count_for_themselves(queue):
    one, other = (create_app(queue, ServerSettings()).test_client() for _ in range(2))
    one.get("/healthz")
    key = ("perception_http_requests_total", "/healthz", "200")
    assert read(one.get("/metrics").data)[key] == 1
    assert key not in read(other.get("/metrics").data)


def require_scrapable(text):
    """Check what Prometheus refuses a whole scrape for, and what a person's terminal is spared."""
    assert find_unprintable(text) == []
    seen, kinds = set(), set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            assert line not in kinds, line
            kinds.add(line)
        elif not line.startswith("#"):
            series = line.rpartition(" ")[0]
            assert series not in seen, series
            seen.add(series)
    samples = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert len(samples) == len(set(samples)) == len(seen)
    return samples


def test_cameras_of_one_topic_are_series_of_their_own(queue):
    live = Watched("/perception", 0, 8)
    live.cameras = (CAMERA, CAMERA, {**CAMERA, "topic": "/front/image (2)"}, SILENT, CAMERA)
    found = read(Metrics(queue, live).render())
    name = "perception_node_frames_received_total"
    topics = {key[1] for key in found if key[0] == name}
    assert topics == {f"/front/image{end}" for end in ("", " (2)", " (2) (2)", " (3)")}
    require_scrapable(Metrics(queue, live).render().decode())


def test_topics_that_look_alike_once_they_are_printable_are_series_of_their_own(queue):
    long = "/" + "x" * 5000
    topics = [*FOREIGN.values(), 'quote"back\\slash', "new\nline", "new\\nline", long, long + "y"]
    rows = [
        Status(f"input {topic}", Level.OK, "ok", {"topic": topic, "received": "1"})
        for topic in topics
    ]
    for first in range(0, len(rows), MAX_CAMERAS):
        live = LiveView("/perception", 0, 8)
        some = rows[first : first + MAX_CAMERAS]
        live.show_status(read_status(some))
        samples = require_scrapable(Metrics(queue, live).render().decode())
        counts = [name for name, _ in samples if name == "perception_node_frames_received_total"]
        assert len(counts) == len(some)
