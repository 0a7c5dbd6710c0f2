# SPDX-License-Identifier: Apache-2.0
"""Frames that are odd, but right: each has a result, and changes in the stream cost nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from tests.builders import encode, quadrants
from tests.hostile_images import orientation, rows_of, with_exif
from tests.memory import OWN, memory_kib
from tests.ros.harness import (
    Stream,
    account,
    make_compressed,
    make_image,
    require_balance,
    set_header,
)

pytestmark = pytest.mark.ros
ALTERNATIONS = 100
GROWTH_LIMIT_KIB = 5 * 1024


def odd_image(encoding, height, width, *, value=None, padding=0, **fields) -> Image:
    """Make an image of any encoding and shape."""
    rows = rows_of(encoding, height, width, padding, value)
    message = Image(
        height=height, width=width, encoding=encoding, step=rows.shape[1], is_bigendian=0
    )
    message.data.frombytes(rows.tobytes())
    for name, content in fields.items():
        setattr(message, name, content)
    return message


RAW = {
    "one pixel": odd_image("rgb8", 1, 1),
    "one row": odd_image("mono8", 1, 10_000),
    "one column": odd_image("bayer_rggb8", 10_000, 1),
    "black": odd_image("rgb8", 48, 64, value=0),
    "white": odd_image("bgra8", 48, 64, value=255),
    "padded by one byte": odd_image("bgr8", 7, 5, padding=1),
    "big-endian": odd_image("mono16", 24, 32, is_bigendian=7),
    "every bit": odd_image("nv12", 24, 32, value=255),
}
COMPRESSED = {
    "turned": with_exif(encode(quadrants()), orientation(6)),
    "damaged EXIF": with_exif(encode(quadrants()), b"MM\x00\x2a\xff\xff\xff\xff"),
    "one pixel": encode(np.zeros((1, 1, 3), np.uint8)),
    "padded": encode(quadrants()) + bytes(5000),
    "black": encode(np.zeros((48, 64, 3), np.uint8), ".png"),
}


def require_scores(result):
    scores = [hypothesis.score for hypothesis in result.results]
    assert len(scores) == 3
    assert all(math.isfinite(score) for score in scores)
    assert sum(scores) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_odd_frames_have_results(start, peer, jpeg, transport):
    if transport == "raw":
        frames, green = list(RAW.values()), make_image("green")
    else:
        frames = [make_compressed(data) for data in COMPRESSED.values()]
        green = make_compressed(jpeg("green"))
    with start(image_transport=transport) as node:
        if transport == "raw":
            stream = Stream(peer)
        else:
            stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        set_header(green, 1)
        stream.classify(green)
        for stamp_ns, frame in enumerate(frames, 2):
            set_header(frame, stamp_ns)
            require_scores(stream.classify_once(frame))
        set_header(green, 1000)
        assert stream.classify_once(green).results[0].class_id == "1"
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["malformed"] == counts["failed"] == 0


def test_a_hundred_changes_of_size_and_encoding_cost_nothing(start, peer):
    kinds = [
        make_image("red", encoding="rgb8", size=(640, 480)),
        make_image("green", encoding="bgr8", size=(32, 24)),
        make_image("blue", encoding="rgb8", size=(320, 240)),
        odd_image("nv12", 480, 640, value=128),
    ]
    expected = ["0", "1", "2"]

    def alternate(first_ns):
        for number in range(ALTERNATIONS):
            frame = kinds[number % len(kinds)]
            set_header(frame, first_ns + number)
            result = stream.classify_once(frame)
            if frame is not kinds[-1]:  # grey is no class
                assert result.results[0].class_id == expected[number % len(kinds)]

    with start() as node:
        stream = Stream(peer)
        set_header(kinds[0], 1)
        stream.classify(kinds[0])
        alternate(1000)
        before_kib = memory_kib(node.process.pid, OWN)
        alternate(2000)
        assert memory_kib(node.process.pid, OWN) - before_kib < GROWTH_LIMIT_KIB
        assert peer.state() == "active"
        assert node.end() == 0
        log = node.log()
    assert log.count(" runs on ") == log.count("active: waiting for images") == 1
    assert "[WARN]" not in log
    counts = account(log)
    require_balance(counts)
    assert counts["published"] == counts["received"] == len(stream.results)
