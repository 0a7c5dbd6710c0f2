# SPDX-License-Identifier: Apache-2.0
"""Real-time settings of a running node: asked of the kernel, reported, and taken back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.ros.harness import Stream, make_image, wait_for

pytestmark = pytest.mark.ros
OK, WARN = 0, 1
PRIORITY = 7
OUR_THREADS = ("perc-executor", "perc-supervisor", "perc-engine")
WORKER_CPU, EXECUTOR_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
WISHES = {
    "scheduling_policy": "fifo",
    "scheduling_priority": PRIORITY,
    "worker_cpus": f"'{WORKER_CPU}'",  # in quotes, or YAML makes a number of it
    "executor_cpus": f"'{EXECUTOR_CPU}'",
}
SCHEDULING = f"SCHED_FIFO {PRIORITY} for the executor, 6 for the worker"
# Takes the rights away for good, then becomes the node; who is not root has none to lose.
UNPRIVILEGED = """
import ctypes, os, resource, sys
from perception_node.system.process import CAP_IPC_LOCK, CAP_SYS_NICE
PR_CAPBSET_DROP = 24  # linux/prctl.h
for capability in (CAP_IPC_LOCK, CAP_SYS_NICE):
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
for kind in (resource.RLIMIT_RTPRIO, resource.RLIMIT_NICE, resource.RLIMIT_MEMLOCK):
    resource.setrlimit(kind, (0, 0))
node = [sys.executable, "-m", "perception_node.ros.main"]
os.execv(sys.executable, [*node, *sys.argv[1:]])
"""


def threads_of(node) -> dict[str, list[int]]:
    """Return the native ids of the node's threads by the names that the kernel shows."""
    found: dict[str, list[int]] = {}
    for task in Path(f"/proc/{node.process.pid}/task").iterdir():
        found.setdefault((task / "comm").read_text().strip(), []).append(int(task.name))
    return found


def policies(node) -> dict[str, tuple[int, int]]:
    """Return the policy and the priority of each of our threads."""
    return {
        name: (
            os.sched_getscheduler(number) & ~os.SCHED_RESET_ON_FORK,
            os.sched_getparam(number).sched_priority,
        )
        for name, numbers in threads_of(node).items()
        if name in OUR_THREADS
        for number in numbers
    }


def cpus(node, name) -> list[set[int]]:
    """Return the CPUs of the threads of a name."""
    return [os.sched_getaffinity(number) for number in threads_of(node)[name]]


@pytest.fixture
def real_time():
    """Skip where even a process of our rights gets no real-time priority."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        pytest.skip(f"no real-time scheduling here: {error}")
    os.sched_setscheduler(0, *before)


@pytest.mark.usefixtures("real_time")
def test_what_is_granted_is_in_force_and_reported_and_taken_back(start, peer):
    everywhere = os.sched_getaffinity(0)
    ordinary = dict.fromkeys(OUR_THREADS, (os.SCHED_OTHER, 0))
    with start(**WISHES) as node:
        diagnostics = peer.watch()
        Stream(peer).classify(make_image("red", 1))
        urgent = dict.fromkeys(OUR_THREADS, (os.SCHED_FIFO, PRIORITY))
        assert policies(node) == {**urgent, "perc-engine": (os.SCHED_FIFO, PRIORITY - 1)}
        for name in ("perc-executor", "perc-supervisor"):
            assert cpus(node, name) == [{EXECUTOR_CPU}]
        assert cpus(node, "perc-engine") == [{WORKER_CPU}] * 2  # one stands by
        status = diagnostics.wait_for_level("process", OK)
        assert status.message == "real-time settings are granted"
        assert diagnostics.value(SCHEDULING) == "granted"
        assert f"granted: {SCHEDULING}" in node.log()

        assert peer.change("deactivate")
        del ordinary["perc-supervisor"]  # it has ended
        assert policies(node) == ordinary
        assert cpus(node, "perc-executor") == [everywhere]
        assert cpus(node, "perc-engine") == [everywhere] * 2

        assert peer.change("activate")
        urgent = dict.fromkeys(OUR_THREADS, (os.SCHED_FIFO, PRIORITY))
        assert policies(node) == {**urgent, "perc-engine": (os.SCHED_FIFO, PRIORITY - 1)}
        assert node.end() == 0
        assert "Traceback" not in node.log()


def test_what_is_refused_is_reported_and_the_node_works_without_it(start, peer):
    wishes = {"scheduling_policy": "fifo", "scheduling_priority": PRIORITY, "lock_memory": True}
    with start(program=("-c", UNPRIVILEGED), **wishes) as node:
        diagnostics = peer.watch()
        stream = Stream(peer)
        assert stream.classify(make_image("red", 1)).results[0].class_id == "0"
        assert set(policies(node).values()) == {(os.SCHED_OTHER, 0)}
        status = diagnostics.wait_for_level("process", WARN)
        for command in (f"--rtprio={PRIORITY}", "--memlock=unlimited"):
            assert f"sudo prlimit --pid {node.process.pid} {command}" in status.message
        lines = [line for line in node.log_lines() if "refused: " in line]
        assert len(lines) == 2
        assert all(line.startswith("[WARN]") for line in lines)
        assert peer.change("deactivate")
        assert peer.change("activate")
        wait_for(stream.camera.get_subscription_count, node.log)
        stream.classify(make_image("green", 2))
        assert node.end() == 0
        assert "Traceback" not in node.log()
