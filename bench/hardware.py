# SPDX-License-Identifier: Apache-2.0
"""Processor, clocks, temperatures and power mode, as the files of the kernel tell them.

A file that is missing or cannot be read leaves its key out. What is read never names the host, its
users or a path.
"""

from __future__ import annotations

import os
import platform
import re
from typing import TYPE_CHECKING, Any

from perception_node.bench.process_watch import StolenTime, read_stolen_time

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GPU = re.compile(r"gpu|g[vpam]\d\d[0-9a-z]")  # 17000000.gpu, 17000000.ga10b, gpu-gpc-0
CPU_LINE = re.compile(r"^(.*?)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
POWER_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
POWER_MODE_ID = re.compile(r"pmode:\s*(\d+)")
SLOWING_TRIPS = {"passive", "hot", "critical"}  # an active one only starts a fan
JETSON = "NVIDIA"


def read_hardware(root: Path) -> dict[str, Any]:
    """Return what is known of the hardware and of its state, as plain values.

    Args:
        root: ``/``, or a folder with a copy of its ``proc``, ``sys``, ``var`` and ``etc``.

    """
    found = {
        **_read_processor(root),
        **_read_clocks(root / "sys/devices/system/cpu/cpufreq"),
        **_read_gpu_clock(root / "sys/class/devfreq"),
        **_read_thermal(root / "sys/class/thermal"),
        **_read_throttling(root / "sys"),
        **_read_jetson(root),
    }
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}


def read_text(path: Path) -> str | None:
    """Return the content of a file, stripped; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00\n ")
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    """Return the whole number in a file; None if there is none."""
    text = read_text(path) or ""
    try:
        return int(text.split()[0]) if text else None
    except ValueError:
        return None


def _read_ticks(root: Path) -> StolenTime | None:
    """Return the processor time so far, and what the host kept of it; None if nobody says."""
    try:
        return read_stolen_time(root / "proc/stat")
    except (OSError, IndexError):
        return None


def _read_processor(root: Path) -> dict[str, Any]:
    pairs = CPU_LINE.findall(read_text(root / "proc/cpuinfo") or "")
    info = dict(pairs)
    memory = re.search(r"MemTotal:\s*(\d+) kB", read_text(root / "proc/meminfo") or "")
    load = (read_text(root / "proc/loadavg") or "").split()
    ticks = _read_ticks(root)
    is_guest = "hypervisor" in info.get("flags", "").split()
    return {
        "cpu": info.get("model name"),
        "architecture": platform.machine(),
        "cores": sum(pair[0] == "processor" for pair in pairs) or None,
        "usable_cores": len(os.sched_getaffinity(0)),
        "virtual": is_guest or (root / "proc/device-tree/hypervisor").exists(),
        "memory_mib": int(memory[1]) >> 10 if memory else None,
        "kernel": read_text(root / "proc/sys/kernel/osrelease"),
        "load_average": float(load[0]) if load else None,
        "processor_ticks": None if ticks is None else ticks._asdict(),
    }


def _read_clocks(folder: Path) -> dict[str, Any]:
    """Return governors and clocks; several kinds of cores have one policy each."""
    policies = sorted(folder.glob("policy*"), key=lambda path: int(path.name[6:] or 0))
    files = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq", "cpuinfo_max_freq")
    now, lowest, highest, built = (_numbers((p / name) for p in policies) for name in files)
    governors = dict.fromkeys(filter(None, (read_text(p / "scaling_governor") for p in policies)))
    return {
        "governor": ", ".join(governors),
        "cpu_mhz": [khz // 1000 for khz in now],
        "cpu_limit_mhz": [khz // 1000 for khz in highest],
        "cpu_max_mhz": [khz // 1000 for khz in built],
        # what jetson_clocks does
        "cpu_clocks_fixed": lowest == highest if lowest and highest else None,
    }


def _read_gpu_clock(folder: Path) -> dict[str, Any]:
    """Return the clock of a GPU that the kernel governs, as on a Jetson."""
    for device in sorted(path for path in folder.glob("*") if GPU.search(path.name))[:1]:
        names = ("cur_freq", "min_freq", "max_freq")
        now, lowest, highest = (read_number(device / name) for name in names)
        if now is not None and highest is not None:
            return {
                "gpu_mhz": now // 1_000_000,
                "gpu_limit_mhz": highest // 1_000_000,
                "gpu_clock_fixed": lowest == highest,
            }
    return {}


def _read_thermal(folder: Path) -> dict[str, Any]:
    """Return temperatures by zone, and from which on a zone slows the machine, in Celsius."""
    temperatures: dict[str, float] = {}
    limits: dict[str, float] = {}
    for zone in sorted(folder.glob("thermal_zone*")):
        name, now = read_text(zone / "type"), read_number(zone / "temp")
        if not name or now is None or now <= 0:  # a zone that is off says so with a negative one
            continue
        temperatures[name] = round(now / 1000, 1)
        trips = [
            path.with_name(path.name.replace("_type", "_temp"))
            for path in zone.glob("trip_point_*_type")
            if read_text(path) in SLOWING_TRIPS
        ]
        points = [point for point in _numbers(trips) if point > 0]
        if points:
            limits[name] = round(min(points) / 1000, 1)
    return {"temperatures_c": temperatures, "temperature_limits_c": limits}


def _read_throttling(sys: Path) -> dict[str, Any]:
    """Return how often the clock was lowered so far, and what holds it down now."""
    counters = [
        *sys.glob("devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"),
        *sys.glob("class/hwmon/hwmon*/oc*_event_cnt"),  # over-current, on a Jetson
    ]
    counts = _numbers(counters)
    devices = sorted(sys.glob("class/thermal/cooling_device*"))
    coolers = [(read_text(path / "type"), read_number(path / "cur_state")) for path in devices]
    active = sorted({kind for kind, state in coolers if kind and (state or 0) > 0})
    slowing = [kind for kind in active if "fan" not in kind.lower()]
    return {"throttle_count": sum(counts) if counts else None, "throttled_by": slowing}


def _read_jetson(root: Path) -> dict[str, Any]:
    """Return the model and the power mode of a Jetson."""
    model = read_text(root / "proc/device-tree/model")
    if model is None or JETSON not in model:
        return {}
    release = (read_text(root / "etc/nv_tegra_release") or "").partition("\n")[0].lstrip("# ")
    found = {"jetson": model, "l4t": ", ".join(release.split(", ")[:2])}
    mode = POWER_MODE_ID.search(read_text(root / "var/lib/nvpmodel/status") or "")
    if mode:
        names = dict(POWER_MODE.findall(read_text(root / "etc/nvpmodel.conf") or ""))
        found["power_mode"] = names.get(str(int(mode[1])), f"number {int(mode[1])}")
    return found


def _numbers(paths: Iterable[Path]) -> list[int]:
    return [number for number in map(read_number, paths) if number is not None]
