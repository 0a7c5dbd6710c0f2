# SPDX-License-Identifier: Apache-2.0
"""The launch files under the real ``ros2 launch``, in the workspace that is sourced."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import CompressedImage
from vision_msgs.msg import Classification

from perception_node.ros.compat import PROFILE_VARIABLES
from perception_node.system.resources import FAST_DDS_PROFILE, find_resource
from tests.ros.harness import (
    NANOSECONDS,
    NODE,
    Program,
    Stream,
    make_compressed,
    make_image,
    stamp_of,
    wait_for,
)

VARIABLES = tuple(PROFILE_VARIABLES.values())


def _missing() -> str:
    """Return what these tests lack here, or nothing."""
    if find_spec("launch_ros") is None or shutil.which("ros2") is None:
        return "launch_ros and ros2 are not here; they come with an installed ROS"
    try:
        get_package_prefix("perception_node")
    except PackageNotFoundError:
        return "perception_node is in no sourced workspace; build it with colcon and source it"
    return ""


pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(bool(_missing()), reason=_missing()),
]
END_S = 10.0
# A process that was started in the background of a shell ignores SIGINT, and so do its children.
WITH_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def launch(domain, color_model):
    """Return a function that describes ``ros2 launch`` of one of our files."""

    def describe(file="perception.launch.py", environment=None, **arguments):
        if file == "perception.launch.py":
            arguments = {"model": color_model, **arguments}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        command = [sys.executable, "-c", WITH_SIGINT, "ros2", "launch", "perception_node", file]
        command += [f"{name}:={value}" for name, value in arguments.items()]
        ours = {"ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1"}
        return Program(command, {**ours, **(environment or {})}, ending=signal.SIGINT)

    return describe


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def require_clean_end(program) -> None:
    """SIGINT to the launch process alone ends it and all that it started."""
    started = children(program.process.pid)
    assert started
    begin_s = time.monotonic()
    assert program.end(signal.SIGINT) == 0, program.log()
    assert time.monotonic() - begin_s < END_S
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in program.log()
    assert "process has died" not in program.log()
    assert program.log().count("process has finished cleanly") == len(started)


def parameter(peer, name, node=NODE):
    request = GetParameters.Request(names=[name])
    return peer.call(GetParameters, f"{node}/get_parameters", request).values[0]


def test_the_node_becomes_active_by_itself(launch, peer):
    with launch(image_topic="/camera/image_raw") as program:
        peer.wait_until("active")
        stream = Stream(peer, topic="/camera/image_raw")
        assert stream.classify(make_image("green", 1)).results[0].class_id == "1"
        assert not parameter(peer, "use_sim_time").bool_value
        require_clean_end(program)


def test_without_arguments_the_default_model_waits_for_image(launch, peer):
    with launch(model=None) as program:
        peer.wait_until("active")
        Stream(peer).classify(make_image("green", 1, size=(640, 480)))
        assert "model efficientnet_lite0" in program.log()


def test_namespace_transport_and_topic(launch, peer, jpeg):
    arguments = {
        "namespace": "front",
        "image_topic": "camera/image_raw",
        "image_transport": "compressed",
    }
    with launch(**arguments) as program:
        node = "/front/perception"
        peer.wait_until("active", node)
        stream = Stream(peer, node, "/front/camera/image_raw/compressed", CompressedImage)
        result = stream.classify(make_compressed(jpeg("blue"), 1))
        assert result.results[0].class_id == "2"
        require_clean_end(program)


def test_params_file(launch, peer, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("/**:\n  ros__parameters:\n    top_k: 1\n", encoding="utf-8")
    with launch(params_file=file):
        assert len(Stream(peer).classify(make_image("green", 1)).results) == 1


def test_params_file_decides_what_no_argument_says(launch, peer, tmp_path, jpeg):
    file = tmp_path / "params.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    image_transport: compressed\n", encoding="utf-8"
    )
    with launch(params_file=file):
        stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        assert stream.classify(make_compressed(jpeg("green"), 1)).results[0].class_id == "1"


def test_use_sim_time(launch, peer):
    with launch(use_sim_time="true"):
        peer.wait_until("active")
        assert parameter(peer, "use_sim_time").bool_value


def test_autostart_can_be_left_to_a_manager(launch, peer):
    with launch(autostart="false") as program:
        assert peer.state() == "unconfigured"
        peer.watch().skip(2)
        assert peer.state() == "unconfigured"
        assert peer.change("configure")
        assert peer.change("activate")
        require_clean_end(program)


@pytest.mark.parametrize(("level", "is_told"), [("info", True), ("error", False)])
def test_log_level(launch, peer, level, is_told):
    with launch(log_level=level) as program:
        peer.wait_until("active")
        require_clean_end(program)
        assert ("active: waiting for images" in program.log()) == is_told


def test_a_killed_node_is_started_again(launch, peer):
    with launch() as program:
        peer.wait_until("active")
        stream = Stream(peer)
        stream.classify(make_image("green", 1))
        (first,) = children(program.process.pid)
        os.kill(first, signal.SIGKILL)
        wait_for(
            lambda: children(program.process.pid) not in ([], [first]),
            lambda: "another process",
        )
        stream.classify(make_image("blue", 2))
        assert peer.state() == "active"
        assert program.end(signal.SIGINT) == 0


def test_without_respawn_a_killed_node_ends_the_launch(launch, peer):
    with launch(respawn="false") as program:
        peer.wait_until("active")
        (node,) = children(program.process.pid)
        os.kill(node, signal.SIGKILL)
        program.process.wait(END_S)
        assert "process has died" in program.log()


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_the_profile_for_camera_sized_images_is_set(launch, peer):
    with launch(environment=dict.fromkeys(VARIABLES, None)) as program:
        peer.wait_until("active")
        (node,) = children(program.process.pid)
        found = environment_of(node)
    profile = Path(
        get_package_prefix("perception_node"), "share/perception_node", FAST_DDS_PROFILE
    )
    assert [Path(found[name]).resolve() for name in VARIABLES if name in found] == [
        profile.resolve()
    ]


def test_a_profile_of_the_users_own_is_kept(launch, peer, tmp_path):
    own = tmp_path / "own.xml"
    shutil.copy(find_resource(FAST_DDS_PROFILE), own)
    with launch(environment=dict.fromkeys(VARIABLES, str(own))) as program:
        peer.wait_until("active")
        (node,) = children(program.process.pid)
        found = environment_of(node)
    assert {name: found[name] for name in VARIABLES} == dict.fromkeys(VARIABLES, str(own))


def test_a_bad_model_is_told_and_the_node_stays(launch, peer):
    with launch(model="/no/such/model") as program:
        assert peer.state() == "unconfigured"
        wait_for(lambda: "configure failed" in program.log(), lambda: "the cause")
        assert "/no/such/model" in program.log()
        require_clean_end(program)


def test_replay_classifies_a_bag_on_its_own_time(launch, peer):
    results = peer.collect(Classification, f"{NODE}/classification", 100)
    with launch("replay.launch.py", rate="2") as program:
        wait_for(lambda: len(results) > 5, lambda: "results")
        assert all(1_700_000_000 <= stamp_of(r) // NANOSECONDS < 1_700_000_011 for r in results)
        assert parameter(peer, "use_sim_time").bool_value
        require_clean_end(program)


def test_replay_of_raw_images(launch, peer):
    results = peer.collect(Classification, f"{NODE}/classification", 100)
    with launch("replay.launch.py", rate="4", image_transport="raw") as program:
        wait_for(lambda: len(results) > 2, lambda: "results")
        require_clean_end(program)
