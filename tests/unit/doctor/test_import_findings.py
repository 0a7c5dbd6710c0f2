# SPDX-License-Identifier: Apache-2.0
"""The doctor must find what keeps the node from starting, whatever it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from perception_node.doctor.findings import MISSING, OK
from perception_node.doctor.import_findings import check_commands, check_node
from perception_node.installing import REPORT
from tests.builders import ROOT

pytest.importorskip("rclpy")
pytestmark = pytest.mark.slow
BREAK = """
import os, sys
class Breaker:
    def find_spec(self, name, *_):
        if name == os.environ["BROKEN"]:
            exec(os.environ["HOW"], {"name": name})
sys.meta_path.insert(0, Breaker())
"""
CHECK = """
import json, os
from perception_node.doctor import import_findings
import_findings.TIMEOUT_S = float(os.environ.get("IMPORT_TIMEOUT_S", "60"))
from perception_node.doctor.import_findings import check_commands, check_node
print(json.dumps([[f.state, f.found, f.advice] for f in (check_node(), check_commands())]))
"""
GONE = "raise ModuleNotFoundError(f'No module named {name!r}', name=name)"


@pytest.fixture
def broken(tmp_path):
    """Return a function that looks at the imports where one module is broken."""
    (tmp_path / "sitecustomize.py").write_text(BREAK)

    def look(module, how=GONE, folder=tmp_path, **variables):
        environment = {**os.environ, "PYTHONPATH": str(folder), "BROKEN": module, "HOW": how}
        result = subprocess.run(
            [sys.executable, "-c", CHECK],
            env={**environment, **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return look


def test_all_can_be_imported_here():
    for check in (check_node, check_commands):
        finding = check()
        assert (finding.state, finding.advice) == (OK, "")


@pytest.mark.parametrize("mode", ["humble", "lyrical"])
def test_all_can_be_imported_where_a_release_lacks_names(broken, mode):
    folder = ROOT / "tests/ros_modes"
    assert [f[0] for f in broken("none", folder=folder, ROS_MODE=mode)] == [OK, OK]


def test_a_release_that_lacks_a_name_is_found(broken):
    """Humble has no rclpy.event_handler; here the module that it has instead is gone as well."""
    how = "raise ImportError(\"cannot import name 'Subscription' from 'rclpy'\", name=name)"
    node, commands = broken("rclpy.subscription", how)
    assert node[0] == MISSING
    assert "cannot import name 'Subscription' from 'rclpy' (perception_node/ros/" in node[1]
    assert node[1].endswith("; perception classify and replay can run")
    assert node[2] == REPORT
    assert commands[0] == OK  # the same cause is reported once


def test_an_error_that_is_no_import_error_is_found(broken):
    """On Python 3.10 a class of two bases was a TypeError."""
    how = "raise TypeError('Multiple inheritance with NamedTuple is not supported')"
    (state, found, _), _ = broken("perception_node.flow.camera", how)
    assert state == MISSING
    assert "cannot start: TypeError: Multiple inheritance" in found
    assert "(perception_node/flow/frame_loop.py, line" in found


def test_an_import_that_ends_the_process_is_found(broken):
    for how, ending in (
        ("import os; os._exit(102)", "ends the process with code 102"),
        ("import os; os.abort()", "kills the process (SIGABRT)"),
    ):
        (state, found, _), _ = broken("perception_node.ros.node", how)
        assert state == MISSING
        assert f"cannot start: its import {ending}" in found


def test_a_missing_package_comes_with_its_command(broken):
    (state, found, advice), _ = broken("diagnostic_msgs")
    assert state == MISSING
    assert "No module named 'diagnostic_msgs'" in found
    assert advice.startswith(("sudo apt install ros-", "source /opt/ros/"))


def test_a_command_that_cannot_be_imported_is_named(broken):
    node, (state, found, advice) = broken("perception_node.cli.play")
    assert node[0] == OK
    assert (state, advice) == (MISSING, REPORT)
    assert "cannot be imported (and " in found
    assert "No module named 'perception_node.cli.play' (perception_node/" in found


def test_what_a_module_prints_is_no_answer(broken):
    how = "print('hello'); print('{}')"
    assert [f[0] for f in broken("perception_node.flow.camera", how)] == [OK, OK]


def test_an_import_that_hangs_is_found(broken):
    how = "import time; time.sleep(60)"
    (state, found, _), _ = broken("perception_node.ros.node", how, IMPORT_TIMEOUT_S="15")
    assert state == MISSING
    assert "cannot start: its import takes more than 15 s" in found


def test_the_package_of_the_doctor_is_looked_at_and_not_that_of_the_folder(tmp_path):
    """With ``python -m``, one in the working directory would come first."""
    other = tmp_path / "perception_node"
    other.mkdir()
    (other / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    code = f"import os, sys; sys.path[0] = {str(ROOT)!r}; os.chdir({str(tmp_path)!r}){CHECK}"
    found = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert [finding[0] for finding in json.loads(found)] == [OK, OK]
