# SPDX-License-Identifier: Apache-2.0
"""The live view in a real browser: of real nodes over DDS, and of states hard to cause."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from perception_node.errors import EngineLost
from perception_node.live.live_view import LiveView
from perception_node.live.node_status import CameraStatus
from perception_node.serving.settings import ServerSettings
from tests.browser import Visit
from tests.builders import LABELS, color_network, make_bundle, solid
from tests.engine_builders import Engine, raising
from tests.http_builders import serve_process, serving
from tests.node_statuses import ENGINE, FACTS, HEALTHY
from tests.ros.harness import Stream, local_node, make_image, start_node, wait_for

pytestmark = pytest.mark.ros
HOSTILE = "<img src=x onerror=alert(1)>"
LOAD = "perception_node.engines.tensorrt.loading.load_engine"
PERIOD_S = 0.1
QUICK = {"diagnostics_period_s": 0.1, "stuck_after": 0}  # one colour is not a camera that hangs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One of its labels is HTML."""
    folder = tmp_path_factory.mktemp("model") / "colors"
    return make_bundle(folder, color_network(gain=6.0), labels=(HOSTILE, *LABELS[1:]))


class Feed:
    """A camera that sends one colour ten times a second, until it is told another one."""

    def __init__(self, peer):
        self.color = "red"
        self._camera = Stream(peer).camera
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _publish(self):
        stamp_ns = 0
        while not self._end.wait(PERIOD_S):
            stamp_ns += 1
            self._camera.publish(make_image(self.color, stamp_ns))


@contextmanager
def page_of(browser, domain, model):
    """Open the page of a real ``perception serve --ros``."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    with (
        serve_process("--model", model, "--ros", env=environment) as process,
        Visit(browser, process.url) as visit,
    ):
        yield visit


def number(visit, name):
    row = visit.page.locator("tr").filter(has=visit.page.locator(f"th:text-matches('^{name}')"))
    return int(row.locator("td").first.inner_text().replace(",", ""))


def color_of_picture(visit):
    """Return the colour of a pixel near the picture's upper edge, as red, green, blue."""
    return visit.page.locator(".camera img").evaluate(
        """(image) => {
          const canvas = new OffscreenCanvas(1, 1).getContext("2d");
          canvas.drawImage(image, image.naturalWidth - 2, 1, 1, 1, 0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        }"""
    )


def test_a_real_node_is_seen_and_its_death(browser, domain, peer, model):
    node = start_node(domain, {"model": model, "autostart": True, **QUICK})
    with node, Feed(peer) as feed, page_of(browser, domain, model) as visit:
        visit.wait_for_text(".camera .label", HOSTILE)
        assert visit.page.locator(".answer img").count() == 0, "a label is text"
        visit.wait_for_text("#state", "✓ ok")
        visit.wait_for_text("#engine", "ONNX Runtime")
        visit.wait_for_text(".camera .badge", "● live")
        image = visit.page.locator(".camera img")
        image.wait_for()
        wait_for(lambda: np.argmax(color_of_picture(visit)) == 0, lambda: "a red picture")
        before = number(visit, "published")
        feed.color = "green"
        visit.wait_for_text(".camera .label", "green")
        wait_for(lambda: np.argmax(color_of_picture(visit)) == 1, lambda: "a green picture")
        wait_for(lambda: number(visit, "published") > before, lambda: "more results")
        assert number(visit, "received") >= number(visit, "published")
        visit.wait_for_text(".camera svg .strong", "deadline 5000 ms")
        visit.wait_for_text(".camera .words", "p99")
        assert visit.page.title() == "✓ ok - /perception"
        visit.require_names()
        node.process.send_signal(signal.SIGTERM)
        visit.wait_for_text("#state", "✕ absent")
        assert visit.page.title() == "✕ absent - /perception"
        visit.wait_for_text(".camera.old .badge", "■ old picture")


def test_a_lost_engine_cannot_be_missed(browser, domain, peer, model, monkeypatch):
    engines = []

    def load(order):
        engines.append(Engine(order.bundle, "TensorRT 10.3.0, Orin (8.7), fp16"))
        return engines[-1]

    monkeypatch.setattr(LOAD, load)
    with (
        local_node(domain, model=str(model), **QUICK),
        page_of(browser, domain, model) as visit,
    ):
        assert peer.change("configure")
        assert peer.change("activate")
        with Feed(peer):
            visit.wait_for_text("#state", "✓ ok")
            visit.wait_for_text("#engine", "TensorRT 10.3.0, Orin (8.7), fp16")
            engines[0].fault = raising(EngineLost("CUDA error 700"))
            visit.wait_for_text("#state", "⚠\ufe0e degraded")
            visit.wait_for_text("#alarms", "▲ warn: engine: degraded: ONNX Runtime")
            visit.wait_for_text("#engine", "▲ warn: ONNX Runtime")
            visit.wait_for_text(".camera .badge", "● live")
        assert visit.page.title() == "⚠\ufe0e degraded - /perception"
        visit.require_contrast()


@pytest.fixture
def live():
    view = LiveView("/perception", 7, viewers=2)
    view.show_status(HEALTHY)
    view.show_result("/image", [("red", 0.75), ("green", 0.25)])
    view.show_picture("/image", solid((0, 0, 200), 120, 160))
    return view


@pytest.fixture
def served(model, live):
    with serving(model, ServerSettings(viewers=2), live) as server:
        yield server


@pytest.fixture
def visit(browser, served):
    with Visit(browser, served.url) as opened:
        opened.wait_for_text("#state", "ok")
        yield opened


def alarm(level):
    return {"task": "input", "level": level, "message": f"a message of level {level}"}


def degraded(level):
    engine = {**ENGINE, "level": level}
    return replace(HEALTHY, level=level, engine=engine, alarms=[alarm(level)])


STATES = [
    (HEALTHY, "✓ ok"),
    (replace(HEALTHY, level="warn", alarms=[alarm("warn")]), "▲ warn"),
    (replace(HEALTHY, level="error", alarms=[alarm("error")]), "✕ error"),
    (degraded("warn"), "⚠\ufe0e degraded"),
    (degraded("error"), "✕ error, degraded"),
    (replace(HEALTHY, is_active=False), "○ inactive"),
    (None, "✕ absent"),
]


def test_every_state_has_words_and_can_be_read(visit, live):
    for status, state in STATES:
        if status is None:
            live.show_absence("no /perception in ROS domain 7")
        else:
            live.show_status(status)
        visit.page.locator("#state").get_by_text(state, exact=True).wait_for()
        assert visit.page.title() == f"{state} - /perception"
        messages = [row["message"] for row in status.alarms] if status else []
        assert [line.split(": ")[-1] for line in visit.texts("#alarms li")] == messages
        visit.require_contrast()


def test_several_cameras_fit_every_window(visit, live):
    topics = [f"/camera_{number}/image" for number in range(8)]
    live.show_status(replace(HEALTHY, cameras=tuple(CameraStatus(t, "", FACTS) for t in topics)))
    live.show_result(topics[5], [("a_label_that_has_no_space_and_is_rather_long" * 2, 0.9)])
    visit.wait_for_text(".camera h3", topics[7])
    assert visit.texts(".camera h3") == topics
    for width in (360, 768, 1600):
        visit.page.set_viewport_size({"width": width, "height": 800})
        visit.require_width()


def test_numbers_and_bins_are_those_of_the_node(visit):
    assert number(visit, "received") == 1234
    shown = [number(visit, name) for name in FACTS["counters"]]
    assert shown == list(FACTS["counters"].values())
    assert visit.texts(".camera .words") == ["p50 11.3 ms · p99 14.6 ms · max 20.1 ms"]
    bars = visit.page.locator("svg .ages").get_attribute("d")
    assert bars.count("z") == 4
    right = visit.page.locator("svg .ages").evaluate(
        "bars => bars.getBBox().x + bars.getBBox().width"
    )
    line = visit.page.locator("svg .deadline").evaluate("line => line.getBBox().x")
    assert right < line < visit.page.locator("svg").evaluate("svg => svg.clientWidth")


def test_each_picture_is_loaded_once_and_only_when_it_is_new(visit, live):
    def loaded():
        return [a.rpartition("/")[2] for a in visit.addresses if "/live/pictures" in a]

    wait_for(lambda: visit.page.title() and loaded() == ["0?n=1"], loaded)
    live.show_result("/image", [("green", 0.75)])
    visit.wait_for_text(".camera .label", "green")
    live.show_picture("/image", solid((0, 200, 0), 120, 160))
    wait_for(lambda: visit.page.title() and len(loaded()) > 1, loaded)
    assert loaded() == ["0?n=1", "0?n=2"]


def test_an_old_picture_is_said_so_although_results_go_on(visit, live):
    visit.wait_for_text(".camera .badge", "● live")
    badge = visit.page.locator(".camera .badge")

    def is_old():
        live.show_result("/image", [("green", 0.75)])
        return badge.text_content().startswith("■ old: ")

    wait_for(is_old, badge.text_content)


def test_a_hidden_page_costs_nothing(visit, live):
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    image, held = visit.page.locator(".camera img"), []

    def hold(route):
        held.append(route)

    image.wait_for()
    visit.page.route("**/live/pictures/**", hold, times=1)
    live.show_picture("/image", solid((0, 200, 0), 120, 160))
    wait_for(lambda: visit.page.title() and held, lambda: "a request for the picture")
    assert live.viewers_now == 1
    visit.page.evaluate(hide, True)
    wait_for(lambda: live.show_result("/image", [("red", 0.5)]) or not live.viewers_now, str)
    assert visit.page.title() == "paused - /perception"
    with visit.page.expect_response("**/live/pictures/**"):
        held[0].continue_()
    image.evaluate("image => image.decode()")
    assert visit.page.title() == "paused - /perception", "a late picture changes nothing"
    visit.page.evaluate(hide, False)
    visit.wait_for_text("#state", "ok")
    assert live.viewers_now == 1


def test_a_connection_that_broke_without_a_word_is_made_anew(visit, live, monkeypatch):
    """Nothing comes on the stream any more, nor a picture, but the server answers others."""
    broken_streams, lost_pictures, is_over, wait = [], [], threading.Event(), live.wait

    def wait_or_hang(version, timeout_s):
        if lost_pictures and not broken_streams:
            broken_streams.append(threading.get_ident())
        if threading.get_ident() in broken_streams:
            is_over.wait()
        return wait(version, timeout_s)

    def lose(route):
        lost_pictures.append(route)

    def is_broken():
        live.show_result("/image", [("blue", 0.75)])
        return visit.page.title() and broken_streams

    visit.page.locator(".camera img").wait_for()
    visit.page.route("**/live/pictures/**", lose, times=1)
    monkeypatch.setattr(live, "wait", wait_or_hang)
    live.show_picture("/image", solid((0, 200, 0), 120, 160))
    try:
        wait_for(is_broken, lambda: "the stream")
        live.show_result("/image", [("green", 0.75)])
        with visit.page.expect_response(
            lambda answer: answer.url.endswith("/live/pictures/0?n=3")
        ):
            visit.page.evaluate("const { now } = Date; Date.now = () => now() + 60_000; 0")
        visit.wait_for_text(".camera .label", "green")
    finally:
        is_over.set()


def test_the_picture_of_one_camera_is_not_shown_as_that_of_another(visit, live):
    visit.page.locator(".camera img").wait_for()
    live.show_status(replace(HEALTHY, cameras=(CameraStatus("/other", "", FACTS),)))
    visit.wait_for_text(".camera h3", "/other")
    visit.wait_for_text(".camera .badge", "○ no picture")
    assert not visit.page.locator(".camera img").is_visible()


def test_nobody_takes_a_frozen_page_for_a_live_one(visit, served):
    served.server.stop()
    visit.wait_for_text("#state", "✕ no connection since ")
    visit.wait_for_text("#summary", "What is below is old.")
    visit.wait_for_text(".camera.old .badge", "■ old")
    assert visit.page.title().startswith("✕ no connection since ")
    visit.require_contrast()
    visit.complaints.clear()  # of the browser itself


def test_a_page_too_many_says_so(browser, served, live):
    with live.viewing(), live.viewing(), Visit(browser, served.url) as visit:
        visit.wait_for_text("#summary", "2 pages watch the node already; close one")
