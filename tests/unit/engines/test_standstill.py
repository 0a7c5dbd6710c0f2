# SPDX-License-Identifier: Apache-2.0
"""An engine that hangs is told from one that was kept from its work, with real threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from perception_node.engines import standstill
from perception_node.engines.standstill import OwnClock, Standstill

pytestmark = pytest.mark.timeout(60)
PAUSE_S, LOOKS, ENOUGH_S = 0.02, 25, 0.3
BUSY = 3


def spin(end):
    while not end.is_set():  # in C, as engines do it: without Python's lock
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1000)


def block(end):
    end.wait()


@contextmanager
def thread(work, *, starved=False):
    """Yield the native id of a thread; one that is starved shares its CPU with urgent work."""
    end = threading.Event()
    worker = threading.Thread(target=work, args=(end,))
    worker.start()
    busy = []
    try:
        if starved:
            cpu = min(os.sched_getaffinity(0))
            os.sched_setaffinity(worker.native_id, {cpu})
            command = [sys.executable, "-c", "while True: pass"]
            busy = [subprocess.Popen(command) for _ in range(BUSY)]
            for process in busy:
                os.sched_setaffinity(process.pid, {cpu})
            os.sched_setscheduler(worker.native_id, os.SCHED_IDLE, os.sched_param(0))
        yield worker.native_id
    finally:
        for process in busy:
            process.kill()
            process.wait()
        end.set()
        worker.join()


@pytest.fixture(params=["schedstat", "clock"])
def account(request, monkeypatch):
    """Let the kernel keep an account of waiting, or not."""
    if request.param == "schedstat":
        return
    read = standstill._read_file

    def read_other(thread, name):
        if name == "schedstat":
            raise FileNotFoundError(name)
        return read(thread, name)

    monkeypatch.setattr(standstill, "_read_file", read_other)


def look(judge):
    """Look as often as half a second needs; return the sum in seconds."""
    for _ in range(LOOKS):
        time.sleep(PAUSE_S)
        spent_s = judge.look(PAUSE_S)
    return spent_s


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("work", [spin, block])
def test_an_engine_that_spins_or_sleeps_for_ever_uses_its_time_up(work):
    with thread(work) as number:
        judge = Standstill([number])
        while look(judge) < ENOUGH_S:  # on a busy machine it takes longer: the timeout judges
            pass


def test_of_many_threads_the_busiest_counts():
    """They cannot use up more than the time that passes."""
    with thread(spin) as first, thread(block) as second:
        judge, begin_s = Standstill([first, second]), time.monotonic()
        spent_s = look(judge)
        assert 0 < spent_s <= time.monotonic() - begin_s + PAUSE_S


@pytest.mark.usefixtures("account")
def test_the_time_in_which_an_engine_waited_for_a_processor_does_not_count():
    with thread(spin, starved=True) as number:
        assert look(Standstill([number])) < LOOKS * PAUSE_S / 2


@pytest.mark.usefixtures("account")
def test_an_engine_is_not_blamed_while_a_thread_that_it_may_wait_for_is_starved():
    with thread(spin, starved=True), thread(block) as number:
        assert look(Standstill([number])) < LOOKS * PAUSE_S / 2


def test_an_engine_that_sleeps_is_blamed_while_others_run():
    with thread(spin), thread(block) as number:
        judge = Standstill([number])
        while look(judge) < ENOUGH_S:
            pass


def test_who_looks_late_counts_one_pause():
    with thread(block) as number:
        judge = Standstill([number])
        time.sleep(10 * PAUSE_S)
        assert judge.look(PAUSE_S) <= PAUSE_S


def test_a_thread_that_has_ended_uses_no_time():
    with thread(block) as number:
        judge = Standstill([number, 1])  # 1 is no thread of this process
    judge.look(0.0)
    assert judge.look(0.0) >= 0.0


def test_an_engine_one_of_whose_threads_has_ended_is_blamed_all_the_same():
    with thread(block) as ended:
        pass
    with thread(block) as number:
        judge = Standstill([number, ended])
        while look(judge) < ENOUGH_S:
            pass


def test_its_own_clock_stands_still_while_a_thread_waits_for_a_processor():
    with thread(spin, starved=True) as number:
        clock = OwnClock([number])
        begin_s, begin_ns = time.monotonic(), clock.now_ns()
        time.sleep(1.0)
        seen_ns = [begin_ns, clock.now_ns()]
        while seen_ns[-1] - begin_ns > 0.5e9 * (time.monotonic() - begin_s):
            time.sleep(PAUSE_S)  # a wait is known once it is over
            seen_ns.append(clock.now_ns())
    assert seen_ns == sorted(seen_ns)
