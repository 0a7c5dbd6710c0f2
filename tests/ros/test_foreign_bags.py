# SPDX-License-Identifier: Apache-2.0
"""``perception play`` with a bag whose topics, types, times and messages are none of ROS's."""

from __future__ import annotations

import pytest

from perception_node.errors import ConfigError, EnvironmentLacks
from perception_node.rehearsal.player import Player, import_type
from perception_node.system.signals import StopEvent
from perception_node.wire.bags import BagMessage
from tests.builders import START_NS, compressed_message, string_message, write_bag
from tests.foreign_text import FOREIGN, find_unprintable
from tests.ros.harness import start_cli

pytestmark = pytest.mark.ros
STRING = "std_msgs/msg/String"
TOPICS = ["", "/", "a b", "/a//b", "/a/", "/1a", "/ä", "a?b", "/{x}", "/" + "x" * 5000]
TYPES = [
    "",
    "/msg/",
    "std_msgs",
    "std_msgs/String",
    "std_msgs/msg/",
    "/msg/String",
    "../msg/String",
    "os.path/msg/join",
    "std_msgs/msg/__name__",
    "std_msgs/msg/_string",
    "std_msgs/srv/String",
    "std_msgs/msg/String/msg/String",
    "perception_node.bench/msg/X",
    "std_msgs/msg/String\0",
]


@pytest.mark.parametrize("topic", [*TOPICS, *FOREIGN.values()])
def test_a_topic_that_ros_does_not_allow_is_one_line(peer, topic):
    with pytest.raises(ConfigError) as caught:
        Player(peer.node, {topic: STRING})
    assert "cannot be published" in str(caught.value)
    assert find_unprintable(str(caught.value), newlines="") == []


@pytest.mark.parametrize("name", [*TYPES, *FOREIGN.values()])
def test_a_type_that_is_none_is_one_line(name):
    with pytest.raises((ConfigError, EnvironmentLacks)) as caught:
        import_type(name)
    assert find_unprintable(str(caught.value), newlines="") == []


def test_what_cannot_be_published_does_not_stop_the_rest(peer):
    topics = {"/front camera": STRING, "/talk": STRING, "/odd": "nothing_msgs/msg/Image"}
    player = Player(peer.node, topics)
    assert list(player.left_out) == ["/front camera", "/odd"]
    assert "cannot be published" in player.left_out["/front camera"]
    assert "source the workspace that has nothing_msgs" in player.left_out["/odd"]
    message = BagMessage("/talk", STRING, START_NS, string_message("hello"))
    player.play([message], 1.0, StopEvent())


@pytest.mark.parametrize("name", ["nothing_msgs/msg/Image", "std_msgs/msg/Nothing"])
def test_a_type_that_is_not_here_says_what_to_install(name):
    with pytest.raises(EnvironmentLacks, match="is not installed; source the workspace"):
        import_type(name)


@pytest.mark.parametrize("time_ns", [-(1 << 62), (1 << 63) - 1, (1 << 64) - 1, 10**400])
def test_a_time_that_is_none_is_one_line(peer, time_ns):
    player = Player(peer.node, {"/talk": STRING}, with_clock=True)
    message = BagMessage("/talk", STRING, time_ns, string_message("hello"))
    with pytest.raises(ConfigError, match="cannot be played"):
        player.play([message], 1.0, StopEvent())


def test_times_that_lie_ages_apart_can_be_waited_for(peer):
    player = Player(peer.node, {"/talk": STRING})
    data, stop = string_message("hello"), StopEvent()
    messages = [BagMessage("/talk", STRING, time_ns, data) for time_ns in (0, (1 << 64) - 1)]

    def sent_one(_message):
        stop.set()

    player.play(messages, 0.001, stop, sent_one)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1\0\0\xff\xff\xff\xff", b"\xff" * 100])
def test_a_damaged_message_is_one_line_where_it_is_read(peer, data):
    player = Player(peer.node, {"/talk": STRING}, is_typed=True)
    with pytest.raises(ConfigError, match="cannot be played"):
        player.play([BagMessage("/talk", STRING, START_NS, data)], 1.0, StopEvent())


@pytest.mark.parametrize(
    ("topic", "kind", "words"),
    [
        ("/front camera", STRING, "'/front camera' cannot be published"),
        ("/a\x1b[2J\nperception: fine", STRING, r"/a\x1b[2J\nperception: fine"),
        ("/talk", "sensor_msgs/msg/CompressedImage", ""),
    ],
)
def test_the_command_says_so_in_one_line(domain, tmp_path, topic, kind, words):
    data = compressed_message(b"x") if "Image" in kind else string_message("hello")
    bag = write_bag(tmp_path / "bag", [(topic, kind, START_NS, data)])
    with start_cli(domain, "play", bag, "--wait-for", 0) as play:
        code = play.process.wait(30)
        lines = play.log().splitlines()
    if not words:
        heard = "images played: 1; unheard, without a subscriber: 1"
        assert (code, lines) == (0, ["playing /talk", heard])
        return
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("perception: ")
    assert words in lines[0]
