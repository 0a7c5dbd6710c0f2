# SPDX-License-Identifier: Apache-2.0
"""Damaged pictures between the good ones, on the camera's own topic: halves, bombs, lies."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING

from perception_node.bench.camera.camera_messages import write_compressed, write_image
from perception_node.bench.siege.attack import Attack

if TYPE_CHECKING:
    import random

    from perception_node.bench.siege.attack import Until
    from perception_node.bench.siege.pictures import Picture
    from perception_node.bench.siege.scene import NodeTarget, Scene

PERIOD_S = 0.02
MAX_BYTES = 8  # that are changed
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MIB = 1 << 20
SIDE = 30_000  # of what a bomb claims or unpacks to
TEXTS, TEXT_MIB = 60, 7
SCANS = 2900
LONG_NAME = 10_000


def damage(data: bytes, source: random.Random) -> tuple[str, bytes]:
    """Return what was done to the file of a picture, and what is left of it.

    Of a file with changed ``bytes`` a decoder may not be able to know it; of the others it can.
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


@cache
def bombs(jpeg: bytes) -> dict[str, bytes]:
    """Return small files that ask for much memory or time."""
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((8 * 3 + 1) * 8))
    small = _chunk(b"IHDR", header), _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")
    text = _chunk(b"zTXt", b"a\0\0" + _squeeze(TEXT_MIB))
    international = _chunk(b"iTXt", b"a\0\1\0\0\0" + _squeeze(TEXT_MIB))
    wide = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    claim = _chunk(b"IHDR", wide), _chunk(b"IDAT", _squeeze(SIDE * (SIDE // 8 + 1) // MIB))
    size = jpeg.index(b"\xff\xc0") + 5
    huge = jpeg[:size] + struct.pack(">HH", 65_500, 65_500) + jpeg[size + 4 :]
    grown = jpeg[:size] + struct.pack(">HH", SIDE, SIDE) + jpeg[size + 4 :]
    # What is no segment: a decoder goes on to the next marker, which may be another picture.
    hidden = b"\xff\xd8\xff\x00" + struct.pack(">H", len(jpeg)) + jpeg[2:-2] + grown[2:]
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return {
        "PNG of 30000x30000": SIGNATURE + b"".join((*claim, small[2])),
        "PNG with much text": SIGNATURE + b"".join((small[0], *[text] * TEXTS, *small[1:])),
        "PNG with much iTXt": SIGNATURE
        + b"".join((small[0], *[international] * TEXTS, *small[1:])),
        "PNG whose pixels unpack to 512 MiB": SIGNATURE
        + b"".join((small[0], _chunk(b"IDAT", _squeeze(512)), small[2])),
        "JPEG of 65500x65500": huge,
        "JPEG that hides another": hidden,
        "two JPEGs in one": jpeg[:-2] + grown,
        "JPEG with many scans": jpeg[:-2] + scan[:200] * SCANS + jpeg[-2:],
        "nothing": b"",
        "GIF": b"GIF89a" + bytes(100),
    }


def wrong_layouts(picture: Picture, source: random.Random) -> dict[str, bytearray]:
    """Return raw images whose fields do not fit each other."""
    data = bytes(picture.messages["raw"][-(640 * 480 * 3) :])
    most = (1 << 32) - 1
    other = source.randbytes(64).decode("latin-1").replace("\0", " ")
    return {
        "step too small": write_image(480, 640, "bgr8", 640, data),
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


def spoil(node: NodeTarget, picture: Picture, number: int, source: random.Random) -> None:
    """Send one damaged picture to a node."""
    camera = node.camera
    if node.transport == "raw":
        layouts = wrong_layouts(picture, source)
        what = source.choice(sorted(layouts))
        message = layouts[what]
        if source.random() < 0.2:  # noqa: PLR2004 - a message that ends too soon, now and then
            what, message = "message cut", message[: source.randrange(12, 60)]
        camera.send_spoilt(message, what)
        return
    if source.random() < 0.1:  # noqa: PLR2004
        files = bombs(picture.jpeg)
        what = source.choice(sorted(files))
        camera.send_spoilt(write_compressed(files[what]), what)
        return
    kind = source.choice(("JPEG", "PNG"))
    what, data = damage(picture.jpeg if kind == "JPEG" else picture.png, source)
    message = write_compressed(data)
    if what == "bytes" and kind == "JPEG":
        camera.send_doubtful(message, number)
    else:
        camera.send_spoilt(message, f"{kind}, {what}")


def attack(scene: Scene, source: random.Random, until: Until) -> int:
    """Send damaged pictures to every node, each between two good ones of the camera."""
    sent = 0
    while not until.wait(PERIOD_S):
        for node in scene.nodes:
            number = source.randrange(len(scene.pictures))
            spoil(node, scene.pictures[number], number, source)
            sent += 1
    return sent


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


@cache
def _squeeze(megabytes: int) -> bytes:
    """Compress so many MiB of zeros into a thousandth."""
    squeezing = zlib.compressobj(9)
    zeros = bytes(MIB)
    return b"".join(squeezing.compress(zeros) for _ in range(megabytes)) + squeezing.flush()


IMAGES = Attack("images", "damaged pictures, bombs and wrong layouts between good ones", attack)
