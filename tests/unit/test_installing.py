# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform

import pytest

from perception_node import installing
from perception_node.installing import (
    REPORT,
    MissingPackage,
    install_command,
    install_missing,
    repair_command,
    ros_release,
    source_command,
)


@pytest.fixture(autouse=True)
def _no_ros(monkeypatch):
    """A shell that has sourced nothing."""
    for name in ("ROS_DISTRO", "AMENT_PREFIX_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sourced(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/humble")


def use_system(monkeypatch, **fields):
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: fields)


@pytest.mark.parametrize(
    ("system", "version", "release"),
    [
        ("ubuntu", "22.04", "humble"),
        ("ubuntu", "24.04", "jazzy"),
        ("ubuntu", "26.04", "lyrical"),
        ("ubuntu", "20.04", ""),
        ("debian", "12", ""),
    ],
)
def test_the_release_that_fits_this_system(monkeypatch, system, version, release):
    use_system(monkeypatch, ID=system, VERSION_ID=version)
    assert ros_release() == release
    assert source_command() == f"source /opt/ros/{release or '*'}/setup.bash"
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    assert source_command() == "source /opt/ros/kilted/setup.bash"


def test_a_system_that_does_not_say_what_it_is(monkeypatch):
    def fail():
        raise FileNotFoundError

    monkeypatch.setattr(platform, "freedesktop_os_release", fail)
    assert ros_release() == ""


@pytest.mark.usefixtures("sourced")
def test_all_apt_packages_are_in_one_command(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "2.3.0")
    command = "sudo apt install python3-numpy ros-humble-vision-msgs && pip install rosbags"
    assert install_command("numpy", "vision_msgs", "rosbags") == command
    assert install_command("cv2") == "sudo apt install python3-opencv"
    assert install_missing(["numpy", "vision_msgs", "numpy", "rosbags"]) == command
    assert install_missing([]) == ""


def test_where_nothing_is_sourced_that_comes_first(monkeypatch):
    use_system(monkeypatch, ID="ubuntu", VERSION_ID="22.04")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")  # as in a container whose shell has sourced nothing
    assert install_command("vision_msgs") == "source /opt/ros/jazzy/setup.bash"
    assert install_missing(["rclpy", "cv2"]) == "sudo apt install python3-opencv"


@pytest.mark.usefixtures("sourced")
def test_how_to_repair_an_import():
    other = "No module named 'x'\nThe C extension '/x.so' isn't present on the system."
    for error, command in (
        (ModuleNotFoundError("no x", name="numpy"), "sudo apt install python3-numpy"),
        (ModuleNotFoundError("no x", name="a_msgs"), "sudo apt install ros-humble-a-msgs"),
        (ModuleNotFoundError("no x", name="a_msgs.msg"), "sudo apt install ros-humble-a-msgs"),
        (ModuleNotFoundError("no x", name="numpy.nothing"), REPORT),  # numpy itself is here
        (ImportError("cannot import name 'x' from 'numpy'", name="numpy"), REPORT),
        (ImportError("numpy.core.multiarray failed to import"), "pip install 'numpy<2'"),
        (ModuleNotFoundError(other, name="rclpy._x"), "make setup PYTHON=/usr/bin/python3"),
        (ImportError("libx.so: no such file"), REPORT),
    ):
        assert repair_command(error) == command


def test_a_library_that_is_not_found_is_most_likely_one_of_ros(monkeypatch):
    use_system(monkeypatch, ID="ubuntu", VERSION_ID="22.04")
    command = "source /opt/ros/humble/setup.bash"
    assert repair_command(ImportError("librcl.so: no such file")) == command
    assert repair_command(ImportError("cannot import name 'x' from 'y'")) == REPORT


def test_every_package_has_one_way_to_be_installed():
    assert not installing.APT.keys() & installing.PIP.keys()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ModuleNotFoundError("no cv2", name="cv2"),
            "no cv2; run: sudo apt install python3-opencv (in a checkout: make setup)",
        ),
        (ImportError("broken library"), "broken library; run: "),
    ],
)
def test_a_missing_package_says_how_to_get_it(error, words):
    assert words in str(MissingPackage(error))
