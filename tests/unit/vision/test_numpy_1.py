# SPDX-License-Identifier: Apache-2.0
"""NumPy 1 stays where OpenCV and ROS are compiled against it: Ubuntu 22.04 and 24.04."""

from __future__ import annotations

import re
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

from perception_node.installing import MissingPackage, install_command
from tests.builders import ROOT

UBUNTU = {"3.10": "1", "3.12": "1", "3.14": "2"}  # Python of 22.04, 24.04, 26.04: NumPy


@pytest.mark.parametrize("version", UBUNTU)
def test_the_lock_beside_a_sourced_ros_has_the_numpy_of_its_ubuntu(version):
    lines = (ROOT / "requirements/ros-sourced.txt").read_text().splitlines()
    (found,) = (
        line
        for line in (
            Requirement(text.rstrip("\\ ")) for text in lines if text.startswith("numpy=")
        )
        if line.marker is None or line.marker.evaluate(environment(version))
    )
    assert str(found.specifier).startswith(f"=={UBUNTU[version]}.")


def test_the_lock_of_jetpack_6_has_the_numpy_of_ubuntu_22_04():
    assert re.search(
        r"^numpy==1\.21\.5 ", (ROOT / "requirements/jetpack6.txt").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("version", UBUNTU)
def test_no_extra_brings_another(version):
    found = [Requirement(text) for text in requires("perception_node")]
    extras = {str(each.marker).rpartition("extra == ")[2] for each in found if each.marker}
    for extra in extras:
        limits = {
            str(each.specifier)
            for each in found
            if each.name == "numpy" and each.marker.evaluate(environment(version, extra))
        }
        assert ("<2" in limits) is (UBUNTU[version] == "1"), extra


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "pycuda", "rosbags"])
@pytest.mark.parametrize("numpy", ["1.21.5", "2.5.5"])
def test_advice_keeps_it(monkeypatch, package, numpy):
    monkeypatch.setattr("importlib.metadata.version", lambda _: numpy)
    command = f"pip install {package}" + (" 'numpy<2'" if numpy < "2" else "")
    assert install_command(package) == command
    error = MissingPackage(ModuleNotFoundError("gone", name=package))
    assert str(error) == f"gone; run: {command} (in a checkout: make setup)"


def environment(version, extra=""):
    extra = extra.strip("'\"")
    return {"python_version": version, "python_full_version": f"{version}.0", "extra": extra}
