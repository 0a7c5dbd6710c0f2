# SPDX-License-Identifier: Apache-2.0
"""QoS by name, by override, and where the camera's does not fit."""

from __future__ import annotations

from typing import get_args

import pytest
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image

from perception_node.config.sections import QosName
from perception_node.ros.compat import SubscriptionEventCallbacks, UnsupportedEventTypeError
from tests.ros.harness import NODE, Stream, make_image, wait_for

pytestmark = pytest.mark.ros
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
CAMERA_QOS = {
    RELIABLE: QoSProfile(depth=1, reliability=RELIABLE),
    BEST_EFFORT: QoSProfile(depth=1, reliability=BEST_EFFORT),
}


def subscription_of(peer, topic="/image"):
    """Return what the graph knows of the node's image subscription."""
    find = peer.node.get_subscriptions_info_by_topic
    return wait_for(lambda: find(topic), lambda: f"a subscription to {topic}")[0].qos_profile


def override(policy, value, topic="/image", kind="subscription"):
    """Return the ROS arguments that override a policy."""
    return "-p", f"qos_overrides.{topic}.{kind}.{policy}:={value}"


@pytest.mark.parametrize("camera", CAMERA_QOS, ids=lambda reliability: reliability.name)
def test_sensor_data_fits_every_camera(start, peer, camera):
    with start(image_qos="sensor_data"):
        assert subscription_of(peer).reliability == BEST_EFFORT
        Stream(peer, qos=CAMERA_QOS[camera]).classify(make_image("red", 1))


@pytest.mark.parametrize("name", [name for name in get_args(QosName) if name != "sensor_data"])
def test_other_profiles_work_with_a_reliable_camera(start, peer, name):
    with start(image_qos=name):
        result = Stream(peer, qos=CAMERA_QOS[RELIABLE]).classify(make_image("red", 1))
        assert result.results


def test_default_is_reliable(start, peer):
    with start(image_qos="default"):
        assert subscription_of(peer).reliability == RELIABLE


def test_reliability_can_be_overridden(start, peer):
    with start(*override("reliability", "reliable")):
        assert subscription_of(peer).reliability == RELIABLE
        Stream(peer, qos=CAMERA_QOS[RELIABLE]).classify(make_image("red", 1))


def test_override_goes_by_the_resolved_topic(start, peer):
    arguments = override("reliability", "reliable", "/front/image")
    with start("-r", "__ns:=/front", *arguments):
        assert subscription_of(peer, "/front/image").reliability == RELIABLE


@pytest.mark.parametrize(
    ("policy", "value"), [("depth", 10), ("depth", 0), ("history", "keep_all")]
)
def test_a_queue_is_refused_when_the_node_is_activated(start, peer, policy, value):
    with start(*override(policy, value), autostart=False) as node:
        assert peer.change("configure")
        assert not peer.change("activate")
        assert peer.state() == "inactive"
        lines = [line for line in node.log().splitlines() if "activate failed" in line]
        assert len(lines) == 1
        assert "keeps the last 1 frame" in lines[0]
        assert "Traceback" not in node.log()
        assert peer.change("cleanup")
        assert node.end() == 0


def test_an_impossible_override_is_refused_when_the_node_is_activated(start, peer):
    with start(*override("reliability", "sometimes"), autostart=False) as node:
        assert peer.change("configure")
        assert not peer.change("activate")
        assert peer.state() == "inactive"
        assert "activate failed" in node.log()
        assert "Traceback" not in node.log()
        assert node.end() == 0


def test_an_impossible_override_of_the_results_is_refused_when_configured(start, peer):
    topic = f"{NODE}/classification"
    arguments = override("reliability", "sometimes", topic, "publisher")
    with start(*arguments, autostart=False) as node:
        assert not peer.change("configure")
        assert peer.state() == "unconfigured"
        assert "configure failed" in node.log()
        assert "Traceback" not in node.log()
        assert node.end() == 0


def test_results_can_be_best_effort(start, peer):
    with start(classification_qos="sensor_data"):
        find = peer.node.get_publishers_info_by_topic
        infos = wait_for(lambda: find(f"{NODE}/classification"), lambda: "the publisher")
        assert infos[0].qos_profile.reliability == BEST_EFFORT


def test_override_of_the_results_works(start, peer):
    topic = f"{NODE}/classification"
    with start(*override("reliability", "best_effort", topic, "publisher")):
        find = peer.node.get_publishers_info_by_topic
        infos = wait_for(lambda: find(topic), lambda: "the publisher")
        assert infos[0].qos_profile.reliability == BEST_EFFORT


def test_a_camera_that_does_not_fit_leaves_the_node_alive(start, peer):
    diagnostics = peer.watch()
    with start(image_qos="default", image_timeout_s=0.3) as node:
        peer.wait_until("active")
        wrong = peer.node.create_publisher(Image, "image", qos_profile_sensor_data)
        wait_for(lambda: peer.node.count_publishers("image"), lambda: "the camera")
        for stamp_ns in range(5):
            wrong.publish(make_image("red", stamp_ns))
        diagnostics.wait_for_level("input", 2)
        assert diagnostics.value("received") == "0"
        assert peer.state() == "active"
        Stream(peer, qos=CAMERA_QOS[RELIABLE]).classify(make_image("red", 1))
        assert node.end() == 0
        assert "Traceback" not in node.log()


def test_depth_is_one(local, peer):
    assert peer.change("configure")
    assert peer.change("activate")
    profile = local._cameras[0]._subscription.qos_profile
    assert (profile.history, profile.depth) == (HistoryPolicy.KEEP_LAST, 1)


@pytest.mark.usefixtures("local")
def test_a_middleware_that_reports_no_loss_will_do(peer, monkeypatch):
    create = SubscriptionEventCallbacks.create_event_handlers

    def refuse(callbacks, *arguments):
        if callbacks.message_lost:
            raise UnsupportedEventTypeError("event message lost is not supported")
        return create(callbacks, *arguments)

    monkeypatch.setattr(SubscriptionEventCallbacks, "create_event_handlers", refuse)
    assert peer.change("configure")
    assert peer.change("activate")
    Stream(peer).classify(make_image("red", 1))
