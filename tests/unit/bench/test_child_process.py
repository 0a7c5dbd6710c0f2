# SPDX-License-Identifier: Apache-2.0
"""A child that ends is one line, and what a child has written is not lost."""

from __future__ import annotations

import mmap
import os
import sys
import time

import pytest

from perception_node.bench.levels.child_process import ChildProcess
from perception_node.bench.process_watch import StolenTime, Usage, read_stolen_time, read_usage
from perception_node.errors import EnvironmentLacks


def receive_until(child, is_enough):
    end_s = time.monotonic() + 20.0
    while not is_enough(child.received):
        assert time.monotonic() < end_s, bytes(child.received)
        time.sleep(0.01)
        child.receive()


def test_a_child_that_ends_says_its_last_words():
    child = ChildProcess("camera", "perception_node.bench.nothing", {})
    with child, pytest.raises(EnvironmentLacks) as caught:
        receive_until(child, lambda received: received)
    line = str(caught.value)
    assert line.startswith("the camera process ended with code 1: ")
    assert "No module named perception_node.bench.nothing" in line


@pytest.fixture
def echo(tmp_path, monkeypatch):
    """Return the name of a module that answers its task and each line, and prints beside them."""
    (tmp_path / "echo_child.py").write_text(
        "import json, sys\n"
        "from perception_node.bench.levels.child_process import take_task\n"
        "task, write = take_task()\n"
        "print('a library is talkative', flush=True)\n"
        "write(json.dumps(task).encode())\n"
        "for line in sys.stdin:\n"
        "    write(line.encode())\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    return "echo_child"


def test_task_and_lines_arrive_and_nothing_else(echo):
    with ChildProcess("echo", echo, {"topics": ["/a"]}) as child:
        receive_until(child, lambda received: received.endswith(b"}"))
        child.tell("go")
        receive_until(child, lambda received: received.endswith(b"go\n"))
        assert bytes(child.received) == b'{"topics": ["/a"]}go\n'


TICK_S = 0.01


def test_usage_grows():
    before = read_usage(os.getpid())
    # A new mapping faults for certain; malloc may have kept what another test has freed.
    with mmap.mmap(-1, 1 << 20) as memory:
        memory.write(bytes(1 << 20))
    while (after := read_usage(os.getpid())).cpu_s < before.cpu_s + 20 * TICK_S:
        sum(range(1000))
    assert after.time_ns > before.time_ns
    assert after.page_faults > before.page_faults
    assert after.involuntary_switches >= before.involuntary_switches
    assert sum(after.threads_s.values()) <= after.cpu_s + TICK_S * len(after.threads_s)
    # This thread is the busiest, so little is left for all others.
    assert 0 <= before.beside_busiest_s(after) < 10 * TICK_S


def test_all_threads_but_the_busiest_count_also_those_that_ended():
    before = Usage(0, 5.0, 0, 0, 0, {1: 2.0, 2: 1.0, 3: 1.0})
    after = Usage(1, 9.0, 0, 0, 0, {1: 4.5, 2: 1.5, 4: 0.25})
    assert before.beside_busiest_s(after) == 1.5


def test_stolen_time_is_a_share(tmp_path):
    now = read_stolen_time()
    assert 0 <= now.stolen <= now.total
    file = tmp_path / "stat"
    file.write_text("cpu  10 0 20 60 5 1 2 7 3 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n", encoding="utf-8")
    assert read_stolen_time(file) == StolenTime(7, 105)
    assert StolenTime(7, 105).share_until(StolenTime(17, 205)) == 0.1
