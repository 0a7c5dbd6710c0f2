# SPDX-License-Identifier: Apache-2.0
"""Images as cables, drivers and full disks damage them: any number, the same for the same seed."""

from __future__ import annotations

import io
import random
import zlib
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from tests.builders import smooth
from tests.hostile_images import without_huffman_tables

SIZES = ((480, 640), (120, 160), (243, 317))  # (height, width)
BLOCKS = (1, 4, 16, 64, 256, 1024)  # bytes that are lost, zeroed or swapped at a time


class Damaged(NamedTuple):
    """One damaged file.

    Attributes:
        source: what it was made of.
        way: how it was damaged.
        data: its bytes.
        whole: those of the file that it was.

    """

    source: str
    way: str
    data: bytes
    whole: bytes


def sources() -> dict[str, bytes]:
    """Whole JPEGs and PNGs of the kinds that cameras and tools make."""
    files: dict[str, bytes] = {}
    for height, width in SIZES:
        noise = np.random.default_rng(height).normal(0, 6, (height, width, 3))
        picture = np.clip(smooth(height, width)[..., ::-1] + noise, 0, 255).astype(np.uint8)
        size = f"{width}x{height}"

        def jpeg(*parameters, picture=picture):
            return cv2.imencode(".jpg", picture, list(parameters))[1].tobytes()

        def pillow(mode, kind, picture=picture, **options):
            file = io.BytesIO()
            Image.fromarray(picture[..., ::-1]).convert(mode).save(file, kind, **options)
            return file.getvalue()

        plain = jpeg(cv2.IMWRITE_JPEG_QUALITY, 80)
        files |= {
            f"jpeg {size}": plain,
            f"jpeg {size} fine": pillow("RGB", "JPEG", quality=95, subsampling="4:4:4"),
            f"jpeg {size} 4:2:2": pillow("RGB", "JPEG", quality=85, subsampling="4:2:2"),
            f"jpeg {size} grey": jpeg(picture=picture[..., 0]),
            f"jpeg {size} progressive": jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
            f"jpeg {size} restarts": jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
            f"jpeg {size} without tables": without_huffman_tables(plain),
            f"png {size}": cv2.imencode(".png", picture)[1].tobytes(),
            f"png {size} grey": pillow("L", "PNG"),
            f"png {size} palette": pillow("P", "PNG"),
        }
    return files


def damage(number: int, seed: int = 0):
    """Yield so many damaged files, all sources and ways in turn."""
    chance = random.Random(seed)
    whole = sources()
    names, ways = sorted(whole), sorted(WAYS)
    for index in range(number):
        name = names[index % len(names)]
        way = ways[index // len(names) % len(ways)]
        data = whole[name]
        while data == whole[name]:
            data = WAYS[way](whole[name], chance)
        yield Damaged(name, way, data, whole[name])


def _change_bytes(data, chance):
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        changed[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    return bytes(changed)


def _cut(data, chance):
    """Lose the end, and have what cameras send behind it: nothing, zeros, the end of another."""
    end = chance.randrange(8, len(data) - 12)
    trailer = chance.choice((b"", bytes(512), data[-2:]))
    return data[:end] + trailer


def _swap(data, chance):
    size = min(chance.choice(BLOCKS), len(data) // 4)
    first = chance.randrange(8, len(data) - 2 * size)
    second = chance.randrange(first + size, len(data) - size + 1)
    middle = data[first + size : second]
    return (
        data[:first]
        + data[second : second + size]
        + middle
        + data[first : first + size]
        + data[second + size :]
    )


def _lose(data, chance):
    size = min(chance.choice(BLOCKS), len(data) // 4)
    first = chance.randrange(8, len(data) - size)
    return data[:first] + data[first + size :]


def _repeat(data, chance):
    size = min(chance.choice(BLOCKS), len(data) // 4)
    first = chance.randrange(8, len(data) - size)
    return data[: first + size] + data[first:]


def _clear(data, chance):
    size = min(chance.choice(BLOCKS), len(data) // 4)
    first = chance.randrange(8, len(data) - size)
    return data[:first] + bytes(size) + data[first + size :]


WAYS = {
    "changed": _change_bytes,
    "cut": _cut,
    "swapped": _swap,
    "lost": _lose,
    "repeated": _repeat,
    "cleared": _clear,
}


def fingerprint(files) -> int:
    """Return a number that tells whether two runs had the same files."""
    check = 0
    for file in files:
        check = zlib.crc32(file.data, check)
    return check
