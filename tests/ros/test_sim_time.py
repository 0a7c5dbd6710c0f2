# SPDX-License-Identifier: Apache-2.0
"""Simulated time from a bag that is played, and what goes on when it stands still."""

from __future__ import annotations

import itertools
import signal
import time

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rosgraph_msgs.msg import Clock
from vision_msgs.msg import Classification

from perception_node.ros.messages import to_time
from perception_node.system.resources import find_resource
from tests.builders import image_message, write_bag
from tests.ros.harness import (
    NANOSECONDS,
    NODE,
    POLL_S,
    Stream,
    account,
    make_image,
    require_balance,
    stamp_of,
    start_cli,
    wait_for,
)

pytestmark = pytest.mark.ros
OK = 0
CAMERA = "/camera/image_raw"
BAG_S = range(1_700_000_000, 1_700_000_011)
BEGIN_NS = BAG_S[0] * NANOSECONDS
FRAMES, PERIOD_NS = 20, NANOSECONDS // 10


def test_the_node_works_on_the_bags_time(start, peer, domain):
    results = peer.collect(Classification, f"{NODE}/classification", 100)
    clocks = peer.collect(Clock, "/clock")
    diagnostics = peer.watch()
    player = ("--topic", f"{CAMERA}/compressed", "--clock", "--loop", "--rate", "2")
    with (
        start("-r", f"image:={CAMERA}", image_transport="compressed", use_sim_time=True),
        start_cli(domain, "play", find_resource("samples/photos"), *player) as play,
    ):
        wait_for(lambda: len(results) > 5, lambda: "results")
        assert all(stamp_of(result) // NANOSECONDS in BAG_S for result in results)
        # The node's own messages carry the bag's time as well.
        wait_for(lambda: stamp_of(diagnostics.messages[-1]), lambda: "diagnostics on bag time")
        assert diagnostics.messages[-1].header.stamp.sec in BAG_S
        assert play.end(signal.SIGINT) == 0

        diagnostics.skip(2)
        stands_at = stamp_of(diagnostics.messages[-1])
        diagnostics.skip(10)
        assert stamp_of(diagnostics.messages[-1]) == stands_at
        assert diagnostics.messages[-1].header.stamp == clocks[-1].clock
        assert peer.state() == "active"


def said(diagnostics) -> str:
    """Return the words of the row about the input; the node has said others while it began."""
    row = diagnostics.latest().get("input")
    return row.message if row else ""


def test_a_clock_that_never_comes_does_not_stop_diagnostics(start, peer):
    diagnostics = peer.watch()
    with start(use_sim_time=True, image_timeout_s=0.3):
        wait_for(lambda: "nobody publishes /clock" in said(diagnostics), diagnostics.latest)
        diagnostics.skip(5)
        assert stamp_of(diagnostics.messages[-1]) == 0
        assert peer.state() == "active"


@pytest.fixture
def bag(tmp_path):
    """A bag of two seconds; no two frames have the same scores."""
    source = np.random.default_rng(1)
    stamps = [BEGIN_NS + number * PERIOD_NS for number in range(FRAMES)]
    rows = [
        (CAMERA, "sensor_msgs/msg/Image", stamp_ns, image_message(pixels, stamp_ns=stamp_ns))
        for stamp_ns, pixels in (
            (stamp_ns, source.integers(0, 256, (24, 32, 3), np.uint8)) for stamp_ns in stamps
        )
    ]
    return write_bag(tmp_path / "bag", rows)


def split_into_loops(results):
    """Return the results of each loop: {stamp: (label, score)}, one ends where time goes back."""
    loops = [{}]
    for before, result in itertools.pairwise([results[0], *results]):
        if stamp_of(result) < stamp_of(before):
            loops.append({})
        best = result.results[0]
        loops[-1][stamp_of(result)] = (best.class_id, best.score)
    return loops


def test_every_loop_of_a_bag_has_the_same_results(start, peer, domain, bag):
    results = peer.collect(Classification, f"{NODE}/classification", 100)
    given = {"age_reference": "stamp", "deadline_ms": 500, "use_sim_time": True}
    # A real model is still at work on the last frame when time goes back.
    given["model"] = "efficientnet_lite0"
    with (
        start("-r", f"image:={CAMERA}", **given) as node,
        start_cli(domain, "play", bag, "--clock", "--loop", "--rate", 2),
    ):
        wait_for(lambda: results, lambda: "results")

        def whole_loops():
            # The last one is not over. On a busy machine frames may be superseded.
            loops = split_into_loops(list(results))[:-1]
            return [loop for loop in loops if len(loop) == FRAMES]

        wait_for(lambda: len(whole_loops()) >= 2, lambda: f"two whole loops: {whole_loops()}")
        first, second = whole_loops()[:2]
        assert node.end() == 0
        require_balance(account(node.log()))
    assert first == second
    assert len(set(first.values())) == FRAMES


def set_simulated_time(peer, *, is_used):
    """Change ``use_sim_time`` of the running node."""
    content = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=is_used)
    request = SetParameters.Request(parameters=[Parameter(name="use_sim_time", value=content)])
    assert peer.call(SetParameters, f"{NODE}/set_parameters", request).results[0].successful


def test_simulated_time_can_be_switched_on_and_off_at_work(start, peer):
    diagnostics = peer.watch()
    clock = peer.node.create_publisher(Clock, "/clock", 1)
    with start(age_reference="stamp", image_timeout_s=10.0) as node:
        stream = Stream(peer)

        def send_until_stale():
            before = int(diagnostics.value("stale") or 0)

            def is_stale():
                stream.camera.publish(make_image("red", BEGIN_NS + 1))
                time.sleep(POLL_S)
                return int(diagnostics.value("stale") or 0) > before

            wait_for(is_stale, diagnostics.latest)

        def has_bag_time():
            clock.publish(Clock(clock=to_time(BEGIN_NS)))
            return stamp_of(diagnostics.messages[-1]) == BEGIN_NS

        for second in range(2):
            stream.classify(make_image("red", time.time_ns()))
            send_until_stale()
            stream.classify_once(make_image("blue", time.time_ns()))  # none of those is on its way
            set_simulated_time(peer, is_used=True)
            wait_for(has_bag_time, lambda: "the bag's time")
            stream.classify(make_image("green", BEGIN_NS + 10 + second))
            set_simulated_time(peer, is_used=False)
            wait_for(lambda: stamp_of(diagnostics.messages[-1]) > BEGIN_NS, lambda: "real time")
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["malformed"] == counts["failed"] == 0
    assert BEGIN_NS + 1 not in stream.stamps()
