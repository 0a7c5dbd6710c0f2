# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform

import pytest

from perception_node.doctor import jetpack_findings
from perception_node.doctor.findings import OK, OPTIONAL, Finding
from perception_node.doctor.jetpack_findings import check_jetpack, find_jetpack
from tests.builders import put_command


@pytest.fixture
def jetson(monkeypatch, tmp_path):
    """Return a function that makes this machine look like a Jetson."""

    def become(release, revision, python="3.10.12", tensorrt=""):
        line = f"# R{release} (release), REVISION: {revision}, GCID: 1, BOARD: generic\n"
        (tmp_path / "nv_tegra_release").write_text(line)
        monkeypatch.setattr(jetpack_findings, "JETSON_RELEASE", tmp_path / "nv_tegra_release")
        monkeypatch.setattr(platform, "python_version_tuple", lambda: tuple(python.split(".")))
        monkeypatch.setattr(jetpack_findings, "version_of", lambda _package: tensorrt)
        monkeypatch.setenv("PATH", str(tmp_path))
        return check_jetpack()

    return become


# From the table of jetson_stats.
@pytest.mark.parametrize(
    ("l4t", "name"),
    [
        ("32.7.6", "4 or older"),
        ("34.1.1", "5"),
        ("35.6.4", "5"),
        ("36.3.0", "6.0"),
        ("36.4.0", "6.1"),
        ("36.4.3", "6.2"),
        ("36.5.0", "6.2"),
        ("38.2.1", "7.0"),
        ("38.4.0", "7.1"),
        ("39.2.0", "7.2"),
    ],
)
def test_the_jetpack_of_a_jetson_linux(l4t, name):
    assert find_jetpack(l4t).name == name


def test_a_jetpack_of_the_future(jetson):
    assert find_jetpack("40.1.0") is None
    assert jetson(40, "1.0").found == "Jetson Linux 40.1.0 is newer than all that we know of"


def test_no_jetson(monkeypatch, tmp_path):
    monkeypatch.setattr(jetpack_findings, "JETSON_RELEASE", tmp_path / "nv_tegra_release")
    assert check_jetpack() == Finding("JetPack", OK, "not a Jetson")
    (tmp_path / "nv_tegra_release").write_text("nonsense")
    assert check_jetpack().state == OPTIONAL


def test_a_jetson_that_fits_and_its_power_mode(jetson, tmp_path):
    finding = jetson(36, "4.3", tensorrt="10.3.0")
    found = "6.2 (Jetson Linux 36.4.3, Ubuntu 22.04) for Humble; unknown power mode"
    assert (finding.state, finding.found) == (OK, found)
    put_command(tmp_path, "nvpmodel", "echo NV Power Mode: MAXN; echo 0")
    finding = jetson(39, "2.0", "3.12.3", "10.16.2")
    assert (finding.state, finding.found) == (
        OK,
        "7.2 (Jetson Linux 39.2.0, Ubuntu 24.04) for Jazzy or Lyrical; NV Power Mode: MAXN 0",
    )


def test_what_does_not_fit_a_jetpack_comes_with_a_command(jetson):
    finding = jetson(36, "4.3", python="3.11.7")
    assert finding.state == OPTIONAL
    assert finding.found.endswith(": its TensorRT is for Python 3.10, this is 3.11")
    assert finding.advice == "make setup PYTHON=/usr/bin/python3"
    finding = jetson(36, "4.3", tensorrt="10.16.2")
    assert finding.found.endswith(": it comes with TensorRT 10.3, here is 10.16.2")
    assert finding.advice.startswith("sudo apt install --reinstall python3-libnvinfer")


def test_a_jetpack_that_is_too_old(jetson):
    finding = jetson(35, "4.1")
    assert finding.state == OPTIONAL
    assert "5 (Jetson Linux 35.4.1, Ubuntu 20.04): too old, its Python 3.8" in finding.found
    assert finding.advice.startswith("install JetPack 6.2 or later")
