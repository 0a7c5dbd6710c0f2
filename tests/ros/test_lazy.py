# SPDX-License-Identifier: Apache-2.0
"""A lazy node subscribes to a camera only while somebody listens to what the camera leads to."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

from perception_node.ros.qos import named_qos
from tests.ros.harness import Peer, Stream, account, make_image, require_balance, wait_for

pytestmark = pytest.mark.ros
OK = 0
NOT_HEARD = "nobody listens, so the lazy node does not subscribe"
KINDS = {"classification": Classification, "overlay": Image, "latency": DiagnosticArray}
ROWS = ("input", "connection", "rate", "picture", "deadline")


def is_subscribed(camera):
    return camera.get_subscription_count() > 0


@pytest.mark.parametrize("name", KINDS)
def test_the_camera_is_subscribed_to_while_somebody_listens(start, peer, domain, name):
    diagnostics = peer.watch()
    with start(lazy=True, image_timeout_s=0.2) as node:
        camera = peer.node.create_publisher(Image, "image", 10)
        wait_for(lambda: NOT_HEARD in said(diagnostics), node.log)
        diagnostics.skip(5)  # longer than image_timeout_s
        assert {row.level[0] for row in rows(diagnostics)} == {OK}
        assert not is_subscribed(camera)
        for _ in range(2):
            with Peer(domain) as listener:
                listener.collect(KINDS[name], f"/perception/{name}", named_qos("sensor_data"))
                wait_for(lambda: is_subscribed(camera), node.log)
                diagnostics.wait_for_level("input", 2)  # it is listened to, and nothing comes
            wait_for(lambda: not is_subscribed(camera), node.log)
            diagnostics.wait_for_level("input", OK)
        assert node.end() == 0
        log = node.log()
    assert "waiting for somebody to listen, then for images on /image" in log
    assert "Traceback" not in log


def test_frames_are_classified_and_counted_as_ever(start, peer, domain):
    with start(lazy=True, image_topics=("a/image", "b/image")) as node:
        other = peer.node.create_publisher(Image, "b/image", 10)
        results = 0
        for stamp_ns in (1, 2):
            with Peer(domain) as listener:
                stream = Stream(listener, "/a/perception", "a/image")
                assert stream.classify(make_image("green", stamp_ns)).results[0].class_id == "1"
                results += len(stream.results)
            wait_for(lambda: not peer.node.count_subscribers("/a/image"), node.log)
        assert not is_subscribed(other), "each camera for itself"
        assert node.end() == 0
        counts = account(node.log(), "/a/image")
    require_balance(counts)
    assert counts["published"] >= results >= 2


def test_a_lazy_node_can_be_deactivated_and_activated(start, peer, domain):
    with start(lazy=True) as node:
        with Peer(domain) as listener:
            stream = Stream(listener)
            stream.classify(make_image("red", 1))
            assert peer.change("deactivate")
            wait_for(lambda: not is_subscribed(stream.camera), node.log)
            assert peer.change("activate")
            stream.classify(make_image("blue", 2))
        assert peer.change("deactivate")
        assert peer.change("cleanup")
        assert node.end() == 0
        assert "Traceback" not in node.log()


def rows(diagnostics):
    return [row for task, row in diagnostics.latest().items() if task in ROWS]


def said(diagnostics):
    return {row.message for row in rows(diagnostics)}
