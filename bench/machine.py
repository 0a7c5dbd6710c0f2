# SPDX-License-Identifier: Apache-2.0
"""What a benchmark ran on, and why its figures may not be trusted."""

from __future__ import annotations

import hashlib
import platform
import time
from importlib import import_module, metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from perception_node import __version__
from perception_node.bench.hardware import read_hardware
from perception_node.bench.levels.node_run import HIGHEST_STOLEN_SHARE
from perception_node.bench.process_watch import StolenTime
from perception_node.bench.reporting.durations import Durations
from perception_node.doctor.transport_findings import check_middleware
from perception_node.engines.tensorrt.cuda.gpu import find_gpu
from perception_node.system.files import read_regular_file
from perception_node.system.resources import FAST_DDS_PROFILE, find_resource

SLEEP_NS = 1_000_000
READS = 20_000


class Noise(NamedTuple):
    """What the clock and the scheduler add to every measurement.

    Attributes:
        clock_resolution_ns: smallest step of the steady clock that was seen.
        clock_read_ns: what one look at it costs.
        sleep_late_p50_ms: how late a sleep of 1 ms ends.
        sleep_late_p99_ms: the same.
        sleep_late_max_ms: the same, at worst.
        sleeps: how many there were.

    """

    clock_resolution_ns: int
    clock_read_ns: float
    sleep_late_p50_ms: float
    sleep_late_p99_ms: float
    sleep_late_max_ms: float
    sleeps: int

    def describe(self) -> str:
        """Return two lines for a terminal."""
        return (
            f"clock: steps of {self.clock_resolution_ns} ns, {self.clock_read_ns:.0f} ns a look\n"
            f"sleeps of 1 ms end late by {self.sleep_late_p50_ms:.3f} ms (p50), "
            f"{self.sleep_late_p99_ms:.3f} (p99), {self.sleep_late_max_ms:.3f} (max of "
            f"{self.sleeps})"
        )


def measure_noise(seconds: float = 1.0) -> Noise:
    """Look at the clock many times, then sleep for a millisecond again and again.

    Args:
        seconds: how long to sleep, all in all; at least once.

    """
    resolution_ns, read_ns = _measure_clock()
    lateness = Durations()
    end_ns = time.monotonic_ns() + int(seconds * 1e9)
    now_ns = 0
    while now_ns < end_ns:
        due_ns = time.monotonic_ns() + SLEEP_NS
        time.sleep(SLEEP_NS / 1e9)
        now_ns = time.monotonic_ns()
        lateness.add(now_ns - due_ns)
    late = lateness.summarize()
    return Noise(resolution_ns, read_ns, late.p50_ms, late.p99_ms, late.max_ms, late.count)


def _measure_clock() -> tuple[int, float]:
    """Return the smallest step that was seen and the mean cost of a look, in nanoseconds."""
    looks = [time.monotonic_ns() for _ in range(READS)]
    steps = [b - a for a, b in pairwise(looks) if b > a]
    return min(steps), (looks[-1] - looks[0]) / (READS - 1)


ROOT = Path("/")
LOAD_PER_CORE = 0.5
MAX_PROFILE_BYTES = 1 << 20
NEAR_C = 5.0  # this close to its limit a zone may reach it within a run
CLOCKS = "sudo cpupower frequency-set -g performance (Jetson: sudo jetson_clocks)"


def read_machine(root: Path = ROOT) -> dict[str, Any]:
    """Return hardware, state and versions as plain values, without names of host, user or path.

    Points Fast DDS at our profile where the user chose none, as every session does.

    Args:
        root: where ``proc`` and ``sys`` are.

    """
    return {**read_hardware(root), **_read_gpu(), **_read_profile(), "versions": read_versions()}


def read_versions() -> dict[str, str]:
    """Return the versions of all that runs in a frame's way; what is not installed is left out."""
    versions = {"perception_node": __version__, "Python": platform.python_version()}
    for name, module in (("NumPy", "numpy"), ("OpenCV", "cv2"), ("ONNX Runtime", "onnxruntime")):
        versions[name] = str(import_module(module).__version__)
    for name in ("tensorrt", "rclpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**versions, **_read_middleware()}


def find_warnings(before: dict[str, Any], after: dict[str, Any] | None = None) -> list[str]:
    """Return why figures from this machine are not to be trusted, one line each.

    Args:
        before: ``read_machine`` before the first run.
        after: the same after the last one; None while that is not over.

    """
    latest = after or before
    found = [
        _judge_governor(before),
        _judge_load(before),
        _judge_limit(before),
        _judge_temperature(latest),
        _judge_throttling(before, latest),
        _judge_stolen_time(before, after),
    ]
    return [line for line in found if line]


def _read_middleware() -> dict[str, str]:
    finding = check_middleware()
    return {"middleware": finding.found} if finding.state == "ok" else {}


def _read_gpu() -> dict[str, str]:
    gpu = find_gpu()
    return {} if gpu is None else {"gpu": gpu.name}


def _read_profile() -> dict[str, str]:
    """Say which Fast DDS profile is in use, by its content."""
    try:
        from perception_node.ros.transport import use_large_frames  # noqa: PLC0415 - needs ROS

        content = read_regular_file(Path(use_large_frames()), MAX_PROFILE_BYTES)
    except (ImportError, OSError):  # no ROS, another middleware, or no such file
        return {}
    ours = find_resource(FAST_DDS_PROFILE)
    whose = "shipped" if content == ours.read_bytes() else "own"
    sha256 = hashlib.sha256(content).hexdigest()
    return {"fastdds_profile": whose, "fastdds_profile_sha256": sha256}


def _judge_governor(machine: dict[str, Any]) -> str:
    governor = machine.get("governor", "performance")
    if governor == "performance" or machine.get("cpu_clocks_fixed"):
        return ""
    return f"the CPU governor is {governor}, so the clock follows the load; run: {CLOCKS}"


def _judge_load(machine: dict[str, Any]) -> str:
    load, cores = machine.get("load_average", 0.0), machine["usable_cores"]
    if load <= LOAD_PER_CORE * cores:
        return ""
    return (
        f"the load average was {load:.1f} on {cores} cores before the first run; "
        "end other programs and start again after a minute"
    )


def _judge_limit(machine: dict[str, Any]) -> str:
    pairs = zip(machine.get("cpu_limit_mhz", []), machine.get("cpu_max_mhz", []), strict=False)
    capped = [(limit, built) for limit, built in pairs if limit < built]
    if not capped:
        return ""
    limit, built = capped[0]
    return (
        f"the CPU clock is limited to {limit} of {built} MHz; choose another power mode "
        "(Jetson: sudo nvpmodel -m 0), or run: sudo cpupower frequency-set -u MAX"
    )


def _judge_temperature(machine: dict[str, Any]) -> str:
    limits = machine.get("temperature_limits_c", {})
    temperatures = machine.get("temperatures_c", {}).items()
    near = [(n, c) for n, c in temperatures if n in limits and c > limits[n] - NEAR_C]
    if not near:
        return ""
    zone, now_c = max(near, key=lambda pair: pair[1] - limits[pair[0]])
    return (
        f"{zone} has {now_c:.0f} degrees Celsius and slows the machine at {limits[zone]:.0f}; "
        "cool it, or let it rest before the next run"
    )


def _judge_throttling(before: dict[str, Any], latest: dict[str, Any]) -> str:
    advice = "better cooling, a stronger supply or a lower power mode keeps the clock steady"
    if latest.get("throttled_by"):
        return f"the clock is held down by {', '.join(latest['throttled_by'])}; {advice}"
    rise = latest.get("throttle_count", 0) - before.get("throttle_count", 0)
    return f"the clock was lowered {rise} times during the run; {advice}" if rise > 0 else ""


def _judge_stolen_time(before: dict[str, Any], after: dict[str, Any] | None) -> str:
    ticks = [(machine or {}).get("processor_ticks") for machine in (before, after)]
    if not all(ticks):
        return ""
    first, last = (StolenTime(**found) for found in ticks if found)
    share = first.share_until(last)
    if share <= HIGHEST_STOLEN_SHARE:
        return ""
    return (
        f"the host of this virtual machine took {share:.1%} of the processor time; "
        "repeat it on a quieter host, or with cores of its own"
    )
