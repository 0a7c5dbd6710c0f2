# SPDX-License-Identifier: Apache-2.0
"""Whatever a camera sends, the node lives, counts it, says it once and takes the next frame."""

from __future__ import annotations

import itertools
import time

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from perception_node.ros.delivery import BYTES, find_delivery
from perception_node.ros.qos import named_qos
from tests.hostile_images import chunk, hidden_jpeg, png, squeeze, with_scans
from tests.memory import OWN, memory_kib
from tests.ros.harness import (
    Peer,
    Stream,
    account,
    make_compressed,
    make_image,
    require_balance,
    serialize,
    wait_for,
)

pytestmark = pytest.mark.ros
LOG_PERIOD_S = 5.0
ROUNDS = 2
PADDED = b"\x00" * 64
ERROR = 2
GROWTH_LIMIT_KIB = 5 * 1024
PERIOD_S = 0.002  # a bad frame takes less; without it, most would supersede each other
HUGE = (1 << 32) - 1


def bad_stamp(message, *, sec=0, nanosec=0):
    message.header.stamp.sec = sec
    message.header.stamp.nanosec = nanosec
    return message


def png_bomb() -> bytes:
    """A small PNG of 30000 x 30000 pixels; decoding it takes gigabytes."""
    black = np.zeros((64, 64), np.uint8)
    content = bytearray(cv2.imencode(".png", black, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    return bytes(content)


def raw(**fields):
    """Make an image with wrong fields."""
    return lambda: make_image("red", 7, **fields)


RAW = {
    "layout": [
        raw(step=32 * 3 - 1, data=bytes(32 * 24 * 3 - 1)),
        raw(step=0, data=bytes(32 * 24 * 3 + 1)),
        raw(step=32 * 3 + 1),
        raw(height=25),
        raw(height=0),
        raw(width=0),
        raw(height=0, width=0),
        raw(height=1, width=1 << 22, step=HUGE),
        raw(encoding="nv12", height=23, step=32),
        raw(encoding="yuyv", width=31, step=64),
        lambda: Image(encoding="rgb8"),
    ],
    "too_large": [raw(height=HUGE, width=HUGE), raw(height=1 << 20, width=1 << 20, step=HUGE)],
    "encoding": [
        raw(encoding="32FC1"),
        raw(encoding="8UC5"),
        raw(encoding="größe"),
        raw(encoding=""),
        raw(encoding="x" * 10_000),
        raw(encoding="RGB8\n[FATAL] forged line"),
    ],
    "stamp": [
        lambda: bad_stamp(make_image(), sec=-1),
        lambda: bad_stamp(make_image(), nanosec=1_000_000_000),
        lambda: bad_stamp(make_image(), sec=-(1 << 31), nanosec=HUGE),
    ],
    "message": [
        lambda: b"\x00",
        lambda: b"\x00\x01\x00\x00",
        lambda: b"garbage that is no message",
        lambda: b"\x00\x01\x00\x00" + PADDED,
        lambda: b"\x00\x07" + serialize(make_image())[2:],
        lambda: serialize(make_image(encoding="x" * 100_000)),
        lambda: serialize(make_image())[:40],
        lambda: serialize(make_image())[:-8],
    ],
}


def large(**fields):
    """Make an image of 230 kB with wrong fields: one that is kept would be seen."""
    return lambda: make_image("red", 7, size=(320, 240), **fields)


LARGE_RAW = {
    "layout": [large(step=961), large(height=241), large(encoding="nv12", width=319)],
    "too_large": [large(height=HUGE, width=HUGE)],
    "encoding": [large(encoding="32FC1"), large(encoding="\x1b[31m")],
    "stamp": [lambda: bad_stamp(large()(), sec=-1)],
    "message": [lambda: serialize(large()())[:-8], lambda: serialize(large()())[8:]],
}


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def photo() -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def endless_scans() -> bytes:
    """A JPEG of 10 kB that takes the decoder half a minute."""
    black = np.zeros((4096, 4096), np.uint8)
    progressive = cv2.imencode(".jpg", black, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    return with_scans(progressive, 1000)


def huge_jpeg() -> bytes:
    """A JPEG that claims 65500 x 65500 pixels."""
    content = bytearray(photo())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = (65_500).to_bytes(2, "big") * 2
    return bytes(content)


def packed(data: bytes):
    """Make a compressed image of these bytes."""
    return lambda: make_compressed(data, 7)


COMPRESSED = {
    "codec": [
        packed(b""),
        packed(b"\xff\xd8\xff"),
        packed(cut(photo(), 0.001)),
        packed(b"\xff\xd8\xff" + b"garbage" * 100),
        packed(b"GIF89a" + PADDED),
        packed(b"II*\x00" + PADDED),
        packed(b"v/1\x01" + PADDED),
        packed(b"RIFF\x40\x00\x00\x00WEBPVP8 " + PADDED),
        packed(b"\x89PNG\r\n\x1a\n" + PADDED),
        packed(png(chunk(b"tEXt", PADDED, HUGE))),
        packed(endless_scans()),
        packed(hidden_jpeg(photo())),
        packed(photo()[:9000] + b"\xff\xd9"),
        packed(png(pixels=squeeze(100))),
    ],
    "too_large": [packed(png_bomb()), packed(huge_jpeg())],
    "stamp": [lambda: bad_stamp(make_compressed(photo()), sec=-1)],
    "message": [
        lambda: b"garbage that is no message",
        lambda: serialize(make_compressed(photo()))[:40],
        lambda: serialize(make_compressed(photo()))[:-8],
    ],
}
CASES = [
    pytest.param((transport, kind, makes), id=f"{transport} {kind}")
    for transport, kinds in (("raw", RAW), ("compressed", COMPRESSED))
    for kind, makes in kinds.items()
]


def reaching(kinds, peer, message_type):
    """Return the kinds of bad frames that the node gets to see."""
    if find_delivery(peer.node, message_type) == BYTES:
        return kinds
    # What rclpy cannot make a message of, the middleware drops.
    return {kind: makes for kind, makes in kinds.items() if kind != "message"}


@pytest.mark.parametrize("case", CASES)
def test_bad_frames_are_counted_and_survived(start, peer, jpeg, case):
    transport, kind, makes = case
    message_type = Image if transport == "raw" else CompressedImage
    if not reaching({kind: makes}, peer, message_type):
        pytest.skip("the middleware drops what rclpy cannot make a message of")

    def good(stamp_ns):
        if transport == "raw":
            return make_image("green", stamp_ns)
        return make_compressed(jpeg("green"), stamp_ns)

    diagnostics = peer.watch()
    with start(image_transport=transport) as node:
        if transport == "raw":
            stream = Stream(peer)
        else:
            stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        stream.classify(good(1))
        published = len(stream.results)

        # One at a time: two bad frames at once would supersede each other.
        begin_s, sent = time.monotonic(), 0
        for make in makes * ROUNDS:
            stream.camera.publish(make())
            sent += 1
            diagnostics.wait_for_value(f"malformed ({kind})", sent)
        took_s = time.monotonic() - begin_s
        assert len(stream.results) == published, "a bad frame was answered"
        assert diagnostics.value("malformed") == str(sent)
        assert peer.state() == "active"

        result = stream.classify_once(good(2))
        assert result.results[0].class_id == "1"
        diagnostics.wait_for_value("published", len(stream.results))
        assert node.end() == 0
        log = node.log()

    warnings = [line for line in log.splitlines() if f"frame dropped ({kind})" in line]
    assert 1 <= len(warnings) <= 1 + int(took_s / LOG_PERIOD_S), log
    assert all("[WARN]" in line and len(line) < 1000 for line in warnings)
    assert "Traceback" not in log
    assert not [line for line in log.splitlines() if line.startswith("[FATAL]")]
    counts = account(log)
    require_balance(counts)
    assert counts["kinds"] == {kind: sent}
    assert counts["published"] == len(stream.results)


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_hundreds_of_bad_frames_leave_no_memory_behind(start, peer, jpeg, transport):
    diagnostics = peer.watch()
    if transport == "raw":
        kinds = reaching(LARGE_RAW, peer, Image)
    else:
        kinds = reaching(COMPRESSED, peer, CompressedImage)
    bad = itertools.cycle([make() for makes in kinds.values() for make in makes])

    def send_bad(number):
        enough = int(diagnostics.value("malformed") or 0) + number
        while int(diagnostics.value("malformed") or 0) < enough:
            stream.camera.publish(next(bad))
            time.sleep(PERIOD_S)

    with start(image_transport=transport) as node:
        if transport == "raw":
            stream, good = Stream(peer), make_image("green", 1)
        else:
            stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
            good = make_compressed(jpeg("green"), 1)
        stream.classify(good)
        send_bad(100)
        before_kib = memory_kib(node.process.pid, OWN)
        send_bad(300)
        assert memory_kib(node.process.pid, OWN) - before_kib < GROWTH_LIMIT_KIB
        good.header.stamp.nanosec = 2
        assert stream.classify(good).results[0].class_id == "1"
        assert peer.state() == "active"
        assert node.end() == 0
        log = node.log()
    assert "Traceback" not in log
    counts = account(log)
    require_balance(counts)
    assert counts["malformed"] >= 400
    assert set(counts["kinds"]) == set(kinds)


@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_a_jpeg_that_was_cut_short_gives_no_result(start, peer, jpeg, ending):
    """OpenCV fills what is missing with grey; a camera's driver may even have sent the end."""
    diagnostics = peer.watch()
    whole = photo()
    with start(image_transport="compressed") as node:
        stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        stream.classify(make_compressed(jpeg("green"), 1))
        published = len(stream.results)
        for number in range(1, 20):
            data = cut(whole, number / 20) + ending
            stream.camera.publish(make_compressed(data, number + 1))
            diagnostics.wait_for_value("malformed (codec)", number)
        assert len(stream.results) == published
        result = stream.classify_once(make_compressed(jpeg("green"), 100))
        assert result.results[0].class_id == "1"
        assert node.end() == 0
        log = node.log()
    ours = log.replace("is damaged: Corrupt JPEG", "")
    assert "Corrupt JPEG" not in ours, "libjpeg writes to stderr itself"


def test_a_damaged_jpeg_gives_a_result_where_damaged_images_are_used(start, peer):
    half = cut(photo(), 0.5)
    with start(image_transport="compressed", damaged_images="use") as node:
        stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        assert stream.classify(make_compressed(half, 1)).results
        assert node.end() == 0
        assert "Corrupt JPEG" not in node.log()


def test_an_image_that_decodes_past_its_deadline_costs_no_engine(start, peer, jpeg):
    black = np.zeros((4096, 4096), np.uint8)
    slow = cv2.imencode(".jpg", black, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    diagnostics = peer.watch()
    settings = {"age_reference": "arrival", "deadline_ms": 10, "warn_missed_percent": 0.0}
    with start(image_transport="compressed", **settings) as node:
        stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        stream.classify(make_compressed(jpeg("green"), 1))

        def has_dropped():
            stream.camera.publish(make_compressed(slow, 2))
            return diagnostics.value("malformed (slow_codec)")

        wait_for(has_dropped, lambda: "a frame that took too long to decode")
        result = stream.classify(make_compressed(jpeg("green"), 3))
        assert result.results[0].class_id == "1"
        assert 2 not in stream.stamps()
        assert node.end() == 0
        log = node.log()
    assert "frame dropped (slow_codec): decoding took" in log
    assert "degraded" not in log
    assert "did not answer" not in log


def test_the_node_says_once_that_simplejpeg_is_missing(start, peer, jpeg):
    hide = "import sys; sys.modules['simplejpeg'] = None; sys.argv[0] = 'perception_node'; "
    program = ("-c", f"{hide}from perception_node.ros.main import main; sys.exit(main())")
    with start(program=program, image_transport="compressed") as node:
        stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        for number in range(1, 4):
            stream.classify(make_compressed(jpeg("green"), number))
        assert node.end() == 0
        log = node.log()
    said = [line for line in log.splitlines() if "simplejpeg" in line]
    assert len(said) == 1
    assert "[WARN]" in said[0]
    assert "run: pip install simplejpeg" in said[0]


def test_what_is_no_message_stops_nothing_whoever_drops_it(start, peer):
    with start() as node:
        stream = Stream(peer)
        for number, make in enumerate(RAW["message"] * ROUNDS, 1):
            stream.camera.publish(make())
            assert stream.classify(make_image("green", number)).results[0].class_id == "1"
        assert node.end() == 0
        log = node.log()
    assert "Traceback" not in log
    require_balance(account(log))


def test_kinds_do_not_silence_each_other(start, peer):
    diagnostics, kinds = peer.watch(), reaching(RAW, peer, Image)
    with start() as node:
        stream = Stream(peer)
        stream.classify(make_image("green", 1))
        for kind, makes in kinds.items():
            stream.camera.publish(makes[0]())
            diagnostics.wait_for_value(f"malformed ({kind})", 1)
        stream.classify_once(make_image("green", 2))
        assert node.end() == 0
        log = node.log()
    for kind in kinds:
        assert log.count(f"frame dropped ({kind})") == 1
    counts = account(log)
    require_balance(counts)
    assert counts["kinds"] == dict.fromkeys(kinds, 1)


def test_a_bomb_is_refused_before_it_is_decoded(start, peer, jpeg):
    diagnostics = peer.watch()
    with start(image_transport="compressed") as node:
        stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        stream.classify(make_compressed(jpeg("green"), 1))
        before_kib = memory_kib(node.process.pid, "VmHWM")
        for number, bomb in enumerate((png_bomb(), huge_jpeg()), 1):
            stream.camera.publish(make_compressed(bomb, 2))
            diagnostics.wait_for_value("malformed (too_large)", number)
        for number, bomb in enumerate((png(chunk(b"IDAT", b"", HUGE)), endless_scans()), 1):
            stream.camera.publish(make_compressed(bomb, 2))
            diagnostics.wait_for_value("malformed (codec)", number)
        assert memory_kib(node.process.pid, "VmHWM") - before_kib < 10 * 1024


def test_an_image_of_the_size_allowed_is_taken_and_one_more_is_not(start, peer):
    diagnostics = peer.watch()
    with start(max_image_pixels=32 * 24) as node:
        stream = Stream(peer)
        stream.classify(make_image("green", 1))
        stream.camera.publish(make_image("green", 2, size=(32, 25)))
        diagnostics.wait_for_value("malformed (too_large)", 1)
        assert "32x25 is more than 768 pixels" in node.log()


def test_the_wrong_message_type_on_the_topic_is_survived(start, peer, domain):
    with start() as node, Peer(domain) as other:
        peer.wait_until("active")
        wrong = other.node.create_publisher(CompressedImage, "image", 10)
        wait_for(lambda: other.node.count_subscribers("image"), lambda: "the node's subscription")
        for stamp_ns in range(10):
            wrong.publish(make_compressed(b"\xff\xd8\xff", stamp_ns))
        Stream(peer).classify(make_image("green", 20))
        assert node.end() == 0
        assert "Traceback" not in node.log()


def test_a_camera_of_incompatible_qos_is_named_and_another_is_heard(start, peer, domain):
    diagnostics = peer.watch()
    with start(image_qos="default") as node, Peer(domain) as other:
        peer.wait_until("active")
        wrong = other.node.create_publisher(Image, "image", named_qos("sensor_data"))
        diagnostics.wait_for_level("connection", ERROR)
        for stamp_ns in range(10):
            wrong.publish(make_image("red", stamp_ns))
        assert Stream(peer).classify(make_image("green", 20)).results[0].class_id == "1"
        assert peer.state() == "active"
        assert node.end() == 0
        log = node.log()
    assert "Traceback" not in log
    assert log.count("was refused for its reliability QoS") == 1
    counts = account(log)
    require_balance(counts)
    assert counts["malformed"] == 0
