# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from perception_node import __version__
from perception_node.cli import doctor, main
from perception_node.cli.findings import MISSING, OK, OPTIONAL, Finding
from perception_node.ros.transport import VARIABLES
from tests.builders import make_bundle, perception


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def block(monkeypatch, *names):
    """Make packages look as if they were not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_the_report_as_json():
    result = perception("doctor", "--json")
    findings = json.loads(result.stdout)
    assert result.stderr == ""
    states = [finding["state"] for finding in findings]
    assert result.returncode == (3 if MISSING in states else 0)
    assert [set(finding) for finding in findings] == [
        {"subject", "state", "found", "advice"} for _ in findings
    ]
    subjects = [finding["subject"] for finding in findings]
    assert len(set(subjects)) == len(doctor.CHECKS)
    assert subjects[0] == "Python"
    assert __version__ in findings[0]["found"]


def test_the_report_for_people(monkeypatch, capsys):
    findings = [
        Finding("good", OK, "[here]"),
        Finding("so-so", OPTIONAL, "nearly", "do this"),
        Finding("bad", MISSING, "gone", "do [bold]that[/bold]"),
    ]
    checks = [lambda finding=finding: finding for finding in findings]
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert main(["doctor"]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "ok        good           [here]",
        "optional  so-so          nearly",
        "                         -> do this",
        "missing   bad            gone",
        "                         -> do [bold]that[/bold]",
    ]
    monkeypatch.setattr(doctor, "CHECKS", checks[:2])
    assert main(["doctor"]) == 0


def test_what_is_missing_has_advice_and_what_is_there_is_named():
    for check in doctor.CHECKS:
        finding = check()
        assert finding.state in {OK, OPTIONAL, MISSING}
        assert finding.found
        assert finding.advice or finding.state == OK


@pytest.mark.parametrize(
    ("check", "package"),
    [
        (doctor.check_ros, "rclpy"),
        (doctor.check_middleware, "rclpy"),
        (doctor.check_messages, "vision_msgs.msg"),
        (doctor.check_onnxruntime, "onnxruntime"),
    ],
)
def test_a_package_that_is_not_there_is_missing(monkeypatch, check, package):
    block(monkeypatch, package)
    finding = check()
    assert finding.state == MISSING
    assert finding.advice


def test_libraries_that_are_not_there_are_all_named(monkeypatch):
    find = importlib.util.find_spec
    gone = {"rosbags", "rich"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in gone else find(name)
    )
    finding = doctor.check_libraries()
    assert (finding.state, finding.found) == (MISSING, "no rosbags, rich")


def test_the_governor_of_the_processor(monkeypatch):
    for governor, advised in (("powersave", True), ("performance", False), (None, False)):
        monkeypatch.setattr(doctor, "read_text", lambda _path, governor=governor: governor)
        finding = doctor.check_machine()
        assert finding.state == OK
        assert f"governor {governor or 'unknown'}" in finding.found
        assert ("cpupower" in finding.advice) == advised


class Rclpy:
    def __init__(self, name):
        self.name = name

    def get_rmw_implementation_identifier(self):
        return self.name


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_middleware_and_its_profile(monkeypatch, variable):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "rclpy", Rclpy("rmw_cyclonedds_cpp"))
    assert doctor.check_middleware() == Finding("middleware", OK, "rmw_cyclonedds_cpp")
    monkeypatch.setitem(sys.modules, "rclpy", Rclpy("rmw_fastrtps_cpp"))
    finding = doctor.check_middleware()
    assert "export FASTRTPS_DEFAULT_PROFILES_FILE=" in finding.advice
    assert Path(finding.advice.rpartition("=")[2]).is_file()
    monkeypatch.setenv(variable, "/mine.xml")
    finding = doctor.check_middleware()
    assert finding.found == "rmw_fastrtps_cpp, profile /mine.xml"
    assert finding.advice == ""


def test_ros_and_the_messages_where_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "rclpy", Rclpy("any"))
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", Rclpy("any"))
    monkeypatch.setitem(sys.modules, "vision_msgs", Rclpy("any"))
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert doctor.check_ros().found == "jazzy, rclpy"
    assert doctor.check_messages().state == OK


@pytest.mark.parametrize(("free_mib", "state"), [(256, OK), (255, OPTIONAL), (0, OPTIONAL)])
def test_room_for_camera_frames(monkeypatch, free_mib, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, free_mib << 20))
    finding = doctor.check_shared_memory()
    assert finding.state == state
    assert finding.found.startswith(f"{free_mib} MiB free")


def test_no_shared_memory_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "shm")
    assert doctor.check_shared_memory().state == MISSING


def test_a_damaged_default_model_is_missing(monkeypatch, tmp_path):
    assert doctor.check_model().state == OK
    bundle = make_bundle(tmp_path / "models")
    (bundle / "model.onnx").write_bytes(b"damaged")
    monkeypatch.setattr(doctor, "find_model", lambda _name: bundle)
    finding = doctor.check_model()
    assert finding.state == MISSING
    assert "model.onnx: sha256" in finding.found


def test_the_doctor_works_without_onnxruntime():
    """It is the one command that has to run where something is missing."""
    script = (
        "import sys\n"
        "for name in ('onnx', 'onnxruntime', 'rclpy', 'tensorrt', 'torch', 'vision_msgs'):\n"
        "    sys.modules[name] = None\n"
        "from perception_node.cli import main\n"
        "sys.exit(main(['doctor', '--json']))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert result.returncode == 3
    missing = {f["subject"] for f in json.loads(result.stdout) if f["state"] == MISSING}
    assert {"ONNX Runtime", "ROS 2", "vision_msgs"} <= missing
