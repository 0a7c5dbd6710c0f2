# SPDX-License-Identifier: Apache-2.0
"""``perception play``: a bag onto the ROS graph, as it was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.cli.options import BAG_HELP
from perception_node.errors import ConfigError
from perception_node.ros.required import require_ros
from perception_node.system.signals import StopEvent
from perception_node.terminal.output import complain, note, parse_count, parse_number
from perception_node.wire.bags import open_bag

if TYPE_CHECKING:
    import argparse

    from perception_node.rehearsal.player import Player
    from perception_node.wire.bags import Bag

EXAMPLE = "perception play samples/photos --topic /camera/image_raw/compressed --loop"

WAIT_TIMEOUT_S = 5.0
SLOWEST, FASTEST = 1e-9, 1e9  # times the recorded speed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("bag", type=Path, help=BAG_HELP)
    parser.add_argument(
        "--topic", action="append", metavar="T", help="play this topic only; may be repeated"
    )
    add_rate_argument(parser)
    parser.add_argument(
        "--wait-for",
        type=parse_count,
        default=1,
        metavar="N",
        help=f"begin when N subscribers are there, at the latest after {WAIT_TIMEOUT_S:g} s "
        "(default 1; 0: at once)",
    )
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
    from perception_node.rehearsal.player import Player
    from perception_node.ros.session import open_session

    with (
        open_bag(arguments.bag) as bag,
        open_session("perception_player", arguments.ros_arguments) as node,
    ):
        topics = bag.select(arguments.topic)
        player = Player(node, topics, with_clock=arguments.clock, is_typed=arguments.typed)
        names = [topic for topic in topics if topic not in player.left_out]
        if bag.count(names) == 0:
            complain(f"{arguments.bag}: it holds no message of {', '.join(names)}")
            return 1
        note(f"playing {', '.join(names)}")
        for remark in (*bag.remarks, *_list_left_out(bag, arguments.topic, player)):
            note(remark)
        _wait(player, arguments.wait_for, stop)
        if arguments.loop:
            player.play_again_and_again(lambda: bag.messages(names), arguments.rate, stop)
        else:
            player.play(bag.messages(names), arguments.rate, stop)
        player.flush()
        if player.sent:
            note(f"images played: {player.sent}; unheard, without a subscriber: {player.unheard}")
    return 0


def _list_left_out(bag: Bag, wanted: list[str] | None, player: Player) -> list[str]:
    """Return a line for each topic that is not played, and the command that helps with some."""
    unreadable = {} if wanted else bag.unreadable
    lines = [f"left out: {topic}: {why}" for topic, why in (player.left_out | unreadable).items()]
    if unreadable and bag.conversion:
        lines.append(f"to play topics of ROS 1, run: {bag.conversion}")
    return lines


def _wait(player: Player, count: int, stop: StopEvent) -> None:
    """Wait for subscribers, and say so where they do not come."""
    found = player.wait_for_subscribers(count, WAIT_TIMEOUT_S, stop)
    if found < count and not stop.is_set():
        waited = f"subscribers after {WAIT_TIMEOUT_S:g} s: {found} of {count}"
        note(f"{waited}; playing without the rest")
