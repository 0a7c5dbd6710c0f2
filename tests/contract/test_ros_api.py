# SPDX-License-Identifier: Apache-2.0
"""The table of a release's names agrees with the release that is installed here."""

from __future__ import annotations

import importlib
import inspect
import os
from importlib import metadata

import pytest

from tests.ros_api import MISSING, RELEASES, release
from tools.python_api import BASES

RELEASE = os.environ.get("ROS_DISTRO", "")
# What the wheels, which contain rclpy 7.1.5, do not have yet; all else must agree.
NEWER = {
    "rclpy._rclpy_pybind11.EventsExecutor.create_future",
    "rclpy._rclpy_pybind11.Subscription.get_content_filter",
    "rclpy._rclpy_pybind11.Subscription.is_cft_enabled",
    "rclpy._rclpy_pybind11.Subscription.set_content_filter",
    "rclpy._rclpy_pybind11.TimerCancelledError",
    "rclpy.action.server.ActionServer.__init__",
    "rclpy.action.server.ServerGoalHandle.abort",
    "rclpy.action.server.ServerGoalHandle.canceled",
    "rclpy.action.server.ServerGoalHandle.executing",
    "rclpy.action.server.ServerGoalHandle.succeed",
    "rclpy.exceptions.InvalidParameterTypeException.Parameter",
    "rclpy.exceptions.TimerCancelledError",
    "rclpy.executors.Executor.create_future",
    "rclpy.executors.TaskData",
    "rclpy.executors.TimerCancelledError",
    "rclpy.node.ContentFilterOptions",
    "rclpy.node.Node.create_subscription",
    "rclpy.subscription.ContentFilterOptions",
    "rclpy.subscription.RCLError",
    "rclpy.subscription.Subscription.get_content_filter",
    "rclpy.subscription.Subscription.set_content_filter",
    "rclpy.subscription_content_filter_options.ContentFilterOptions",
    "rosgraph_msgs.msg.Action",
    "rosgraph_msgs.msg.Graph",
    "rosgraph_msgs.msg.InterfaceType",
    "rosgraph_msgs.msg.Node",
    "rosgraph_msgs.msg.QoSProfile",
    "rosgraph_msgs.msg.Service",
    "rosgraph_msgs.msg.Topic",
    "rosgraph_msgs.msg.TypeHash",
}
# In no wheel: launch is pure Python of an installed ROS, vision_msgs is here a part of itself.
NOT_HERE = ("launch", "launch_ros", "vision_msgs")


def test_the_tables_know_how_the_releases_differ():
    """What is known from building and running them; ``x`` is here, in the order of RELEASES."""
    known = {
        "rclpy.event_handler.SubscriptionEventCallbacks": ".xxx",
        "rclpy.qos_event.SubscriptionEventCallbacks": "xxx.",
        "rclpy.clock.ClockType": "xxxx",
        "rclpy.clock_type.ClockType.STEADY_TIME": ".xxx",
        "rclpy.qos.QoSPresetProfiles.DEFAULT": ".xxx",
        "rclpy.node.Node.add_post_set_parameters_callback": ".xxx",
        "rclpy.experimental.EventsExecutor": ".xxx",
        "rclpy.experimental.AsyncNode": "...x",
        "rclpy.impl.implementation_singleton.rclpy_implementation.RCLError": "xxxx",
        "rclpy.publisher.Publisher.get_subscription_count": "xxxx",
        "rclpy.lifecycle.LifecycleNode.create_subscription": "xxxx",
        "launch_ros.actions.LifecycleNode": "xxxx",
        "sensor_msgs.msg.Image.encoding": "xxxx",
        "rclpy.no_such": "....",
    }
    found = {
        path: "".join("." if release(each).find(path) is MISSING else "x" for each in RELEASES)
        for path in known
    }
    assert found == known


def has_wheels():
    try:
        return bool(metadata.version(f"ros-{RELEASE}-rclpy"))
    except metadata.PackageNotFoundError:
        return False


with_wheels = pytest.mark.skipif(RELEASE != "jazzy" or not has_wheels(), reason="needs the wheels")
MODULES = release(RELEASE).modules if RELEASE in RELEASES else {}
CHECKED = [name for name in MODULES if name.partition(".")[0] not in NOT_HERE]


def differences(module, imported):
    """Return the names that the table and the installed module do not have alike."""
    for name, entry in MODULES[module].items():
        found = getattr(imported, name, None)
        if name != "*" and not hasattr(imported, name):
            yield name
        elif isinstance(entry, dict):
            yield from (f"{name}{text}" for text in class_differences(entry, found))
        elif entry.startswith("(") and not same_parameters(entry, found):
            yield name


def class_differences(entry, found):
    for member, signature in entry.items():
        if not isinstance(signature, str) or member == BASES or not signature.startswith("("):
            continue  # an attribute may only be there once an object is made
        here = inspect.getattr_static(found, member, None)
        if here is None or not same_parameters(signature, here):
            yield f".{member}"


def same_parameters(signature, found):
    """Compare names and defaults, where Python knows them: not of C++ and of messages."""
    words = [w for w in signature[1 : signature.index(")")].split(", ") if w not in {"", "*", "/"}]
    function = getattr(found, "__func__", found)
    if not inspect.isfunction(function):
        return True
    is_static = isinstance(found, staticmethod) and function.__name__ != "__new__"
    skip = 1 if "." in function.__qualname__ and not is_static else 0
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    kinds = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return words == [
        f"{kinds.get(each.kind, '')}{each.name}{'=' * (each.default is not each.empty)}"
        for each in parameters
    ]


def missing(module, imported):
    """Return the names that the installed module has and the table lacks."""
    for name, found in vars(imported).items():
        entry = MODULES[module].get(name)
        if name.startswith("_") or getattr(found, "__module__", "") != module:
            continue
        if entry is None:
            yield name
        elif inspect.isclass(found) and isinstance(entry, dict):
            known = {*entry, "name", "value"}
            yield from (f"{name}.{each}" for each in vars(found) if is_new(each, known))


def is_new(name, known):
    """Leave out the long names of QoS values, which rclpy adds when it is imported."""
    return not name.startswith(("_", "RMW_QOS_POLICY_")) and name not in known


@with_wheels
@pytest.mark.filterwarnings("ignore:importing 'qos_event' is deprecated")
def test_the_table_agrees_with_what_is_installed():
    found = set()
    for module in [name for name in CHECKED if name.startswith("rclpy")]:
        try:
            imported = importlib.import_module(module)
        except ImportError:
            names = MODULES[module]
        else:
            names = [*differences(module, imported), *missing(module, imported)]
        found |= {f"{module}.{name}" for name in names}
    assert found == {name for name in NEWER if name.startswith("rclpy.")}


@with_wheels
@pytest.mark.parametrize("module", [name for name in CHECKED if not name.startswith("rclpy")])
def test_the_fields_of_messages_agree(module):
    imported = importlib.import_module(module)
    compared = 0
    for name, entry in MODULES[module].items():
        if f"{module}.{name}" in NEWER or "__init__" not in entry:
            continue
        fields = {word.rstrip("=") for word in entry["__init__"].strip("()").split(", ")}
        installed = getattr(imported, name).get_fields_and_field_types()
        assert set(installed) == fields - {"*", ""}
        compared += 1
    assert compared
