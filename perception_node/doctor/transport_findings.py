# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says about the way of camera frames between processes and hosts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from perception_node.doctor.fastdds_profile import DEFAULT_SEGMENT_BYTES, read_segment_bytes
from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding, read_text
from perception_node.doctor.ros_findings import find_rclpy_failure
from perception_node.errors import ConfigError
from perception_node.system.resources import FAST_DDS_PROFILE, find_resource

if TYPE_CHECKING:
    from perception_node.ros.compat import FastDds

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the place, not a file of ours
SHM_NEEDED_MIB = 256
SEGMENT_NEEDED_BYTES = 4 << 20
SOCKET_SETTINGS = Path("/proc/sys/net/core")
SOCKET_BUFFER_NEEDED_BYTES = 4 << 20
NO_ROS = "unknown, rclpy cannot be used"
LOADED_FILES = Path("/proc/self/maps")


def check_middleware(loaded: Path = LOADED_FILES) -> Finding:
    """Look at the RMW and at the Fast DDS that it has loaded."""
    ros = find_ros(loaded)
    if ros is None:
        return Finding("middleware", MISSING, NO_ROS, "see ROS 2 and node")
    found = f"{ros.middleware}, Fast DDS {ros.fast_dds.version}" if ros.fast_dds else ""
    return Finding("middleware", OK, found or ros.middleware)


def check_profile(loaded: Path = LOADED_FILES) -> Finding:
    """Look at the Fast DDS profile that the user's shell gives to camera drivers."""
    ros = find_ros(loaded)
    if ros is None:
        return Finding("DDS profile", OPTIONAL, NO_ROS, "see ROS 2 and node")
    if ros.fast_dds is None:
        return Finding("DDS profile", OK, f"{ros.middleware} needs none")
    version, variable = ros.fast_dds
    chosen = {name: os.environ[name] for name in ros.variables if os.environ.get(name)}
    if not chosen:
        return _judge_no_profile(variable)
    other, file = next(iter(chosen.items()))
    if variable not in chosen:
        found = f"{other} is set, but Fast DDS {version} reads {variable}"
        return Finding("DDS profile", OPTIONAL, found, f"export {variable}={file}")
    return _judge_profile(chosen[variable], variable)


def _judge_no_profile(variable: str) -> Finding:
    builtin = os.environ.get("FASTDDS_BUILTIN_TRANSPORTS")
    if builtin and os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST":
        found = (
            f"FASTDDS_BUILTIN_TRANSPORTS={builtin} has no effect beside "
            "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
        )
        return Finding("DDS profile", OPTIONAL, found, f"instead: {export_ours(variable)}")
    return Finding("DDS profile", OK, "none in this shell; our own commands use theirs")


def _judge_profile(file: str, variable: str) -> Finding:
    default = f"{DEFAULT_SEGMENT_BYTES >> 10} KiB"
    try:
        size = read_segment_bytes(Path(file))
    except ConfigError as error:
        advice = f"so Fast DDS keeps {default}, too little for frames: {export_ours(variable)}"
        return Finding("DDS profile", OPTIONAL, str(error), advice)
    if size < SEGMENT_NEEDED_BYTES:
        found = f"{file}: segment_size {size >> 10} KiB, camera frames are lost"
        advice = f"make it {SEGMENT_NEEDED_BYTES} or more, or: {export_ours(variable)}"
        return Finding("DDS profile", OPTIONAL, found, advice)
    return Finding("DDS profile", OK, f"{file}, segments of {size >> 20} MiB")


def export_ours(variable: str) -> str:
    """Return the command that gives our profile to what is started from a shell."""
    return f"export {variable}={find_resource(FAST_DDS_PROFILE)}"


def check_socket_buffers(settings: Path = SOCKET_SETTINGS) -> Finding:
    """Look at the room that the kernel has for frames that come over the network.

    ``rmem_default`` is what a socket gets that asks for nothing, ``rmem_max`` what it may ask for.
    """
    sizes = {name: read_text(settings / name) for name in ("rmem_max", "rmem_default")}
    known = {name: int(size) for name, size in sizes.items() if size and size.isdecimal()}
    if not known:
        return Finding("UDP buffers", OK, f"unknown, {settings} does not say (in a container)")
    found = ", ".join(f"{name} {size >> 10} KiB" for name, size in known.items())
    small = [name for name, size in known.items() if size < SOCKET_BUFFER_NEEDED_BYTES]
    if not small:
        return Finding("UDP buffers", OK, found)
    values = " ".join(f"net.core.{name}={SOCKET_BUFFER_NEEDED_BYTES}" for name in small)
    advice = f"for a camera on another host: sudo sysctl -w {values}"
    return Finding("UDP buffers", OPTIONAL, found, advice)


def check_shared_memory(folder: Path = SHARED_MEMORY) -> Finding:
    """Look at the room that camera frames have between processes."""
    advice = "mount a tmpfs there; in Docker: --ipc=host or --shm-size=1g"
    if not folder.is_dir():
        return Finding("shared memory", MISSING, f"no {folder}", advice)
    free_mib = shutil.disk_usage(folder).free >> 20
    found = f"{free_mib} MiB free in {folder}"
    if free_mib < SHM_NEEDED_MIB:
        return Finding("shared memory", OPTIONAL, found, advice)
    return Finding("shared memory", OK, found)


class Ros(NamedTuple):
    """The middleware's name, its Fast DDS if it is one, and the variables of all Fast DDS."""

    middleware: str
    fast_dds: FastDds | None
    variables: tuple[str, ...]


def find_ros(loaded: Path = LOADED_FILES) -> Ros | None:
    """Load the middleware; None without an rclpy that can be used."""
    if find_rclpy_failure():
        return None
    try:
        from perception_node.ros.compat import (
            PROFILE_VARIABLES,
            find_fast_dds,
            find_middleware,
        )
    except ImportError:
        return None
    return Ros(find_middleware(), find_fast_dds(loaded), tuple(PROFILE_VARIABLES.values()))
