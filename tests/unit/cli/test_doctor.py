# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from perception_node import __version__
from perception_node.cli import doctor, main, transport_findings
from perception_node.cli.findings import MISSING, OK, OPTIONAL, Finding
from tests.builders import make_bundle, perception


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
        (transport_findings.check_middleware, "rclpy"),
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


def test_ros_and_the_messages_where_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "rclpy", object())
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", object())
    monkeypatch.setitem(sys.modules, "vision_msgs", object())
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert doctor.check_ros().found == "jazzy, rclpy"
    assert doctor.check_messages().state == OK


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
