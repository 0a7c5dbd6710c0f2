# SPDX-License-Identifier: Apache-2.0
"""How images reach the node is tried out; each answer leads to results, or to one line."""

from __future__ import annotations

import numpy as np
import pytest
import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from sensor_msgs.msg import CompressedImage, Image

from perception_node.errors import EnvironmentLacks, FrameError
from perception_node.ros import delivery
from perception_node.ros.delivery import BYTES, ENOUGH, MESSAGES, find_delivery
from perception_node.wire.images import ImageReader, peek_header
from tests.ros.harness import (
    Stream,
    make_compressed,
    make_image,
    open_context,
    serialize,
    wait_for,
)

pytestmark = pytest.mark.ros
take = rclpy_implementation.Subscription.take_message
ROUNDS = 10
OTHERS = 40  # messages of somebody else on the same topic


@pytest.fixture(autouse=True)
def _unknown(monkeypatch):
    """Nothing was tried out yet."""
    monkeypatch.setattr(delivery, "_found", {})


@pytest.fixture
def node(domain):
    with open_context(domain) as context:
        node = rclpy.create_node("receiver", context=context)
        yield node
        node.destroy_node()


@pytest.fixture
def deliver(monkeypatch):
    """Return a function that puts a middleware's whims between the real one and rclpy."""

    def put_between(change):
        monkeypatch.setattr(
            rclpy_implementation.Subscription,
            "take_message",
            lambda subscription, kind, raw: change(take(subscription, kind, raw), raw),
        )

    return put_between


def keep_back_bytes(taken, raw):
    """Deliver as Lyrical does."""
    return None if raw else taken


@pytest.mark.parametrize("kind", [Image, CompressedImage])
def test_where_bytes_arrive_they_are_taken(node, deliver, kind):
    deliver(lambda taken, _raw: taken)
    if find_delivery(node, kind) == MESSAGES:
        pytest.skip("the middleware here keeps them back")
    deliver(lambda _taken, _raw: None)
    assert find_delivery(node, kind) == BYTES  # it is known: nothing is sent again


@pytest.mark.parametrize("kind", [Image, CompressedImage])
def test_where_bytes_are_kept_back_messages_are_taken(node, deliver, kind):
    deliver(keep_back_bytes)
    assert find_delivery(node, kind) == MESSAGES
    topic = node.resolve_topic_name(f"{delivery.TOPICS}/{kind.__name__}")
    wait_for(
        lambda: node.count_publishers(topic) + node.count_subscribers(topic) == 0,
        lambda: "the end of what was made to find out",
    )


def test_a_node_that_is_spun_by_another_thread_finds_out_as_well(peer, deliver):
    deliver(keep_back_bytes)
    assert find_delivery(peer.node, Image) == MESSAGES


def test_the_thread_that_spins_meanwhile_survives(peer, monkeypatch):
    for _ in range(ROUNDS):
        monkeypatch.setattr(delivery, "_found", {})
        find_delivery(peer.node, Image)
    came = peer.collect(Image, "/camera")
    camera = peer.camera("/camera")
    camera.publish(make_image("red", 1))
    wait_for(lambda: came, lambda: "a message, taken by the thread")


def test_bytes_that_come_only_at_first_are_not_trusted(node, deliver):
    came = []

    def deliver_a_few(taken, raw):
        if raw and taken is not None:
            came.append(taken)
        return None if raw and len(came) > ENOUGH / 2 else taken

    deliver(deliver_a_few)
    assert find_delivery(node, Image) == MESSAGES
    if not came:
        pytest.skip("the middleware here keeps all of them back")


def test_bytes_of_an_unknown_form_are_not_trusted(node, deliver):
    deliver(lambda taken, raw: (b"?" * 40, taken[1]) if raw and taken else taken)
    assert find_delivery(node, Image) == MESSAGES


def test_what_others_send_does_not_count(node, deliver, monkeypatch):
    publisher = node.create_publisher(Image, f"{delivery.TOPICS}/Image", OTHERS)

    def send_as_somebody_else(_s):
        publisher.publish(make_image("red", 1000))

    monkeypatch.setattr(delivery.time, "sleep", send_as_somebody_else)
    monkeypatch.setattr(delivery, "PERIOD_S", delivery.TIMEOUT_S / OTHERS)
    deliver(lambda taken, _raw: taken if taken and is_from_others(taken[0]) else None)
    with pytest.raises(EnvironmentLacks):
        find_delivery(node, Image)


def is_from_others(message):
    return peek_header(message).frame_id == "camera_optical_frame"


@pytest.mark.usefixtures("local")
def test_a_node_that_cannot_receive_says_so_and_lives(peer, deliver, monkeypatch, capfd):
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.3)
    deliver(lambda _taken, _raw: None)
    # The services of the peer are not taken as messages, so they work.
    assert not peer.change("configure")
    assert peer.state() == "unconfigured"
    line = (
        f"configure failed: {rclpy.get_rmw_implementation_identifier()} delivered no image from "
        "this process to itself in 0.3 s; run: perception doctor"
    )
    assert line in capfd.readouterr().err
    deliver(lambda taken, _raw: taken)
    assert peer.change("configure")


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_camera_is_classified_where_bytes_are_kept_back(local, peer, deliver, jpeg, transport):
    deliver(keep_back_bytes)
    diagnostics = peer.watch()
    is_raw = transport == "raw"
    local.set_parameters([rclpy.parameter.Parameter("image_transport", value=transport)])
    assert peer.change("configure")
    assert peer.change("activate")
    topic, kind = ("image", Image) if is_raw else ("image/compressed", CompressedImage)
    stream = Stream(peer, topic=topic, kind=kind)
    for stamp_ns, color in enumerate(("red", "green", "blue"), 1):
        message = make_image(color, stamp_ns) if is_raw else make_compressed(jpeg(color), stamp_ns)
        result = stream.classify(message)
        assert result.results[0].class_id == str(stamp_ns - 1)
        assert result.header == message.header
    diagnostics.wait_for_value("images arrive as", "messages")


def padded(step=100):
    return make_image("red", 7, step=step, data=bytes(range(24)) * step)


READABLE = {
    "plain": make_image("red", 5),
    "padded": padded(),
    "big-endian": make_image("red", 5, encoding="mono16", size=(16, 12), is_bigendian=1),
    "unknown frame": make_image("red", 5, header=Image().header),
}
UNREADABLE = {
    "short": make_image("red", 5, data=b"123"),
    "step": make_image("red", 5, step=97),
    "encoding": make_image("red", 5, encoding="32FC1"),
    "empty": Image(),
}


def read(message):
    return ImageReader("raw", 1 << 20, 0).read(message)


@pytest.mark.parametrize("name", READABLE)
def test_a_message_is_read_as_its_bytes_are(name):
    message = READABLE[name]
    ours, theirs = read(message), read(serialize(message))
    assert ours[1:] == theirs[1:]  # all but the pixels
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    assert not ours.pixels.flags.writeable
    assert np.shares_memory(ours.pixels, np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_message_is_refused_as_its_bytes_are(name):
    message = UNREADABLE[name]
    errors = []
    for form in (message, serialize(message)):
        with pytest.raises(FrameError) as caught:
            read(form)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(("sec", "nanosec"), [(-1, 0), (1, 1_000_000_000)])
def test_a_stamp_that_is_none_is_refused_in_both_forms(sec, nanosec):
    message = make_image("red", 5)
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    for form in (message, serialize(message)):
        with pytest.raises(FrameError, match="stamp"):
            peek_header(form)
