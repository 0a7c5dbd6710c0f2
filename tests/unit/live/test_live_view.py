# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import json
import threading
from http.client import HTTPConnection

import cv2
import numpy as np
import pytest
from flask import Flask

from perception_node.errors import ServerBusy
from perception_node.live.live_view import DEAF, DEAF_S, MOST_RESULTS, LiveView
from perception_node.live.node_status import CameraStatus, NodeStatus
from perception_node.serving.live_routes import QUIET_S, live_routes, stream_events
from perception_node.serving.settings import ServerSettings
from tests.engine_builders import wait_for
from tests.http_builders import serving

FACTS = {"rate_hz": 30.0, "deadline_ms": 100.0, "counters": {}, "ages": None, "histogram": None}
SECOND_NS = 1_000_000_000


def node_status(*topics, level="ok", engine_level="ok"):
    engine = {"model": "m", "description": "d", "reason": "r", "level": engine_level}
    cameras = tuple(CameraStatus(topic, "", FACTS) for topic in topics)
    return NodeStatus(bool(topics), level, "words", [], engine, cameras)


def blank(width=64, height=48, value=200):
    return np.full((height, width, 3), value, np.uint8)


class Clock:
    now_ns = 0

    def __call__(self):
        return self.now_ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def live(clock):
    view = LiveView("/perception", 7, 2, clock)
    yield view
    view.close()


@pytest.fixture
def client(live):
    app = Flask(__name__)
    app.register_blueprint(live_routes(live, ServerSettings(event_period_s=0.01)))
    return app.test_client()


def data_of(event):
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    return json.loads(event[6:])


# The state


def test_a_node_that_was_never_seen_is_absent(live):
    assert live.snapshot() == {
        "node": "/perception",
        "domain": 7,
        "state": "absent",
        "level": "error",
        "summary": "looking for /perception in ROS domain 7",
        "degraded": False,
        "alarms": [],
        "engine": None,
        "cameras": [],
    }


def test_results_and_pictures_join_their_camera(live, clock):
    live.show_status(node_status("/front/image", "/rear/image"))
    live.show_result("/rear/image", [("cat", 0.75), ("dog", 0.25)])
    live.show_picture("/rear/image", blank())
    clock.now_ns = SECOND_NS // 2
    front, rear = live.snapshot()["cameras"]
    assert rear == {
        "topic": "/rear/image",
        "label": "cat",
        "score": 0.75,
        "results": [{"label": "cat", "score": 0.75}, {"label": "dog", "score": 0.25}],
        "result_age_s": 0.5,
        **FACTS,
        "picture": 1,
    }
    assert (front["label"], front["score"], front["results"]) == (None, None, [])
    assert (front["result_age_s"], front["picture"]) == (None, 0)


def test_a_result_without_a_class_has_no_label_but_an_age(live):
    live.show_status(node_status("/image"))
    live.show_result("/image", [])
    (camera,) = live.snapshot()["cameras"]
    assert (camera["label"], camera["results"], camera["result_age_s"]) == (None, [], 0.0)


def test_a_score_that_is_no_number_does_not_reach_json(live):
    live.show_status(node_status("/image"))
    live.show_result("/image", [("cat", float("nan")), ("dog", 0.5)])
    assert json.dumps(live.snapshot(), allow_nan=False)
    assert live.snapshot()["cameras"][0]["label"] == "dog"


def test_an_absent_node_keeps_its_numbers_and_loses_what_would_look_alive(live):
    live.show_status(node_status("/image", engine_level="warn"))
    assert live.snapshot()["degraded"]
    live.show_result("/image", [("cat", 0.75)])
    live.show_picture("/image", blank())
    live.show_absence("it is gone")
    state = live.snapshot()
    assert (state["state"], state["level"], state["summary"]) == ("absent", "error", "it is gone")
    assert not state["degraded"]
    (camera,) = state["cameras"]
    assert (camera["label"], camera["rate_hz"], camera["picture"]) == (None, None, 0)
    assert camera["deadline_ms"] == 100.0
    assert live.picture(0) is None
    live.show_status(node_status("/image"))
    assert live.snapshot()["state"] == "active"
    assert live.snapshot()["cameras"][0]["label"] is None


def test_what_a_watcher_that_hangs_has_said_is_not_shown_as_true(live, clock):
    live.note_look()
    live.show_status(node_status("/image"))
    live.show_result("/image", [("cat", 0.75)])
    live.show_picture("/image", blank())
    clock.now_ns += int(DEAF_S * SECOND_NS)
    assert live.snapshot()["state"] == "active"
    clock.now_ns += 1
    state = live.snapshot()
    assert (state["state"], state["level"], state["summary"]) == ("absent", "error", DEAF)
    (camera,) = state["cameras"]
    assert (camera["label"], camera["rate_hz"], camera["picture"]) == (None, None, 0)
    version = live.version
    live.note_look()
    assert live.version > version, "viewers are told at once"
    assert live.snapshot()["state"] == "active"
    assert live.snapshot()["cameras"][0]["label"] == "cat"


def test_a_look_is_no_change(live):
    version = live.version
    live.note_look()
    live.note_look()
    assert live.version == version


def test_a_node_without_cameras_is_inactive(live):
    live.show_status(node_status(level="warn"))
    assert (live.snapshot()["state"], live.snapshot()["level"]) == ("inactive", "warn")


def test_a_camera_that_the_node_has_no_more_is_forgotten(live):
    live.show_status(node_status("/a"))
    live.show_result("/a", [("cat", 0.75)])
    live.show_status(node_status("/b"))
    live.show_status(node_status("/a"))
    assert live.snapshot()["cameras"][0]["label"] is None


def test_what_nobody_looked_at_is_forgotten(live):
    live.show_status(node_status("/a"))
    live.show_result("/a", [("cat", 0.75)])
    live.show_picture("/a", blank())
    live.forget_results()
    (camera,) = live.snapshot()["cameras"]
    assert (camera["label"], camera["result_age_s"], camera["picture"]) == (None, None, 0)
    live.show_picture("/a", blank())
    assert live.snapshot()["cameras"][0]["picture"] == 2, "a number is never used again"


def test_what_is_shown_of_an_image_is_bounded(live):
    live.show_status(node_status("/a"))
    live.show_result("/a", [("x" * 100_000, float("nan")), *[("y" * 100_000, 0.5)] * 1000])
    results = live.snapshot()["cameras"][0]["results"]
    assert len(results) == MOST_RESULTS
    assert max(len(result["label"]) for result in results) < 1000


def test_saying_again_that_it_is_absent_is_no_change(live):
    live.show_absence("it is gone")
    version = live.version
    live.show_absence("it is gone")
    assert live.version == version
    live.show_absence("for another reason")
    assert live.version > version


# Waiting


def test_a_wait_ends_with_a_change(live):
    version = live.version
    waiter = threading.Thread(target=live.wait, args=(version, 60.0))
    waiter.start()
    live.show_status(node_status("/image"))
    waiter.join(30)
    assert not waiter.is_alive()
    assert live.wait(version, 60.0) == live.version > version


def test_a_wait_without_change_ends_with_its_time(live):
    assert live.wait(live.version, 0.01) == live.version


def test_closing_ends_waits_and_pauses(live):
    waiters = [
        threading.Thread(target=live.wait, args=(live.version, 60.0)),
        threading.Thread(target=live.pause, args=(60.0,)),
    ]
    for waiter in waiters:
        waiter.start()
    live.close()
    for waiter in waiters:
        waiter.join(30)
        assert not waiter.is_alive()


def test_viewers_are_counted_and_limited(live):
    with live.viewing(), live.viewing():
        assert live.viewers_now == 2
        with pytest.raises(ServerBusy, match="2 pages watch"), live.viewing():
            pass
        assert live.viewers_now == 2
    assert live.viewers_now == 0


def test_a_closed_view_takes_no_viewers(live):
    live.close()
    with pytest.raises(ServerBusy), live.viewing():
        pass


# Pictures


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (640, 480)),
        ((1920, 1080), (1280, 720)),
        ((3000, 1), (1280, 1)),
        ((80, 70_000), (1, 1280)),  # no JPEG can be so high
    ],
)
def test_a_picture_is_a_jpeg_of_bounded_size(live, size, expected):
    live.show_status(node_status("/image"))
    live.show_picture("/image", blank(*size))
    decoded = cv2.imdecode(np.frombuffer(live.picture(0), np.uint8), cv2.IMREAD_COLOR)
    assert (decoded.shape[1], decoded.shape[0]) == expected
    assert abs(int(decoded[0, 0, 0]) - 200) < 4


def test_rows_may_be_padded(live):
    live.show_status(node_status("/image"))
    live.show_picture("/image", blank(100, 50)[:, :60])
    decoded = cv2.imdecode(np.frombuffer(live.picture(0), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (50, 60, 3)


def test_a_picture_is_encoded_once_however_many_look(live, monkeypatch):
    encoded, encode = [], cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *args: encoded.append(1) or encode(*args))
    live.show_status(node_status("/image"))
    for value in range(10):
        live.show_picture("/image", blank(value=value))
    assert not encoded
    pictures = []
    viewers = [threading.Thread(target=lambda: pictures.append(live.picture(0))) for _ in range(8)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join(30)
    assert len(encoded) == 1
    assert len(pictures) == 8
    assert len(set(pictures)) == 1


@pytest.mark.parametrize("camera", [0, 1, 99])
def test_where_there_is_no_picture_there_is_none(live, camera):
    assert live.picture(camera) is None
    live.show_status(node_status("/image"))
    assert live.picture(camera) is None


# Over HTTP


def test_the_stream_sends_the_state_at_once_and_after_each_change(live):
    events = stream_events(live, 0.001, 60.0)
    assert data_of(next(events)) == live.snapshot()
    live.show_status(node_status("/image"))
    assert data_of(next(events))["state"] == "active"
    live.show_absence("it is gone")
    assert data_of(next(events))["summary"] == "it is gone"


def test_without_a_change_the_stream_sends_the_same_again_after_a_while(live, monkeypatch):
    waits, wait = [], live.wait
    monkeypatch.setattr(live, "wait", lambda *args: waits.append(args) or wait(args[0], 0.001))
    events = stream_events(live, 0.001, QUIET_S)
    assert [data_of(next(events)) for _ in range(3)] == [live.snapshot()] * 3
    assert waits == [(-1, QUIET_S), (live.version, QUIET_S), (live.version, QUIET_S)]


def test_changes_between_two_events_become_one(live):
    events = stream_events(live, 0.001, 60.0)
    next(events)
    for number in range(100):
        live.show_absence(str(number))
    assert data_of(next(events))["summary"] == "99"
    threading.Timer(0.01, live.close).start()
    assert list(events) == []


def test_after_an_event_the_stream_rests_for_a_period(live, monkeypatch):
    rests = []
    monkeypatch.setattr(live, "pause", rests.append)
    events = stream_events(live, 0.2, 0.001)
    next(events)
    assert rests == []
    next(events)
    assert rests == [0.2]


def test_closing_the_view_ends_the_stream(live):
    events = stream_events(live, 60.0, 60.0)
    next(events)
    threading.Timer(0.01, live.close).start()
    assert list(events) == []


def test_the_stream_over_http(client, live):
    live.show_status(node_status("/image"))
    response = client.get("/live/events")
    assert response.status_code == 200
    assert response.mimetype == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert live.viewers_now == 1
    assert data_of(next(response.response))["state"] == "active"
    response.close()
    assert live.viewers_now == 0


def test_a_client_that_leaves_before_the_first_event_gives_its_place_back(client, live):
    client.get("/live/events").close()
    assert client.head("/live/events").status_code == 200
    assert live.viewers_now == 0


def test_one_viewer_too_many_is_refused(client, live):
    client.application.testing = True  # what the application makes of it is its own test
    with live.viewing(), live.viewing(), pytest.raises(ServerBusy):
        client.get("/live/events")
    assert live.viewers_now == 0


def test_pictures_over_http(client, live):
    assert client.get("/live/pictures/0").status_code == 404
    assert client.get("/live/pictures/-1").status_code == 404
    assert client.get("/live/pictures/99999999999999999999").status_code == 404
    live.show_status(node_status("/image"))
    live.show_picture("/image", blank())
    response = client.get("/live/pictures/0?n=1")
    assert (response.status_code, response.mimetype) == (200, "image/jpeg")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.data == live.picture(0)


def test_a_client_that_is_gone_gives_its_place_back(live, color_bundle):
    numbers = itertools.count()

    def is_left():
        live.show_absence(str(next(numbers)))  # only writing finds it out
        return live.viewers_now == 0

    with serving(color_bundle, ServerSettings(event_period_s=0.01), live) as served:
        connection = HTTPConnection("127.0.0.1", served.port, timeout=20)
        connection.request("GET", "/live/events")
        response = connection.getresponse()
        assert data_of(response.readline() + response.readline())["state"] == "absent"
        assert live.viewers_now == 1
        response.close()
        wait_for(is_left)


def test_a_server_that_stops_ends_its_streams(live, color_bundle):
    with serving(color_bundle, live=live) as served:
        connection = HTTPConnection("127.0.0.1", served.port, timeout=20)
        connection.request("GET", "/live/events")
        response = connection.getresponse()
        response.readline()
        served.server.stop()
        assert response.read().strip() == b""
        connection.close()
    assert live.viewers_now == 0
