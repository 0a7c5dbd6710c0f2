# SPDX-License-Identifier: Apache-2.0
"""What camera and subscriber say of each frame, as bytes on a pipe. All times are steady.

CLOCK_MONOTONIC is one clock for all processes of a machine, so times of two of them compare.
Each record has a fixed part; those of the subscriber may have a payload behind it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from perception_node.errors import MalformedMessage
from perception_node.wire.images import CdrReader, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

SENT = struct.Struct("<6q")
HEARD = struct.Struct("<BBBxIqq")
MATCHED = -1  # in the place of a camera: somebody listens to each of them
RESULT, LATENCY, READY, GRAPH = range(4)  # kinds of what was heard
LATENCY_STAGES = ("wait", "read", "preprocess", "infer", "postprocess", "publish")
UNIT = " (ms)"


class SentRecord(NamedTuple):
    """One frame that the camera has published, in the order of ``SENT``."""

    camera: int
    number: int  # of this camera, from 0, warm-up included
    stamp_ns: int  # of the image: the system's clock when the frame was due
    due_ns: int
    call_ns: int  # the publish call begins
    return_ns: int  # and has returned


class Heard(NamedTuple):
    """One thing that the subscriber has heard.

    Attributes:
        kind: RESULT, LATENCY, READY (all that is said will be heard) or GRAPH.
        camera: whose; 0 where it has no meaning.
        has_result: whether a classification has any hypothesis.
        stamp_ns: of the image.
        received_ns: when it arrived.
        payload: the message of ~/latency as it came, or text that describes the graph.

    """

    kind: int
    camera: int
    has_result: bool
    stamp_ns: int
    received_ns: int
    payload: bytes


class TraceRecord(NamedTuple):
    """What ~/latency says of a frame: its outcome, and durations by ``LATENCY_STAGES``."""

    outcome: str
    stages_ns: dict[str, int]


def pack_heard(heard: Heard) -> bytes:
    """Return a record of the subscriber as bytes."""
    kind, camera, has_result, stamp_ns, received_ns, payload = heard
    return HEARD.pack(kind, camera, has_result, len(payload), stamp_ns, received_ns) + payload


def take_sent(buffer: bytearray) -> Iterator[SentRecord]:
    """Take all complete records of the camera from the front of ``buffer``."""
    complete = len(buffer) - len(buffer) % SENT.size
    records = bytes(buffer[:complete])
    del buffer[:complete]
    yield from map(SentRecord._make, SENT.iter_unpack(records))


def take_heard(buffer: bytearray) -> Iterator[Heard]:
    """Take all complete records of the subscriber from the front of ``buffer``."""
    while len(buffer) >= HEARD.size:
        kind, camera, has_result, size, stamp_ns, received_ns = HEARD.unpack_from(buffer)
        end = HEARD.size + size
        if len(buffer) < end:
            return
        payload = bytes(buffer[HEARD.size : end])
        del buffer[:end]
        yield Heard(kind, camera, bool(has_result), stamp_ns, received_ns, payload)


def read_latency(data: bytes) -> TraceRecord:
    """Read a message of ~/latency, a serialized diagnostic_msgs/DiagnosticArray.

    Raises:
        MalformedMessage: it is something else.

    """
    cdr = CdrReader(data)
    read_header(cdr)
    rows = cdr.uint32()
    if rows != 1:
        msg = f"a message of ~/latency has one row, found {rows}"
        raise MalformedMessage(msg)
    cdr.uint8()
    _name, outcome, _hardware = cdr.string(), cdr.string(), cdr.string()
    values = {cdr.string(): cdr.string() for _ in range(cdr.uint32())}
    try:
        stages_ns = {s: round(float(values[s + UNIT]) * 1e6) for s in LATENCY_STAGES}
    except (KeyError, ValueError) as error:
        msg = f"a message of ~/latency lacks a stage: {error}"
        raise MalformedMessage(msg) from error
    return TraceRecord(outcome, stages_ns)
