# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys

import pytest

from tests.builders import ROOT
from tools import release_report

SUITE = """
import pytest

def test_good(): pass

@pytest.mark.parametrize("x", [1, 2])
def test_bad(x): assert x == 0, f"it is {x}"

@pytest.mark.skip(reason="no camera")
def test_skipped(): pass

@pytest.fixture
def broken(): raise RuntimeError("no middleware")

def test_error(broken): pass
"""


@pytest.fixture
def report(capsys, tmp_path):
    def make(folder):
        out = tmp_path / "report.json"
        code = release_report.main(["report", str(folder), str(out)])
        return code, capsys.readouterr().out, json.loads(out.read_text())

    return make


def record(folder, name, exit_code=0, printed="", warned=""):
    (folder / f"{name}.step").write_text(f"{exit_code} 7\n")
    (folder / f"{name}.out").write_text(printed)
    (folder / f"{name}.err").write_text(warned)


def run_suite(folder, name, source):
    """Run real tests, as the script does."""
    file = folder / f"test_{name}.py"
    file.write_text(source)
    options = ["-q", "-p", "no:cacheprovider", "--noconftest", f"--rootdir={folder}"]
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={folder / name}.xml", file]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    record(folder, name, done.returncode, done.stdout)


@pytest.fixture(scope="module")
def good_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    record(folder, "doctor", printed='{"schema": 1, "complete": true}\n')
    record(folder, "demo", printed="4 of 4 photos\n")
    run_suite(folder, "unit", "def test_good(): pass")
    for name in ("ros", "faults"):
        shutil.copy(folder / "unit.xml", folder / f"{name}.xml")
        record(folder, name)
    return folder


@pytest.fixture
def good_run(good_folder, tmp_path):
    return shutil.copytree(good_folder, tmp_path / "run")


def test_a_good_run_is_good(good_run, report, monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.setenv("ROS_DISTRO", "humble")
    code, printed, found = report(good_run)
    assert code == 0
    assert "all good" in printed
    assert found["good"] is True
    assert found["version"] == 1
    assert found["release"] == "humble"
    assert found["python"] == platform.python_version()
    assert found["architecture"] == platform.machine()
    assert found["versions"]["numpy"]
    assert found["rmw"]
    assert found["missing"] == []
    assert found["doctor"]["report"] == {"schema": 1, "complete": True}
    assert found["demo"]["output"] == ["4 of 4 photos"]
    assert found["demo"]["seconds"] == 7
    assert found["tests"]["ros"]["passed"] == 1
    assert found["tests"]["ros"]["failures"] == []


def test_failures_are_named(good_run, report):
    run_suite(good_run, "ros", SUITE)
    code, printed, found = report(good_run)
    ros = found["tests"]["ros"]
    assert code == 1
    assert found["good"] is False
    assert (ros["passed"], ros["failed"], ros["skipped"]) == (1, 3, 1)
    assert [each["test"] for each in ros["failures"]] == [
        "test_ros::test_bad[1]",
        "test_ros::test_bad[2]",
        "test_ros::test_error",
    ]
    assert "it is 1" in ros["failures"][0]["reason"]
    assert "no middleware" in ros["failures"][2]["reason"]
    assert "test_ros::test_bad[2]" in printed
    assert "not all is good" in printed


@pytest.mark.parametrize(
    ("step", "exit_code"),
    [("doctor", 1), ("demo", 124), ("unit", 1), ("ros", 139), ("faults", None), ("doctor", None)],
)
def test_a_step_that_fails_leaves_a_complete_report(good_run, report, step, exit_code):
    (good_run / f"{step}.step").unlink()
    (good_run / f"{step}.xml").unlink(missing_ok=True)
    if exit_code is not None:
        record(good_run, step, exit_code, "last words", "Traceback")
    code, _, found = report(good_run)
    entry = found[step] if step in found else found["tests"][step]
    assert code == 1
    assert found["good"] is False
    assert entry["exit_code"] == exit_code
    assert entry["result"] == ("not run" if exit_code is None else "failed")
    assert entry.get("output", []) == ([] if exit_code is None else ["last words", "Traceback"])
    assert set(found["tests"]) == {"unit", "ros", "faults"}


def test_tests_that_ran_none_are_not_good(good_run, report):
    (good_run / "unit.xml").write_text("<testsuites/>")
    code, _, found = report(good_run)
    assert code == 1
    assert found["good"] is False


def test_a_doctor_without_json_is_kept(good_run, report):
    record(good_run, "doctor", 1, "No module named rclpy")
    _, _, found = report(good_run)
    assert found["doctor"]["report"] == "No module named rclpy"


def test_all_that_is_missing_is_named_with_commands():
    """Python without its packages, as in a bare container."""
    command = [sys.executable, "-I", "-S", "tools/release_report.py", "missing"]
    environment = {"PATH": os.environ["PATH"], "ROS_DISTRO": "humble"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    *reasons, apt, pip = done.stdout.splitlines()
    assert any("cannot import rclpy: No module named 'rclpy'" in line for line in reasons)
    assert any("cannot import onnxruntime" in line for line in reasons)
    assert apt.startswith("sudo apt install ")
    assert {"ros-humble-rclpy", "ros-humble-vision-msgs", "python3-numpy"} <= set(apt.split())
    assert "-m pip install" in pip
    assert {"onnxruntime", "rosbags", "'flask>=3.1'"} <= set(pip.split())


def test_here_nothing_is_missing(capsys):
    pytest.importorskip("rclpy")
    assert release_report.main(["missing"]) == 0
    assert capsys.readouterr().out == ""


def test_without_a_sourced_ros_the_script_says_what_to_do(tmp_path):
    environment = {"PATH": os.environ["PATH"], "PYTHON": "no-such-python"}
    out = tmp_path / "report.json"
    done = subprocess.run(
        [ROOT / "tools/try_release.sh", out],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no ROS is sourced: source /opt/ros/" in done.stderr
    assert "no-such-python is missing" in done.stderr
    assert not out.exists()
