# SPDX-License-Identifier: Apache-2.0
"""``perception play``: a bag onto the ROS graph, as it was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.errors import ConfigError
from perception_node.ros.required import require_ros
from perception_node.system.signals import StopEvent
from perception_node.terminal.output import note, parse_number
from perception_node.wire.bags import open_bag

if TYPE_CHECKING:
    import argparse

EXAMPLE = "perception play samples/photos --topic /camera/image_raw/compressed --loop"

SLOWEST, FASTEST = 1e-9, 1e9  # times the recorded speed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("bag", type=Path, help="rosbag2 folder, mcap or sqlite3")
    parser.add_argument(
        "--topic", action="append", metavar="T", help="play this topic only; may be repeated"
    )
    add_rate_argument(parser)
    parser.add_argument("--loop", action="store_true", help="begin again at the end")
    parser.add_argument(
        "--clock", action="store_true", help="publish the recorded time on /clock as well"
    )
    parser.add_argument(
        "--typed",
        action="store_true",
        help="publish messages as a camera's driver does, not their recorded bytes",
    )


def add_rate_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--rate``."""
    parser.add_argument("--rate", type=parse_number, default=1.0, help="times the recorded speed")


def check_rate(rate: float) -> None:
    """Raise ``ConfigError`` unless the rate is one that a bag can be played with."""
    if not SLOWEST <= rate <= FASTEST:
        raise ConfigError(f"--rate must be {SLOWEST:g} to {FASTEST:g}, found {rate:g}")


def run(arguments: argparse.Namespace) -> int:
    """Play until the end of the bag or, with --loop, until SIGINT or SIGTERM."""
    check_rate(arguments.rate)
    stop = StopEvent()
    require_ros()
    from perception_node.ros.player import Player
    from perception_node.ros.session import open_session

    with (
        open_bag(arguments.bag) as bag,
        open_session("perception_player", arguments.ros_arguments) as node,
    ):
        topics = bag.select(arguments.topic)
        player = Player(node, topics, with_clock=arguments.clock, is_typed=arguments.typed)
        note(f"playing {', '.join(topics)}")
        if arguments.loop:
            player.play_again_and_again(lambda: bag.messages(list(topics)), arguments.rate, stop)
        else:
            player.play(bag.messages(list(topics)), arguments.rate, stop)
        player.flush()
    return 0
