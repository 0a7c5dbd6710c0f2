# SPDX-License-Identifier: Apache-2.0
"""From a published image to what a subscriber gets, through DDS and the node's own process."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import LabelInfo, VisionInfo

from perception_node.ros.qos import LATCHED
from tests.builders import LABELS
from tests.gate_builders import multi_label_bundle
from tests.ros.harness import (
    NODE,
    Peer,
    Stream,
    claim_domain,
    make_compressed,
    make_image,
    set_header,
    start_node,
    wait_for,
)

pytestmark = pytest.mark.ros


class Robot(NamedTuple):
    """A node that runs and a camera in front of it."""

    transport: str
    peer: Peer
    stream: Stream
    make: object


@pytest.fixture(
    scope="module",
    params=["raw", "compressed"],
)
def robot(request, color_model, jpeg):
    transport = request.param
    parameters = {"model": color_model, "autostart": True, "image_transport": transport}

    def make(color, stamp_ns, size=(32, 24)):
        if transport == "raw":
            return make_image(color, stamp_ns, size=size)
        return make_compressed(jpeg(color, size), stamp_ns)

    with claim_domain() as domain, start_node(domain, parameters), Peer(domain) as peer:
        if transport == "raw":
            stream = Stream(peer)
        else:
            stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        stream.classify(make("red", 1))
        yield Robot(transport, peer, stream, make)


def test_header_is_copied_exactly(robot):
    image = robot.make("red", 1_234_567_890_123_456_789)
    set_header(image, 1_234_567_890_123_456_789, "front/left optical")
    result = robot.stream.classify_once(image)
    assert result.header == image.header


def test_hypotheses_are_complete_and_best_first(robot):
    result = robot.stream.classify_once(robot.make("orange", 2))
    assert [hypothesis.class_id for hypothesis in result.results] == ["0", "1", "2"]
    scores = [hypothesis.score for hypothesis in result.results]
    assert scores == sorted(scores, reverse=True)
    # softmax of 6 times (1, 128 / 255, 0)
    expected = np.exp([6.0, 6.0 * 128 / 255, 0.0])
    assert scores == pytest.approx(expected / expected.sum(), abs=5e-3)


@pytest.mark.parametrize(("color", "index"), [("red", "0"), ("green", "1"), ("blue", "2")])
def test_colors_are_told_apart(robot, color, index):
    result = robot.stream.classify_once(robot.make(color, 10 + int(index)))
    assert result.results[0].class_id == index
    assert result.results[0].score == pytest.approx(np.exp(6) / (np.exp(6) + 2), abs=5e-3)


def test_late_subscriber_gets_the_labels(robot):
    infos = robot.peer.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
    wait_for(lambda: infos, lambda: "label_info")
    classes = [(entry.class_id, entry.class_name) for entry in infos[0].class_map]
    assert classes == list(enumerate(LABELS))
    assert infos[0].threshold == 0.0
    assert len(infos) == 1


def test_late_subscriber_gets_the_model(robot):
    infos = robot.peer.collect(VisionInfo, f"{NODE}/vision_info", LATCHED)
    wait_for(lambda: infos, lambda: "vision_info")
    assert infos[0].method.startswith("colors on ONNX Runtime")
    assert "no NVIDIA GPU" in infos[0].method or "TensorRT" in infos[0].method
    assert infos[0].database_location == f"{NODE}/label_info"
    assert infos[0].database_version == 1


def test_overlay_is_the_frame_with_the_result_drawn_on_it(robot):
    overlays = robot.peer.collect(Image, f"{NODE}/overlay", qos_profile_sensor_data)
    image = robot.make("blue", 30, (512, 768))

    def is_there():
        image.header.stamp.nanosec += 1
        robot.stream.classify_once(image)
        return overlays

    wait_for(is_there, lambda: "an overlay")
    overlay = overlays[-1]
    # A large JPEG is decoded at up to an eighth of its size: the model needs no more.
    width, height = (512, 768) if robot.transport == "raw" else (64, 96)
    assert overlay.header.frame_id == image.header.frame_id
    assert (overlay.encoding, overlay.width, overlay.height) == ("bgr8", width, height)
    assert (overlay.step, len(overlay.data)) == (width * 3, width * 3 * height)
    pixels = np.frombuffer(overlay.data, np.uint8).reshape(height, width, 3)
    assert np.abs(pixels[0, 0].astype(int) - (255, 0, 0)).max() < 8, "the top is the frame's blue"
    assert (pixels[height // 2 :] != pixels[0, 0]).any(), "the results are drawn at the bottom"


def test_class_id_may_be_the_name(start, peer):
    with start(class_id_format="name"):
        result = Stream(peer).classify(make_image("green", 5))
    assert result.results[0].class_id == "green"
    assert {hypothesis.class_id for hypothesis in result.results} == set(LABELS)


def test_top_k_and_threshold_shorten_the_list(start, peer):
    with start(top_k=2, threshold=0.04) as node:
        stream = Stream(peer)
        orange = stream.classify(make_image("orange", 5))
        red = stream.classify_once(make_image("red", 6))
        assert [hypothesis.class_id for hypothesis in orange.results] == ["0", "1"]
        assert [hypothesis.class_id for hypothesis in red.results] == ["0"]
        infos = peer.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
        wait_for(lambda: infos, lambda: "label_info")
        assert infos[0].threshold == pytest.approx(0.04)
        assert node.end() == 0


def test_nothing_above_the_threshold_is_an_empty_result(start, peer):
    with start(threshold=1.0):
        result = Stream(peer).classify(make_image("orange", 5))
    assert result.results == []


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_encoding_decides_what_a_byte_means(start, peer, encoding):
    with start():
        result = Stream(peer).classify(make_image("blue", 5, encoding=encoding))
    assert result.results[0].class_id == "2"


def activate(local, peer):
    """Return a stream to the active node, and a list that grows with every overlay it draws."""
    drawn = []
    peer.change("configure")
    peer.change("activate")
    unpacker = local._cameras[0].outputs._unpacker
    unpack = unpacker.unpack
    unpacker.unpack = lambda frame: drawn.append(1) or unpack(frame)
    stream = Stream(peer)
    stream.classify(make_image("red", 1))
    return stream, drawn


def test_overlay_costs_nothing_while_nobody_watches(local, peer):
    stream, drawn = activate(local, peer)
    for stamp_ns in range(2, 10):
        stream.classify_once(make_image("red", stamp_ns))
    assert not drawn

    overlays = peer.collect(Image, f"{NODE}/overlay", qos_profile_sensor_data)
    wait_for(lambda: local.count_subscribers(f"{NODE}/overlay"), lambda: "the watcher")
    stream.classify_once(make_image("red", 20))
    wait_for(lambda: overlays, lambda: "an overlay")
    assert len(drawn) == 1


def test_overlays_are_drawn_at_most_at_their_rate(local, peer):
    local.set_parameters([Parameter("overlay_rate_hz", value=1e-3)])  # one in a quarter of an hour
    stream, drawn = activate(local, peer)
    overlays = peer.collect(Image, f"{NODE}/overlay", qos_profile_sensor_data)
    wait_for(lambda: local.count_subscribers(f"{NODE}/overlay"), lambda: "the watcher")
    for stamp_ns in range(10, 20):
        stream.classify_once(make_image("red", stamp_ns))
    wait_for(lambda: overlays, lambda: "the first overlay")
    assert len(drawn) == 1

    local.set_parameters([Parameter("overlay_rate_hz", value=0.0)])
    for stamp_ns in range(20, 30):
        stream.classify_once(make_image("red", stamp_ns))
    wait_for(lambda: len(drawn) == 11, lambda: f"one for each image, drawn: {len(drawn)}")


def test_a_multi_label_model_publishes_every_label_that_reaches_its_threshold(tmp_path):
    bundle = multi_label_bundle(tmp_path / "labels", thresholds=(0.5, 0.6, 0.5))
    parameters = {"model": bundle.path, "autostart": True}
    with claim_domain() as domain, start_node(domain, parameters), Peer(domain) as peer:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        result = stream.classify_once(make_image("orange", 2))
    # sigmoids of 6 and of 12 * 128 / 255 - 6, which does not reach 0.6; blue has that of -6
    assert [hypothesis.class_id for hypothesis in result.results] == ["0"]
    assert result.results[0].score == pytest.approx(0.997527, abs=1e-5)
