# SPDX-License-Identifier: Apache-2.0
"""The report of ``perception doctor --json``: what people attach to a report of a problem.

``doctor.schema.json`` says what is in it. It names no host and no user.
"""

from __future__ import annotations

import os
import platform
import re
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node import __version__
from perception_node.doctor.delivery_findings import find_delivery
from perception_node.doctor.findings import MISSING, Finding, version_of
from perception_node.doctor.jetpack_findings import find_jetpack
from perception_node.doctor.ros_findings import rclpy_version
from perception_node.doctor.transport_findings import find_ros
from perception_node.engines.plans import l4t_release
from perception_node.engines.tensorrt.cuda.gpu import find_gpu
from perception_node.installing import install_missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.untyped import Json

SCHEMA_VERSION = 1
LIBRARIES = (
    "numpy",
    "onnxruntime",
    "rosbags",
    "jsonschema",
    "rich",
    "onnx",
    "torch",
    "pycuda",
    "flask",
    "waitress",
)
VARIABLES = (
    "ROS_DISTRO",
    "ROS_DOMAIN_ID",
    "RMW_IMPLEMENTATION",
    "ROS_AUTOMATIC_DISCOVERY_RANGE",
    "ROS_LOCALHOST_ONLY",
    "ROS_SECURITY_ENABLE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
    "RMW_FASTRTPS_USE_QOS_FROM_XML",
    "RMW_FASTRTPS_PUBLICATION_MODE",
    "CUDA_VISIBLE_DEVICES",
)
# They name hosts: that they are set is enough.
SECRET_VARIABLES = (
    "ROS_DISCOVERY_SERVER",
    "ROS_STATIC_PEERS",
    "CYCLONEDDS_URI",
    "ZENOH_CONFIG_OVERRIDE",
)
USERS_FOLDER = re.compile(r"(?<![^\s=:'\"(])/(home|media|run/media)/[^/\s:'\")]+")


def make_report(findings: dict[str, Finding]) -> dict[str, Any]:
    """Return the report as plain values; ``findings`` are by id."""
    lacks = [name for f in findings.values() if f.state == MISSING for name in f.lacks]
    images = find_delivery()
    report = {
        "schema": SCHEMA_VERSION,
        "perception_node": __version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "complete": all(finding.state != MISSING for finding in findings.values()),
        "install": install_missing(lacks),
        "machine": _read_machine(),
        "images": None if "problem" in images else images,
        "findings": [
            {
                "id": name,
                "subject": finding.subject,
                "state": finding.state,
                "found": finding.found,
                "advice": finding.advice,
            }
            for name, finding in findings.items()
        ],
    }
    anonymous: dict[str, Any] = hide_names(report)
    return anonymous


def hide_names(value: Json) -> Json:
    """Return a value in whose texts the folders of users are ``~`` or ``/home/*``."""
    if isinstance(value, dict):
        return {key: hide_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hide_names(item) for item in value]
    if not isinstance(value, str):
        return value
    home = re.escape(str(Path.home()).rstrip("/"))
    short = re.sub(rf"(?<![^\s=:'\"(]){home}(?![^/\s:'\")])", "~", value) if home else value
    return USERS_FOLDER.sub(r"/\1/*", short)


def _read_machine() -> dict[str, Any]:
    l4t = l4t_release()
    jetpack, gpu, ros = find_jetpack(l4t) if l4t else None, find_gpu(), find_ros()
    fast_dds = ros.fast_dds if ros else None
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "os": _try(lambda: platform.freedesktop_os_release()["PRETTY_NAME"]),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ros": os.environ.get("ROS_DISTRO") if ros else None,
        "rclpy": rclpy_version() or None,
        "rmw": ros.middleware if ros else None,
        "fast_dds": fast_dds.version if fast_dds else None,
        "l4t": l4t or None,
        "jetpack": jetpack.name if jetpack else None,
        "gpu": gpu.name if gpu else None,
        "tensorrt": version_of("tensorrt") or None,
        "libraries": {
            "opencv": _try(lambda: str(import_module("cv2").__version__)),
            **{name: version_of(name) or None for name in LIBRARIES},
        },
        "environment": {
            **{name: os.environ[name] for name in VARIABLES if name in os.environ},
            **{name: "set" for name in SECRET_VARIABLES if os.environ.get(name)},
        },
    }


def _try(read: Callable[[], str]) -> str | None:
    try:
        return read()
    except Exception:  # noqa: BLE001 - a damaged package raises anything; findings say why
        return None
