# SPDX-License-Identifier: Apache-2.0
"""What is looked for in each release, with each release's answer."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import rclpy
from lifecycle_msgs.msg import State, Transition
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Empty

from perception_node.ros.compat import (
    DISCOVERY_RANGE,
    LOCALHOST_ONLY,
    TAKES,
    FastDds,
    MessageWaiter,
    RCLError,
    TakenElsewhere,
    bag_version,
    begin_transition,
    count_publishers,
    end_transition,
    find_fast_dds,
    find_state,
    follow_set_parameters,
    keep_discovery_local,
    make_raw_sender,
    take,
)
from perception_node.ros.definitions import choose_bag_version

pytestmark = pytest.mark.ros
MAPPED = "7f00-7f01 r-xp 00000000 00:1b 42                         "


@pytest.fixture
def mapped(tmp_path):
    """Return a function that writes what ``/proc/self/maps`` says of some files."""

    def write(*files):
        maps = tmp_path / "maps"
        maps.write_text("".join(f"{MAPPED}{file}\n" for file in files))
        return maps

    return write


@pytest.mark.parametrize(
    ("library", "found"),
    [
        ("libfastrtps.so.2.6.9", FastDds("2.6.9", "FASTRTPS_DEFAULT_PROFILES_FILE")),  # Humble
        ("libfastrtps.so.2.14", FastDds("2.14", "FASTRTPS_DEFAULT_PROFILES_FILE")),
        ("libfastdds.so.3.2", FastDds("3.2", "FASTDDS_DEFAULT_PROFILES_FILE")),
    ],
)
def test_fast_dds_is_known_by_its_library(mapped, library, found):
    assert find_fast_dds(mapped("/opt/ros/lib/libfastcdr.so.2.2", f"/x/lib/{library}")) == found


def test_another_middleware_has_no_fast_dds(monkeypatch, mapped):
    name = "rmw_cyclonedds_cpp"
    monkeypatch.setattr(rclpy, "get_rmw_implementation_identifier", lambda: name)
    assert find_fast_dds(mapped("/a/camera/driver/lib/libfastrtps.so.2.14")) is None


def test_what_runs_here_is_found():
    here = find_fast_dds()
    assert (here is not None) == ("fastrtps" in rclpy.get_rmw_implementation_identifier())


@pytest.fixture
def rcl(tmp_path, mapped):
    """Return a function that maps an rcl that reads some variables."""

    def write(*variables):
        library = tmp_path / "librcl.so"
        library.write_bytes(b"\x7fELF\0" + "\0".join(variables).encode() + b"\0")
        return mapped("/lib/libc.so.6", library)

    return write


@pytest.fixture
def shell(monkeypatch):
    """An environment of its own, in which nobody has set anything."""
    environment = dict(os.environ)
    for name in (DISCOVERY_RANGE, LOCALHOST_ONLY):
        environment.pop(name, None)
    monkeypatch.setattr(os, "environ", environment)
    return environment


def test_discovery_stays_local_where_rcl_knows_the_range(shell, rcl):
    keep_discovery_local(rcl("ROS_DOMAIN_ID", DISCOVERY_RANGE))
    assert shell[DISCOVERY_RANGE] == "LOCALHOST"
    assert LOCALHOST_ONLY not in shell  # later releases warn of it


def test_discovery_stays_local_on_humble_as_well(shell, rcl):
    keep_discovery_local(rcl("ROS_DOMAIN_ID", LOCALHOST_ONLY))
    assert (shell[DISCOVERY_RANGE], shell[LOCALHOST_ONLY]) == ("LOCALHOST", "1")


def test_discovery_stays_local_where_nothing_is_known(shell, tmp_path):
    keep_discovery_local(tmp_path / "no-maps")
    assert shell[LOCALHOST_ONLY] == "1"


@pytest.mark.parametrize(
    "chosen", [{DISCOVERY_RANGE: "SUBNET"}, {DISCOVERY_RANGE: "LOCALHOST", LOCALHOST_ONLY: "0"}]
)
def test_what_the_user_has_set_stays(shell, rcl, chosen):
    shell.update(chosen)
    keep_discovery_local(rcl("ROS_DOMAIN_ID"))
    assert {name: shell[name] for name in chosen} == chosen
    assert shell.get(LOCALHOST_ONLY, "0") == "0"


def test_the_rcl_here_keeps_discovery_local(shell):
    keep_discovery_local()
    assert (shell[DISCOVERY_RANGE] == "LOCALHOST") or shell[LOCALHOST_ONLY] == "1"


def test_publishers_that_do_not_fit_are_not_counted():
    def publisher(reliability):
        return SimpleNamespace(qos_profile=QoSProfile(depth=1, reliability=reliability))

    reliable, best_effort = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
    found = [publisher(reliable), publisher(best_effort), publisher(reliable)]
    node = SimpleNamespace(get_publishers_info_by_topic=lambda _topic: found)
    for wanted, number in ((reliable, 2), (best_effort, 3)):
        assert count_publishers(node, "/image", QoSProfile(depth=1, reliability=wanted)) == number


def test_rclpy_has_the_private_names_that_are_taken_from_it(local):
    takes = {name for name in TAKES if hasattr(SingleThreadedExecutor, name)}
    assert takes >= {*TAKES} - {"_take_waitable"}
    assert find_state(local) == State.PRIMARY_STATE_UNCONFIGURED
    before = begin_transition(local, Transition.TRANSITION_CONFIGURE)
    assert before.label == "unconfigured"
    assert find_state(local) == State.TRANSITION_STATE_CONFIGURING
    with pytest.raises(RCLError):
        begin_transition(local, Transition.TRANSITION_CONFIGURE)
    end_transition(local, TransitionCallbackReturn.FAILURE, before)
    assert find_state(local) == State.PRIMARY_STATE_UNCONFIGURED


def test_a_subscription_may_be_destroyed_before_it_is_waited_for(peer):
    gone, there = (
        peer.node.create_subscription(Empty, topic, print, 1, callback_group=TakenElsewhere())
        for topic in ("/gone", "/there")
    )
    publisher = peer.camera("/there", Empty)
    peer.node.destroy_subscription(gone)
    waiter = MessageWaiter(peer.node.context)
    waiter.wake()
    assert waiter.wait({"gone": gone}) == []
    publisher.publish(Empty())
    assert waiter.wait({"gone": gone, "there": there}) == ["there"]
    assert take(gone) is None
    assert take(there) is not None


class Handle:
    """A publisher's handle that takes bytes only, as Humble's, or whatever can be read."""

    def __init__(self, *, only_bytes):
        self.sent, self._only_bytes = [], only_bytes

    def publish_raw(self, message):
        if self._only_bytes and not isinstance(message, bytes):
            raise TypeError("incompatible function arguments")
        self.sent.append(message)


@pytest.mark.parametrize("only_bytes", [True, False])
def test_a_message_that_changes_in_place_is_sent(only_bytes):
    handle, message = Handle(only_bytes=only_bytes), bytearray(b"one")
    send = make_raw_sender(SimpleNamespace(handle=handle))
    send(message)
    assert handle.sent == [b"one"]
    assert isinstance(handle.sent[0], bytes) == only_bytes


class HumbleNode:
    """Sets parameters as rclpy 3.3 does: without a callback afterwards."""

    def __init__(self):
        self.refused = set()

    def set_parameters_atomically(self, parameters):
        return SetParametersResult(successful=not self.refused & set(parameters))

    def set_parameters(self, parameters):
        raise NotImplementedError  # replaced: those before one that is not declared would be lost


def test_without_a_callback_what_was_set_is_told_all_the_same():
    node, applied = HumbleNode(), []
    node.refused = {"c"}
    follow_set_parameters(node, applied.append)
    assert [r.successful for r in node.set_parameters(["a", "c", "b"])] == [True, False, True]
    assert applied == [["a"], ["b"]]
    assert not node.set_parameters_atomically(["a", "c"]).successful
    assert node.set_parameters_atomically(["a", "b"]).successful
    assert applied == [["a"], ["b"], ["a", "b"]]


@pytest.mark.parametrize(("theirs", "ours"), [(6, 8), (9, 9), (10, 9)])
def test_a_bag_has_a_version_that_this_ros2_bag_reads(monkeypatch, theirs, ours):
    rosbag2 = ModuleType("rosbag2_py")
    rosbag2.BagMetadata = lambda: SimpleNamespace(version=theirs)
    monkeypatch.setitem(sys.modules, "rosbag2_py", rosbag2)
    assert bag_version() == choose_bag_version() == ours


def test_without_ros2_bag_a_bag_has_the_newest_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "rosbag2_py", None)
    assert bag_version() == 9
    monkeypatch.setitem(sys.modules, "perception_node.ros.compat", None)
    assert choose_bag_version() == 9
