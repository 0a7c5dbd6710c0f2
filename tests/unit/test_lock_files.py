# SPDX-License-Identifier: Apache-2.0
"""Every locked package can be installed on arm64, or the set-up says what is missing."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.builders import ROOT
from tests.lock_files import (
    LOCKS,
    WHEELS,
    has_wheel,
    locked_on_arm64,
    read_lock,
    tags_on_arm64,
)

PURE_SOURCE = {"empy"}  # it comes as source, but needs no compiler
COMPILED_IN_IMAGES = {"pycuda"}  # deploy/robot.Containerfile has the compiler
MINORS = (10, 11, 12, 13, 14)
CASES = [
    (lock, minor) for lock in LOCKS for minor in MINORS if lock != "jetpack6" or minor == 10
]  # Ubuntu 22.04, so JetPack 6, has Python 3.10


@pytest.fixture(scope="module")
def arm64():
    file = ROOT / "tools/arm64.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def as_source(arm64):
    return PURE_SOURCE | set(arm64.COMPILED["aarch64"])


def without_wheel(lock, minor):
    tags = tags_on_arm64(minor)
    packages = locked_on_arm64(lock, minor)
    return {package.requirement.name for package in packages if not has_wheel(package.key, tags)}


def test_the_lock_files_are_read():
    assert {"build", "ros-sourced", "ros-jazzy", "serve"} <= set(LOCKS)
    packages = {package.requirement.name: package for package in locked_on_arm64("serve", 12)}
    assert {"numpy", "onnxruntime", "opencv-python-headless"} <= set(packages)
    assert len(packages["numpy"].hashes) > 20
    assert not {"pywin32", "tomli"} & set(packages)  # for Windows, and for Python 3.10


def test_the_table_has_what_is_locked_and_no_more():
    """Otherwise: make lock."""
    locked = {package.key for file in LOCKS.values() for package in read_lock(file.read_text())}
    assert locked == set(WHEELS)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_table_is_about_the_locked_files(lock):
    for package in read_lock(LOCKS[lock].read_text()):
        assert package.hashes >= set(WHEELS[package.key].values()), package.key


@pytest.mark.parametrize(("lock", "minor"), CASES)
def test_what_is_locked_has_a_wheel_for_arm64(lock, minor, as_source):
    missing = {name for name in without_wheel(lock, minor) if not name.startswith("ros-")}
    assert missing - COMPILED_IN_IMAGES <= as_source


@pytest.mark.parametrize("minor", MINORS)
def test_what_comes_as_source_is_known_to_the_set_up(minor, as_source):
    assert without_wheel("ros-sourced", minor) == as_source


def test_the_set_up_is_told_what_compiling_needs(arm64, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: "/nowhere")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert arm64.missing_compiler() == {}
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    python = f"python3.{sys.version_info[1]}-dev"
    assert arm64.missing_compiler() == {
        "gcc (to compile hdrhistogram)": "gcc",
        "Python.h (to compile hdrhistogram)": python,
    }


def test_what_is_compiled_finds_its_build_tools():
    """pip builds without isolation: what builds a package must be installed before it."""
    assert {"pbr", "setuptools", "wheel"} <= {
        package.requirement.name for package in locked_on_arm64("build", 12)
    }


def test_the_wheels_of_ros_are_for_other_machines():
    """If this fails, set-up can offer ROS as wheels on arm64 too."""
    assert "ros-rclpy" in without_wheel("ros-jazzy", 12)


def test_a_missing_wheel_is_noticed():
    numpy = next(p for p in locked_on_arm64("serve", 12) if p.requirement.name == "numpy")
    assert has_wheel(numpy.key, tags_on_arm64(12))
    assert not has_wheel(numpy.key, tags_on_arm64(9))


@pytest.mark.parametrize(
    ("system", "advice"),
    [
        ('ID=ubuntu\nVERSION_ID="22.04"\n', "install ROS 2 Humble, then: source /opt/ros/humble/"),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', "install ROS 2 Jazzy, then: source /opt/ros/jazzy/"),
        ("ID=debian\nVERSION_ID=12\n", "Humble on 22.04, Jazzy on 24.04, Lyrical on 26.04"),
    ],
)
def test_the_set_up_names_the_ros_of_this_ubuntu(arm64, system, advice, tmp_path, monkeypatch):
    (tmp_path / "os-release").write_text(system)
    monkeypatch.setattr(arm64, "OS_RELEASE", tmp_path / "os-release")
    assert advice in arm64.no_ros_wheels()
    assert "\n" not in arm64.no_ros_wheels()
