# SPDX-License-Identifier: Apache-2.0
"""What the stamps and clocks of a camera may do, and what the node makes of it."""

from __future__ import annotations

import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rosgraph_msgs.msg import Clock

from perception_node.ros.messages import to_time
from tests.ros.harness import (
    NANOSECONDS,
    NODE,
    Stream,
    account,
    make_image,
    require_balance,
    stamp_of,
    wait_for,
)

pytestmark = pytest.mark.ros
OK, WARN, ERROR, STALE = range(4)
HOUR_NS = 3600 * NANOSECONDS
# Wide enough for a loaded machine, narrow enough to tell an hour from now.
BOUND = {"age_reference": "stamp", "deadline_ms": 5000}
BAG_NS = 1_700_000_000 * NANOSECONDS


@pytest.mark.parametrize(
    ("stamp_ns", "way"),
    [
        (lambda now_ns: now_ns - HOUR_NS, "stale"),
        (lambda now_ns: now_ns + HOUR_NS, "stale"),
        (lambda now_ns: now_ns - 6 * NANOSECONDS, "stale"),
        (lambda _now_ns: 0, "malformed"),
    ],
    ids=["an hour behind", "an hour ahead", "too old", "never set"],
)
def test_a_stamp_decides(start, peer, stamp_ns, way):
    diagnostics = peer.watch()
    with start(**BOUND) as node:
        stream = Stream(peer)
        stream.classify(make_image("red", time.time_ns()))
        stream.camera.publish(make_image("green", stamp_ns(time.time_ns())))
        diagnostics.wait_for_value(way, 1)
        stream.classify_once(make_image("blue", time.time_ns()))
        assert node.end() == 0
        log = node.log()
    counts = account(log)
    require_balance(counts)
    assert counts[way] == 1
    assert "age_reference to arrival" in log or "else look before the node" in log


def test_a_stamp_may_be_a_little_ahead(start, peer):
    with start(**BOUND):
        stream = Stream(peer)
        stream.classify(make_image("red", time.time_ns() + NANOSECONDS))
        stream.classify_once(make_image("green", time.time_ns() + NANOSECONDS))


def test_a_new_deadline_counts_from_the_next_frame_on(start, peer):
    diagnostics = peer.watch()
    with start(age_reference="stamp", deadline_ms=60_000):
        stream = Stream(peer)
        stream.classify(make_image("red", time.time_ns() - 6 * NANOSECONDS))
        for number in (1, 2):
            set_deadline(peer, 5000)
            stream.camera.publish(make_image("green", time.time_ns() - 6 * NANOSECONDS))
            diagnostics.wait_for_value("stale", number)
            set_deadline(peer, 60_000)
            stream.classify_once(make_image("blue", time.time_ns() - 6 * NANOSECONDS))


def set_deadline(peer, deadline_ms):
    """Change the live parameter."""
    content = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=deadline_ms)
    request = SetParameters.Request()
    request.parameters = [Parameter(name="deadline_ms", value=content)]
    assert peer.call(SetParameters, f"{NODE}/set_parameters", request).results[0].successful


def test_arrival_does_not_look_at_stamps(start, peer):
    with start(age_reference="arrival", deadline_ms=5000) as node:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        for stamp_ns in (0, time.time_ns() - HOUR_NS, time.time_ns() + HOUR_NS, 5, 4):
            stream.classify_once(make_image("green", stamp_ns))
        assert node.end() == 0
        counts = account(node.log())
    assert counts["stale"] == counts["malformed"] == 0


def test_a_camera_with_another_clock_is_an_error_that_says_what_to_do(start, peer):
    diagnostics = peer.watch()
    with start(**BOUND, diagnostics_period_s=0.5):
        stream = Stream(peer)

        def send() -> bool:
            stream.camera.publish(make_image("red", BAG_NS))
            return diagnostics.level("deadline") == ERROR

        wait_for(send, lambda: diagnostics.latest().get("deadline"))
        message = diagnostics.latest()["deadline"].message
    assert "100 % of the images missed the deadline" in message
    assert "behind the node's clock" in message
    assert "age_reference to arrival" in message
    assert not stream.results


def test_latency_tells_each_frames_way(start, peer):
    traces = peer.collect(DiagnosticArray, f"{NODE}/latency", 10)
    with start(**BOUND):
        stream = Stream(peer)
        stamp_ns = time.time_ns()
        stream.classify(make_image("red", stamp_ns))
        stream.camera.publish(make_image("red", BAG_NS))
        wait_for(
            lambda: {t.status[0].message for t in traces} == {"published", "stale"},
            lambda: f"two outcomes, found {traces}",
        )
    trace = next(t for t in traces if t.status[0].message == "published")
    assert stamp_of(trace) == stamp_ns
    assert trace.header.frame_id == "camera_optical_frame"
    stages = {v.key: float(v.value) for v in trace.status[0].values}
    assert list(stages) == [
        f"{stage} (ms)"
        for stage in (
            "wait",
            "read",
            "preprocess",
            "infer",
            "postprocess",
            "publish",
            "age",
        )
    ]
    assert all(value >= 0.0 for value in stages.values())
    assert stages["infer (ms)"] > 0.0
    age_ms = stages.pop("age (ms)")
    assert sum(stages.values()) - stages["publish (ms)"] <= age_ms


class SimulatedTime:
    """A /clock that only moves when it is told to."""

    def __init__(self, peer):
        self._publisher = peer.node.create_publisher(Clock, "/clock", 1)
        self._diagnostics = peer.watch()

    def set(self, now_ns: int) -> None:
        """Set the time and wait until the node has it."""

        def is_set() -> bool:
            self._publisher.publish(Clock(clock=to_time(now_ns)))
            messages = self._diagnostics.messages
            return bool(messages) and stamp_of(messages[-1]) == now_ns

        wait_for(is_set, lambda: f"the node's clock at {now_ns}")


def test_simulated_time_may_be_late_stand_still_and_jump(start, peer):
    clock, diagnostics = SimulatedTime(peer), peer.watch()
    with start(**BOUND, use_sim_time=True, image_timeout_s=0.4) as node:
        stream = Stream(peer)

        def send_until_stale(color, stamp_ns, number):
            def send() -> bool:
                stream.camera.publish(make_image(color, stamp_ns))
                return int(diagnostics.value("stale") or 0) >= number

            wait_for(send, lambda: f"{number} stale frames")
            return int(diagnostics.value("stale"))

        # No /clock yet: nobody knows how old an image is.
        stale = send_until_stale("red", BAG_NS, 1)
        assert not stream.results
        clock.set(BAG_NS)
        stream.classify(make_image("red", BAG_NS))
        # A paused bag: the clock stands, ages do not grow, silence is no error.
        stream.classify_once(make_image("green", BAG_NS + 1))
        status = diagnostics.wait_for_level("input", WARN)
        assert "simulated time stands still" in status.message
        diagnostics.wait_for_level("deadline", STALE)
        stream.classify_once(make_image("blue", BAG_NS + 2))
        # An hour forward, and back, as when a bag loops.
        clock.set(BAG_NS + HOUR_NS)
        stale = send_until_stale("red", BAG_NS + 3, stale + 1)
        stream.classify_once(make_image("red", BAG_NS + HOUR_NS))
        clock.set(BAG_NS)
        send_until_stale("red", BAG_NS + HOUR_NS + 1, stale + 1)
        stream.classify_once(make_image("green", BAG_NS + 4))
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["malformed"] == counts["failed"] == 0
    assert sorted(set(stream.stamps())) == [
        BAG_NS,
        BAG_NS + 1,
        BAG_NS + 2,
        BAG_NS + 4,
        BAG_NS + HOUR_NS,
    ]
