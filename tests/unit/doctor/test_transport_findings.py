# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from perception_node.doctor.fastdds_profile import LARGEST_FILE_BYTES, read_segment_bytes
from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding
from perception_node.doctor.transport_findings import (
    NO_ROS,
    check_middleware,
    check_profile,
    check_shared_memory,
    check_socket_buffers,
    export_ours,
)
from perception_node.errors import ConfigError
from perception_node.system.resources import FAST_DDS_PROFILE
from tests.builders import ROOT

rclpy = pytest.importorskip("rclpy")
OURS = ROOT / FAST_DDS_PROFILE
MIB = 1 << 20

VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def _shell(monkeypatch):
    """A shell in which nobody has set anything."""
    for name in (*VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
        monkeypatch.delenv(name, raising=False)
    use(monkeypatch, "rmw_fastrtps_cpp")


def use(monkeypatch, name):
    """Make rclpy use an RMW, whether or not it is installed here."""
    monkeypatch.setattr(rclpy, "get_rmw_implementation_identifier", lambda: name)


@pytest.fixture
def loaded(tmp_path):
    """Return a function that writes what ``/proc/self/maps`` says of a version of Fast DDS."""

    def write(version):
        library = "fastrtps" if version.startswith("2") else "fastdds"
        file = tmp_path / f"maps-{version}"
        place = "7f00-7f01 r-xp 00000000 00:1b 42"
        file.write_text(
            f"{place} /opt/lib/libfastcdr.so.2.2.5\n{place} /opt/lib/lib{library}.so.{version}\n"
        )
        return file

    return write


def edit(folder, old, new):
    """Write our profile with a change."""
    text = OURS.read_text()
    assert old in text
    file = folder / "edited.xml"
    file.write_text(text.replace(old, new))
    return file


def test_the_middleware_and_its_version(monkeypatch, loaded):
    assert check_middleware(loaded("2.14.5")).found == "rmw_fastrtps_cpp, Fast DDS 2.14.5"
    assert check_middleware(loaded("3.2.2")).found == "rmw_fastrtps_cpp, Fast DDS 3.2.2"
    use(monkeypatch, "rmw_cyclonedds_cpp")
    assert check_middleware(loaded("2.14.5")) == Finding("middleware", OK, "rmw_cyclonedds_cpp")
    assert check_profile() == Finding("DDS profile", OK, "rmw_cyclonedds_cpp needs none")


def test_the_version_of_the_library_that_is_really_loaded():
    code = "from perception_node.doctor.transport_findings import find_ros; print(find_ros())"
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    if "fastrtps" not in found:
        pytest.skip(f"another middleware: {found}")
    assert re.search(r"FastDds\(version='[23]\.\d+", found)


def test_a_shell_without_a_profile_and_the_command_that_sets_ours(loaded):
    for version, variable in (("2.14", VARIABLES[0]), ("3.2", VARIABLES[1])):
        finding = check_profile(loaded(version))  # what that costs is tried out: see drivers
        assert (finding.state, finding.advice) == (OK, "")
        assert finding.found.startswith("none in this shell")
        assert export_ours(variable) == f"export {variable}={OURS}"


@pytest.mark.parametrize("version", ["2.14", "3.2"])
def test_each_version_reads_a_variable_of_its_own(monkeypatch, loaded, tmp_path, version):
    read, other = VARIABLES if version == "2.14" else reversed(VARIABLES)
    monkeypatch.setenv(other, str(OURS))
    finding = check_profile(loaded(version))
    found = f"{other} is set, but Fast DDS {version} reads {read}"
    assert finding == Finding("DDS profile", OPTIONAL, found, f"export {read}={OURS}")
    monkeypatch.setenv(read, str(OURS))
    monkeypatch.setenv(other, str(tmp_path / "not-read.xml"))
    assert check_profile(loaded(version)).state == OK


def test_without_ros_nothing_is_claimed(monkeypatch):
    monkeypatch.setitem(sys.modules, "perception_node.ros.compat", None)
    assert check_middleware() == Finding("middleware", MISSING, NO_ROS, "see ROS 2 and node")
    assert check_profile() == Finding("DDS profile", OPTIONAL, NO_ROS, "see ROS 2 and node")


def test_a_builtin_transport_has_no_effect_beside_localhost(monkeypatch, loaded):
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    assert check_profile(loaded("2.14")).state == OK
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    finding = check_profile(loaded("2.14"))
    assert finding.state == OPTIONAL
    assert "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA has no effect" in finding.found
    assert finding.advice.endswith(f"export {VARIABLES[0]}={OURS}")
    monkeypatch.setenv(VARIABLES[0], str(OURS))
    assert check_profile(loaded("2.14")).state == OK


def test_a_profile_that_is_not_there(monkeypatch, loaded):
    monkeypatch.setenv(VARIABLES[0], "/mine.xml")
    finding = check_profile(loaded("2.14"))
    assert (finding.state, finding.found) == (OPTIONAL, "/mine.xml: No such file or directory")
    assert finding.advice.endswith(f"export {VARIABLES[0]}={OURS}")


@pytest.mark.parametrize(
    ("size_bytes", "state"), [(4 * MIB, OK), (4 * MIB - 1, OPTIONAL), (512 << 10, OPTIONAL)]
)
def test_segments_must_hold_camera_frames(monkeypatch, loaded, tmp_path, size_bytes, state):
    file = edit(tmp_path, "33554432", str(size_bytes))
    monkeypatch.setenv(VARIABLES[0], str(file))
    finding = check_profile(loaded("2.14"))
    assert finding.state == state
    size = "segments of 4 MiB" if state == OK else f"segment_size {size_bytes >> 10} KiB"
    assert size in finding.found


def test_the_size_that_a_profile_sets(tmp_path):
    assert read_segment_bytes(OURS) == 32 * MIB
    spaced = edit(tmp_path, ">33554432<", "> 33554432\n<")
    assert read_segment_bytes(spaced) == 32 * MIB
    unset = edit(tmp_path, "<segment_size>33554432</segment_size>", "")
    assert read_segment_bytes(unset) == 512 << 10
    without_namespace = edit(tmp_path, ' xmlns="http://www.eprosima.com"', "")
    assert read_segment_bytes(without_namespace) == 32 * MIB


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("</dds>", "", "not XML: no element found"),
        ('encoding="UTF-8"', 'encoding="nonsense"', "not XML: unknown encoding"),
        (' is_default_profile="true"', "", "no participant profile with is_default_profile"),
        ("          <transport_id>large_shm</transport_id>", "", "no transport of type SHM"),
        ("<type>SHM</type>", "<type>TCPv4</type>", "no transport of type SHM"),
        (">33554432<", ">32 MiB<", "segment_size '32 MiB' is not a number"),
        (">33554432<", "><", "segment_size '' is not a number"),
    ],
)
def test_a_profile_that_sets_up_no_shared_memory(tmp_path, old, new, problem):
    file = edit(tmp_path, old, new)
    with pytest.raises(ConfigError) as error:
        read_segment_bytes(file)
    assert str(error.value).startswith(f"{file}: ")
    assert problem in str(error.value)


def test_what_is_no_small_file_is_not_read(tmp_path):
    large, pipe = tmp_path / "large.xml", tmp_path / "pipe.xml"
    large.write_bytes(b" " * (LARGEST_FILE_BYTES + 1))
    os.mkfifo(pipe)  # reading it would never end
    for file, problem in (
        (large, "more than the 1048576 allowed"),
        (pipe, "not a regular file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigError, match=problem):
            read_segment_bytes(file)


@pytest.mark.parametrize(
    ("sizes", "state", "command"),
    [
        ({"rmem_max": 4 * MIB, "rmem_default": 8 * MIB}, OK, ""),
        (
            {"rmem_max": 4 * MIB, "rmem_default": 4 * MIB - 1},
            OPTIONAL,
            "sudo sysctl -w net.core.rmem_default=4194304",
        ),
        (
            {"rmem_max": 212992, "rmem_default": 212992},
            OPTIONAL,
            "sudo sysctl -w net.core.rmem_max=4194304 net.core.rmem_default=4194304",
        ),
        ({}, OK, ""),
    ],
)
def test_buffers_for_frames_from_the_network(tmp_path, sizes, state, command):
    for name, size_bytes in sizes.items():
        (tmp_path / name).write_text(f"{size_bytes}\n")
    finding = check_socket_buffers(tmp_path)
    assert finding.state == state
    assert finding.advice.partition(": ")[2] == command
    for name, size_bytes in sizes.items():
        assert f"{name} {size_bytes >> 10} KiB" in finding.found


@pytest.mark.parametrize(("free_mib", "state"), [(256, OK), (255, OPTIONAL), (0, OPTIONAL)])
def test_room_for_camera_frames(monkeypatch, free_mib, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, free_mib << 20))
    finding = check_shared_memory()
    assert finding.state == state
    assert finding.found.startswith(f"{free_mib} MiB free")


def test_no_shared_memory_at_all(tmp_path):
    assert check_shared_memory(tmp_path / "shm").state == MISSING
