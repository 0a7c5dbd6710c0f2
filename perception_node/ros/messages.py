# SPDX-License-Identifier: Apache-2.0
"""Our records as ROS messages; the only place that knows their field names.

``float()`` and ``str()`` are not decoration: without field checks, rclpy hands a NumPy scalar
to C code that reads it as a Python float.
"""

from __future__ import annotations

import struct
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    Classification,
    LabelInfo,
    ObjectHypothesis,
    VisionClass,
    VisionInfo,
)

from perception_node.config.sections import ClassIdFormat, OutputConfig
from perception_node.engines.pipeline import Prediction, StageTimes
from perception_node.flow.health import Level, Status
from perception_node.vision.postprocess import Hypothesis
from perception_node.wire.images import LITTLE_ENDIAN, NANOSECONDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from perception_node.flow.camera import FrameTrace

# Of CDR in little-endian order.
ENCAPSULATION = LITTLE_ENDIAN + bytes(2)
STAMP, LENGTH, SCORE = struct.Struct("<iI"), struct.Struct("<I"), struct.Struct("<d")


def to_time(time_ns: int) -> Time:
    """Make a builtin_interfaces/Time from nanoseconds since the epoch."""
    sec, nanosec = divmod(time_ns, NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


def to_nanoseconds(stamp: Time) -> int:
    """Return a builtin_interfaces/Time as nanoseconds since the epoch."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def to_header(stamp_ns: int, frame_id: str) -> Header:
    """Make a std_msgs/Header."""
    return Header(stamp=to_time(stamp_ns), frame_id=frame_id)


def to_classification(prediction: Prediction, config: OutputConfig) -> Classification:
    """Make a vision_msgs/Classification with the image's own header, best hypothesis first."""
    class_id_format = config.class_id_format
    return Classification(
        header=to_header(prediction.stamp_ns, prediction.frame_id),
        results=[
            ObjectHypothesis(
                class_id=to_class_id(hypothesis, class_id_format), score=float(hypothesis.score)
            )
            for hypothesis in prediction.hypotheses
        ],
    )


def serialize_classification(prediction: Prediction, config: OutputConfig) -> bytes:
    """Return what rclpy makes of ``to_classification``, in a part of the time.

    Only where ``knows_classification()``.
    """
    hypotheses, class_id_format = prediction.hypotheses, config.class_id_format
    frame_id = _pack_frame_id(prediction.frame_id, len(hypotheses))
    parts = [ENCAPSULATION, STAMP.pack(*divmod(prediction.stamp_ns, NANOSECONDS)), frame_id]
    start = (STAMP.size + len(frame_id)) % 8
    for hypothesis in hypotheses:
        parts.append(_pack_class_id(to_class_id(hypothesis, class_id_format), start))
        parts.append(SCORE.pack(hypothesis.score))
        start = 0  # after eight bytes of a score
    return b"".join(parts)


def knows_classification() -> bool:
    """Tell whether the installed vision_msgs serializes a Classification as we do."""
    hypotheses = tuple(Hypothesis(index, "ä" * index, 0.5**index) for index in range(9, 12))
    times, config = StageTimes(0, 0, 0), OutputConfig(class_id_format="name")
    for frame_id in ("", "camera"):
        prediction = Prediction(hypotheses, 1_000_000_002, frame_id, times)
        typed = to_classification(prediction, config)
        ours = serialize_classification(prediction, config)
        # Padding has no value; rclpy leaves in it what was there.
        if len(ours) != len(serialize_message(typed)):
            return False
        if deserialize_message(ours, Classification) != typed:
            return False
    return True


@lru_cache(maxsize=16)  # not many: the id of a camera may be 64 KiB long
def _pack_frame_id(text: str, results: int) -> bytes:
    """Return a frame's id and the number of results behind it."""
    return _pack_string(text, STAMP.size, 4) + LENGTH.pack(results)


@lru_cache(maxsize=4096)  # a model's classes come again and again
def _pack_class_id(text: str, start: int) -> bytes:
    """Return a class's id that lies at ``start``, aligned for a score."""
    return _pack_string(text, start, 8)


def _pack_string(text: str, start: int, alignment: int) -> bytes:
    """Return a string that lies at ``start``, with the padding that what follows it needs."""
    octets = text.encode() + b"\x00"
    packed = LENGTH.pack(len(octets)) + octets
    return packed + bytes(-(start + len(packed)) % alignment)


def to_class_id(hypothesis: Hypothesis, class_id_format: ClassIdFormat) -> str:
    """Return the class's index as a decimal string, or its name."""
    return hypothesis.label if class_id_format == "name" else str(hypothesis.class_id)


def to_label_info(header: Header, labels: tuple[str, ...], threshold: float) -> LabelInfo:
    """Make a vision_msgs/LabelInfo: what the indices in ``class_id`` mean."""
    classes = [VisionClass(class_id=i, class_name=str(label)) for i, label in enumerate(labels)]
    return LabelInfo(header=header, class_map=classes, threshold=float(threshold))


def to_vision_info(header: Header, method: str, label_topic: str, version: int) -> VisionInfo:
    """Make a vision_msgs/VisionInfo that points to the labels."""
    return VisionInfo(
        header=header, method=method, database_location=label_topic, database_version=version
    )


def to_image(header: Header, picture: NDArray[np.uint8]) -> Image:
    """Make a bgr8 sensor_msgs/Image from uint8 (height, width, 3)."""
    height, width = picture.shape[:2]
    return Image(
        header=header,
        height=height,
        width=width,
        encoding="bgr8",
        is_bigendian=0,
        step=width * 3,
        data=array("B", picture.tobytes()),  # anything but array("B") is 25 times slower
    )


def to_diagnostics(
    header: Header, node_name: str, hardware_id: str, statuses: list[Status]
) -> DiagnosticArray:
    """Make a diagnostic_msgs/DiagnosticArray with names as diagnostic_aggregator expects."""
    return DiagnosticArray(
        header=header,
        status=[
            DiagnosticStatus(
                level=bytes([status.level]),
                name=f"{node_name}: {status.task}",
                message=status.message,
                hardware_id=hardware_id,
                values=[KeyValue(key=key, value=value) for key, value in status.values.items()],
            )
            for status in statuses
        ],
    )


def to_statuses(message: DiagnosticArray, prefix: str) -> list[Status]:
    """Return the rows whose names begin with ``prefix``; a level that nobody knows is an error."""
    return [
        Status(
            task=row.name.removeprefix(prefix),
            level=Level(row.level[0]) if row.level[0] in set(Level) else Level.ERROR,
            message=row.message,
            values={pair.key: pair.value for pair in row.values},
        )
        for row in message.status
        if row.name.startswith(prefix)
    ]


def to_latency(trace: FrameTrace, node_name: str) -> DiagnosticArray:
    """Make the message of ``~/latency``: one frame's outcome and its stages in milliseconds."""
    stages = {
        "wait": trace.wait_ns,
        "read": trace.read_ns,
        "preprocess": trace.preprocess_ns,
        "infer": trace.infer_ns,
        "postprocess": trace.postprocess_ns,
        "publish": trace.publish_ns,
    }
    values = [KeyValue(key=f"{name} (ms)", value=f"{ns / 1e6:.3f}") for name, ns in stages.items()]
    if trace.age_ns is not None:
        values.append(KeyValue(key="age (ms)", value=f"{trace.age_ns / 1e6:.3f}"))
    status = DiagnosticStatus(
        level=b"\x00",
        name=f"{node_name}: latency",
        message=trace.outcome,
        values=values,
    )
    return DiagnosticArray(header=to_header(trace.stamp_ns, trace.frame_id), status=[status])
