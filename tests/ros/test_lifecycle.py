# SPDX-License-Identifier: Apache-2.0
"""The lifecycle over its real services, as a manager such as nav2's uses it."""

from __future__ import annotations

import re
import statistics
import threading
import time
from pathlib import Path

import pytest
from lifecycle_msgs.srv import GetState
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from perception_node.ros.qos import LATCHED
from perception_node.system.resources import find_resource
from perception_node.wire.bags import open_bag
from tests.ros.harness import (
    NODE,
    SHUTDOWN,
    Stream,
    account,
    make_image,
    require_balance,
    wait_for,
)

pytestmark = pytest.mark.ros
PERIOD_S = 0.02
ANSWER_MS = 100.0


def test_the_whole_way_and_back_twice(start, peer):
    with start(autostart=False) as node:
        assert peer.state() == "unconfigured"
        for round_ in (1, 2):
            assert peer.change("configure")
            assert peer.state() == "inactive"
            for activation in (1, 2):
                assert peer.change("activate")
                assert peer.state() == "active"
                stamp_ns = 10 * round_ + activation
                result = Stream(peer).classify(make_image("green", stamp_ns))
                assert result.results[0].class_id == "1"
                assert peer.change("deactivate")
                assert peer.state() == "inactive"
            assert peer.change("cleanup")
            assert peer.state() == "unconfigured"
        assert node.end() == 0
        assert "Traceback" not in node.log()


def test_autostart_goes_to_active(start, peer):
    with start():
        peer.wait_until("active")


def test_without_autostart_the_node_waits(start, peer):
    with start(autostart=False):
        peer.wait_until("unconfigured")
        peer.watch().skip(5)
        assert peer.state() == "unconfigured"


def test_an_inactive_node_neither_listens_nor_publishes(start, peer):
    with start():
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        assert peer.change("deactivate")
        wait_for(lambda: not stream.camera.get_subscription_count(), lambda: "no subscription")
        heard = len(stream.results)
        stream.camera.publish(make_image("red", 2))
        peer.watch().skip(3)
        assert len(stream.results) == heard
        assert peer.change("activate")
        stream.classify(make_image("red", 3))
        assert stream.result(2) is None


def test_what_is_counted_as_published_was_published_also_while_activating(
    local, peer, monkeypatch
):
    """The loop runs before the transition has ended; rclpy drops what it takes for inactive."""
    results = peer.collect(Classification, f"{NODE}/classification", 100)
    labels = peer.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
    camera = peer.node.create_publisher(Image, "image", 10)
    is_over, begin_upkeep = threading.Event(), local._begin_upkeep

    def published():
        return local.counters["/image"].snapshot().published

    def begin_after_the_first_result():
        wait_for(published, lambda: "a result while activating")
        begin_upkeep()

    def play():
        while not is_over.wait(PERIOD_S):
            camera.publish(make_image("red", 1))

    monkeypatch.setattr(local, "_begin_upkeep", begin_after_the_first_result)
    assert peer.change("configure")
    wait_for(lambda: labels, lambda: "the labels, and so that the node has found who listens")
    driver = threading.Thread(target=play)
    driver.start()
    try:
        assert peer.change("activate")
    finally:
        is_over.set()
        driver.join()
    assert peer.change("deactivate")  # the frame at hand is finished
    wait_for(lambda: len(results) == published(), lambda: f"all {published()} results")


def test_an_impossible_transition_is_refused_and_survived(start, peer):
    with start(autostart=False) as node:
        peer.wait_until("unconfigured")
        for transition in ("activate", "cleanup", "deactivate", 99):
            assert not peer.change(transition)
        assert peer.state() == "unconfigured"
        assert peer.change("configure")
        assert not peer.change("configure")
        assert peer.change("activate")
        Stream(peer).classify(make_image("red", 1))
        assert node.end() == 0
        log = node.log()
    assert "Traceback" not in log
    assert "rcl_lifecycle" not in log, "which says it of each request, however many there are"
    refused = re.findall(r"(\S+(?: 99)?) refused: not possible in this state", log)
    assert refused == ["activate", "cleanup", "deactivate", "transition 99", "configure"]


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "active"])
def test_shutdown_from_every_state(start, peer, state):
    with start(autostart=False) as node:
        peer.wait_until("unconfigured")
        if state != "unconfigured":
            assert peer.change("configure")
        if state == "active":
            assert peer.change("activate")
            Stream(peer).classify(make_image("red", 1))
        assert peer.change(SHUTDOWN[state])
        assert peer.state() == "finalized"
        wait_for(lambda: not peer.node.count_subscribers("/image"), lambda: "no subscription")
        assert node.end() == 0
        assert "Traceback" not in node.log()


def test_rounds_leave_nothing_behind_in_rclpy(local, peer):
    def a_round():
        for transition in ("configure", "activate", "deactivate", "cleanup"):
            assert peer.change(transition)

    for _ in range(2):
        a_round()
    before = _holdings(local)
    for _ in range(8):
        a_round()
    assert _holdings(local) == before


def _holdings(node) -> dict[str, object]:
    """Count what a round could leave behind in the process and in rclpy's node."""
    return {
        "Python threads": threading.active_count(),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "publishers": len(list(node.publishers)),
        "subscriptions": len(list(node.subscriptions)),
        "timers": len(list(node.timers)),
        "managed entities": len(node._managed_entities),
        "parameters": sorted(node._parameters),
    }


def test_overrides_are_declared_anew_in_each_round(local, peer):
    for _ in range(3):
        for transition in ("configure", "activate", "deactivate", "cleanup"):
            assert peer.change(transition)
    names = [name for name in local._parameters if name.startswith("qos_overrides./image.")]
    assert sorted(name.rsplit(".", 1)[1] for name in names) == ["depth", "history", "reliability"]


def test_counters_go_on_over_rounds_and_balance(start, peer):
    with start() as node:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        assert peer.change("deactivate")
        first = account(node.log())
        assert peer.change("activate")
        wait_for(stream.camera.get_subscription_count, lambda: "the subscription")
        stream.classify(make_image("red", 2))
        assert peer.change("deactivate")
        second = account(node.log())
    require_balance(first)
    require_balance(second)
    assert second["published"] > first["published"]


def test_services_answer_while_frames_are_classified(start, peer):
    """With the real model and the sample's frames as fast as a camera sends them."""
    with open_bag(find_resource("samples/photos")) as bag:
        frames = [message.data for message in bag.messages(["/camera/image_raw"])]
    stop = threading.Event()

    with start(model="efficientnet_lite0"):
        stream = Stream(peer, qos=qos_profile_sensor_data)

        def play():
            while not stop.is_set():
                for frame in frames:
                    stream.camera.publish(frame)
                    stop.wait(1 / 30)

        camera = threading.Thread(target=play)
        camera.start()
        try:
            wait_for(lambda: len(stream.results) > 3, lambda: "results")
            answers_ms = [_answer_ms(peer) for _ in range(20)]
            heard = len(stream.results)
            wait_for(lambda: len(stream.results) > heard, lambda: "more results")
        finally:
            stop.set()
            camera.join()
    assert statistics.median(answers_ms) < ANSWER_MS, sorted(answers_ms)


def _answer_ms(peer) -> float:
    begin = time.monotonic()
    peer.call(GetState, f"{NODE}/get_state")
    return (time.monotonic() - begin) * 1e3


def test_labels_stay_latched_while_inactive(start, peer):
    with start(autostart=False):
        assert peer.change("configure")
        infos = peer.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
        wait_for(lambda: infos, lambda: "label_info")


def test_a_new_configuration_counts_as_a_new_model(start, peer):
    with start(autostart=False):
        infos = peer.collect(VisionInfo, f"{NODE}/vision_info", LATCHED)
        for version in (1, 2):
            assert peer.change("configure")
            _wait_for_versions(infos, list(range(1, version + 1)))
            assert peer.change("cleanup")


def _wait_for_versions(infos, versions):
    def found():
        return [info.database_version for info in infos]

    wait_for(lambda: found() == versions, lambda: f"versions {versions}, found {found()}")
