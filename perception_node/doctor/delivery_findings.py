# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says of the way of camera images to the node: it tries it out."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding, once, run_module
from perception_node.doctor.transport_findings import NO_ROS, export_ours, find_ros

TIMEOUT_S = 60.0  # it bounds itself to less; not where the middleware hangs
SHARE_NEEDED = 0.8  # of the images; with segments of 512 KiB most are lost, but not all


def check_images() -> Finding:
    """Tell whether images of another process reach this machine's node, and how."""
    found = find_delivery()
    if "problem" in found:
        problem, _, advice = found["problem"].partition("; run: ")
        return Finding("images", MISSING, problem, advice or "see node")
    text = f"as {found['delivery']}: {_describe(found['node'], found['sent'])}"
    if _is_enough(found["node"], found["sent"]):
        return Finding("images", OK, text)
    state = OPTIONAL if any(found["node"].values()) else MISSING
    return Finding("images", state, text, _advise())


def check_drivers() -> Finding:
    """Tell whether images arrive of a camera's driver that is started from this shell."""
    found = find_delivery()
    if "problem" in found:
        return Finding("drivers", OPTIONAL, "not tried", "see images")
    shell = found["shell"]
    if shell is None:
        builtin = f"FASTDDS_BUILTIN_TRANSPORTS={os.environ.get('FASTDDS_BUILTIN_TRANSPORTS')}"
        return Finding("drivers", OK, f"not tried, {builtin} needs a network")
    text = f"started from this shell: {_describe(shell, found['sent'])}"
    if _is_enough(shell, found["sent"]):
        return Finding("drivers", OK, text)
    return Finding("drivers", OPTIONAL, text, _advise())


@once
def find_delivery() -> dict[str, Any]:
    """Return what ``doctor/loopback.py`` prints, in a process that may crash or hang."""
    if find_ros() is None:
        return {"problem": f"{NO_ROS}; run: see ROS 2 and node"}
    try:
        child = run_module("perception_node.doctor.loopback", TIMEOUT_S)
        found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"problem": f"not tried, the middleware hangs for {TIMEOUT_S:g} s"}
    except (IndexError, ValueError):
        last = (child.stderr.strip() or f"code {child.returncode}").splitlines()[-1]
        return {"problem": f"not tried, {last}"}
    return found


def _describe(counts: dict[str, int | None], sent: int) -> str:
    """Say how many images of each size have arrived."""
    if all(count is None for count in counts.values()):
        return "two processes do not find each other"
    parts = [f"{count or 0} of {sent} at {size}" for size, count in counts.items()]
    return f"{', '.join(parts)} arrive"


def _is_enough(counts: dict[str, int | None], sent: int) -> bool:
    return all((count or 0) >= SHARE_NEEDED * sent for count in counts.values())


def _advise() -> str:
    ros = find_ros()
    if ros is None or ros.fast_dds is None:
        return "to try another middleware: RMW_IMPLEMENTATION=rmw_fastrtps_cpp perception doctor"
    return f"before a camera's driver starts: {export_ours(ros.fast_dds.variable)}"
