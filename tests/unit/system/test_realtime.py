# SPDX-License-Identifier: Apache-2.0
"""The kernel is asked for real. What would outlast a test happens in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from perception_node.config.cpus import MAX_CPUS
from perception_node.config.sections import RealTimeConfig
from perception_node.system.grants import Grant, advise_on_scheduling
from perception_node.system.process import CAP_SYS_NICE, has_capability
from perception_node.system.realtime import RealTimeSetup, name_thread
from perception_node.system.threads import find_usable_cpus, format_cpus, set_cpus
from tests.builders import ROOT

PRIORITY = 7
RT_GROUPS = Path("/sys/fs/cgroup/cpu")
NO_CPU = MAX_CPUS - 1
asked = partial(RealTimeConfig, scheduling_priority=PRIORITY, freeze_garbage=False)

CHILD = """
import os, resource, sys, threading
from pathlib import Path
from perception_node.system.process import CAP_IPC_LOCK, has_capability
from functools import partial
from perception_node.config.sections import RealTimeConfig
from perception_node.system.realtime import RealTimeSetup

asked = partial(RealTimeConfig, freeze_garbage=False)
main = threading.get_native_id()

def become_nobody():
    for kind in (resource.RLIMIT_RTPRIO, resource.RLIMIT_NICE):
        resource.setrlimit(kind, (0, 0))
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 65534)

def limit_locked_memory():
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    limit = hard if hard != resource.RLIM_INFINITY else 1 << 40
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))

def locked_kib():
    return int(Path('/proc/self/status').read_text().partition('VmLck:')[2].split()[0])

"""


def run_child(script, *prefix):
    return subprocess.run(
        [*prefix, sys.executable, "-c", CHILD + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


@contextmanager
def waiting_threads(count=2):
    """Yield the native ids of threads that do nothing, and end them."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield [thread.native_id for thread in threads]
    finally:
        end.set()
        for thread in threads:
            thread.join()


@contextmanager
def applied(request, executor_threads=(), worker_threads=()):
    setup = RealTimeSetup(request)
    try:
        yield setup, setup.apply(executor_threads, worker_threads)
    finally:
        setup.undo()


def in_thread(function):
    """Return what ``function`` returns in a thread of its own."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def become_real_time():
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def real_time():
    problem = in_thread(become_real_time)
    if problem:
        pytest.skip(f"no real-time scheduling here: {problem}")


@pytest.fixture
def collector():
    """The garbage collector, put back whatever a test does to it."""
    yield
    gc.unfreeze()
    gc.enable()


def scheduling(thread):
    """Return policy and priority; only who has CAP_SYS_NICE can take the flag back."""
    policy = os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK
    return policy, os.sched_getparam(thread).sched_priority


# Names of threads


def shown_name(name):
    def name_and_read():
        name_thread(name)
        return Path("/proc/thread-self/comm").read_bytes().rstrip(b"\n")

    return in_thread(name_and_read)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("short", b"short"),
        ("fifteen-letters", b"fifteen-letters"),
        ("perception-worker", b"perception-work"),
        ("\u00e4" * 20, "\u00e4".encode() * 7),  # no half of the eighth
        ("\udcff", b"?"),
        ("before\0behind", b"before"),
    ],
)
def test_the_kernel_knows_a_threads_name(name, shown):
    assert shown_name(name) == shown


def test_a_name_is_one_threads_own():
    before = Path("/proc/self/comm").read_bytes()
    assert shown_name("another") == b"another"
    assert Path("/proc/self/comm").read_bytes() == before


def test_a_c_library_without_prctl_is_no_error(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert shown_name("never-given") != b"never-given"


# Lists of CPUs


def test_cpus_are_written_as_the_kernel_does():
    assert format_cpus([]) == ""
    assert format_cpus({5, 0, 2, 3, 4, 7}) == "0,2-5,7"


# Grants


def test_a_grant_is_one_line():
    assert Grant("a wish").granted
    assert str(Grant("a wish")) == "granted: a wish"
    refused = Grant("a wish", "not you", "sudo please")
    assert not refused.granted
    assert str(refused) == "refused: a wish: not you; to grant it: sudo please"


def test_nothing_is_done_unasked():
    with waiting_threads() as threads:
        before = [(scheduling(thread), os.sched_getaffinity(thread)) for thread in threads]
        with applied(asked(), threads, threads) as (_, grants):
            assert grants == []
            assert gc.isenabled()
            after = [(scheduling(thread), os.sched_getaffinity(thread)) for thread in threads]
            assert after == before


# Scheduling


@pytest.mark.usefixtures("real_time")
@pytest.mark.parametrize(("policy", "number"), [("fifo", os.SCHED_FIFO), ("rr", os.SCHED_RR)])
def test_all_threads_become_real_time_and_ordinary_again(policy, number):
    request = asked(scheduling_policy=policy)
    with waiting_threads(3) as threads:
        with applied(request, threads[:1], threads[1:]) as (setup, grants):
            name = f"SCHED_{policy.upper()}"
            assert [str(grant) for grant in grants] == [
                f"granted: {name} 7 for the executor, 6 for the worker"
            ]
            of_worker = (number, PRIORITY - 1)
            expected = [(number, PRIORITY), of_worker, of_worker]
            assert [scheduling(thread) for thread in threads] == expected
            setup.undo()
            assert [scheduling(thread) for thread in threads] == [(os.SCHED_OTHER, 0)] * 3
            os.sched_setscheduler(threads[0], os.SCHED_BATCH, os.sched_param(0))
            setup.undo()
            assert scheduling(threads[0]) == (os.SCHED_BATCH, 0)  # undone once, not twice
        assert scheduling(threading.get_native_id()) == (os.SCHED_OTHER, 0)


@pytest.mark.usefixtures("real_time")
@pytest.mark.skipif(not has_capability(CAP_SYS_NICE), reason="others cannot take the flag back")
def test_nothing_is_left_of_it():
    with waiting_threads(1) as threads:
        with applied(asked(scheduling_policy="fifo"), [], threads):
            assert os.sched_getscheduler(threads[0]) & os.SCHED_RESET_ON_FORK
        assert os.sched_getscheduler(threads[0]) == os.SCHED_OTHER


@pytest.mark.usefixtures("real_time")
def test_scheduling_that_was_special_comes_back():
    with waiting_threads() as threads:
        os.sched_setscheduler(threads[0], os.SCHED_BATCH, os.sched_param(0))
        os.sched_setscheduler(threads[1], os.SCHED_RR, os.sched_param(3))
        with applied(asked(scheduling_policy="fifo"), [], threads):
            assert [scheduling(thread)[1] for thread in threads] == [PRIORITY - 1] * 2
        assert scheduling(threads[0]) == (os.SCHED_BATCH, 0)
        assert scheduling(threads[1]) == (os.SCHED_RR, 3)


@pytest.mark.usefixtures("real_time")
def test_a_second_apply_is_undone_with_the_first():
    with waiting_threads() as threads:
        request = asked(scheduling_policy="rr")
        with applied(request, threads[:1], []) as (setup, _):
            assert setup.apply(threads[:1], threads[1:])[0].granted
            assert [scheduling(thread)[1] for thread in threads] == [PRIORITY, PRIORITY - 1]
        assert [scheduling(thread) for thread in threads] == [(os.SCHED_OTHER, 0)] * 2


@pytest.mark.usefixtures("real_time")
def test_what_a_real_time_thread_starts_is_ordinary():
    def start_another():
        me = threading.get_native_id()
        with applied(asked(scheduling_policy="fifo"), [], [me]):
            return scheduling(me)[1], in_thread(lambda: scheduling(0))

    assert in_thread(start_another) == (PRIORITY - 1, (os.SCHED_OTHER, 0))


@pytest.mark.usefixtures("real_time")
def test_threads_that_have_ended_are_passed_over():
    with waiting_threads(1) as ended:
        pass
    request = asked(scheduling_policy="fifo", worker_cpus="0")
    with waiting_threads(1) as first:
        with waiting_threads(1) as second:
            setup = RealTimeSetup(asked(scheduling_policy="fifo"))
            assert setup.apply(ended, [*first, *second])[0].granted
        setup.undo()  # the second has ended as well
        assert scheduling(first[0]) == (os.SCHED_OTHER, 0)
    with applied(request, ended, ended) as (_, grants):
        assert [grant.granted for grant in grants] == [False, False]
        assert "its threads have ended" in str(grants[0])


def test_a_thread_may_end_while_it_is_changed():
    def change(thread):
        if thread == threads[0]:
            raise ProcessLookupError
        return set_cpus([cpu], thread)

    cpu = min(os.sched_getaffinity(0))
    setup = RealTimeSetup(asked())
    with waiting_threads() as threads:
        assert setup._change("a wish", threads, change, str).granted
        assert os.sched_getaffinity(threads[1]) == {cpu}
        setup.undo()
        assert os.sched_getaffinity(threads[1]) == os.sched_getaffinity(0)


def test_a_refusal_for_one_thread_leaves_none_changed():
    def change(thread):
        if thread == threads[1]:
            raise PermissionError(1, "not this one")
        return set_cpus([cpu], thread)

    cpu = min(os.sched_getaffinity(0))
    setup = RealTimeSetup(asked())
    with waiting_threads() as threads:
        grant = setup._change("a wish", threads, change, lambda: "take another")
        assert str(grant) == "refused: a wish: not this one; to grant it: take another"
        assert os.sched_getaffinity(threads[0]) == os.sched_getaffinity(0)


@pytest.mark.usefixtures("real_time")
def test_a_thread_of_another_process_is_never_touched():
    """The id of a thread that has ended may be somebody else's by now."""
    request = asked(scheduling_policy="fifo", worker_cpus=str(min(find_usable_cpus())))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        before = os.sched_getaffinity(other.pid)
        with applied(request, [], [other.pid]) as (_, grants):
            assert not any(grant.granted for grant in grants)
            assert scheduling(other.pid) == (os.SCHED_OTHER, 0)
            assert os.sched_getaffinity(other.pid) == before
        other.kill()


def test_without_the_right_the_answer_is_the_command():
    lines = run_child(
        "become_nobody()\n"
        "setup = RealTimeSetup(asked(scheduling_policy='fifo', scheduling_priority=50))\n"
        "grants = setup.apply([main], [])\n"
        "print(os.sched_getscheduler(0), os.getpid(), *grants, sep='\\n')\n"
    )
    policy, pid, answer = lines
    assert policy == str(os.SCHED_OTHER)
    assert answer == (
        "refused: SCHED_FIFO 50 for the executor, 49 for the worker: "
        "Operation not permitted; "
        f"to grant it: sudo prlimit --pid {pid} --rtprio=50, then activate the node again "
        "(to stay: rtprio in /etc/security/limits.d, systemd LimitRTPRIO=50, "
        "docker --ulimit rtprio=50)"
    )


@pytest.mark.usefixtures("real_time")
def test_without_the_right_real_time_can_still_be_undone():
    """The kernel then keeps SCHED_RESET_ON_FORK, which an ordinary thread does not feel."""
    lines = run_child(
        "setup = RealTimeSetup(asked(scheduling_policy='rr', scheduling_priority=7))\n"
        "print(setup.apply([], [main])[0].granted)\n"
        "become_nobody()\n"
        "setup.undo()\n"
        "print(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, os.sched_getparam(0))\n"
    )
    assert lines == ["True", "0 posix.sched_param(sched_priority=0)"]


def test_a_refusal_within_the_limits_is_explained_by_the_control_group():
    advice = advise_on_scheduling(50, is_permitted=True)
    assert "CONFIG_RT_GROUP_SCHED" in advice
    assert "sudo sysctl kernel.sched_rt_runtime_us=-1" in advice
    assert "prlimit" not in advice


@pytest.mark.usefixtures("real_time")
@pytest.mark.skipif(
    not os.access(RT_GROUPS / "cpu.rt_runtime_us", os.W_OK),
    reason="needs CONFIG_RT_GROUP_SCHED, control groups v1 and the right to make one",
)
def test_a_control_group_needs_a_share_of_real_time():
    group = RT_GROUPS / f"test_realtime_{os.getpid()}"
    group.mkdir()
    try:
        refused, granted = run_child(
            f"group = Path({str(group)!r})\n"
            "(group / 'cgroup.procs').write_text(str(os.getpid()))\n"
            "setup = RealTimeSetup(asked(scheduling_policy='fifo', scheduling_priority=7))\n"
            "print(setup.apply([], [main])[0])\n"
            "(group / 'cpu.rt_runtime_us').write_text('10000')\n"
            "print(setup.apply([], [main])[0])\n"
        )
    finally:
        group.rmdir()
    assert refused.startswith(
        "refused: SCHED_FIFO 7 for the executor, 6 for the worker: Operation not permitted"
    )
    assert "give the control group a share" in refused
    assert granted == "granted: SCHED_FIFO 7 for the executor, 6 for the worker"


# CPUs


def test_threads_are_pinned_and_freed():
    first, last = min(find_usable_cpus()), max(find_usable_cpus())
    request = asked(executor_cpus=str(first), worker_cpus=str(last))
    with waiting_threads(3) as threads:
        before = [os.sched_getaffinity(thread) for thread in threads]
        with applied(request, threads[:1], threads[1:]) as (_, grants):
            assert [str(grant) for grant in grants] == [
                f"granted: CPUs {first} for the executor",
                f"granted: CPUs {last} for the worker",
            ]
            pinned = [os.sched_getaffinity(thread) for thread in threads]
            assert pinned == [{first}, {last}, {last}]
        assert [os.sched_getaffinity(thread) for thread in threads] == before


@pytest.mark.parametrize("others", [(), (0,)])
def test_cpus_that_are_not_all_there_are_refused_and_the_others_named(others):
    """The kernel alone would pin the thread to those that are there, and say nothing."""
    usable = find_usable_cpus()
    cpus = (*[min(usable) for _ in others], NO_CPU)
    with waiting_threads() as threads:
        before = [os.sched_getaffinity(thread) for thread in threads]
        with applied(asked(worker_cpus=format_cpus(cpus)), [], threads) as (_, grants):
            (grant,) = grants
            assert not grant.granted
            expected = f"the kernel gave only {min(usable)}" if others else "Invalid argument"
            assert grant.problem == expected
            assert f"choose of CPUs {format_cpus(usable)}," in grant.advice
            assert [os.sched_getaffinity(thread) for thread in threads] == before


def test_looking_for_cpus_leaves_the_thread_where_it_was():
    one = min(os.sched_getaffinity(0))

    def look():
        os.sched_setaffinity(0, {one})
        return find_usable_cpus(), os.sched_getaffinity(0)

    usable, after = in_thread(look)
    assert usable >= os.sched_getaffinity(0)
    assert after == {one}


# Memory


def test_memory_is_locked_and_unlocked():
    lines = run_child(
        "setup = RealTimeSetup(asked(lock_memory=True))\n"
        "(grant,) = setup.apply([], [])\n"
        "print(grant)\n"
        "before = locked_kib()\n"
        "later = bytearray(64 << 20)\n"
        "print(before > 1000, locked_kib() - before >= 64 << 10)\n"
        "setup.undo(); setup.undo()\n"
        "print(locked_kib())\n"
    )
    if lines[0].startswith("refused"):
        pytest.skip(lines[0])
    assert lines == ["granted: all memory locked in RAM", "True True", "0"]


def test_memory_is_not_locked_where_a_later_allocation_would_fail():
    pid, locked, answer = run_child(
        "limit_locked_memory()\n"
        "become_nobody()\n"
        "(grant,) = RealTimeSetup(asked(lock_memory=True)).apply([], [])\n"
        "print(os.getpid(), locked_kib(), grant, sep='\\n')\n"
    )
    assert locked == "0"
    assert answer.startswith("refused: all memory locked in RAM: RLIMIT_MEMLOCK is ")
    assert f"to grant it: sudo prlimit --pid {pid} --memlock=unlimited," in answer


# Garbage


@pytest.mark.usefixtures("collector")
def test_the_collector_is_stopped_and_started():
    request = asked(freeze_garbage=True, disable_garbage_collection=True)
    with applied(request) as (setup, grants):
        assert [grant.granted for grant in grants] == [True, True]
        assert str(grants[1]) == "granted: no garbage collection"
        assert gc.get_freeze_count() > 1000
        assert not gc.isenabled()
        setup.undo()
        assert gc.get_freeze_count() == 0
        assert gc.isenabled()


@pytest.mark.usefixtures("collector")
def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with applied(asked(disable_garbage_collection=True)):
        assert not gc.isenabled()
    assert not gc.isenabled()
