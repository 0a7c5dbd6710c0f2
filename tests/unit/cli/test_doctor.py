# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from perception_node.cli import doctor, main
from perception_node.doctor import (
    doctor_report,
    machine_findings,
    ros_findings,
    transport_findings,
)
from perception_node.doctor.doctor_report import hide_names
from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding
from tests.builders import ROOT, make_bundle, perception

SCHEMA = json.loads((ROOT / "perception_node/doctor/doctor.schema.json").read_text())


def block(monkeypatch, *names):
    """Make packages look as if they were not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def run_without(*names):
    """Run the doctor where packages are not installed, and return its report and exit code."""
    script = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({names}))\n"
        "from perception_node.cli import main\n"
        "sys.exit(main(['doctor', '--json']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return json.loads(result.stdout), result.returncode


def check_schema(report):
    errors = [error.message for error in Draft7Validator(SCHEMA).iter_errors(report)]
    assert errors == []


@pytest.mark.timeout(180)
def test_the_report_as_json():
    result = perception("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.stderr == ""
    check_schema(report)
    states = {finding["id"]: finding["state"] for finding in report["findings"]}
    assert list(states) == list(doctor.CHECKS)
    assert report["complete"] == (MISSING not in states.values())
    assert result.returncode == (0 if report["complete"] else 3)
    assert str(Path.home()) + "/" not in result.stdout
    assert os.uname().nodename not in result.stdout.replace("localhost", "")


def test_the_schema_is_one_and_knows_every_finding():
    Draft7Validator.check_schema(SCHEMA)
    item = SCHEMA["properties"]["findings"]["items"]["properties"]
    assert item["id"]["enum"] == list(doctor.CHECKS)
    assert SCHEMA["properties"]["schema"]["const"] == doctor_report.SCHEMA_VERSION


def test_the_report_for_people(monkeypatch, capsys):
    findings = {
        "good": Finding("good", OK, "[here]"),
        "so_so": Finding("so-so", OPTIONAL, "nearly", "do this"),
        "bad": Finding("bad", MISSING, "gone", "do [bold]that[/bold]"),
    }
    checks = {name: lambda finding=finding: finding for name, finding in findings.items()}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    monkeypatch.setattr(doctor, "SLOW", ())
    assert main(["doctor"]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "ok        good           [here]",
        "optional  so-so          nearly",
        "          -> do this",
        "missing   bad            gone",
        "          -> do [bold]that[/bold]",
        "Missing: bad.",
    ]
    del checks["bad"]
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("is missing; 1 more could be better.\n")


def test_what_is_missing_is_installed_by_one_command(monkeypatch, capsys):
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/humble")
    findings = [
        Finding("libraries", MISSING, "no cv2, rich", "", ("cv2", "rich")),
        Finding("vision_msgs", MISSING, "gone", "", ("vision_msgs",)),
        Finding("node", MISSING, "cannot start", "", ("cv2",)),
        Finding("reports", OPTIONAL, "no yaml", "", ("yaml",)),  # who needs it installs it
    ]
    checks = {finding.subject: lambda finding=finding: finding for finding in findings}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    monkeypatch.setattr(doctor, "SLOW", ())
    assert main(["doctor"]) == 3
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Missing: libraries, vision_msgs, node. The packages among them:",
        "          -> sudo apt install python3-opencv python3-rich ros-humble-vision-msgs",
    ]


def test_a_check_that_fails_hides_no_other(monkeypatch, capsys):
    def lack():
        raise ModuleNotFoundError("No module named 'jsonschema'", name="jsonschema")

    def fail():
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "CHECKS", {"lack": lack, "fail": fail})
    monkeypatch.setattr(doctor, "SLOW", ())
    assert main(["doctor"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("No module named 'jsonschema'")
    assert lines[1].endswith("-> sudo apt install python3-jsonschema")
    assert lines[2].endswith("unknown, RuntimeError: two lines")


@pytest.mark.timeout(180)
def test_what_is_missing_has_advice_and_what_is_there_is_named():
    for check in doctor.CHECKS.values():
        finding = check()
        assert finding.state in {OK, OPTIONAL, MISSING}
        assert finding.found
        assert finding.advice or finding.state == OK


@pytest.mark.parametrize(
    ("check", "package"),
    [
        (transport_findings.check_middleware, "perception_node.ros.compat"),
        (ros_findings.check_messages, "vision_msgs.msg"),
        (machine_findings.check_onnxruntime, "onnxruntime"),
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
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "2.3.0")  # NumPy's
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in gone else find(name)
    )
    finding = machine_findings.check_libraries()
    assert (finding.state, finding.found) == (MISSING, "no rosbags, rich")
    assert finding.advice == "sudo apt install python3-rich && pip install rosbags"


def test_the_governor_of_the_processor(monkeypatch):
    for governor, advised in (("powersave", True), ("performance", False), (None, False)):
        monkeypatch.setattr(machine_findings, "read_text", lambda _, governor=governor: governor)
        finding = machine_findings.check_machine()
        assert finding.state == OK
        assert f"governor {governor or 'unknown'}" in finding.found
        assert ("cpupower" in finding.advice) == advised


@pytest.mark.parametrize(
    ("release", "state"), [("humble", OK), ("lyrical", OK), ("iron", OPTIONAL), ("", OPTIONAL)]
)
def test_the_release_and_whether_we_run_on_it(monkeypatch, release, state):
    monkeypatch.setattr(ros_findings, "find_rclpy_failure", lambda: None)
    monkeypatch.setattr(ros_findings, "rclpy_version", lambda: "3.3.21")
    monkeypatch.setenv("ROS_DISTRO", release)
    finding = ros_findings.check_ros()
    assert finding.state == state
    assert f"{release or 'unknown release'}, rclpy 3.3.21" in finding.found
    assert ("Humble, Jazzy, Kilted, Lyrical" in finding.advice) == (state == OPTIONAL)


def test_a_middleware_that_is_not_installed():
    """Importing rclpy then ends the process, the doctor's own if it did so itself."""
    pytest.importorskip("rclpy")
    environment = {**os.environ, "RMW_IMPLEMENTATION": "rmw_none_cpp"}
    result = perception("doctor", "--json", env=environment)
    assert result.returncode == 3
    report = json.loads(result.stdout)
    check_schema(report)
    found = {finding["id"]: finding for finding in report["findings"]}
    assert found["ros"]["state"] == found["node"]["state"] == MISSING
    assert "rmw_none_cpp" in found["ros"]["found"]
    assert "[rcl]" not in found["ros"]["found"]
    assert found["ros"]["advice"].endswith("-rmw-none-cpp")
    assert found["node"]["advice"] == "see ROS 2"


def test_a_damaged_default_model_is_missing(monkeypatch, tmp_path):
    assert machine_findings.check_model().state == OK
    bundle = make_bundle(tmp_path / "models")
    (bundle / "model.onnx").write_bytes(b"damaged")
    monkeypatch.setattr(machine_findings, "find_model", lambda _name: bundle)
    finding = machine_findings.check_model()
    assert finding.state == MISSING
    assert "model.onnx: sha256" in finding.found


@pytest.mark.timeout(180)
def test_the_doctor_works_where_almost_nothing_is_installed():
    """It is the one command that has to run where something is missing."""
    gone = (
        "jsonschema",
        "onnx",
        "onnxruntime",
        "rclpy",
        "rich",
        "tensorrt",
        "torch",
        "vision_msgs",
    )
    report, code = run_without(*gone)
    assert code == 3
    check_schema(report)
    missing = {f["id"] for f in report["findings"] if f["state"] == MISSING}
    assert {"ros", "vision_msgs", "onnxruntime", "default_model", "images"} <= missing
    assert report["machine"]["rmw"] is None
    assert report["images"] is None


def test_no_user_is_named(monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    for text, hidden in (
        ("/home/alice", "~"),
        ("in /home/alice/ws/x.xml: 1", "in ~/ws/x.xml: 1"),
        ("export A=/home/alice/x", "export A=~/x"),
        ("('/home/alice/x')", "('~/x')"),
        ("/home/alice2/x and /media/bob/disk/x", "/home/*/x and /media/*/disk/x"),
        ("/data/home/alice/x", "/data/home/alice/x"),
        ("/opt/ros/jazzy", "/opt/ros/jazzy"),
    ):
        assert hide_names({"a": [text, 1, None]}) == {"a": [hidden, 1, None]}
    monkeypatch.setenv("HOME", "/")
    assert hide_names("/opt/ros") == "/opt/ros"


def test_variables_that_name_hosts_are_not_shown(monkeypatch):
    monkeypatch.setattr(doctor_report, "find_ros", lambda: None)
    monkeypatch.setattr(doctor_report, "find_delivery", lambda: {"problem": "none"})
    monkeypatch.setenv("ROS_DISCOVERY_SERVER", "robot.example:11811")
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    report = doctor_report.make_report({"python": Finding("Python", OK, "3")})
    check_schema(report)
    environment = report["machine"]["environment"]
    assert environment["ROS_DISCOVERY_SERVER"] == "set"
    assert environment["ROS_DOMAIN_ID"] == "42"


def test_without_ros_the_rest_is_told_in_few_lines():
    """Nothing of ROS and nothing else: neither is named again by what needs it."""
    python = Path(sys.base_exec_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    command = [python, "-S", "-m", "perception_node.cli", "doctor", "--json"]
    environment = {"PATH": os.environ["PATH"]}
    result = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 3, result.stderr
    report = json.loads(result.stdout)
    check_schema(report)
    found = {finding["id"]: finding for finding in report["findings"]}
    assert found["ros"]["found"] == "No module named 'rclpy'"
    for name in ("vision_msgs", "node"):
        assert (found[name]["state"], found[name]["advice"]) == (MISSING, "see ROS 2")
    assert found["commands"]["state"] == OK
    assert found["default_model"]["advice"] == "sudo apt install python3-jsonschema"
    assert report["install"].startswith("sudo apt install python3-numpy python3-opencv")
    assert "/opt/ros" not in report["install"]


@pytest.mark.parametrize("module", ["perception_node.cli", "perception_node.ros.main"])
def test_a_python_that_is_too_old_is_told_in_one_line(module):
    """As on JetPack 5, where colcon installs the package all the same."""
    code = f"import sys; sys.version_info = (3, 8, 10, 'final', 0); import {module}"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("perception_node needs Python 3.10 or later, ")
    assert result.stderr.count("\n") == 1
