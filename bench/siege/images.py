# SPDX-License-Identifier: Apache-2.0
"""Damaged pictures between the good ones, on the camera's own topic: halves, bombs, lies."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np

from perception_node.bench.camera.camera_messages import (
    encode_jpeg,
    write_compressed,
    write_image,
)
from perception_node.bench.siege.attack import Attack, happens

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from perception_node.bench.siege.attack import Until
    from perception_node.bench.siege.pictures import Picture
    from perception_node.bench.siege.scene import NodeTarget, Scene

PERIOD_S = 0.02
MAX_BYTES = 8  # that are changed
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MIB = 1 << 20
SIDE = 30_000  # of what a bomb claims or unpacks to
TEXTS, TEXT_MIB = 250, 7
STRIPPED = "PNG with "  # what is too much is left out, and the rest is a picture
SCANS, MANY_SCANS_SIDE = 2900, 4000
LONG_NAME = 10_000


def damage(data: bytes, source: random.Random) -> tuple[str, bytes]:
    """Return what was done to the file of a picture, and what is left of it.

    A JPEG with changed ``bytes`` may be a valid one of another picture, which no decoder can tell;
    all others can be told from whole ones.
    """
    how = source.choice(("bytes", "half", "gap", "zeros", "noise"))
    place = source.randrange(len(data) // 8, len(data) // 2)
    if how == "bytes":
        changed = bytearray(data)
        for _ in range(source.randint(1, MAX_BYTES)):
            changed[source.randrange(len(data))] = source.randrange(256)
        return how, bytes(changed)
    if how == "half":
        return how, data[:place]
    if how == "gap":
        return how, data[:place] + data[place + len(data) // 4 :]
    if how == "zeros":
        return how, data[:place] + bytes(len(data) - place)
    return how, data[:16] + source.randbytes(len(data) - 16)


def make_bombs() -> dict[str, bytes]:
    """Return small files that ask for much memory or time."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes((8 * 3 + 1) * 8)))
    end = _chunk(b"IEND", b"")
    text = _squeeze(TEXT_MIB)
    ztxt, itxt = _chunk(b"zTXt", b"a\0\0" + text), _chunk(b"iTXt", b"a\0\1\0\0\0" + text)
    wide = _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0))
    claimed = _chunk(b"IDAT", _squeeze(SIDE * (SIDE // 8 + 1) // MIB))
    pngs = {
        "PNG of 30000x30000": (wide, claimed, end),
        "PNG with much zTXt": (header, *[ztxt] * TEXTS, pixels, end),
        "PNG with much iTXt": (header, *[itxt] * TEXTS, pixels, end),
        "PNG with a profile": (header, _chunk(b"iCCP", b"a\0\0" + _squeeze(64)), pixels, end),
        "PNG whose pixels unpack to 1 GiB": (header, _chunk(b"IDAT", _squeeze(1024)), end),
    }
    return {
        **{what: SIGNATURE + b"".join(chunks) for what, chunks in pngs.items()},
        **_jpeg_bombs(),
        "nothing": b"",
        "GIF": b"GIF89a" + bytes(100),
    }


def _jpeg_bombs() -> dict[str, bytes]:
    small = encode_jpeg(np.full((8, 8, 3), 128, np.uint8))
    size = small.index(b"\xff\xc0") + 5  # of the frame header: marker, length, precision

    def claim(height: int, width: int) -> bytes:
        return small[:size] + struct.pack(">HH", height, width) + small[size + 4 :]

    grown = claim(SIDE, SIDE)
    flat = np.full((MANY_SCANS_SIDE, MANY_SCANS_SIDE, 3), 128, np.uint8)
    progressive = cv2.imencode(".jpg", flat, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    # Who skips what is no segment by a length sees the small picture, libjpeg the large one.
    no_segment = b"\xff\x00" + struct.pack(">H", len(grown)) + grown[2:]
    return {
        "JPEG of 65500x65500": claim(65_500, 65_500),
        "JPEG that hides another": small[:2] + no_segment + small[2:],
        "JPEG within a JPEG": small[:-2] + grown,
        "JPEG with many scans": progressive[:-2] + scan * SCANS + progressive[-2:],
    }


def wrong_layouts(picture: Picture, source: random.Random) -> dict[str, bytearray]:
    """Return raw images whose fields do not fit each other."""
    data = bytes(picture.messages["raw"][-(640 * 480 * 3) :])
    most = (1 << 32) - 1
    other = source.randbytes(64).decode("latin-1").replace("\0", " ")
    return {
        "step too small": write_image(480, 640, "bgr8", 640, data[:-1]),
        "data too short": write_image(480, 640, "bgr8", 1920, data[:-1]),
        "no data": write_image(480, 640, "bgr8", 1920, b""),
        "no height": write_image(0, 640, "bgr8", 1920, b""),
        "no width": write_image(480, 0, "bgr8", 0, b""),
        "as large as can be": write_image(most, most, "bgr8", most, data[:1000]),
        "another encoding": write_image(480, 640, other, 1920, data),
        "a long encoding": write_image(480, 640, "x" * LONG_NAME, 1920, data),
        "no encoding": write_image(480, 640, "", 1920, data),
        "odd YUV": write_image(479, 639, "nv12", 639, data[: 639 * 479]),
    }


def spoil(scene: Scene, node: NodeTarget, source: random.Random) -> None:
    """Send one damaged picture to a node."""
    camera, picture = node.camera, source.choice(scene.pictures)
    if node.transport == "raw":
        layouts = wrong_layouts(picture, source)
        what = source.choice(sorted(layouts))
        message = layouts[what]
        if happens(source, 0.2):  # a message that ends too soon, now and then
            what, message = "message cut", message[: source.randrange(12, 60)]
        camera.send_spoilt(message, what)
        return
    if happens(source, 0.1):
        what = source.choice(sorted(scene.bombs))
        message = write_compressed(scene.bombs[what])
        if what.startswith(STRIPPED):
            camera.send_other(message)
        else:
            camera.send_spoilt(message, what)
        return
    kind = source.choice(("JPEG", "PNG"))
    what, data = damage(picture.jpeg if kind == "JPEG" else picture.png, source)
    message = write_compressed(data)
    if what == "bytes" and kind == "JPEG":
        camera.send_other(message)
    else:
        camera.send_spoilt(message, f"{kind}, {what}")


def attack(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Send damaged pictures to every node, each between two good ones of the camera."""
    while not until.wait(PERIOD_S):
        for node in scene.nodes:
            spoil(scene, node, source)
            yield


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _squeeze(megabytes: int) -> bytes:
    """Compress so many MiB of zeros into a thousandth."""
    squeezing = zlib.compressobj(9)
    zeros = bytes(MIB)
    return b"".join(squeezing.compress(zeros) for _ in range(megabytes)) + squeezing.flush()


IMAGES = Attack("images", "damaged pictures, bombs and wrong layouts between good ones", attack)
