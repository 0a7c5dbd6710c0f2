# SPDX-License-Identifier: Apache-2.0
"""tools/test_lanes.py runs everything and says how it went."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from tests.builders import ROOT

TESTS = """
import pytest

def test_good(): pass
def test_bad(): assert {works}
@pytest.fixture
def broken(): raise OSError
@pytest.mark.skipif({works}, reason="works")
def test_without_fixture(broken): pass
@pytest.mark.skip
def test_left_out(): pass
"""


@pytest.fixture
def lanes(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    import test_lanes

    monkeypatch.setattr(test_lanes, "FOLDER", tmp_path)
    return test_lanes


@pytest.fixture
def lane(lanes):
    """Return a function that makes a lane of small commands."""

    def make(name, *code, set_up=(), python=sys.executable):
        commands = [
            tuple(f"{{base}} -c {shlex.quote(line)}" for line in lines) for lines in (set_up, code)
        ]
        return lanes.Lane(name, "nothing", *commands, python)

    return make


def write(path):
    return f"open({str(path)!r}, 'w').close()"


def test_a_failing_command_does_not_keep_the_others_from_running(lanes, lane, tmp_path):
    after = tmp_path / "after"
    result = lanes.run_lane(lane("first", "raise SystemExit(3)", write(after)))
    assert after.exists()
    assert result.verdict() == "FAILED"
    assert len(result.failed) == 1
    assert result.failed[0].endswith("(exit status 3)")


def test_nothing_runs_without_its_set_up(lanes, lane, tmp_path):
    after = tmp_path / "after"
    result = lanes.run_lane(lane("first", write(after), set_up=["raise SystemExit(1)"]))
    assert not after.exists()
    assert result.verdict() == "FAILED"


def test_a_python_that_is_missing_is_said(lanes, lane, capsys):
    result = lanes.run_lane(lane("first", "raise SystemExit(1)", python="python3.99"))
    lanes.print_results({"first": result})
    assert "first: left out: no python3.99 on this machine" in capsys.readouterr().out


@pytest.mark.parametrize("works", [True, False])
def test_tests_are_counted(lanes, tmp_path, works, capfd):
    (tmp_path / "test_it.py").write_text(TESTS.format(works=works))
    command = "{base} -m pytest -q -c /dev/null --junitxml {report} " + shlex.quote(str(tmp_path))
    result = lanes.run_lane(lanes.Lane("counted", "nothing", (), (command,)))
    lanes.print_results({"counted": result})
    shown = capfd.readouterr().out.splitlines()
    last = shown[-1]
    passed, failed, skipped = (2, 0, 2) if works else (1, 2, 1)
    assert last == f"{passed} passed, {failed} failed, {skipped} skipped"
    assert result.verdict() == ("good" if works else "FAILED")
    named = [
        line for line in shown if line.startswith("counted: FAILED: test_it::test_bad: assert")
    ]
    assert len(named) == (0 if works else 1)


def test_the_exit_status_is_that_of_the_worst(lanes, lane, monkeypatch, capsys):
    bad, good = lane("bad", "raise SystemExit(1)"), lane("good", "pass")
    monkeypatch.setattr(lanes, "LANES", (bad, good))
    for names, status in ((["good"], 0), (["bad"], 1), ([], 1)):
        monkeypatch.setattr(sys, "argv", ["test_lanes.py", *names])
        assert lanes.main() == status
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert rows[-4:-2] == [["bad", "FAILED"], ["good", "good"]]


def test_a_lane_does_not_see_the_ros_that_is_sourced_but_a_mode_changes_it(lanes, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ros/python")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    kilted = lanes.environment(next(lane for lane in lanes.LANES if lane.name == "kilted"))
    assert not {"PYTHONPATH", "ROS_DISTRO"} & set(kilted)
    humble = lanes.environment(lanes.in_mode("humble"))
    assert humble["PYTHONPATH"] == f"{ROOT}/tests/ros_modes:/ros/python"
    assert humble["ROS_MODE"] == "humble"


def test_the_list_names_every_lane():
    tool = [sys.executable, ROOT / "tools" / "test_lanes.py"]
    listed = subprocess.run([*tool, "--list"], capture_output=True, text=True, check=True)
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert {"python3.10", "python3.12", "python3.13", "kilted", "humble", "lyrical"} <= set(names)
    unknown = subprocess.run([*tool, "none"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 2
    assert "no lane none; there are python3.10, " in unknown.stderr
