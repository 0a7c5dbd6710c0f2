# SPDX-License-Identifier: Apache-2.0
"""An image whose decoding takes longer than an engine may: real engines and their supervisor."""

from __future__ import annotations

import threading
import time

import pytest

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import CameraConfig, LatencyConfig
from perception_node.flow.accounts import FrameCounters
from perception_node.flow.deadline import Deadline
from perception_node.flow.frame_loop import FrameLoop
from perception_node.flow.supervisor import Supervisor
from perception_node.model.bundle import load_bundle
from tests.builders import GREEN, RED, compressed_message, encode, solid
from tests.engine_builders import PATIENCE_S, Rig, wait_for
from tests.newest_images import Handler, Images

pytestmark = pytest.mark.timeout(60)
ENGINE_TIMEOUT_S = 0.5
CONFIG = NodeConfig(
    cameras=CameraConfig(image_transport="compressed"), latency=LatencyConfig(deadline_ms=2000)
)
SLOW, FAST = (encode(solid(color)) for color in (RED, GREEN))


class SlowHandler(Handler):
    """Reads one image as slowly as wanted."""

    def __init__(self):
        super().__init__("compressed")
        self.is_decoding, self.may_go_on = threading.Event(), threading.Event()
        decoder = self.reader._decoder
        self._decode, decoder.decode = decoder.decode, self.decode

    def decode(self, data):
        if bytes(data) == SLOW:
            self.is_decoding.set()
            assert self.may_go_on.wait(PATIENCE_S)
        return self._decode(data)


def test_it_costs_the_frame_and_no_engine(color_bundle):
    rig, handler, images = Rig(load_bundle(color_bundle)), SlowHandler(), Images()
    rig.open(ENGINE_TIMEOUT_S)
    counters, losses = FrameCounters(), []
    camera = handler.camera(counters, Deadline("arrival", time.time_ns))
    loop = FrameLoop([camera], images, lambda: CONFIG)
    supervisor = Supervisor(rig.pipeline, loop, lambda: losses.append(rig.pipeline.description))
    supervisor.start()
    try:
        images.put(0, compressed_message(SLOW))
        assert handler.is_decoding.wait(PATIENCE_S)
        time.sleep(CONFIG.latency.deadline_ms / 1000 + 0.1)  # four times what an engine may take
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
