# SPDX-License-Identifier: Apache-2.0
"""Image messages that are whole, and files of images that ask for too much."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from perception_node.vision.encodings import ENCODINGS
from tests.builders import compressed_message, encode, image_message, smooth

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HUGE = (1 << 32) - 1
SIZES = ((2, 2), (6, 10), (24, 32))  # (height, width)


def rows_of(encoding, height, width, padding=0, value=None):
    """Return the memory of an image, uint8 (rows, step): noise, or ``value`` in every byte."""
    layout = ENCODINGS[encoding]
    shape = int(height * layout.rows_per_height), width * layout.pixel_bytes + padding
    if value is None:
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return np.full(shape, value, np.uint8)


def raw_message(encoding, height, width, /, rows=None, **fields) -> bytes:
    """Serialize a whole image of any encoding, by default of noise; ``fields`` replace its own."""
    rows = rows_of(encoding, height, width) if rows is None else rows
    return image_message(rows, encoding, **{"height": height, "width": width, **fields})


def segment(marker, payload) -> bytes:
    """A marker segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def with_exif(jpeg, directory) -> bytes:
    """Insert an EXIF segment with these bytes of TIFF where cameras put it."""
    return jpeg[:2] + segment(0xE1, b"Exif\x00\x00" + directory) + jpeg[2:]


def orientation(value) -> bytes:
    """A TIFF directory that states nothing else."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, value, 0)
    return b"MM\x00\x2a" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)


def with_scans(jpeg, number) -> bytes:
    """Append the last scan of a JPEG again and again."""
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + scan * number + jpeg[-2:]


def without_huffman_tables(jpeg) -> bytes:
    """Take the tables away, as cameras that send Motion JPEG do."""
    place, kept = 2, jpeg[:2]
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] != 0xC4:
            kept += jpeg[place:end]
        place = end
    return kept + jpeg[place:]


def huge_frame(marker=0xC0, side=30_000) -> bytes:
    """A frame header of three channels and ``side`` x ``side`` pixels."""
    size = struct.pack(">BHHB", 8, side, side, 3)
    return segment(marker, size + bytes((1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1)))


def hidden_jpeg(jpeg, disguise=b"\xff\x00") -> bytes:
    """Hide the headers of a huge JPEG from whoever takes ``disguise`` for a marker with a length.

    libjpeg takes it for bytes to skip, and goes on with what is behind its length.
    """
    huge = huge_frame() + segment(0xDA, bytes((3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0)))
    hidden = huge + bytes(200) + b"\xff\xd9"
    return jpeg[:2] + disguise + struct.pack(">H", len(hidden) + 2) + hidden + jpeg[2:]


def chunk(kind, content, size=None) -> bytes:
    """A chunk of a PNG; ``size`` is the length it claims to have."""
    length = len(content) if size is None else size
    check = zlib.crc32(kind + content)
    return struct.pack(">I", length) + kind + content + struct.pack(">I", check)


def squeeze(megabytes) -> bytes:
    """Compress so many megabytes of zeros into a thousandth."""
    squeezing = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    return b"".join(squeezing.compress(zeros) for _ in range(megabytes)) + squeezing.flush()


def png(*extra, height=8, width=8, frame=b"", pixels=b"") -> bytes:
    """A black RGB PNG with chunks of any kind before its pixels, and ``frame`` behind them."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = pixels or zlib.compress(bytes((width * 3 + 1) * height))
    return b"".join(
        (
            SIGNATURE,
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", pixels),
            frame,
            chunk(b"IEND", b""),
        )
    )


def apng(frames=2, *, height=8, width=8, offset=0) -> bytes:
    """An animated PNG of 8x8 pixels that claims ``frames`` frames of a size of its own."""

    def control(number):
        numbers = (number, width, height, offset, offset, 1, 10, 0, 0)
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", *numbers))

    second = chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(bytes((width * 3 + 1) * height)))
    animation = chunk(b"acTL", struct.pack(">II", frames, 0))
    return png(animation, control(0), frame=control(1) + second)


def raw_sources() -> list[bytes]:
    """Whole messages of every encoding, in a few sizes, with and without padding."""
    return [
        raw_message(
            encoding,
            height,
            width,
            rows_of(encoding, height, width, padding),
            little_endian=bool(number % 3),
            is_bigendian=number % 2,
        )
        for number, encoding in enumerate(ENCODINGS)
        for height, width in SIZES
        for padding in (0, 6)
    ]


def compressed_sources() -> list[bytes]:
    """Whole messages with files of several kinds."""
    picture = smooth(12, 20)
    jpeg = encode(picture)
    gray = np.ascontiguousarray(picture[..., 0])
    files = (
        jpeg,
        encode(picture, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encode(picture, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        with_exif(jpeg, orientation(6)),
        cv2.imencode(".jpg", gray)[1].tobytes(),
        encode(picture, ".png"),
        cv2.imencode(".png", gray.astype(np.uint16) * 257)[1].tobytes(),
        png(chunk(b"eXIf", orientation(3))),
        *(encode(picture, suffix) for suffix in (".webp", ".tiff")),
    )
    return [
        compressed_message(data, little_endian=bool(number % 3), format_name=name)
        for number, data in enumerate(files)
        for name in ("jpeg", "bgr8; png compressed bgr8")
    ]
