# SPDX-License-Identifier: Apache-2.0
"""Nothing older than its deadline is published, whatever the engine and the other processes do."""

from __future__ import annotations

import random
import struct
import threading
import time
import tracemalloc

import pytest

from perception_node.bench.siege.load import busy_cores
from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import LatencyConfig
from perception_node.engines.pipeline import Prediction, StageTimes
from perception_node.flow.accounts import FrameCounters
from perception_node.flow.camera import Camera
from perception_node.flow.deadline import Deadline, reserve_ns
from perception_node.flow.frame_loop import FrameLoop
from perception_node.wire.images import ImageReader
from tests.builders import image_message, solid
from tests.newest_images import Images

FRAMES = 10_000
MOST_STOPPED = 3
BURST = 1000
DEADLINE_MS = 8
LONGEST_S = 5 * DEADLINE_MS / 1000  # of one inference
MESSAGE = image_message(solid((1, 2, 3), 12, 16))


def stamped(stamp_ns):
    """Return a serialized image of this stamp."""
    return MESSAGE[:4] + struct.pack("<iI", *divmod(stamp_ns, 10**9)) + MESSAGE[12:]


class Handler:
    """Reads real messages, waits in place of an engine, and looks at the clock when it sends."""

    def __init__(self, wait_for_engine):
        self.open = ImageReader("raw", 1 << 20, 8).open
        self.sent = []  # stamp and age of each result, nanoseconds
        self.gaps_ns = []  # from what precedes the loop's last look at the clock to sending
        self.errors = []
        self._wait_for_engine = wait_for_engine

    def run(self, frame, **_limits):
        self._wait_for_engine()
        return Prediction((), frame.stamp_ns, frame.frame_id, StageTimes(0, 0, 0))

    def compose(self, prediction, _config):
        self._composed_ns = time.time_ns()
        return prediction

    def send(self, result):
        now_ns = time.time_ns()  # before anything else
        self.sent.append((result.stamp_ns, now_ns - result.stamp_ns))
        self.gaps_ns.append(now_ns - self._composed_ns)

    def report(self, error):
        # The kernel may also stop the thread while it reads: slow_codec.
        if getattr(error, "kind", "") not in {"stale", "late", "slow_codec"}:
            self.errors.append(error)


class Setup:
    def __init__(self, wait_for_engine, deadline_ms):
        self.handler = Handler(wait_for_engine)
        self.counters = FrameCounters()
        self.config = NodeConfig(latency=LatencyConfig(deadline_ms=deadline_ms))
        handler, deadline = self.handler, Deadline("stamp", time.time_ns)
        camera = Camera(
            handler.open, handler.compose, handler.send, handler.report, self.counters, deadline
        )
        self.images = Images()
        self.loop = FrameLoop([camera], self.images, lambda: self.config)
        self.loop.begin()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        self.loop.run(self.handler, lambda _frame, _error: False)

    def stop(self):
        self.loop.stop()
        self._thread.join(10.0)
        assert not self._thread.is_alive()
        counts = self.counters.snapshot()
        assert self.handler.errors == []
        held_up = counts.malformed_by_kind.get("slow_codec", 0)
        assert held_up <= MOST_STOPPED
        assert (counts.in_flight, counts.malformed, counts.failed) == (0, held_up, 0)
        assert counts.published == len(self.handler.sent)
        return counts


def jumping_engine(seed):
    """Return a function that waits: mostly in time; jumps come alone, and in spells."""
    source, spell = random.Random(seed), []

    def one_s(share_of_jumps):
        longest_s = LONGEST_S if source.random() < share_of_jumps else 0.1 * LONGEST_S
        return source.uniform(0.0, longest_s)

    def wait():
        if not spell:
            share = source.choice((0.0, 0.05, 0.05, 1.0))
            length = source.randint(1, 10 if share == 1.0 else 100)
            spell.extend(one_s(share) for _ in range(length))
        time.sleep(spell.pop())

    return wait


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_no_result_is_older_than_its_deadline():
    source = random.Random(2)
    setup = Setup(jumping_engine(1), DEADLINE_MS)
    with busy_cores():
        counts = setup.counters.snapshot()
        while counts.received - counts.superseded < FRAMES:
            transport_ms = source.uniform(0.0, 0.4 * DEADLINE_MS)
            setup.images.put(0, stamped(time.time_ns() - int(transport_ms * 1e6)))
            time.sleep(source.uniform(0.0, 0.002))  # open loop: the node is not waited for
            counts = setup.counters.snapshot()
        counts = setup.stop()
    assert min(counts.published, counts.superseded, counts.stale, counts.late) >= 100, counts
    limit_ns = DEADLINE_MS * 10**6
    overdue = [
        (age_ns, gap_ns)
        for (_, age_ns), gap_ns in zip(setup.handler.sent, setup.handler.gaps_ns, strict=True)
        if age_ns > limit_ns
    ]
    # Without a real-time priority the kernel may stop the thread between its last look at the
    # clock and sending, for longer than the reserve. Nothing else may make a result overdue.
    assert [gap for age, gap in overdue if age - gap > limit_ns - reserve_ns(limit_ns)] == []
    assert [gap for _, gap in overdue if gap <= reserve_ns(limit_ns)] == []
    assert len(overdue) <= MOST_STOPPED, (overdue, counts)
    stamps = [stamp_ns for stamp_ns, _ in setup.handler.sent]
    assert len(set(stamps)) == len(stamps)


def test_a_burst_leaves_the_newest_and_no_memory():
    busy, gate = threading.Event(), threading.Event()

    def wait_for_engine():
        busy.set()
        assert gate.wait(20)

    setup = Setup(wait_for_engine, deadline_ms=60_000)
    begin_ns = time.time_ns()
    setup.images.put(0, stamped(begin_ns))
    assert busy.wait(10)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1, BURST + 1):
            setup.images.put(0, stamped(begin_ns + number))
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert setup.counters.snapshot().in_flight == 1
    # Only the one that waits is held, and the one that replaces it: a queue would hold them all.
    assert max(after - before, peak - before) < 20 * len(MESSAGE) < BURST * len(MESSAGE) / 10
    gate.set()
    while setup.counters.snapshot().published < 2:
        time.sleep(0.001)
    counts = setup.stop()
    assert [stamp_ns for stamp_ns, _ in setup.handler.sent] == [begin_ns, begin_ns + BURST]
    assert (counts.received, counts.published, counts.superseded) == (BURST + 1, 2, BURST - 1)
