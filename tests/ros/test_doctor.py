# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of shared memory and of images, with real processes of the middleware."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perception_node.doctor.findings import OPTIONAL
from perception_node.doctor.segment_findings import check_segments, find_segments
from perception_node.doctor.transport_findings import SHARED_MEMORY, export_ours, find_ros
from perception_node.rehearsal.domain import PRIVATE_DOMAINS
from tests.builders import ROOT
from tests.ros.harness import Program, wait_for

pytestmark = [pytest.mark.ros, pytest.mark.alone]

CHILD = """
import rclpy
rclpy.init()
node = rclpy.create_node("child")
print("ready", flush=True)
rclpy.spin(node)
"""
LOCK = re.compile(r"^fast(rtps|dds)_.*_[es]l$")
REMOVE = 'flock -n "$0_el" rm -f "$0" "$0_el" "${0%/*}/sem.${0##*/}_mutex"'


@pytest.fixture
def child(domain):
    """A node in a process of its own, and what it has in shared memory: gone at the end."""
    with Program([sys.executable, "-c", CHILD], {"ROS_DOMAIN_ID": str(domain)}) as program:
        wait_for(lambda: "ready" in program.log(), program.log)
        files = owned_files(program.process.pid)
        yield program, files
    for file in files:
        if file.with_name(f"{file.name}_el").exists():
            subprocess.run(["/bin/bash", "-c", REMOVE, file], check=False)


def owned_files(pid):
    """Return the files of Fast DDS in shared memory whose locks a process keeps open.

    It maps more than these: also the segments of those who write to it.
    """
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    locks = [file for file in links if file.parent == SHARED_MEMORY and LOCK.search(file.name)]
    return [lock.with_name(lock.name[:-3]) for lock in sorted(locks)]


def segments_among(files):
    return [segment for segment in find_segments(SHARED_MEMORY) if segment.path in files]


def test_the_segments_of_a_process_are_in_use_until_it_is_killed(child):
    program, files = child
    if not files:
        pytest.skip("another middleware than Fast DDS")
    for _ in range(100):  # asking does not take the lock away
        alive = segments_among(files)
        assert alive
        assert all(segment.is_in_use for segment in alive)
    assert program.end(signal.SIGKILL) == -signal.SIGKILL
    killed = segments_among(files)
    assert [segment.path for segment in killed] == [segment.path for segment in alive]
    assert not any(segment.is_in_use for segment in killed)
    assert max(segment.size_bytes for segment in killed) >= 32 << 20  # the profile's
    finding = check_segments()
    assert finding.state == OPTIONAL
    assert "left behind by killed processes" in finding.found
    assert all(segment.path.exists() for segment in killed)


def test_a_process_that_ends_in_order_leaves_no_segment(child):
    program, files = child
    program.end(signal.SIGINT)
    assert segments_among(files) == []


@pytest.fixture
def try_cameras():
    """Return a function that plays cameras to this machine, in a shell with these variables."""

    def try_out(**variables):
        environment = {**os.environ, **variables}
        for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
            if name not in variables:
                environment.pop(name, None)
        command = [sys.executable, "-m", "perception_node.doctor.loopback"]
        result = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return json.loads(result.stdout)

    return try_out


def lost(counts, sent):
    return [size for size, count in counts.items() if count < 0.8 * sent]


@pytest.mark.parametrize(
    ("mode", "delivery"), [("", "bytes"), ("humble", "bytes"), ("lyrical", "messages")]
)
def test_images_reach_the_node_but_not_from_a_shell_without_a_profile(try_cameras, mode, delivery):
    modes = {"PYTHONPATH": str(ROOT / "tests/ros_modes"), "ROS_MODE": mode} if mode else {}
    found = try_cameras(**modes)
    if not find_ros().fast_dds:
        pytest.skip("another middleware than Fast DDS needs no profile")
    assert found["delivery"] == delivery
    assert set(found["node"]) == {"640x480", "1920x1080"}
    assert lost(found["node"], found["sent"]) == []
    assert "1920x1080" in lost(found["shell"], found["sent"])


def test_the_command_that_the_doctor_gives_helps(try_cameras):
    ros = find_ros()
    if not ros.fast_dds:
        pytest.skip("another middleware than Fast DDS needs no profile")
    _, _, setting = export_ours(ros.fast_dds.variable).partition(" ")
    found = try_cameras(**dict([setting.split("=")]))
    assert found["shell"] == found["node"]
    assert lost(found["shell"], found["sent"]) == []


def test_what_cannot_be_tried_without_a_network_is_not_told(try_cameras):
    found = try_cameras(
        FASTDDS_BUILTIN_TRANSPORTS="LARGE_DATA", ROS_AUTOMATIC_DISCOVERY_RANGE="SUBNET"
    )
    assert found["shell"] is None
    assert lost(found["node"], found["sent"]) == []


def test_a_shell_in_which_no_process_finds_another(try_cameras):
    found = try_cameras(ROS_AUTOMATIC_DISCOVERY_RANGE="OFF")
    assert found["problem"].endswith("; run: unset ROS_AUTOMATIC_DISCOVERY_RANGE")


def test_the_domain_and_the_discovery_of_the_shell_are_left(domain):
    """A robot that runs there must not see our cameras; nobody answers at this address."""
    probe = (
        "import os, json\n"
        "from perception_node.doctor import loopback\n"
        "loopback._leave_the_network()\n"
        "print(json.dumps(dict(os.environ)))"
    )
    chosen = {
        "ROS_DOMAIN_ID": str(domain + 120),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "ROS_LOCALHOST_ONLY": "0",
        "ROS_DISCOVERY_SERVER": "192.0.2.1:11811",
        "ROS_STATIC_PEERS": "192.0.2.1",
    }
    output = subprocess.check_output([sys.executable, "-c", probe], env={**os.environ, **chosen})
    environment = json.loads(output)
    assert int(environment["ROS_DOMAIN_ID"]) in PRIVATE_DOMAINS
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert not {"ROS_DISCOVERY_SERVER", "ROS_STATIC_PEERS"} & set(environment)
    assert environment.get("ROS_LOCALHOST_ONLY", "1") == "1"


def test_a_camera_that_is_left_ends(domain):
    """Where the doctor is killed, its cameras end with it."""
    command = [sys.executable, "-m", "perception_node.doctor.loopback_camera", "node"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(30) == 0
