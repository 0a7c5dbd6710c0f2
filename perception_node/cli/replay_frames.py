# SPDX-License-Identifier: Apache-2.0
"""Where the records of a replay come from: the pipeline in this process, or real nodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from perception_node.cli.classify import to_records
from perception_node.engines.selection import load_in_time
from perception_node.errors import FrameError
from perception_node.model.bundle import load_bundle
from perception_node.ros.required import require_ros
from perception_node.system.process import use_one_opencv_thread
from perception_node.system.resources import find_model
from perception_node.terminal.output import note
from perception_node.vision.samples import SampleScaler
from perception_node.wire.images import TRANSPORTS, ImageReader

if TYPE_CHECKING:
    from collections.abc import Generator

    from perception_node.config.node_config import NodeConfig
    from perception_node.config.sections import CameraConfig, Transport
    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.replay.golden import Record
    from perception_node.wire.bags import Bag, BagMessage


def replay_bag(
    bag: Bag, topics: dict[str, str], config: NodeConfig
) -> Generator[Record, None, None]:
    """Yield a record per image of these topics, in the order of their recorded time.

    Raises:
        BagError, ModelError, EngineError: the bag, the model or the engine cannot be used.

    """
    use_one_opencv_thread()
    with load_in_time(config.model) as pipeline:
        readers = {
            topic: _make_reader(topic, TRANSPORTS[kind], config.cameras, pipeline.smallest_side)
            for topic, kind in topics.items()
        }
        for message in bag.messages(list(topics)):
            yield _classify(message, readers[message.topic], pipeline, config)


def _make_reader(
    topic: str, transport: Transport, cameras: CameraConfig, smallest_side: int
) -> ImageReader:
    """Return a reader for one camera, which may have a range of its own."""

    def warn(complaint: str) -> None:
        note(f"{topic}: {complaint}")

    scaler = SampleScaler(cameras.mono16_range, cameras.mono32_range, warn)
    return ImageReader(
        transport, cameras.max_image_pixels, smallest_side, scaler=scaler, warn=warn
    )


def _classify(
    message: BagMessage,
    reader: ImageReader,
    pipeline: FallbackPipeline,
    config: NodeConfig,
) -> Record:
    record: dict[str, Any] = {"topic": message.topic, "time_ns": message.time_ns}
    try:
        frame = reader.read(message.data)
    except FrameError as error:
        return {**record, "dropped": error.kind, "why": str(error)}
    prediction = pipeline.run(frame, top_k=config.output.top_k, threshold=config.output.threshold)
    record.update(stamp_ns=frame.stamp_ns, frame_id=frame.frame_id)
    return {**record, "results": to_records(prediction.hypotheses)}


def replay_bag_live(
    bag: Bag, topics: dict[str, str], config: NodeConfig, rate: float | None
) -> Generator[Record, None, None]:
    """Yield the same records, from real nodes over DDS; see ``LiveReplay``.

    Args:
        bag: where the images are.
        topics: image topics and their types.
        config: parameters of the nodes.
        rate: at most so many times the recorded speed; None plays as fast as it goes.

    Raises:
        EnvironmentLacks: ROS is missing, or a node does not start, or does not answer.
        BagError, ModelError: the bag or the model cannot be used.

    """
    load_bundle(find_model(config.model.model))  # a node would say so in its log only
    require_ros()
    from perception_node.rehearsal.domain import use_private_domain
    from perception_node.rehearsal.live_replay import LiveReplay

    use_private_domain()
    replay = LiveReplay(topics, config)
    yield from replay.run(bag.messages(list(topics)), math.inf if rate is None else rate)
