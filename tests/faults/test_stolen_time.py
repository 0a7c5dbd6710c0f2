# SPDX-License-Identifier: Apache-2.0
"""Time that others take: busy cores, a stopped process, stuck subscribers, a hanging engine."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from rcl_interfaces.srv import GetParameters

from perception_node.bench.siege.load import busy_cores
from tests.ros.harness import (
    DEADLINE_S,
    NODE,
    Program,
    Stream,
    account,
    make_image,
    needs_numbers,
    require_balance,
    stamp_of,
    wait_for,
)

pytestmark = [pytest.mark.ros, pytest.mark.alone]
OK = 0
POLL_S = 0.001
BACKLOG = 20
STOPPED_NS = 2_000_000_000
SLOW_S, HANG_S = 0.2, 3.0
SHORT_MS, STARVED_S = 100, 5.0
BOUND_S = 1.0  # of an answer; it takes a few milliseconds, but the machine may be busy
QUEUE = 512  # messages that Fast DDS keeps for a process in shared memory
# The real engine, which takes its time from SIGUSR1 on.
ENGINE = """
import signal, sys, time
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
infer, slow = OnnxRuntimeEngine.infer, []
def take_time(engine):
    infer(engine)
    time.sleep({pause_s} if slow else 0)
OnnxRuntimeEngine.infer = take_time
def become_slow(*_):
    slow.append(True)
    print("slow from now on", flush=True)
signal.signal(signal.SIGUSR1, become_slow)
from perception_node.ros.main import main
sys.exit(main())
"""
# It takes whatever it gets, as long as nobody stops it.
SUBSCRIBER = """
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Classification
rclpy.init()
node = rclpy.create_node("subscriber")
qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
topic = "/perception/classification"
node.create_subscription(Classification, topic, lambda _: print("got one", flush=True), qos)
rclpy.spin(node)
"""


@contextmanager
def stopped(process):
    """Stop a process (SIGSTOP) for the time of a block."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: state_of(process.pid) == "T", lambda: "the process to stop")
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def state_of(pid):
    """Return a process's state as the kernel names it; T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


def starve(pid, names):
    """Give a process's threads of these names only the time that nothing else wants."""
    starved = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text().startswith(names):
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
            starved += 1
    assert starved


def let_be_slow(node):
    """Let each inference of ``ENGINE`` take its time."""
    node.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "slow from now on" in node.log(), node.log)


def require_answer(stream, stamp_ns):
    """Send a frame once and look often for its result."""
    stream.camera.publish(make_image("green", stamp_ns))
    end_s = time.monotonic() + DEADLINE_S
    while not (stream.results and stamp_of(stream.results[-1]) == stamp_ns):
        assert time.monotonic() < end_s, f"no result for stamp {stamp_ns}"
        time.sleep(POLL_S)


def test_busy_cores_delay_and_lose_nothing(start, peer):
    with start(model="efficientnet_lite0") as node:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        with busy_cores():
            for stamp_ns in range(10, 40):
                stream.classify_once(make_image("green", stamp_ns))
        stream.classify_once(make_image("blue", 50))
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["malformed"] == counts["failed"] == 0


@pytest.mark.parametrize("names", ["perc-engine", ""], ids=["its engines", "all of it"])
def test_a_node_that_the_load_starves_loses_no_engine_and_goes_on(start, peer, names):
    with start(model="efficientnet_lite0", engine_timeout_ms=SHORT_MS) as node:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        with busy_cores():
            starve(node.process.pid, names)
            end_s = time.monotonic() + STARVED_S
            while time.monotonic() < end_s:
                stream.camera.publish(make_image("green", time.time_ns()))
                time.sleep(0.05)
        assert stream.classify(make_image("blue", 50))
        assert node.end() == 0
        log = node.log()
    counts = account(log)
    require_balance(counts)
    assert counts["failed"] == 0
    assert "degraded" not in log


def test_where_no_engine_comes_back_the_process_ends_for_respawn(start, peer):
    program = ("-c", ENGINE.format(pause_s=1000))
    parameters = {"engine_timeout_ms": SHORT_MS, "exhausted_exit_s": 1.0}
    with start(program=program, **parameters) as node:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        let_be_slow(node)
        stream.camera.publish(make_image("green", 2))
        assert node.process.wait(DEADLINE_S) == 1
        log = node.log()
    assert "no engine is left; another is made in " in log
    assert "no engine for 1 s (exhausted_exit_s); the process ends with exit code 1" in log
    assert "Traceback" not in log


@needs_numbers
def test_a_process_that_was_stopped_replays_nothing(start, peer):
    diagnostics = peer.watch()
    sent = 0

    def arrived():
        """Return how many frames of those that were sent are known to have come or been lost."""
        keys = ("received", "lost on the way")
        return sum(int(diagnostics.value(key)) for key in keys)

    def send_until_answered():
        nonlocal sent
        begin_ns = time.time_ns()

        def is_answered():
            nonlocal sent
            stream.camera.publish(make_image("red", time.time_ns()))
            sent += 1
            time.sleep(0.05)
            return max(stream.stamps(), default=0) > begin_ns

        wait_for(is_answered, diagnostics.latest)

    # Less than it was stopped for: the backlog's age tells it from what is new.
    with start(age_reference="stamp", deadline_ms=1000, image_timeout_s=60.0) as node:
        stream = Stream(peer)
        send_until_answered()
        diagnostics.skip(2)
        before, sent = arrived(), 0
        with stopped(node.process):
            begin_ns = time.time_ns()
            for _ in range(BACKLOG):
                stream.camera.publish(make_image("green", time.time_ns()))
                sent += 1
            end_ns = time.time_ns()
            wait_for(lambda: time.time_ns() > end_ns + STOPPED_NS, lambda: "the time to pass")
        send_until_answered()
        assert not [s for s in stream.stamps() if begin_ns <= s <= end_ns]
        # At most the newest had waited; the middleware says so of each of the others.
        wait_for(
            lambda: arrived() == before + sent, lambda: f"{sent} frames, {diagnostics.latest()}"
        )
        assert int(diagnostics.value("stale")) <= 1
        assert diagnostics.level("engine") == OK
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["failed"] == counts["late"] == 0


def test_an_engine_is_not_lost_because_the_process_was_stopped(start, peer):
    timeout_s = 3 * SLOW_S
    diagnostics = peer.watch()
    program = ("-c", ENGINE.format(pause_s=SLOW_S))
    with start(program=program, engine_timeout_ms=int(timeout_s * 1000)) as node:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        let_be_slow(node)
        for stamp_ns in (2, 3, 4):
            stream.camera.publish(make_image("green", stamp_ns))
            diagnostics.wait_for_value("in flight", 1)  # the engine is at work
            with stopped(node.process):
                time.sleep(1.5 * timeout_s)  # its length is the point
            wait_for(lambda: stream.result(stamp_ns), lambda: f"the result {stamp_ns}")
            diagnostics.wait_for_value("in flight", 0)  # or the next wait would see this frame's
        diagnostics.skip(2)
        assert diagnostics.level("engine") == OK
        assert node.end() == 0
        log = node.log()
    counts = account(log)
    require_balance(counts)
    assert counts["failed"] == 0
    assert "degraded" not in log


def test_a_stuck_subscriber_holds_up_nobody(start, peer, domain):
    command = [sys.executable, "-c", SUBSCRIBER]
    with (
        start() as node,
        Program(command, {"ROS_DOMAIN_ID": str(domain)}, signal.SIGINT) as subscriber,
    ):
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        stamps = itertools.count(2)

        def reaches_it():
            require_answer(stream, next(stamps))
            time.sleep(POLL_S)
            return "got one" in subscriber.log()

        wait_for(reaches_it, lambda: "a result at the other subscriber")
        with stopped(subscriber.process):
            for stamp_ns in itertools.islice(stamps, QUEUE + 50):
                require_answer(stream, stamp_ns)
        require_answer(stream, next(stamps))
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["published"] == counts["received"] == len(stream.results)


def test_services_answer_while_the_engine_hangs(start, peer):
    program = ("-c", ENGINE.format(pause_s=HANG_S))
    parameters = {"engine_timeout_ms": 60_000, "deadline_ms": 60_000}
    names = GetParameters.Request(names=["deadline_ms"])
    diagnostics = peer.watch()

    def require_answers():
        """Ask both services; return how long each took in seconds."""
        begin_s = time.monotonic()
        assert peer.state() == "active"
        between_s = time.monotonic()
        answer = peer.call(GetParameters, f"{NODE}/get_parameters", names)
        assert answer.values[0].integer_value == parameters["deadline_ms"]
        return between_s - begin_s, time.monotonic() - between_s

    with start(program=program, **parameters) as node:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        require_answers()  # by then both sides have found each other
        let_be_slow(node)
        stream.camera.publish(make_image("green", 2))
        diagnostics.wait_for_value("in flight", 1)
        took_s = [duration_s for _ in range(10) for duration_s in require_answers()]
        assert not stream.result(2), "the engine's answer came before the services'"
        assert max(took_s) < BOUND_S
        wait_for(lambda: stream.result(2), lambda: "the engine's answer")
        assert node.end() == 0
