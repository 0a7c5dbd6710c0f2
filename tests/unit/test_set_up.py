# SPDX-License-Identifier: Apache-2.0
"""What the set-up accepts, what it locks, and the ROS that its environments show."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions

import pytest

from tests.builders import ROOT

SOURCED = {"AMENT_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "ROS_DISTRO"}
LOCKS = sorted(file.stem for file in (ROOT / "requirements").glob("*.txt"))


@pytest.fixture
def machine(monkeypatch):
    """The part of the set-up that looks at the machine, on which no ROS is sourced."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    for variable in SOURCED:
        monkeypatch.delenv(variable, raising=False)
    import setup_machine

    return setup_machine


@pytest.fixture
def source(monkeypatch, tmp_path):
    """Return a function that sources a ROS as far as Python sees it; it returns its rclpy."""

    def do_source(folder=tmp_path):
        (folder / "rclpy.py").write_text("")
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
        monkeypatch.setenv("ROS_DISTRO", "lyrical")
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(folder))
        monkeypatch.delitem(sys.modules, "rclpy", raising=False)
        return str(folder / "rclpy.py")

    return do_source


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13)])
def test_a_python_with_wheels_is_accepted(machine, monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    machine.check_python()


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ((3, 9), "Python 3.10 to 3.13 is needed, or 3.14 where ROS is sourced"),
        ((3, 14), "source a ROS that was built for it"),
        ((3, 15), "Python 3.10 to 3.13 is needed, or 3.14 where ROS is sourced"),
    ],
)
def test_a_python_without_wheels_is_refused_in_one_line(machine, monkeypatch, version, text):
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    with pytest.raises(machine.Problem, match=text) as problem:
        machine.check_python()
    assert "\n" not in str(problem.value)
    assert "make PYTHON=" in str(problem.value)


def test_python_3_14_is_accepted_where_a_ros_is_sourced(machine, source, monkeypatch):
    assert machine.sourced("rclpy") == ""
    assert machine.sourced("rclpy") != source() == machine.sourced("rclpy")
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    machine.check_python()


def test_an_environment_of_the_set_up_is_no_sourced_ros(machine, source, tmp_path):
    packages = tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "set-up.json").write_text("{}")
    source(packages)
    assert machine.sourced("rclpy") == ""


def test_an_arm64_machine_without_ros_is_told_what_works_there(machine, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(machine.Problem, match="Linux on aarch64") as problem:
        machine.check_machine()
    assert "without ROS, perception classify and perception serve run" in str(problem.value)


def test_an_arm64_machine_with_ros_is_asked_for_a_compiler(machine, source, monkeypatch):
    source()
    monkeypatch.setattr(machine, "succeeds", lambda *_command: True)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(
        machine.Problem, match=r"gcc \(to compile hdrhistogram\).*apt install.* gcc"
    ):
        machine.check_machine()


def pins(lock):
    """Return what a lock file pins: package and marker to version."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    found = re.findall(r"^([\w.-]+)==(\S+)((?: ; [^\\]+)?)", text, re.MULTILINE)
    return {(name, marker.strip()): version for name, version, marker in found}


def test_the_releases_get_the_same_packages_but_for_ros():
    jazzy, kilted = (
        {pin for pin in pins(f"ros-{release}").items() if not pin[0][0].startswith("ros-")}
        for release in ("jazzy", "kilted")
    )
    assert len(jazzy) > 50
    assert jazzy == kilted


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_has_hashes_and_no_address_of_an_index(lock):
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert pins(lock)
    assert len(re.findall(r"^\S+==.*\\\n +--hash=", text, re.MULTILINE)) == len(pins(lock))
    assert "://" not in text


def run_python(code, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in SOURCED}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env={**clean, **environment}, capture_output=True, check=True)
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def release():
    names = {distribution.metadata["Name"] for distribution in distributions()}
    found = [name.split("-")[1] for name in names if re.fullmatch("ros-[a-z]+-rclpy", name)]
    if not found:
        pytest.skip("ROS did not come as wheels")
    return found[0]


@pytest.mark.parametrize("before", [{}, {"ROS_DISTRO": "humble"}])
def test_the_release_is_that_of_the_wheels(release, before):
    variables = run_python("import os, json; print(json.dumps(dict(os.environ)))", **before)
    assert variables["ROS_DISTRO"] == release
    assert variables["AMENT_PREFIX_PATH"] == sys.prefix


def test_a_sourced_release_keeps_its_name(release, tmp_path):
    assert release != "lyrical"
    variables = run_python(
        "import os, json; print(json.dumps(dict(os.environ)))",
        ROS_DISTRO="lyrical",
        AMENT_PREFIX_PATH=str(tmp_path),
    )
    assert variables["ROS_DISTRO"] == "lyrical"
    assert variables["AMENT_PREFIX_PATH"] == f"{tmp_path}:{sys.prefix}"


@pytest.mark.usefixtures("release")
def test_a_child_of_another_environment_leaves_that_one(tmp_path):
    (tmp_path / "set-up.json").write_text("{}")
    variables = run_python(
        "import os, json, rclpy; print(json.dumps(dict(os.environ)))",
        ROS_DISTRO="lyrical",
        AMENT_PREFIX_PATH=str(tmp_path),
        LD_LIBRARY_PATH=f"{tmp_path}/lib:{tmp_path}-beside",
    )
    assert variables["ROS_DISTRO"] != "lyrical"
    assert variables["AMENT_PREFIX_PATH"] == sys.prefix
    libraries = variables["LD_LIBRARY_PATH"].split(":")
    assert f"{tmp_path}/lib" not in libraries
    assert libraries[:2] == [f"{tmp_path}-beside", f"{sys.prefix}/lib"]


def test_a_python_that_only_pyenv_knows_is_found(tmp_path):
    shim = tmp_path / "shims" / "python3.99"
    real = tmp_path / "versions" / "3.99.1" / "bin" / "python3.99"
    for file, script in ((shim, "exit 127"), (real, f'exec "{sys.executable}" "$@"')):
        file.parent.mkdir(parents=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
    environment = {"PATH": f"{shim.parent}:{os.environ['PATH']}", "PYENV_ROOT": str(tmp_path)}
    finder = [ROOT / "tools" / "find_python.sh", "python3.99"]
    found = subprocess.run(
        finder, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == sys.executable

    real.unlink()
    missing = subprocess.run(
        finder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1
    assert missing.stderr.startswith("set-up: python3.99 is missing: sudo apt install python3.99")
