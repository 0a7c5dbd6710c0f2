# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import MalformedMessage
from perception_node.wire.images import CdrReader, Numbers
from tests.builders import TYPES, image_message, solid

LITTLE, BIG = b"\x00\x01\x00\x00", b"\x00\x00\x00\x00"


@pytest.mark.parametrize(("header", "order"), [(LITTLE, "<"), (BIG, ">")])
def test_numbers_of_both_byte_orders(header, order):
    data = header + struct.pack(order + "iIB3xI", -2, 4_000_000_000, 7, 9)
    cdr = CdrReader(data)
    assert cdr.numbers(Numbers("iI")) == (-2, 4_000_000_000)
    assert (cdr.uint8(), cdr.uint32()) == (7, 9)


@pytest.mark.parametrize("length", range(9))
def test_what_follows_a_string_is_aligned(length):
    text = "x" * length
    data = LITTLE + struct.pack("<I", length + 1) + text.encode() + b"\0"
    data += bytes(-len(data) % 4) + struct.pack("<I", 77)
    cdr = CdrReader(data)
    assert cdr.string() == text
    assert cdr.uint32() == 77


def test_octets_are_a_view_of_the_message():
    message = bytearray(LITTLE + struct.pack("<I", 3) + b"abc")
    view = CdrReader(message).octets()
    assert bytes(view) == b"abc"
    assert np.shares_memory(np.frombuffer(view, np.uint8), np.frombuffer(message, np.uint8))


@pytest.mark.parametrize("little_endian", [True, False])
@given(
    values=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)),
    texts=st.tuples(st.text(max_size=12), st.text(max_size=12)),
    sizes=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    octets=st.binary(max_size=40),
    is_bigendian=st.integers(0, 255),
)
def test_every_field_of_an_image_as_the_real_serializer_writes_it(
    little_endian, values, texts, sizes, octets, is_bigendian
):
    header = TYPES.types["std_msgs/msg/Header"](
        stamp=TYPES.types["builtin_interfaces/msg/Time"](*values), frame_id=texts[0]
    )
    kind = "sensor_msgs/msg/Image"
    message = TYPES.types[kind](
        header, *sizes, texts[1], is_bigendian, 123, np.frombuffer(octets, np.uint8)
    )
    cdr = CdrReader(bytes(TYPES.serialize_cdr(message, kind, little_endian=little_endian)))
    assert cdr.numbers(Numbers("iI")) == values
    assert cdr.string() == texts[0]
    *found, length = cdr.numbers(Numbers("III"))
    assert tuple(found) == sizes
    assert cdr.text(length) == texts[1]
    assert (cdr.uint8(), cdr.uint32()) == (is_bigendian, 123)
    assert bytes(cdr.octets()) == octets


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x01\x00",
        b"\x00\x02\x00\x00",
        b"\x00\x03\x00\x00",
        b"\x01\x00\x00\x00",
        b"\x00\x07\x00\x00" + bytes(20),
        b"plain text",
    ],
)
def test_other_representations_are_refused(data):
    with pytest.raises(MalformedMessage, match="not a CDR message"):
        CdrReader(data)


@pytest.mark.parametrize("method", ["uint32", "uint8", "octets", "string"])
def test_a_message_that_ends_is_an_error(method):
    with pytest.raises(MalformedMessage, match="ends after 4 bytes"):
        getattr(CdrReader(LITTLE), method)()


@pytest.mark.parametrize("rest", range(12))
def test_a_message_that_ends_within_its_numbers_is_an_error(rest):
    cdr = CdrReader(LITTLE + bytes(rest))
    with pytest.raises(MalformedMessage, match=f"ends after {4 + rest} bytes, 16 are needed"):
        cdr.numbers(Numbers("iII"))


@pytest.mark.parametrize("size", [4, 2**31, 2**32 - 1])
@pytest.mark.parametrize("method", ["octets", "string"])
def test_a_length_beyond_the_end_is_an_error(method, size):
    cdr = CdrReader(LITTLE + struct.pack("<I", size) + b"abc")
    with pytest.raises(MalformedMessage, match=f"{size + 8} are needed"):
        getattr(cdr, method)()


@pytest.mark.parametrize("content", [b"", b"abc", b"\0abc"])
def test_a_string_must_end_with_nul(content):
    with pytest.raises(MalformedMessage, match="does not end with NUL"):
        CdrReader(LITTLE + struct.pack("<I", len(content)) + content).string()


def test_what_is_quoted_of_a_bad_string_is_short_and_printable():
    content = bytes(range(1, 256)) * 100
    with pytest.raises(MalformedMessage) as caught:
        CdrReader(LITTLE + struct.pack("<I", len(content)) + content).string()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


def test_bytes_that_are_no_utf_8_are_replaced():
    content = b"caf\xe9\0"
    assert CdrReader(LITTLE + struct.pack("<I", 5) + content).string() == "caf\ufffd"


def test_an_empty_string_is_one_nul():
    assert CdrReader(LITTLE + struct.pack("<I", 1) + b"\0").string() == ""


def test_a_message_cut_anywhere_is_an_error_not_a_crash():
    message = image_message(solid((1, 2, 3), 2, 2))
    for cut in range(len(message)):
        with pytest.raises(MalformedMessage):  # noqa: PT012 - any of these may be the one
            cdr = CdrReader(message[:cut])
            cdr.numbers(Numbers("iI")), cdr.string()
            cdr.numbers(Numbers("II")), cdr.string(), cdr.uint8(), cdr.uint32()
            cdr.octets()
