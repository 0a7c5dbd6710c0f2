# SPDX-License-Identifier: Apache-2.0
"""An image whose decoding takes longer than an engine may: real engines and their supervisor."""

from __future__ import annotations

import threading
import time

import pytest

from perception_node.bundle import load_bundle
from perception_node.camera import Camera
from perception_node.config import NodeConfig
from perception_node.counters import FrameCounters
from perception_node.deadline import Deadline
from perception_node.frame_loop import FrameLoop
from perception_node.ros.images import ImageReader
from perception_node.supervisor import Supervisor
from tests.builders import GREEN, RED, compressed_message, encode, solid
from tests.engine_builders import PATIENCE_S, Rig, wait_for
from tests.newest_images import Images

pytestmark = pytest.mark.timeout(60)
ENGINE_TIMEOUT_S = 0.5
CONFIG = NodeConfig(image_transport="compressed", deadline_ms=2000)
SLOW, FAST = (encode(solid(color)) for color in (RED, GREEN))


class Handler:
    """Reads real images, one of them as slowly as wanted, and keeps what becomes of them."""

    def __init__(self):
        reader = ImageReader("compressed", 1 << 20, 8)
        self.open = reader.open
        self.is_decoding, self.may_go_on = threading.Event(), threading.Event()
        self.results, self.reported = [], []
        self._decode, reader._decoder.decode = reader._decoder.decode, self.decode

    def decode(self, data):
        if bytes(data) == SLOW:
            self.is_decoding.set()
            assert self.may_go_on.wait(PATIENCE_S)
        return self._decode(data)

    def compose(self, prediction, _config):
        return prediction.hypotheses[0].label

    def send(self, result):
        self.results.append(result)

    def after_publish(self, frame, prediction):
        pass

    def record(self, trace):
        pass

    def report(self, error):
        self.reported.append(error)


def test_it_costs_the_frame_and_no_engine(color_bundle):
    rig, handler, images = Rig(load_bundle(color_bundle)), Handler(), Images()
    rig.open(ENGINE_TIMEOUT_S)
    counters, losses = FrameCounters(), []
    camera = Camera(handler, counters, Deadline("arrival", time.time_ns))
    loop = FrameLoop([camera], images, lambda: CONFIG)
    supervisor = Supervisor(rig.pipeline, loop, lambda: losses.append(rig.pipeline.description))
    supervisor.start()
    try:
        images.put(0, compressed_message(SLOW))
        assert handler.is_decoding.wait(PATIENCE_S)
        time.sleep(CONFIG.deadline_ms / 1000 + 0.1)  # four times what an engine may take
        handler.may_go_on.set()
        wait_for(lambda: counters.snapshot().malformed)
        images.put(0, compressed_message(FAST))
        wait_for(lambda: handler.results)
    finally:
        handler.may_go_on.set()
        assert supervisor.stop(PATIENCE_S)
        lost = rig.pipeline.lost
        rig.close()
    counts = counters.snapshot()
    assert counts.malformed_by_kind == {"slow_codec": 1}
    assert (counts.received, counts.published, counts.failed) == (2, 1, 0)
    assert handler.results == ["green"]
    assert (losses, lost) == ([], None)
