# SPDX-License-Identifier: Apache-2.0
"""What is said of images that were tried out; tests/ros/test_doctor.py tries it out."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from perception_node.doctor import delivery_findings
from perception_node.doctor.delivery_findings import check_drivers, check_images
from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding
from perception_node.doctor.transport_findings import NO_ROS, Ros

VGA, HD = "640x480", "1920x1080"
ALL, SOME, NONE, APART = ({VGA: a, HD: b} for a, b in ((15, 15), (6, 1), (0, 0), (None, None)))
OURS = SimpleNamespace(version="2.14", variable="FASTRTPS_DEFAULT_PROFILES_FILE")
FAST_DDS = Ros("rmw_fastrtps_cpp", OURS, ())
EXPORT = "before a camera's driver starts: export FASTRTPS_DEFAULT_PROFILES_FILE=/"


@pytest.fixture
def judge(monkeypatch):
    """Return a function that says what is found of these numbers of images."""

    def say(node=ALL, shell=ALL, delivery="bytes", ros=FAST_DDS, **problem):
        found = {"delivery": delivery, "sent": 15, "node": node, "shell": shell, **problem}
        monkeypatch.setattr(delivery_findings, "find_delivery", lambda: found)
        monkeypatch.setattr(delivery_findings, "find_ros", lambda: ros)
        return check_images(), check_drivers()

    return say


def test_images_that_arrive(judge):
    text = "15 of 15 at 640x480, 15 of 15 at 1920x1080 arrive"
    images, drivers = judge()
    assert images == Finding("images", OK, f"as bytes: {text}")
    assert drivers == Finding("drivers", OK, f"started from this shell: {text}")
    assert judge(delivery="messages")[0].found.startswith("as messages: ")


@pytest.mark.parametrize("counts", [SOME, NONE, {VGA: 15, HD: 11}])
def test_only_this_shell_lacks_a_profile(judge, counts):
    images, drivers = judge(shell=counts)
    assert images.state == OK
    assert drivers.state == OPTIONAL
    assert f"{counts[HD]} of 15 at 1920x1080" in drivers.found
    assert drivers.advice.startswith(EXPORT)


def test_a_few_may_be_lost_on_a_busy_machine(judge):
    assert judge(node={VGA: 15, HD: 12})[0].state == OK


@pytest.mark.parametrize(
    ("counts", "state"), [(SOME, OPTIONAL), (NONE, MISSING), (APART, MISSING)]
)
def test_what_the_node_itself_does_not_get(judge, counts, state):
    images = judge(node=counts)[0]
    assert images.state == state
    assert ("do not find each other" in images.found) == (counts is APART)
    assert images.advice.startswith(EXPORT)
    other = judge(node=counts, ros=Ros("rmw_cyclonedds_cpp", None, ()))[0]
    assert "RMW_IMPLEMENTATION=rmw_fastrtps_cpp" in other.advice


def test_what_could_not_be_tried(judge, monkeypatch):
    images, drivers = judge(problem="nothing came; run: this")
    assert images == Finding("images", MISSING, "nothing came", "this")
    assert drivers == Finding("drivers", OPTIONAL, "not tried", "see images")
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    drivers = judge(shell=None)[1]
    assert drivers.state == OK
    assert "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA needs a network" in drivers.found


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("import time; time.sleep(60)", "not tried, the middleware hangs for 0.5 s"),
        ("import sys; sys.exit('one\\nlast line')", "not tried, last line"),
        ("import os; os._exit(102)", "not tried, code 102"),
        ("print('no JSON')", "not tried, code 0"),
    ],
)
def test_a_middleware_that_crashes_or_hangs(program, problem):
    code = (
        "import sys\n"
        "from perception_node.doctor import delivery_findings as d, findings\n"
        "findings.RUN_MODULE = sys.argv[1]\n"
        "d.TIMEOUT_S = 0.5 if 'sleep' in sys.argv[1] else 30\n"
        "d.find_ros = lambda: True\n"
        "print(d.find_delivery()['problem'])"
    )
    found = subprocess.check_output([sys.executable, "-c", code, program], text=True)
    assert found == f"{problem}\n"


def test_without_ros_nothing_is_tried():
    code = (
        "import sys\n"
        "sys.modules['rclpy'] = None\n"
        "from perception_node.doctor.delivery_findings import check_images\n"
        "print(check_images().found)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == f"{NO_ROS}\n"
