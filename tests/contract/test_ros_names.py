# SPDX-License-Identifier: Apache-2.0
"""Every name of ROS that our source uses is in every release, or in the one file that asks."""

from __future__ import annotations

import pytest

from tests.builders import ROOT
from tests.ros_names import COMPAT, find_problems
from tests.ros_uses import find_uses
from tests.ros_values import Project

FOLDERS = ("perception_node", "bench", "engines", "calibration", "launch", "tools")
WITHIN = ("bench", "engines", "calibration")  # our package has links to these


def module_name(path):
    words = [word.replace(".", "_") for word in path.relative_to(ROOT).with_suffix("").parts]
    if words[0] in WITHIN:
        words.insert(0, "perception_node")
    if words[0] == "launch":  # which is a package of ROS
        words[0] = "launch_files"
    return ".".join(words).removesuffix(".__init__")


def sources():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents):
                yield module_name(path), path.read_text()


SOURCES = dict(sources())


@pytest.fixture(scope="module")
def product():
    return Project(SOURCES)


def find_in(source, module="perception_node.new"):
    return find_problems(Project({module: source}), module)


def test_the_source_is_read(product):
    """If the search found nothing, the tests below could not fail."""
    used = {use.path for module in SOURCES for use in find_uses(product, module).known}
    assert len(used) > 150
    assert {
        "diagnostic_msgs.msg.DiagnosticArray",
        "launch.actions.OpaqueFunction",
        "launch_ros.actions.LifecycleNode",
        "rclpy.context.Context.ok",
        "rclpy.lifecycle.LifecycleNode.get_clock",
        "rclpy.node.Node.create_publisher",
        "rclpy.publisher.Publisher.get_subscription_count",
        "rclpy.qos.QoSPresetProfiles.get_from_short_key",
    } <= used


def test_every_release_has_what_is_used(product):
    found = [f"{module}, {line}" for module in SOURCES for line in find_problems(product, module)]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import rclpy.event_handler", "rclpy.event_handler is not in humble"),
        ("from rclpy.clock_type import ClockType", "rclpy.clock_type.ClockType is not in humble"),
        ("from launch.no_such import X", "launch.no_such.X is not in humble, jazzy, kilted, lyr"),
        ("from sensor_msgs.msg import NoImage", "sensor_msgs.msg.NoImage is not in humble, jazzy"),
        ("import rclpy\nrclpy.no_such()", "rclpy.no_such is not in humble"),
        (
            "from rclpy.node import Node\ndef f(n: Node): n.add_post_set_parameters_callback(f)",
            "rclpy.node.Node.add_post_set_parameters_callback is not in humble",
        ),
        (
            (
                "from rclpy.node import Node\n"
                "def f(n: Node): n.create_client(int, 'x', qos_overriding_options=1)"
            ),
            "rclpy.node.Node.create_client takes no argument qos_overriding_options in",
        ),
        (
            (
                "from rclpy.node import Node\nclass Ours(Node):\n"
                "  def __init__(self): super().__init__('x', enable_logger_service=True)"
            ),
            "Node.__init__ takes no argument enable_logger_service in humble",
        ),
        (
            (
                "from rclpy.node import Node\nclass Ours(Node): pass\n"
                "def f(): return Ours('x', enable_logger_service=True)"
            ),
            "rclpy.node.Node takes no argument enable_logger_service in humble",
        ),
        (
            (
                "from rclpy.node import Node\nclass Ours:\n"
                "  def __init__(self, n: Node): self.p = n.create_publisher(int, 'x', 1)\n"
                "  def f(self): self.p.no_such()"
            ),
            "Publisher.no_such is not in humble",
        ),
        (
            (
                "from rclpy.node import Node\ndef f(n: Node):\n"
                "  ps = [n.create_publisher(int, t, 1) for t in 'ab']\n  for p in ps: p.no_such"
            ),
            "rclpy.publisher.Publisher.no_such is not in humble",
        ),
        (
            "from rclpy.qos import QoSProfile\nQoSProfile(deep=1)",
            "QoSProfile takes no argument deep",
        ),
        (
            "from std_msgs.msg import Header\nHeader(seq=1)",
            "Header takes no argument seq in humble",
        ),
        (
            "from rclpy.qos import QoSPresetProfiles as Q\nQ.DEFAULT",
            "QoSPresetProfiles.DEFAULT is",
        ),
        ("from rclpy.context import Context\nwith Context() as c: pass", "__enter__ is not in hu"),
        (
            "from launch_ros.actions import Node\nNode(package='a')",
            "the argument executable is ne",
        ),
        (
            (
                "from rclpy.node import Node\nfrom functools import partial\n"
                "def f(n: Node): partial(n.get_clock, wrong=1)"
            ),
            "rclpy.node.Node.get_clock takes no argument wrong",
        ),
        ("def f(n): n.add_post_set_parameters_callback(f)", "no class with .add_post_set_para"),
        (
            "def f(n): n.create_timer(1, f, autostart=False)",
            ".create_timer takes no argument auto",
        ),
        ("def f(n): hasattr(n, 'add_pre_set_parameters_callback')", "no class with .add_pre_set"),
        (
            "from rclpy._rclpy_pybind11 import RCLError",
            "rclpy._rclpy_pybind11.RCLError is private",
        ),
        (
            "from rclpy.impl.implementation_singleton import rclpy_implementation",
            "rclpy.impl.implementation_singleton.rclpy_implementation is private",
        ),
        (
            "from rclpy.node import Node\ndef f(n: Node): n._parameters",
            "Node._parameters is private",
        ),
        (
            "from rclpy.publisher import Publisher as P\ndef f(p: P): p.handle.publish_raw(b'')",
            "Publisher.publish_raw is private",
        ),
        ("def f(p): p.handle.publish_raw(b'')", ".publish_raw is private"),
        (
            "import importlib\nimportlib.import_module('rclpy.event_handler')",
            "rclpy.event_handler is not in humble",
        ),
        ("import os\nif os.environ['ROS_DISTRO'] == 'humble': pass", "asks for a version of ROS"),
        ("def f(distro): return distro in ('a', 'b')", "distro in ('a', 'b') asks for a version"),
        ("import rclpy\nprint(rclpy.__version__)", "rclpy.__version__ asks for a version of ROS"),
        ("from importlib.metadata import version\nversion('rclpy')", "asks for a version of ROS"),
        ("VERSIONS = {'humble': 5, 'jazzy': 9}", "asks for a version of ROS"),
    ],
)
def test_a_new_use_would_be_found(source, problem):
    found = find_in(source)
    assert any(problem in line and "perception_node/ros/compat.py" in line for line in found), (
        found
    )


FALLBACK = """
try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:
    from rclpy.qos_event import SubscriptionEventCallbacks
from rclpy._rclpy_pybind11 import RCLError
"""


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        ("SubscriptionEventCallbacks(deadline=print)", ""),
        ("SubscriptionEventCallbacks(matched=print)", "takes no argument matched in humble"),
        (
            "SubscriptionEventCallbacks(no_such=print)",
            "takes no argument no_such in humble, jazzy",
        ),
        ("raise RCLError", ""),
    ],
)
def test_what_the_one_file_offers_may_be_used(use, problem):
    imported = "from perception_node.ros.compat import RCLError, SubscriptionEventCallbacks\n"
    project = Project({COMPAT: FALLBACK, "perception_node.new": imported + use})
    assert find_problems(project, COMPAT) == []
    found = find_problems(project, "perception_node.new")
    assert all(problem in line for line in found)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("from rclpy.event_handler import SubscriptionEventCallbacks", ""),
        ("from rclpy._rclpy_pybind11 import RCLError", ""),
        ("import os\nHUMBLE = os.environ.get('ROS_DISTRO') == 'humble'", ""),
        ("from rclpy.no_such import X", "no release has this: rclpy.no_such.X is not"),
        ("from rclpy._rclpy_pybind11 import NoSuch", "no release has this: rclpy._rclpy_pybi"),
    ],
)
def test_the_one_file_may_use_what_some_release_has(source, problem):
    found = find_in(source, COMPAT)
    assert bool(found) == bool(problem)
    assert problem in "".join(found)


@pytest.mark.parametrize(
    "source",
    [
        (
            "from rclpy.node import Node\nclass Ours(Node):\n"
            "  def helper(self): self._mine = 1\n  def f(self): self.helper(); return self._mine"
        ),
        "from rclpy.clock import Clock, ClockType\nClock(clock_type=ClockType.STEADY_TIME).now()",
        "from sensor_msgs.msg import Image\nImage(height=1, width=2).header.stamp.sec",
        "from rclpy.executors import Executor\ndef f(e: Executor): e.spin_once(timeout_sec=1)",
        "from rclpy.qos import QoSPresetProfiles as Q\nQ.SENSOR_DATA.value",
        "import os\nprint(os.environ['ROS_DISTRO'])",
        "import os\nif 'ROS_DISTRO' not in os.environ: pass",
        "def f(layer): return layer.no_such_thing(1)",
    ],
)
def test_what_every_release_has_may_be_used(source):
    assert find_in(source) == []
