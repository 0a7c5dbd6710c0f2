# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from perception_node.system.signals import ENDING, StopEvent

pytestmark = pytest.mark.timeout(60)
NEVER_S = 1000.0


@pytest.fixture
def stop():
    handlers = {number: signal.getsignal(number) for number in ENDING}
    event = StopEvent()
    yield event
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.close(event._reader)
    os.close(event._writer)


@pytest.fixture
def later():
    """Return a function that calls another from a thread, about when the test begins to wait."""
    threads = []

    def call(function, *arguments):
        threads.append(threading.Timer(0.05, function, arguments))
        threads[-1].start()

    yield call
    for thread in threads:
        thread.join()


def to_this_thread(number):
    signal.pthread_kill(threading.get_ident(), number)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_sets_it(stop, number):
    assert not stop.is_set()
    signal.raise_signal(number)
    assert stop.is_set()
    assert stop.wait()


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_wait(stop, later, number):
    later(os.kill, os.getpid(), number)
    assert stop.wait()
    assert stop.is_set()


@pytest.mark.parametrize("number", ENDING)
def test_a_wait_ends_also_where_the_signal_does_not_interrupt_it(stop, later, number):
    """As where it comes just before the wait: Python's handler cannot run until that has ended."""
    later(to_this_thread, number)
    assert stop.wait(NEVER_S)
    assert stop.is_set()


def test_another_thread_ends_a_wait(stop, later):
    later(stop.set)
    assert stop.wait()
    assert stop.wait(0.0)


def test_a_wait_ends_with_its_time(stop):
    begin_s = time.monotonic()
    assert not stop.wait(0.1)
    assert time.monotonic() - begin_s >= 0.1
    assert not stop.wait(0.0)
    assert not stop.wait(-1.0)


def test_another_signal_does_not_end_a_wait(stop, later):
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        later(to_this_thread, signal.SIGUSR1)
        assert not stop.wait(0.2)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_setting_it_never_blocks(stop):
    for _ in range(200_000):  # more than the pipe takes
        stop.set()
    assert stop.wait()


STORM = """
import os, sys
print(flush=True)
while True:
    os.kill(int(sys.argv[1]), int(sys.argv[2]))
"""


def test_signals_without_end_do_no_harm(stop):
    """The handler may interrupt every line of ``wait``, ``set`` and of itself."""
    command = [sys.executable, "-c", STORM, str(os.getpid()), str(int(signal.SIGTERM))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as storm:
        try:
            storm.stdout.readline()
            for _ in range(20_000):
                stop._is_set = False  # so that it does wait
                assert stop.wait(NEVER_S)
                stop.set()
        finally:
            storm.kill()
