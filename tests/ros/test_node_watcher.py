# SPDX-License-Identifier: Apache-2.0
"""A real node, watched for the page: what is shown, what follows, and what it costs the node."""

from __future__ import annotations

import logging
import re
import signal
import threading
from contextlib import contextmanager
from itertools import count

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from vision_msgs.msg import Classification, LabelInfo, ObjectHypothesis, VisionClass

from perception_node.errors import ConfigError
from perception_node.live.live_view import DEAF, LiveView
from perception_node.live.node_status import CameraStatus
from perception_node.live.node_watcher import NodeWatcher
from perception_node.live.watched_topics import PICTURES, RESULTS, find_topics
from perception_node.ros.qos import LATCHED
from tests.ros.harness import NODE, Stream, make_image, wait_for

pytestmark = pytest.mark.ros
STAMPS = count(1000)  # no two images are alike


@pytest.fixture
def live(domain):
    with watched(domain) as view:
        yield view


@contextmanager
def watched(domain, node=NODE):
    view = LiveView(node, domain, 2)
    with NodeWatcher(view):
        yield view
    view.close()


@pytest.fixture
def complaints(caplog):
    """Return a function that returns what the watcher has logged."""
    caplog.set_level(logging.WARNING, "perception.serve")
    return lambda: [record.getMessage() for record in caplog.records]


def wait_for_state(live, state):
    wait_for(lambda: live.snapshot()["state"] == state, lambda: f"{state}: {live.snapshot()}")
    return live.snapshot()


def camera(live, number=0):
    cameras = live.snapshot()["cameras"]
    return cameras[number] if number < len(cameras) else {}


def wait_for_label(live, stream, label, number=0):
    """Send images of a colour until the page shows it."""

    def is_shown():
        stream.classify_once(make_image(label, next(STAMPS), size=(64, 48)))
        return camera(live, number).get("label") == label

    wait_for(is_shown, lambda: f"{label}: {live.snapshot()}")


def wait_for_picture(live, stream, label, number):
    """Send images until one is drawn: the node draws once it knows that somebody looks."""

    def is_drawn():
        stream.classify_once(make_image(label, next(STAMPS), size=(64, 48)))
        return camera(live, number)["picture"]

    wait_for(is_drawn, lambda: f"a picture of {label}: {live.snapshot()}")


def readers(peer, name, node=NODE):
    return peer.node.count_subscribers(f"{node}/{name}")


def test_the_page_shows_what_the_node_does(live, start, peer, complaints):
    assert live.snapshot()["state"] == "absent"
    with start(overlay_rate_hz=0.0) as node, live.viewing():
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        wait_for_state(live, "active")
        wait_for_label(live, stream, "green")
        wait_for_picture(live, stream, "green", 0)
        wait_for(lambda: camera(live)["histogram"], node.log)
        wait_for(lambda: camera(live)["counters"]["published"] == len(stream.results), node.log)
        state, shown = live.snapshot(), camera(live)
        jpeg = live.picture(0)
    assert (state["node"], state["level"], state["degraded"]) == (NODE, "ok", False)
    assert state["engine"]["model"] == "colors"
    assert "ONNX Runtime" in state["engine"]["description"]
    assert shown["topic"] == "/image"
    assert shown["results"][0]["label"] == "green"
    assert shown["score"] == shown["results"][0]["score"] > 0.9
    assert 0.0 <= shown["result_age_s"] < 30.0
    assert shown["deadline_ms"] == 5000.0
    assert 0.0 < shown["ages"]["p50_ms"] < 5000.0
    assert shown["histogram"]["bin_ms"] == 100.0
    assert sum(shown["histogram"]["counts"]) == shown["counters"]["published"]
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3)
    blue, green, red = picture[0, 0]
    assert (green > 200, blue < 50, red < 50) == (True, True, True)
    assert complaints() == []


def test_results_are_subscribed_to_only_while_somebody_looks(live, start, peer):
    with start():
        wait_for_state(live, "active")
        wait_for(lambda: readers(peer, "label_info"), lambda: "the labels, once for all")
        assert (readers(peer, "classification"), readers(peer, "overlay")) == (0, 0)
        with live.viewing():
            wait_for(lambda: readers(peer, "classification"), lambda: "results")
            wait_for(lambda: readers(peer, "overlay"), lambda: "pictures")
            stream = Stream(peer)
            stream.classify(make_image("red", 1))
            wait_for_label(live, stream, "red")
            assert readers(peer, "latency") == 0
        wait_for(lambda: readers(peer, "classification") == 1, lambda: "only the stream's own")
        wait_for(lambda: readers(peer, "overlay") == 0, lambda: "no pictures")
        wait_for(lambda: camera(live)["label"] is None, lambda: "no old label")
        assert camera(live)["picture"] == 0
        with live.viewing():
            wait_for_label(live, stream, "blue")


def test_a_node_that_ends_is_absent_and_one_that_comes_back_is_not(live, start, peer):
    with start() as node:
        wait_for_state(live, "active")
        node.end()
        absent = wait_for_state(live, "absent")
    assert absent["level"] == "error"
    assert f"{NODE} does not run in ROS domain" in absent["summary"]
    with start(), live.viewing():
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        wait_for_state(live, "active")
        wait_for_label(live, stream, "green")


def test_a_node_that_hangs_is_absent_until_it_goes_on(live, start, monkeypatch):
    monkeypatch.setattr("perception_node.live.node_watcher.SILENT_S", 1.0)
    with start() as node:
        wait_for_state(live, "active")
        node.process.send_signal(signal.SIGSTOP)
        try:
            absent = wait_for_state(live, "absent")
        finally:
            node.process.send_signal(signal.SIGCONT)
        found = re.search(r"no /diagnostics of /perception for (\d+) s", absent["summary"])
        assert found
        assert int(found[1]) >= 1
        wait_for_state(live, "active")


def test_a_watcher_that_hangs_is_noticed_and_goes_on(live, start, monkeypatch):
    monkeypatch.setattr("perception_node.live.live_view.DEAF_S", 1.0)
    go_on, show_status = threading.Event(), live.show_status

    def hang(status):
        go_on.wait(60)
        show_status(status)

    with start():
        wait_for_state(live, "active")
        monkeypatch.setattr(live, "show_status", hang)
        try:
            absent = wait_for_state(live, "absent")
        finally:
            go_on.set()
        assert absent["summary"] == DEAF
        wait_for_state(live, "active")


def test_a_node_that_says_something_seldom_is_not_taken_for_absent(live, start, monkeypatch):
    monkeypatch.setattr("perception_node.live.node_watcher.SILENT_S", 0.1)
    shown = []
    show_status, show_absence = live.show_status, live.show_absence
    monkeypatch.setattr(live, "show_status", lambda s: shown.append("") or show_status(s))
    monkeypatch.setattr(live, "show_absence", lambda why: shown.append(why) or show_absence(why))
    with start(diagnostics_period_s=0.6):
        wait_for(lambda: shown.count("") > 2, lambda: shown)
        del shown[:]  # now its period is known
        wait_for(lambda: len(shown) > 2, lambda: shown)
        assert set(shown) == {""}


def test_the_lifecycle_is_followed_to_other_cameras(live, start, peer):
    with start(autostart=False), live.viewing():
        inactive = wait_for_state(live, "inactive")
        assert (inactive["level"], inactive["cameras"]) == ("warn", [])
        assert "not configured" in inactive["summary"]
        assert peer.change("configure")
        assert peer.change("activate")
        wait_for_state(live, "active")
        assert [one["topic"] for one in live.snapshot()["cameras"]] == ["/image"]

        assert peer.change("deactivate")
        wait_for_state(live, "inactive")


def test_several_cameras_have_results_of_their_own(live, start, peer):
    topics = ("front/image", "rear/image")
    with start(image_topics=topics, overlay_rate_hz=0.0), live.viewing():
        streams = [
            Stream(peer, f"/{name}/perception", f"/{name}/image") for name in ("front", "rear")
        ]
        for stream in streams:
            stream.classify(make_image("red", 1))
        wait_for(lambda: len(live.snapshot()["cameras"]) == 2, lambda: str(live.snapshot()))
        wait_for_label(live, streams[0], "green", 0)
        wait_for_label(live, streams[1], "blue", 1)
        assert camera(live, 0)["label"] == "green"
        wait_for_picture(live, streams[0], "green", 0)
        wait_for_picture(live, streams[1], "blue", 1)
        wait_for(lambda: live.picture(0) != live.picture(1), lambda: "green and blue")


def test_a_node_in_a_namespace_with_other_topics_is_found(domain, start, peer):
    arguments = ["-r", "__ns:=/left", "-r", "~/classification:=/result", "-r", "~/overlay:=/view"]
    with (
        start(*arguments, class_id_format="name") as node,
        watched(domain, "left/perception") as live,
        live.viewing(),
    ):
        wait_for_state(live, "active")
        publisher = peer.camera("/left/image")

        def is_shown():
            publisher.publish(make_image("blue", 5))
            return camera(live).get("label") == "blue" and live.picture(0)

        wait_for(is_shown, node.log)


def test_two_may_watch_and_one_that_looks_does_not_count_for_the_other(domain, start, live):
    with start(), watched(domain) as other, other.viewing():
        wait_for_state(live, "active")
        wait_for_state(other, "active")
        assert (live.viewers_now, other.viewers_now) == (0, 1)


def test_the_topic_of_one_camera_is_not_taken_for_that_of_another():
    """Topics are discovered one by one."""
    cameras = [CameraStatus(f"/{n}/image", f"/{n}/classification", {}) for n in ("front", "rear")]
    published = {"/front/classification": [RESULTS.type_name], "/front/overlay": ["other"]}
    (found,) = find_topics(cameras, published, (RESULTS, PICTURES))
    assert (found.camera, found.topic) == ("/front/image", "/front/classification")


def test_a_node_that_leaves_while_it_is_looked_for_is_absent(live, complaints, monkeypatch):
    monkeypatch.setattr(Node, "get_node_names_and_namespaces", lambda _: [("perception", "/")])
    seen, gone = threading.Event(), "does not run in ROS domain"
    monkeypatch.setattr(live, "show_absence", lambda why: gone in why and seen.set())
    assert seen.wait(30)
    assert complaints() == []


@pytest.fixture
def stranger(peer):
    """Yield the publisher of /diagnostics of a node that has our node's name and nothing else."""
    node = rclpy.create_node("perception", context=peer.node.context)
    yield node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    node.destroy_node()


def test_nonsense_in_diagnostics_ends_nothing(live, stranger, complaints):
    values = [
        KeyValue(key="topic", value="no topic at all!"),
        KeyValue(key="results", value="nor this"),
        KeyValue(key="published", value="-1e999"),
        KeyValue(key="age histogram", value="[" * 5000),
    ]
    bad = [
        DiagnosticStatus(level=b"\x02", name="another: input"),
        DiagnosticStatus(level=b"\xff", name="perception: input", values=values),
        DiagnosticStatus(level=b"\x02", name="perception: ", message="x" * 100_000),
    ]

    def is_shown():
        stranger.publish(DiagnosticArray(status=bad))
        return live.snapshot()["state"] == "active"

    with live.viewing():
        wait_for(is_shown, lambda: str(live.snapshot()))
        state = live.snapshot()
        good = DiagnosticStatus(level=b"\x00", name="perception: input", message="well")
        stranger.publish(DiagnosticArray(status=[good]))
        wait_for(lambda: live.snapshot()["level"] == "ok", lambda: str(live.snapshot()))
    assert [alarm["task"] for alarm in state["alarms"]] == ["input", ""]
    assert len(state["summary"]) < 1000
    (shown,) = state["cameras"]
    assert shown["topic"] == "no topic at all!"
    assert shown["counters"]["published"] == 0
    assert complaints() == []


def test_labels_of_a_model_are_forgotten_with_the_camera(live, stranger, peer):
    """The node that comes next under this name may have another model."""
    node = rclpy.create_node("perception", context=peer.node.context)
    labels = node.create_publisher(LabelInfo, "/perception/label_info", LATCHED)
    labels.publish(LabelInfo(class_map=[VisionClass(class_id=1, class_name="cat")]))
    results = node.create_publisher(Classification, "/perception/classification", 10)

    def shows(label, *topics):
        values = [KeyValue(key="topic", value=topic) for topic in topics]
        row = DiagnosticStatus(level=b"\x00", name="perception: input", values=values)
        stranger.publish(DiagnosticArray(status=[row]))
        results.publish(Classification(results=[ObjectHypothesis(class_id="1", score=0.5)]))
        return camera(live).get("label") == label

    with live.viewing():
        wait_for(lambda: shows("cat", "/image"), lambda: str(live.snapshot()))
        node.destroy_publisher(labels)
        wait_for(lambda: shows(None), lambda: str(live.snapshot()))
        wait_for(lambda: not peer.node.count_subscribers("/perception/label_info"), str)
        wait_for(lambda: shows("1", "/image"), lambda: str(live.snapshot()))
    node.destroy_node()


def test_a_bug_in_a_callback_is_logged_and_does_not_end_the_watch(
    live, start, complaints, monkeypatch
):
    monkeypatch.setattr(live, "show_status", lambda _: 1 // 0)
    with start():
        wait_for(complaints, lambda: "a line in the log")
        monkeypatch.undo()
        wait_for_state(live, "active")
    bug = "survived ZeroDivisionError: "
    assert re.match(f"/perception cannot be watched as it should be: .*{bug}", complaints()[0])


@pytest.mark.parametrize("domain", [-1, 233])
def test_a_domain_that_is_none_is_one_line(domain):
    expected = f"ROS_DOMAIN_ID must be from 0 to 232, found {domain}"
    with pytest.raises(ConfigError, match=expected), watched(domain):
        pass


@pytest.mark.parametrize("node", ["", "/", "/per ception", "/perception/", "/2nd", "/a//b", "/ä"])
def test_a_name_that_no_node_has_is_one_line(node):
    with pytest.raises(ConfigError, match="is no node's name, such as /perc") as raised:
        NodeWatcher(LiveView(node, 0, 1)).__enter__()
    assert "\n" not in str(raised.value)
