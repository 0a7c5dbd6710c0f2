# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from perception_node import __version__
from perception_node.bench.hardware import read_hardware
from perception_node.bench.machine import find_warnings, measure_noise, read_machine

CPU = "sys/devices/system/cpu"
ZONES = "sys/class/thermal"
HOT = f"{ZONES}/thermal_zone0/temp"
FILES = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\x00",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n"
    "power management:\n\nprocessor\t: 1\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
    "proc/meminfo": "MemTotal:        7802152 kB\nMemFree:         1000000 kB\n",
    "proc/loadavg": "0.10 0.20 0.30 1/300 1234\n",
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\n",
    "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    "etc/nvpmodel.conf": "# comment\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "var/lib/nvpmodel/status": "pmode:0002",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    f"{ZONES}/thermal_zone0/type": "cpu-thermal\n",
    HOT: "48500\n",
    f"{ZONES}/thermal_zone0/trip_point_0_type": "critical\n",
    f"{ZONES}/thermal_zone0/trip_point_0_temp": "104500\n",
    f"{ZONES}/thermal_zone0/trip_point_1_type": "passive\n",
    f"{ZONES}/thermal_zone0/trip_point_1_temp": "99000\n",
    f"{ZONES}/thermal_zone1/type": "cv0-thermal\n",  # off: reading its temp fails
    f"{ZONES}/thermal_zone2/type": "gpu-thermal\n",
    f"{ZONES}/thermal_zone2/temp": "-256000\n",
    f"{ZONES}/thermal_zone3/type": "tj-thermal\n",
    f"{ZONES}/thermal_zone3/temp": "49000\n",
    f"{ZONES}/thermal_zone3/trip_point_0_type": "active\n",  # starts the fan
    f"{ZONES}/thermal_zone3/trip_point_0_temp": "50000\n",
    f"{ZONES}/cooling_device0/type": "pwm-fan\n",
    f"{ZONES}/cooling_device0/cur_state": "2\n",
    f"{ZONES}/cooling_device1/type": "cpu-throttle-alert\n",
    f"{ZONES}/cooling_device1/cur_state": "0\n",
    "sys/class/hwmon/hwmon1/oc1_event_cnt": "0\n",
}
POLICY = {
    "scaling_governor": "performance\n",
    "scaling_cur_freq": "1344000\n",
    "scaling_min_freq": "729600\n",
    "scaling_max_freq": "1728000\n",
    "cpuinfo_max_freq": "1728000\n",
}


@pytest.fixture
def jetson(tmp_path):
    """The files of a Jetson Orin, as JetPack 6 has them."""
    for name, content in FILES.items():
        write(tmp_path, name, content)
    for policy in ("policy0", "policy4"):
        for name, content in POLICY.items():
            write(tmp_path, f"{CPU}/cpufreq/{policy}/{name}", content)
    return tmp_path


def write(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def warnings_after(root, changes, before=None):
    """Return the warnings of a machine whose files were changed."""
    start = before or read_hardware(root)
    for name, content in changes.items():
        write(root, name, content)
    return find_warnings(start, read_hardware(root))


def test_a_jetson_is_read(jetson):
    found = read_hardware(jetson)
    del found["architecture"], found["usable_cores"]  # of this machine
    assert found == {
        "cpu": "ARMv8 Processor rev 1 (v8l)",
        "cores": 2,
        "virtual": False,
        "memory_mib": 7619,
        "kernel": "5.15.148-tegra",
        "load_average": 0.1,
        "processor_ticks": {"stolen": 0, "total": 1000},
        "governor": "performance",
        "cpu_mhz": [1344, 1344],
        "cpu_limit_mhz": [1728, 1728],
        "cpu_max_mhz": [1728, 1728],
        "cpu_clocks_fixed": False,
        "gpu_mhz": 1020,
        "gpu_limit_mhz": 1020,
        "gpu_clock_fixed": False,
        "temperatures_c": {"cpu-thermal": 48.5, "tj-thermal": 49.0},
        "temperature_limits_c": {"cpu-thermal": 99.0},
        "throttle_count": 0,
        "jetson": "NVIDIA Jetson Orin Nano Developer Kit",
        "l4t": "R36 (release), REVISION: 4.3",
        "power_mode": "MAXN_SUPER",
    }


def test_a_quiet_jetson_is_trusted(jetson):
    machine = read_hardware(jetson)
    assert find_warnings(machine) == []
    assert find_warnings(machine, machine) == []


def test_jetson_clocks_is_seen(jetson):
    for policy in ("policy0", "policy4"):
        write(jetson, f"{CPU}/cpufreq/{policy}/scaling_min_freq", "1728000\n")
        write(jetson, f"{CPU}/cpufreq/{policy}/scaling_governor", "schedutil\n")
    machine = read_hardware(jetson)
    assert machine["cpu_clocks_fixed"] is True
    assert find_warnings(machine) == []  # a fixed clock needs no governor


def test_a_mode_without_a_name_is_its_number(jetson):
    (jetson / "etc/nvpmodel.conf").unlink()
    assert read_hardware(jetson)["power_mode"] == "number 2"


def test_a_machine_that_tells_nothing(tmp_path):
    machine = read_hardware(tmp_path)
    assert set(machine) == {"architecture", "usable_cores", "virtual"}
    assert find_warnings(machine, machine) == []


def test_files_with_nonsense_are_left_out(jetson):
    for name in FILES:
        if name.startswith("sys/") and not name.endswith("type"):
            write(jetson, name, "no number\n")
    found = read_hardware(jetson)
    assert not {"temperatures_c", "throttle_count", "gpu_mhz"} & set(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{CPU}/cpufreq/policy4/scaling_governor": "schedutil"}, ["governor", "schedutil"]),
        ({"proc/loadavg": "900.0 1.0 1.0 1/300 1"}, ["load average was 900.0", "end other"]),
        ({f"{CPU}/cpufreq/policy0/scaling_max_freq": "1113600"}, ["1113 of 1728 MHz", "nvpmodel"]),
    ],
    ids=["governor", "load", "limit"],
)
def test_a_state_at_the_begin_is_flagged(jetson, changes, words):
    for name, content in changes.items():
        write(jetson, name, content)
    (line,) = find_warnings(read_hardware(jetson))
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({HOT: "95000"}, ["cpu-thermal has 95 degrees", "slows the machine at 99"]),
        ({f"{ZONES}/cooling_device1/cur_state": "1"}, ["held down by cpu-throttle-alert"]),
        ({"sys/class/hwmon/hwmon1/oc1_event_cnt": "3"}, ["lowered 3 times"]),
        ({"proc/stat": "cpu  150 0 100 1700 0 0 0 50 0 0"}, ["took 5.0%", "quieter host"]),
    ],
    ids=["temperature", "throttled now", "throttled in between", "stolen time"],
)
def test_what_happened_in_between_is_flagged(jetson, changes, words):
    (line,) = warnings_after(jetson, changes)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_this_machine_is_read_without_its_names():
    machine = read_machine()
    assert machine["versions"]["perception_node"] == __version__
    assert machine.get("fastdds_profile") == ("shipped" if find_spec("rclpy") else None)
    assert machine["usable_cores"] >= 1
    strings = [text for text in flatten(machine) if isinstance(text, str)]
    assert not [text for text in strings if "/" in text]
    assert json.loads(json.dumps(machine, allow_nan=False)) == machine


def test_the_noise_is_plausible():
    noise = measure_noise(0.05)
    assert 1 <= noise.clock_resolution_ns < 10_000_000
    assert 0 < noise.clock_read_ns < 1e6
    assert 0 < noise.sleep_late_p50_ms <= noise.sleep_late_p99_ms <= noise.sleep_late_max_ms
    assert 1 <= noise.sleeps <= 50
    assert len(noise.describe().splitlines()) == 2


def flatten(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flatten(item)]
    return [value]
