# SPDX-License-Identifier: Apache-2.0
"""``perception play``: the bag's bytes, in order, at the recorded or another speed."""

from __future__ import annotations

import itertools
import signal
import time

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from perception_node.cli import EXIT_CHECK_FAILED, EXIT_OK, EXIT_WRONG_INPUT
from perception_node.ros.delivery import BYTES, find_delivery
from perception_node.ros.messages import to_nanoseconds
from perception_node.system.resources import find_resource
from perception_node.wire.bags import open_bag
from tests.bag_builders import Row, make_mcap
from tests.builders import TYPES, write_bag
from tests.ros.harness import start_cli, wait_for

pytestmark = pytest.mark.ros
RAW, COMPRESSED = "/camera/image_raw", "/camera/image_raw/compressed"
SAMPLE = find_resource("samples/photos")
DEPTH = 200
SEEN = 20  # of 100 messages in a second, of which the first come before the two know each other


def recorded(topic) -> list[bytes]:
    with open_bag(SAMPLE) as bag:
        return [message.data for message in bag.messages([topic])]


def is_same(arrived, sent) -> bool:
    """Compare messages; the middleware fills the last four bytes of serialized ones with zeros."""
    if not isinstance(arrived, bytes):
        return arrived == deserialize_message(sent, type(arrived))
    padding = arrived[len(sent) :]
    return arrived.startswith(sent) and len(padding) < 4 and not any(padding)


def require_cycle(arrivals, expected) -> None:
    """The messages are those of the bag, none missing, from any of them on."""
    first = next(i for i, sent in enumerate(expected) if is_same(arrivals[0][1], sent))
    for number, (_, arrived) in enumerate(arrivals, start=first):
        same = is_same(arrived, expected[number % len(expected)])
        assert same, f"message {number - first} of {len(arrivals)} is another one"


def collect(peer, topic, kind=CompressedImage):
    """Subscribe and return a list of (arrival on the steady clock in s, bytes or message)."""
    arrivals = []
    peer.node.create_subscription(
        kind,
        topic,
        lambda message: arrivals.append((time.monotonic(), message)),
        DEPTH,
        raw=find_delivery(peer.node, kind) == BYTES,
    )
    return arrivals


def test_bytes_arrive_unchanged_in_order_again_and_again(peer, domain):
    expected = recorded(COMPRESSED)
    arrivals = collect(peer, COMPRESSED)
    with start_cli(domain, "play", SAMPLE, "--topic", COMPRESSED, "--rate", 8, "--loop") as play:
        wait_for(lambda: len(arrivals) > 2 * len(expected), lambda: "two rounds")
        assert play.end(signal.SIGINT) == EXIT_OK
        assert "Traceback" not in play.log()
    require_cycle(arrivals, expected)


@pytest.mark.parametrize("options", [(), ("--typed",)])
def test_raw_frames_arrive_unchanged(peer, domain, options):
    expected = recorded(RAW)
    arrivals = collect(peer, RAW, Image)
    arguments = (SAMPLE, "--topic", RAW, "--rate", 4, "--loop", *options)
    with start_cli(domain, "play", *arguments) as play:
        wait_for(lambda: len(arrivals) > len(expected), lambda: "one round")
        assert play.end(signal.SIGTERM) == EXIT_OK
    require_cycle(arrivals, expected)


def test_a_loop_begins_one_period_after_the_last_ended(peer, domain, tmp_path):
    period_ns, messages = 200_000_000, recorded(COMPRESSED)[:4]
    kind = "sensor_msgs/msg/CompressedImage"
    rows = [(COMPRESSED, kind, number * period_ns, m) for number, m in enumerate(messages)]
    bag = write_bag(tmp_path / "bag", rows)
    arrivals = collect(peer, COMPRESSED)
    with start_cli(domain, "play", bag, "--rate", 2, "--loop"):
        wait_for(lambda: len(arrivals) > 3 * len(messages), lambda: "three rounds")
    require_cycle(arrivals, messages)
    gaps_s = [b - a for (a, _), (b, _) in itertools.pairwise(arrivals)]
    seams_s = [
        gap_s
        for gap_s, (_, arrived) in zip(gaps_s, arrivals[1:], strict=True)
        if is_same(arrived, messages[0])
    ]
    # A loaded machine may bring two messages closer to each other, but hardly all of them.
    assert max(seams_s) > period_ns / 1e9 / 2 * 0.8


def test_a_single_message_is_repeated_at_leisure(peer, domain, tmp_path):
    message = recorded(COMPRESSED)[0]
    row = (COMPRESSED, "sensor_msgs/msg/CompressedImage", 1, message)
    arrivals = collect(peer, COMPRESSED)
    bag = write_bag(tmp_path / "bag", [row])
    with start_cli(domain, "play", bag, "--loop"):
        wait_for(lambda: arrivals, lambda: "the message")
        begin, begin_s = len(arrivals), time.monotonic()
        wait_for(lambda: len(arrivals) >= begin + 5, lambda: "five more")
        assert time.monotonic() - begin_s > 0.2


def test_recorded_speed_is_kept(peer, domain):
    arrivals = collect(peer, COMPRESSED)
    with start_cli(domain, "play", SAMPLE, "--topic", COMPRESSED):
        wait_for(lambda: len(arrivals) >= 21, lambda: "two seconds of the bag")
    took_s = arrivals[20][0] - arrivals[0][0]
    assert 1.5 < took_s < 4.0  # 20 frames at 10 per second


def test_ten_times_the_speed(peer, domain):
    arrivals = collect(peer, COMPRESSED)
    with start_cli(domain, "play", SAMPLE, "--topic", COMPRESSED, "--rate", 10) as play:
        assert play.process.wait(30) == EXIT_OK
        assert f"playing {COMPRESSED}" in play.log()
    assert len(arrivals) > SEEN
    assert is_same(arrivals[-1][1], recorded(COMPRESSED)[-1])
    took_s = arrivals[-1][0] - arrivals[0][0]
    assert took_s < 5.0  # recorded in 9.9


def test_all_topics_play_together(peer, domain):
    raw, compressed = collect(peer, RAW, Image), collect(peer, COMPRESSED)
    with start_cli(domain, "play", SAMPLE, "--rate", 5, "--loop"):
        wait_for(lambda: len(raw) > 2 and len(compressed) > 20, lambda: "both topics")


def test_the_clock_comes_before_each_message(peer, domain):
    clocks = []
    peer.node.create_subscription(
        Clock, "/clock", lambda message: clocks.append(to_nanoseconds(message.clock)), DEPTH
    )
    arguments = ("--topic", COMPRESSED, "--rate", 10, "--clock")
    with start_cli(domain, "play", SAMPLE, *arguments) as play:
        assert play.process.wait(30) == EXIT_OK
    with open_bag(SAMPLE) as bag:
        times = [message.time_ns for message in bag.messages([COMPRESSED])]
    wait_for(lambda: clocks[-1:] == times[-1:], lambda: f"the last time, found {clocks[-1:]}")
    assert len(clocks) > SEEN
    # The newest time is the right one: where a machine is busy, one before it may be left out.
    assert clocks == [time_ns for time_ns in times if time_ns in set(clocks)]


def test_without_clock_there_is_none(peer, domain):
    arrivals = collect(peer, COMPRESSED)
    with start_cli(domain, "play", SAMPLE, "--topic", COMPRESSED, "--loop"):
        wait_for(lambda: arrivals, lambda: "a frame")
        assert peer.node.count_publishers("/clock") == 0


def test_ros_arguments_remap(peer, domain):
    arrivals = collect(peer, "/rear/compressed")
    remap = ("--ros-args", "-r", f"{COMPRESSED}:=/rear/compressed")
    with start_cli(domain, "play", SAMPLE, "--topic", COMPRESSED, "--loop", *remap):
        wait_for(lambda: arrivals, lambda: "a frame on the other topic")


def odd_bag(tmp_path):
    """Write twelve images within a second, beside a topic whose type is installed nowhere."""
    kind = "sensor_msgs/msg/CompressedImage"
    data = recorded(COMPRESSED)[0]
    rows = [Row(COMPRESSED, kind, "cdr", n * 80_000_000, data) for n in range(12)]
    rows.insert(3, Row("/odd", "nothing_msgs/msg/Odd", "cdr", 200_000_000, b"\0\1\0\0"))
    rows.insert(3, Row("/state", "my.State", "json", 200_000_000, b"{}"))
    file = tmp_path / "odd.mcap"
    file.write_bytes(make_mcap(rows))
    return file


@pytest.mark.parametrize(("reliability", "least"), [("RELIABLE", 12), ("BEST_EFFORT", 10)])
def test_playing_begins_when_somebody_listens(peer, domain, tmp_path, reliability, least):
    """Who comes later hears all; without reliability a busy machine may lose some."""
    arrivals = []
    with start_cli(domain, "play", odd_bag(tmp_path)) as play:
        wait_for(lambda: "playing" in play.log(), lambda: "its first line")
        peer.node.create_subscription(
            CompressedImage,
            COMPRESSED,
            arrivals.append,
            QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy[reliability]),
        )
        assert play.process.wait(30) == EXIT_OK
        lines = play.log().splitlines()
    assert lines[0] == f"playing {COMPRESSED}"
    assert lines[1].startswith(
        "left out: /odd: message type nothing_msgs/msg/Odd is not installed"
    )
    assert lines[2] == "left out: /state: my.State as json"
    assert lines[3:] == ["images played: 12; unheard, without a subscriber: 0"]
    wait_for(lambda: len(arrivals) >= least, lambda: f"{least} images, found {len(arrivals)}")


def test_playing_goes_on_without_those_who_do_not_come(peer, domain, tmp_path):
    arrivals = collect(peer, COMPRESSED)
    begin_s = time.monotonic()
    with start_cli(domain, "play", odd_bag(tmp_path), "--wait-for", 2) as play:
        assert play.process.wait(30) == EXIT_OK
        assert "subscribers after 5 s: 1 of 2; playing without the rest" in play.log()
    assert time.monotonic() - begin_s > 5
    assert len(arrivals) == 12


def test_images_that_no_subscriber_gets_are_counted(domain, tmp_path):
    with start_cli(domain, "play", odd_bag(tmp_path), "--wait-for", 0, "--rate", 9) as play:
        assert play.process.wait(30) == EXIT_OK
        assert "images played: 12; unheard, without a subscriber: 12" in play.log()


def test_a_topic_without_messages_is_an_error(domain, tmp_path):
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection(RAW, "sensor_msgs/msg/Image", typestore=TYPES)
    with start_cli(domain, "play", tmp_path / "bag") as play:
        assert play.process.wait(30) == EXIT_CHECK_FAILED
        assert f"it holds no message of {RAW}" in play.log()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([SAMPLE, "--topic", "/camera/depth"], ["no such topic: /camera/depth", COMPRESSED]),
        ([SAMPLE, "--rate", "0"], ["--rate must be 1e-09 to"]),
        ([SAMPLE / "nothing"], ["no such bag"]),
        ([SAMPLE, "--ros-args", "-r", "nonsense"], ["nonsense"]),
    ],
    ids=["topic", "rate", "bag", "ROS arguments"],
)
def test_wrong_input_is_one_line(domain, arguments, words):
    with start_cli(domain, "play", *arguments) as play:
        assert play.process.wait(30) == EXIT_WRONG_INPUT
        lines = [line for line in play.log().splitlines() if "[rcl]: " not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("perception: ")
    for word in words:
        assert word in lines[0]
