# SPDX-License-Identifier: Apache-2.0
"""More frames than the engine can take: the newest wins, and every one is accounted for."""

from __future__ import annotations

import time

import pytest

from perception_node.flow.accounts import UNNUMBERED
from tests.memory import OWN, memory_kib
from tests.ros.harness import (
    EVERY_RESULT,
    IS_NUMBERED,
    Stream,
    account,
    make_image,
    require_balance,
    wait_for,
)

pytestmark = pytest.mark.ros
BURST = 200
PERIOD_S = 0.003  # a third of what one inference takes
AT_ONCE = 1000
BURSTS = 5
GROWTH_LIMIT_KIB = 5 * 1024  # the frames of one burst would be 9 MB
BURST_SIZE = (64, 48)
SIZE = (160, 120)  # so that the whole burst fits into the shared memory: DDS itself loses nothing


@pytest.mark.parametrize("image_qos", ["sensor_data", "default"])
def test_a_burst_leaves_the_newest(start, peer, image_qos):
    with start(model="efficientnet_lite0", image_qos=image_qos, **EVERY_RESULT) as node:
        stream = Stream(peer, qos=BURST)
        stream.classify(make_image("red", 1, size=SIZE))
        image = make_image("green", 2, size=SIZE)
        first, last = 1000, 1000 + BURST - 1
        for stamp_ns in range(first, last + 1):
            image.header.stamp.nanosec = stamp_ns
            stream.camera.publish(image)
            time.sleep(PERIOD_S)
        wait_for(lambda: stream.result(last), lambda: "a result for the newest frame")
        stream.classify_once(make_image("blue", 5000, size=SIZE))
        assert peer.state() == "active"
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    if IS_NUMBERED:
        assert counts["superseded"] == counts["received"] - len(stream.results) > 0
        assert counts["doubt"] == ""
    else:
        assert counts["doubt"] == UNNUMBERED
    assert counts["malformed"] == counts["failed"] == 0
    assert counts["published"] == len(stream.results)
    burst = [stamp_ns for stamp_ns in stream.stamps() if first <= stamp_ns <= last]
    assert burst == sorted(set(burst)), "an older frame after a newer one"
    assert len(burst) < BURST


def test_a_thousand_frames_at_once_are_all_accounted_for(start, peer):
    diagnostics = peer.watch()
    last, memory = 0, []
    # Reliable, so that the newest frame of each burst does arrive, whatever is in its way.
    with start(image_qos="default", **EVERY_RESULT) as node:
        stream = Stream(peer, qos=AT_ONCE)
        stream.classify(make_image("red", 1))
        diagnostics.skip(2)
        before = int(diagnostics.value("received"))
        for burst in range(1, BURSTS + 1):
            first, last = burst * 10 * AT_ONCE, burst * 10 * AT_ONCE + AT_ONCE - 1
            image = make_image("green", first, size=BURST_SIZE)
            for stamp_ns in range(first, last + 1):
                image.header.stamp.nanosec = stamp_ns
                stream.camera.publish(image)
            wait_for(lambda: stream.result(last), lambda: "a result for the newest frame")
            memory.append(memory_kib(node.process.pid, OWN))
        # What the node did not take, the middleware had replaced: nothing is lost unnoticed.
        if IS_NUMBERED:
            diagnostics.wait_for_value("received", before + BURSTS * AT_ONCE)
            assert diagnostics.value("replaced by newer ones").isdecimal()
        else:
            assert diagnostics.value("replaced by newer ones").startswith("at least 0")
        assert diagnostics.value("lost on the way") == "0"
        stream.classify_once(make_image("blue", last + 1))
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["malformed"] == counts["failed"] == 0
    assert counts["published"] == len(stream.results) < BURSTS * AT_ONCE
    assert stream.stamps() == sorted(stream.stamps()), "an older frame after a newer one"
    assert memory[-1] - memory[1] < GROWTH_LIMIT_KIB
