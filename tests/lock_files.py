# SPDX-License-Identifier: Apache-2.0
"""What is locked, and which wheels it has for arm64 (tests/data/arm64_wheels.json)."""

from __future__ import annotations

import json
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from tests.builders import ROOT

LOCKS = {file.stem: file for file in sorted((ROOT / "requirements").glob("*.txt"))}
WHEELS = json.loads((ROOT / "tests/data/arm64_wheels.json").read_text())["packages"]
GLIBC = 35  # 2.35: Ubuntu 22.04, the oldest that a supported ROS runs on


class Locked(NamedTuple):
    """One package of a lock file."""

    requirement: Requirement
    hashes: frozenset[str]

    @property
    def key(self):
        return f"{self.requirement.name}{self.requirement.specifier}"


def read_lock(text):
    """Return the packages of a lock file."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [line.split(" --hash=sha256:") for line in lines if line and line[0] not in " #"]
    return [
        Locked(Requirement(words[0]), frozenset(word.strip() for word in words[1:]))
        for words in found
    ]


def locked_on_arm64(lock, minor):
    """Return what a lock file installs on Linux on arm64 under Python 3.``minor``."""
    environment = {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "platform_machine": "aarch64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.0",
    }
    packages = read_lock(LOCKS[lock].read_text())
    markers = [(package, package.requirement.marker) for package in packages]
    return [package for package, marker in markers if not marker or marker.evaluate(environment)]


def tags_on_arm64(minor):
    """Return the tags of all wheels that run there."""
    platforms = [f"manylinux_2_{glibc}_aarch64" for glibc in range(GLIBC, 16, -1)]
    platforms += ["manylinux2014_aarch64"]
    own = cpython_tags((3, minor), platforms=platforms)
    return {*own, *compatible_tags((3, minor), interpreter=f"cp3{minor}", platforms=platforms)}


def has_wheel(key, tags):
    """Return whether a package has a wheel with one of these tags."""
    return any(parse_wheel_filename(name)[3] & tags for name in WHEELS[key])
