# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says of a Jetson: its JetPack, and whether what is here fits it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import NamedTuple

from perception_node.doctor.findings import OK, OPTIONAL, Finding, output_of, version_of
from perception_node.engines.plans import l4t_release

JETSON_RELEASE = Path("/etc/nv_tegra_release")
FULL_SPEED = "for full speed: sudo nvpmodel -m 0 && sudo jetson_clocks"
TOO_OLD = "install JetPack 6.2 or later (NVIDIA SDK Manager); until then inference runs on the CPU"
REINSTALL = "sudo apt install --reinstall python3-libnvinfer, in an environment without its own"


class JetPack(NamedTuple):
    """A release of JetPack, and what it comes with.

    Attributes:
        l4t: the first Jetson Linux of it, as in ``/etc/nv_tegra_release``.
        name: its number.
        ubuntu: the release of Ubuntu.
        python: the version for which its TensorRT has bindings.
        tensorrt: major and minor version.
        ros: the releases of ROS 2 for that Ubuntu; empty where we do not run.

    """

    l4t: tuple[int, ...]
    name: str
    ubuntu: str
    python: str
    tensorrt: tuple[str, ...]
    ros: str


JETPACKS = (  # NVIDIA's archive of JetPack, and jetson_stats; newest last
    JetPack((0,), "4 or older", "18.04", "3.6", (), ""),
    JetPack((34,), "5", "20.04", "3.8", ("8.4", "8.5"), ""),
    JetPack((36,), "6.0", "22.04", "3.10", ("8.6",), "Humble"),
    JetPack((36, 4), "6.1", "22.04", "3.10", ("10.3",), "Humble"),
    JetPack((36, 4, 3), "6.2", "22.04", "3.10", ("10.3",), "Humble"),
    JetPack((38,), "7.0", "24.04", "3.12", ("10.13",), "Jazzy"),
    JetPack((38, 4), "7.1", "24.04", "3.12", ("10.13",), "Jazzy"),
    JetPack((39,), "7.2", "24.04", "3.12", ("10.16", "11.4"), "Jazzy or Lyrical"),
)
NEWEST_MAJOR = JETPACKS[-1].l4t[0]


def check_jetpack() -> Finding:
    """Look at the JetPack, its Python and TensorRT, and at the power mode."""
    l4t = l4t_release(JETSON_RELEASE)
    if not l4t:
        if JETSON_RELEASE.exists():
            return Finding("JetPack", OPTIONAL, f"{JETSON_RELEASE} does not say which", FULL_SPEED)
        return Finding("JetPack", OK, "not a Jetson")
    jetpack = find_jetpack(l4t)
    if jetpack is None:
        found = f"Jetson Linux {l4t} is newer than all that we know of"
        return Finding("JetPack", OPTIONAL, found, FULL_SPEED)
    found = f"{jetpack.name} (Jetson Linux {l4t}, Ubuntu {jetpack.ubuntu})"
    if not jetpack.ros:
        old = ", ".join([f"Python {jetpack.python}", *(f"TensorRT {v}" for v in jetpack.tensorrt)])
        return Finding("JetPack", OPTIONAL, f"{found}: too old, its {old}", TOO_OLD)
    if misfit := _find_misfit(jetpack):
        return Finding("JetPack", OPTIONAL, f"{found}: {misfit[0]}", misfit[1])
    mode = output_of(["nvpmodel", "-q"]) or "unknown power mode"
    return Finding("JetPack", OK, f"{found} for {jetpack.ros}; {mode}", FULL_SPEED)


def find_jetpack(l4t: str) -> JetPack | None:
    """Return the JetPack of a Jetson Linux such as "36.4.3", None if it is newer than all."""
    version = tuple(int(part) for part in l4t.split(".") if part)
    if version[0] > NEWEST_MAJOR:
        return None
    return [jetpack for jetpack in JETPACKS if jetpack.l4t <= version][-1]


def _find_misfit(jetpack: JetPack) -> tuple[str, str] | None:
    """Return what here is not what this JetPack's TensorRT needs, and what to do about it."""
    python = ".".join(platform.python_version_tuple()[:2])
    if python != jetpack.python:
        problem = f"its TensorRT is for Python {jetpack.python}, this is {python}"
        return problem, "make setup PYTHON=/usr/bin/python3"
    found = version_of("tensorrt")
    if found and ".".join(found.split(".")[:2]) not in jetpack.tensorrt:
        problem = f"it comes with TensorRT {' or '.join(jetpack.tensorrt)}, here is {found}"
        return problem, REINSTALL
    return None
