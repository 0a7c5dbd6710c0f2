# SPDX-License-Identifier: Apache-2.0
"""``perception hil`` against a device on another host: two network namespaces and a cable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import yaml

from perception_node.cli import EXIT_OK
from perception_node.wire.bags import open_bag
from tests.ros.harness import Program, wait_for

pytestmark = [pytest.mark.ros, pytest.mark.alone, pytest.mark.slow]
IP, TC = (shutil.which(name) or name for name in ("ip", "tc"))
CUT_S = 2.0
FLOWING_BYTES = 300_000  # five images: far more than discovery takes
SECOND_NS = 1_000_000_000


def ip(*arguments):
    return subprocess.run([IP, *arguments], capture_output=True, text=True, check=False)


class Cable:
    """Two namespaces, ``host`` and ``device``, joined by a pair of virtual network devices."""

    def __init__(self) -> None:
        self.host, self.device = (f"hil{os.getpid()}{side}" for side in ("host", "device"))

    def connect(self) -> None:
        ends = ((self.host, "10.77.0.1/24"), (self.device, "10.77.0.2/24"))
        made = ip("netns", "add", self.host)
        if made.returncode:
            pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        ip("netns", "add", self.device)
        peer = ("peer", "name", "wire", "netns", self.device)
        made = ip("-n", self.host, "link", "add", "wire", "type", "veth", *peer)
        if made.returncode:
            pytest.skip(f"no virtual network devices here: {made.stderr.strip()}")
        for name, address in ends:
            ip("-n", name, "address", "add", address, "dev", "wire")
            ip("-n", name, "link", "set", "lo", "up")
            assert ip("-n", name, "link", "set", "wire", "up").returncode == 0

    def remove(self) -> None:
        for name in (self.host, self.device):
            ip("netns", "delete", name)

    def set_state(self, state) -> None:
        assert ip("-n", self.device, "link", "set", "wire", state).returncode == 0

    def received_bytes(self) -> int:
        shown = ip("-n", self.device, "-s", "-j", "link", "show", "wire").stdout
        return json.loads(shown)[0]["stats64"]["rx"]["bytes"]


@pytest.fixture
def cable():
    if os.geteuid() != 0 or shutil.which(IP) is None:
        pytest.skip("network namespaces need root and iproute2")
    made = Cable()
    try:
        made.connect()
        yield made
    finally:
        made.remove()


@pytest.fixture
def run(cable, domain, tmp_path, color_model):
    """Return functions that start the device and a host, each in its namespace."""
    variables = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}

    def start(namespace, *arguments):
        command = [IP, "netns", "exec", namespace, sys.executable, "-m", *map(str, arguments)]
        return Program(command, variables)

    def start_device():
        parameters = ("autostart:=true", "diagnostics_period_s:=0.2", f"model:={color_model}")
        options = [word for parameter in parameters for word in ("-p", parameter)]
        return start(cable.device, "perception_node.ros.main", "--ros-args", *options)

    def start_host(seconds, **expect):
        scenario = {
            "name": "network",
            "node": {"start": "none"},
            "camera": {"size": "160x120", "rate_hz": 20, "seconds": seconds, "warm_up_s": 0.5},
            "expect": expect,
        }
        path = tmp_path / "scenario.yaml"
        path.write_text(yaml.safe_dump(scenario), encoding="utf-8")
        return start(cable.host, "perception_node.cli", "hil", path, "--out", tmp_path / "out")

    start.device, start.host = start_device, start_host
    return start


def test_a_device_behind_a_cable_survives_that_it_is_cut(cable, run, tmp_path):
    with run.device(), run.host(7, answered_percent=40, latency_ms={"p50": 500}) as host:
        wait_for(lambda: cable.received_bytes() > FLOWING_BYTES, host.log)
        cable.set_state("down")
        time.sleep(CUT_S)  # the fault itself: nothing is waited for
        cable.set_state("up")
        assert host.process.wait(60) == EXIT_OK, host.log()
    with open_bag(tmp_path / "out" / "bag") as bag:
        times_ns = [m.time_ns for m in bag.messages(["/perception/classification"])]
    gaps_s = [(after - before) / SECOND_NS for before, after in pairwise(times_ns)]
    place = max(range(len(gaps_s)), key=gaps_s.__getitem__)
    assert gaps_s[place] > CUT_S - 0.5
    assert len(times_ns) - place > 20  # it goes on afterwards


def test_delay_and_loss_are_measured_and_survived(cable, run, tmp_path):
    netem = ("netem", "delay", "20ms", "loss", "2%")
    tc = [TC, "-n", cable.device, "qdisc", "add", "dev", "wire", "root", *netem]
    try:
        made = subprocess.run(tc, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no delay and loss here: iproute2 has no tc")
    if made.returncode:
        pytest.skip(f"no delay and loss here: {made.stderr.strip()}")
    with run.device(), run.host(5, answered_percent=80, latency_ms={"max": 1000}) as host:
        assert host.process.wait(60) == EXIT_OK, host.log()
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert report["latencies"]["judged"]["p50_ms"] > 20.0
