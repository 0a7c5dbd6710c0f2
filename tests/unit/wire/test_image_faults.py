# SPDX-License-Identifier: Apache-2.0
"""What drivers and links do to messages: each fault has its error, and all else is classified."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.errors import (
    FrameError,
    InvalidStamp,
    MalformedImage,
    MalformedMessage,
    UnsupportedEncoding,
)
from perception_node.model.bundle import load_bundle
from perception_node.vision.encodings import ENCODINGS, THREE_PLANES
from perception_node.vision.frame import MAX_SIDE, Unpacker
from perception_node.wire.images import MAX_STRING_BYTES, ImageReader
from tests.builders import (
    compressed_message,
    encode,
    image_message,
    make_bundle,
    smooth,
    with_preprocessing,
)
from tests.hostile_images import HUGE, raw_message, rows_of

MAX_PIXELS = 4096 * 4096
OVERHEAD_BYTES = 100_000
RESIZES = {"stretch": 0, "shorter-side": 10, "letterbox": 0}
encodings = pytest.mark.parametrize("encoding", ENCODINGS)


def read(message, transport="raw"):
    return ImageReader(transport, MAX_PIXELS, 16).read(message)


def unpack(message):
    return Unpacker().unpack(read(message))[0]


@pytest.fixture(scope="module", params=RESIZES)
def pipeline(request, tmp_path_factory):
    manifest = with_preprocessing(resize=request.param, shorter_side=RESIZES[request.param])
    bundle = load_bundle(make_bundle(tmp_path_factory.mktemp("b") / "b", manifest=manifest))
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as pipeline:
        yield pipeline


def scores_of(pipeline, frame):
    hypotheses = pipeline.run(frame, top_k=3, threshold=0.0).hypotheses
    assert len(hypotheses) == 3
    return np.array([h.score for h in sorted(hypotheses, key=lambda h: h.class_id)])


# Step, height and data


@encodings
@pytest.mark.parametrize("padding", [1, 2, 5, 7, 64])
def test_any_padding_shows_the_same_picture(encoding, padding):
    """Also where a row is no whole number of pixels or samples."""
    height, width = 8, 12
    padding += padding % 2 if encoding in THREE_PLANES else 0  # a row of colour has half of it
    rows = rows_of(encoding, height, width)
    padded = rows_of(encoding, height, width, padding)
    padded[:, : rows.shape[1]] = rows
    if encoding == "nv24":  # each row of colour is as long as two rows of brightness
        chroma = padded[height:].reshape(height, -1)
        chroma[:, : 2 * width] = rows[height:].reshape(height, -1)
    if encoding in THREE_PLANES:
        chroma = padded[height:].reshape(height, -1)
        chroma[:, : width // 2] = rows[height:].reshape(height, -1)
    expected = unpack(raw_message(encoding, height, width, rows))
    assert np.array_equal(unpack(raw_message(encoding, height, width, padded)), expected)


@encodings
@pytest.mark.parametrize("padding", [0, 4])
def test_one_more_or_less_of_anything(encoding, padding):
    layout = ENCODINGS[encoding]
    height, width, more = 8, 12, 2 if layout.even else 1
    rows = rows_of(encoding, height, width, padding)
    data = rows.reshape(-1)

    def message(**fields):
        return raw_message(encoding, height, width, rows, **fields)

    longer = np.resize(data, data.size + 1)
    unused = padding // 2 if encoding in THREE_PLANES else padding
    shorter = data[: data.size - unused]
    assert np.array_equal(unpack(message(data=longer)), unpack(message()))
    assert np.array_equal(unpack(message(data=shorter)), unpack(message()))
    for fields in (
        {"data": shorter[:-1]},
        {"data": data[: -rows.shape[1]]},
        {"data": data[:0]},
        {"height": height + more},
        {"step": rows.shape[1] + 2 + padding},
    ):
        with pytest.raises(MalformedImage, match="cut short"):
            read(message(**fields))
    for fields in ({"width": width + more + padding}, {"step": 1, "data": longer}):
        with pytest.raises(MalformedImage, match="less than the"):
            read(message(**fields))


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    change=st.sampled_from(["height", "width", "step", "data"]),
    by=st.integers(-3, 3),
)
def test_off_by_some_is_a_whole_image_or_a_layout_error(encoding, size, change, by):
    layout = ENCODINGS[encoding]
    height, width = (2 * length for length in size)
    rows = rows_of(encoding, height, width)
    fields = {"height": height, "width": width, "step": rows.shape[1], "data": rows.reshape(-1)}
    if change == "data":
        fields["data"] = np.resize(fields["data"], max(0, rows.size + by))
    else:
        fields[change] = max(0, fields[change] + by)
    message = raw_message(encoding, height, width, rows, **fields)
    height, width, step = (fields[name] for name in ("height", "width", "step"))
    is_even = not layout.even or not (width % 2 or (layout.rows_per_height > 1 and height % 2))
    row, memory = width * layout.pixel_bytes, int(height * layout.rows_per_height)
    size = len(fields["data"])
    of_all_planes = (row * 1.5, row * 2, row * 3) if layout.rows_per_height > 1 else ()
    is_tight = (step < row or step in of_all_planes) and size == row * memory
    is_whole = row <= step and size >= step * memory - (step - row)
    if encoding in THREE_PLANES:
        is_whole = row <= step and step % 2 == 0 and size >= step * memory - (step - row) // 2
    if is_even and height > 0 and width > 0 and (is_tight or is_whole):
        assert unpack(message).shape[:2] == (height, width)
    else:
        with pytest.raises(MalformedImage):
            read(message)


# Encodings


def with_encoding(content: bytes) -> bytes:
    """Serialize an image with these bytes as its encoding; a serializer takes text only."""
    name = "x" * len(content)
    message = image_message(rows_of("rgb8", 4, 4), name, height=4, width=4)
    return message.replace(name.encode(), content, 1)


@pytest.mark.parametrize(
    "content",
    [
        *(b"8UC5", b"32FC1", b"32FC3", b"64FC1", b"8UC2", b"16SC1", b"rgb32", b"bayer_rggb12"),
        *(b" rgb8", b"rgb8 ", b"rgb8\n", b"rgb8\x00", b"\x00rgb8", b"\x00"),
        *("größe".encode(), "rgb\uff18".encode(), b"\xff\xfe\xfd", b"\xed\xa0\x80", b"caf\xe9"),
        *(b"\x1b[2J\x1b[31m", b"\r\n[FATAL] forged", b"\x9b31m", "\u202e8bgr".encode()),
        *(b"%s%n{0}", b"x" * 33, b"\xf4\x8f\xbf\xbf" * 40, b"x" * 10_240),
        b"x" * (MAX_STRING_BYTES - 1),
    ],
)
def test_an_encoding_that_nobody_reads_is_named_short_and_escaped(content):
    with pytest.raises(UnsupportedEncoding) as caught:
        read(with_encoding(content))
    text = str(caught.value)
    assert text.isprintable()
    named = text.removeprefix("encoding ").partition(" is not supported")[0]
    shown = content.decode("utf-8", "replace")
    assert named == repr(shown if len(shown) <= 32 else shown[:32] + "...")


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_text_of_megabytes_is_not_copied(transport):
    name = "x" * 8_000_000
    rows = rows_of("rgb8", 4, 4)
    if transport == "raw":
        messages = [image_message(rows, name), image_message(rows, frame_id=name)]
    else:
        data = encode(smooth(8, 8))
        messages = [
            compressed_message(data, format_name=name),
            compressed_message(data, frame_id=name),
        ]
    for message in messages:
        tracemalloc.start()
        try:
            with pytest.raises(MalformedMessage, match="a string has 8000001 bytes"):
                read(message, transport)
            assert tracemalloc.get_traced_memory()[1] < OVERHEAD_BYTES
        finally:
            tracemalloc.stop()


# Sizes


def smallest(encoding):
    """Return the smallest height and width there are."""
    layout = ENCODINGS[encoding]
    return (2 if layout.rows_per_height > 1 else 1), (2 if layout.even else 1)


@encodings
def test_the_thinnest_images_have_a_result(pipeline, encoding):
    height, width = smallest(encoding)
    for size in ((height, width), (height, 10_000), (10_000, width), (MAX_SIDE, width)):
        frame = read(raw_message(encoding, *size, rows_of(encoding, *size, value=77)))
        assert np.isfinite(scores_of(pipeline, frame)).all()


@encodings
@pytest.mark.parametrize("size", [(2, MAX_SIDE + 2), (MAX_SIDE + 2, 2), (2, 1 << 23)])
def test_a_side_that_no_camera_has_is_refused(encoding, size):
    """It would be whole, and within max_image_pixels, but takes many seconds to shrink."""
    with pytest.raises(MalformedImage, match=f"more than {MAX_SIDE} pixels"):
        read(raw_message(encoding, *size, rows_of(encoding, 2, 2), step=4 * size[1]))


@encodings
@pytest.mark.parametrize("data", [0, 1_000_000])
def test_a_huge_claim_costs_nothing(encoding, data):
    size = {"height": HUGE, "width": HUGE, "data": np.zeros(data, np.uint8)}
    for step in (0, 1, HUGE):
        message = image_message(rows_of(encoding, 2, 2), encoding, step=step, **size)
        reader = ImageReader("raw", MAX_PIXELS, 16)
        tracemalloc.start()
        try:
            with pytest.raises(FrameError, match="4294967295x4294967295"):
                reader.read(message)
            assert tracemalloc.get_traced_memory()[1] < OVERHEAD_BYTES
        finally:
            tracemalloc.stop()


# Stamps and byte order


@given(sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, HUGE))
def test_a_stamp_is_a_time_or_refused(sec, nanosec):
    stamp = sec.to_bytes(4, "little", signed=True) + nanosec.to_bytes(4, "little")
    whole = raw_message("mono8", 2, 2)
    message = whole[:4] + stamp + whole[12:]
    if sec < 0 or nanosec >= 10**9:
        with pytest.raises(InvalidStamp):
            read(message)
    else:
        assert read(message).stamp_ns == sec * 10**9 + nanosec


@encodings
def test_the_byte_order_only_matters_to_16_bits(encoding):
    little = unpack(raw_message(encoding, 8, 8, is_bigendian=0))
    for is_bigendian in (1, 7, 255):
        big = unpack(raw_message(encoding, 8, 8, is_bigendian=is_bigendian))
        assert np.array_equal(little, big) == (ENCODINGS[encoding].sample_bytes == 1)


# Contents


@encodings
@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_an_even_picture_has_a_result(pipeline, encoding, value):
    frame = read(raw_message(encoding, 24, 32, rows_of(encoding, 24, 32, value=value)))
    scores = scores_of(pipeline, frame)
    assert np.isfinite(scores).all()
    assert scores.sum() == pytest.approx(1.0, abs=1e-5)
    layout = ENCODINGS[encoding]
    if layout.conversion is None or "bayer" in encoding:  # grey, not some colour of YUV
        assert scores == pytest.approx(1 / 3, abs=1e-4)


# Changes mid-stream


def growth_of(work) -> int:
    """Return by how many bytes Python's memory grows when warm ``work`` is done again."""
    work()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_changes_from_frame_to_frame_leave_nothing_behind(pipeline):
    """A hundred times to and fro: the same results, and no more memory."""
    kinds = [("rgb8", 24, 32), ("nv12", 48, 20), ("mono16", 7, 9), ("bayer_rggb8", 30, 30)]
    messages = [raw_message(*kind) for kind in kinds]
    first = [scores_of(pipeline, read(message)) for message in messages]

    def alternate():
        for number in range(100):
            index = number % len(messages)
            assert np.array_equal(scores_of(pipeline, read(messages[index])), first[index])

    assert growth_of(alternate) < 20_000


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_thousand_bad_messages_leave_nothing_behind(transport):
    whole = (
        raw_message("rgb8", 24, 32) if transport == "raw" else compressed_message(b"\xff\xd8\xff")
    )
    messages = [whole[:cut] for cut in range(0, 100, 3)] + [
        whole.replace(b"camera", b"c\xffmera").replace(b"rgb8", b"rgb9")
    ]
    reader = ImageReader(transport, MAX_PIXELS, 16)

    def refuse():
        for message in messages * 30:
            with pytest.raises(FrameError):
                reader.read(message)

    assert growth_of(refuse) < 20_000
