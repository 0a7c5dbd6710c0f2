# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.config.sections import CameraConfig
from perception_node.errors import (
    FrameError,
    FrameTooLarge,
    InvalidStamp,
    MalformedImage,
    MalformedMessage,
    UndecodableImage,
    UnsupportedEncoding,
)
from perception_node.vision.frame import Unpacker
from perception_node.wire.images import (
    COMPRESSED_TYPE,
    RAW_TYPE,
    CdrReader,
    ImageReader,
    read_header,
)
from tests.builders import (
    ROOT,
    START_NS,
    TYPES,
    compressed_message,
    encode,
    image_message,
    quadrants,
    smooth,
    solid,
)

LIMIT = 1 << 22


def reader(transport, *, max_pixels=LIMIT, smallest_side=10_000):
    return ImageReader(transport, max_pixels, smallest_side)


def overwrite(message, field, value):
    """Set one field of a serialized Image, as no driver would."""
    image = TYPES.deserialize_cdr(message, RAW_TYPE)
    target = image
    *path, name = field.split(".")
    for step in path:
        target = getattr(target, step)
    setattr(target, name, value)
    return bytes(TYPES.serialize_cdr(image, RAW_TYPE))


@pytest.mark.parametrize("little_endian", [True, False])
def test_every_field_of_a_raw_image(little_endian):
    pixels = quadrants(6, 10)
    message = image_message(
        pixels,
        stamp_ns=START_NS + 123,
        frame_id="lens",
        is_bigendian=1,
        little_endian=little_endian,
    )
    frame = reader("raw").read(message)
    assert np.array_equal(frame.pixels, pixels)
    assert (frame.encoding, frame.height, frame.width) == ("rgb8", 6, 10)
    assert frame.is_bigendian is True
    assert (frame.stamp_ns, frame.frame_id) == (START_NS + 123, "lens")


def as_rclpy_makes_it(message, kind):
    """Return the message with its fields as attributes, the pixels as an array."""
    return TYPES.deserialize_cdr(message, kind)


@pytest.mark.parametrize("is_typed", [False, True])
@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_an_image_is_opened_by_its_header_alone(transport, is_typed):
    fields = {"stamp_ns": START_NS + 5, "frame_id": "lens"}
    kind, message = (
        (RAW_TYPE, image_message(quadrants(6, 10), **fields))
        if transport == "raw"
        else (COMPRESSED_TYPE, compressed_message(encode(quadrants(6, 10)), **fields))
    )
    opened = reader(transport).open(as_rclpy_makes_it(message, kind) if is_typed else message)
    assert (opened.stamp_ns, opened.frame_id) == (START_NS + 5, "lens")
    frame, expected = opened.read(), reader(transport).read(message)
    assert np.array_equal(frame.pixels, expected.pixels)
    assert frame[1:] == expected[1:]


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_what_is_wrong_behind_the_header_shows_when_it_is_read(transport):
    header = image_message(quadrants(6, 10), frame_id="lens")[:21]  # up to the frame's NUL
    opened = reader(transport).open(header)
    assert opened.frame_id == "lens"
    with pytest.raises(MalformedMessage):
        opened.read()


@pytest.mark.parametrize("is_typed", [False, True])
def test_an_image_with_a_bad_stamp_cannot_be_opened(is_typed):
    message = overwrite(image_message(solid((0, 0, 0), 2, 2)), "header.stamp.sec", -1)
    with pytest.raises(InvalidStamp):
        reader("raw").open(as_rclpy_makes_it(message, RAW_TYPE) if is_typed else message)


def test_raw_pixels_are_a_view_of_the_message():
    message = image_message(quadrants(6, 10))
    frame = reader("raw").read(message)
    assert np.shares_memory(frame.pixels, np.frombuffer(message, np.uint8))
    assert not frame.pixels.flags.writeable


@pytest.mark.parametrize(("is_bigendian", "high_byte"), [(0, 1), (1, 0), (7, 0)])
def test_is_bigendian_decides_about_16_bit_samples(is_bigendian, high_byte):
    samples = np.zeros((4, 6, 2), np.uint8)
    samples[..., high_byte] = 200
    message = image_message(
        samples, "mono16", step=12, is_bigendian=is_bigendian, height=4, width=6
    )
    packed, order = Unpacker().unpack(reader("raw").read(message))
    assert order == "GRAY"
    assert (packed == 200).all()


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_every_field_of_a_compressed_image(little_endian, extension):
    picture = smooth(60, 80)
    message = compressed_message(
        encode(picture, extension),
        stamp_ns=START_NS + 5,
        frame_id="lens",
        little_endian=little_endian,
    )
    frame = reader("compressed").read(message)
    assert (frame.encoding, frame.height, frame.width) == ("bgr8", 60, 80)
    assert (frame.stamp_ns, frame.frame_id) == (START_NS + 5, "lens")
    assert np.abs(frame.pixels[..., ::-1].astype(int) - picture).mean() < 4


@pytest.mark.parametrize("name", ["", "png", "rgb8; jpeg compressed bgr8", "nonsense"])
def test_the_format_of_a_compressed_image_is_its_data(name):
    message = compressed_message(encode(solid((255, 0, 0))), format_name=name)
    assert reader("compressed").read(message).pixels[5, 5, 2] > 240


def test_compressed_images_are_decoded_no_larger_than_needed():
    message = compressed_message(encode(quadrants(480, 640)))
    assert reader("compressed", smallest_side=100).read(message).pixels.shape == (120, 160, 3)


@pytest.mark.parametrize(("sec", "nanosec"), [(-1, 0), (0, 10**9), (-(2**31), 2**32 - 1)])
@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_stamp_that_is_no_time_is_refused(transport, sec, nanosec):
    raw = image_message(solid((0, 0, 0), 2, 2))
    message = raw if transport == "raw" else compressed_message(encode(solid((0, 0, 0))))
    kind = RAW_TYPE if transport == "raw" else COMPRESSED_TYPE
    image = TYPES.deserialize_cdr(message, kind)
    image.header.stamp.sec, image.header.stamp.nanosec = sec, nanosec
    with pytest.raises(InvalidStamp, match=f"{sec} s {nanosec} ns"):
        reader(transport).read(bytes(TYPES.serialize_cdr(image, kind)))


@pytest.mark.parametrize(
    ("sec", "nanosec", "stamp_ns"),
    [(0, 0, 0), (0, 999_999_999, 999_999_999), (2**31 - 1, 1, (2**31 - 1) * 10**9 + 1)],
)
def test_stamps_at_their_bounds(sec, nanosec, stamp_ns):
    message = overwrite(image_message(solid((0, 0, 0), 2, 2)), "header.stamp.sec", sec)
    message = overwrite(message, "header.stamp.nanosec", nanosec)
    assert read_header(CdrReader(message)) == (stamp_ns, "camera")


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("step", 31, MalformedImage),
        ("height", 7, MalformedImage),
        ("height", 0, MalformedImage),
        ("width", 0, MalformedImage),
        ("width", 11, MalformedImage),
        ("width", 2**32 - 1, FrameTooLarge),
        ("height", 2**32 - 1, FrameTooLarge),
        ("encoding", "", UnsupportedEncoding),
        ("encoding", "bgr16", MalformedImage),
        ("encoding", "bgr12", UnsupportedEncoding),
        ("encoding", "x" * 10_000, UnsupportedEncoding),
        ("data", np.zeros(179, np.uint8), MalformedImage),
        ("data", np.zeros(0, np.uint8), MalformedImage),
    ],
)
def test_fields_that_contradict_each_other_are_refused(field, value, error):
    message = image_message(quadrants(6, 10))
    wrong = overwrite(message, field, value)
    for _ in range(2):  # what is remembered of one message is of no use to another
        reader("raw").read(message)
        with pytest.raises(error):
            reader("raw").read(wrong)


def test_the_limit_holds_for_both_transports():
    for transport, message in (
        ("raw", image_message(quadrants(6, 10))),
        ("compressed", compressed_message(encode(quadrants(6, 10)))),
    ):
        assert reader(transport, max_pixels=60).read(message).width == 10
        with pytest.raises(FrameTooLarge):
            reader(transport, max_pixels=59).read(message)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"no image at all"])
def test_a_compressed_image_that_is_none_is_refused(data):
    with pytest.raises(UndecodableImage):
        reader("compressed").read(compressed_message(data))


def test_a_damaged_image_is_used_only_where_the_node_is_told_to():
    jpeg = encode(quadrants())
    message = compressed_message(jpeg[: len(jpeg) // 2 + 300])
    with pytest.raises(UndecodableImage, match="cut short"):
        reader("compressed").read(message)
    damaged_images = CameraConfig(damaged_images="use").damaged_images
    used = ImageReader("compressed", LIMIT, 10_000, damaged_images).read(message)
    assert used.pixels.shape == quadrants().shape


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_message_cut_anywhere_is_a_frame_error(transport):
    jpeg = encode(quadrants(6, 10))
    message = image_message(quadrants(6, 10)) if transport == "raw" else compressed_message(jpeg)
    end = len(message) - (3 if transport == "raw" else 4)  # the serializer may append padding
    for cut in range(end):
        with pytest.raises(FrameError):
            reader(transport).read(message[:cut])


def test_one_type_is_not_the_other():
    with pytest.raises(FrameError):
        reader("compressed").read(image_message(quadrants(6, 10)))
    with pytest.raises(FrameError):
        reader("raw").read(compressed_message(encode(quadrants(6, 10))))


def test_a_transport_must_be_known():
    with pytest.raises(KeyError):
        reader("theora")


def test_lengths_from_the_message_are_never_allocated():
    message = image_message(quadrants(6, 10))
    read = reader("raw").read
    place = message.rindex((180).to_bytes(4, "little"))
    huge = message[:place] + b"\xff\xff\xff\xff" + message[place + 4 :]
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            read(huge)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(data=st.binary(max_size=200), transport=st.sampled_from(["raw", "compressed"]))
def test_random_bytes_are_a_frame_error(data, transport):
    with pytest.raises(FrameError):
        reader(transport).read(b"\x00\x01\x00\x00" + data)


@given(
    changes=st.lists(st.tuples(st.integers(0, 299), st.integers(0, 255)), max_size=8),
    transport=st.sampled_from(["raw", "compressed"]),
)
def test_a_mutated_message_is_read_or_refused(changes, transport):
    pixels = quadrants(6, 10)
    message = bytearray(
        image_message(pixels)
        if transport == "raw"
        else compressed_message(encode(pixels, ".png"), format_name="png")
    )
    for place, value in changes:
        message[place % len(message)] = value
    try:
        frame = reader(transport).read(bytes(message))
    except FrameError:
        return
    packed, _ = Unpacker().unpack(frame)
    assert packed.shape[:2] == (frame.height, frame.width)


def test_images_are_read_without_ros():
    script = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'rclpy', 'sensor_msgs', 'std_msgs', 'vision_msgs'}:\n"
        "            raise ImportError(f'{name} is blocked')\n"
        "sys.meta_path.insert(0, Block())\n"
        "import perception_node.wire.images\n"
        "assert 'rclpy' not in sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
