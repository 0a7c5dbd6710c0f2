# SPDX-License-Identifier: Apache-2.0
"""TIFF's LZW, unpacked by the libtiff in OpenCV.

OpenCV takes damaged data of 8 bits for a picture, but not of 16. So libtiff gets a row of bytes
as half as many samples of 16 bits, in a file that states nothing else.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

import cv2
import numpy as np

from perception_node.errors import UndecodableImage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SHORT, _LONG = 3, 4
_HEADER_BYTES, _ENTRY_BYTES = 8, 12


def unpack_lzw(strips: list[bytes], row: int, height: int, rows: int) -> bytes:
    """Return what ``height`` rows of ``row`` bytes are, packed in strips of ``rows`` rows.

    Raises:
        UndecodableImage: the data is damaged, or a row has an odd number of bytes.

    """
    if row % 2:
        raise UndecodableImage(
            f"the TIFF has rows of {row} bytes, and LZW is only unpacked where this number is "
            "even; send PNG, or TIFF without compression"
        )
    file = np.frombuffer(_write_tiff(strips, row // 2, height, rows), np.uint8)
    try:
        with _silent_opencv():
            samples = cv2.imdecode(file, cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:  # larger than OpenCV's own limits, which builds may lower
        raise UndecodableImage(f"OpenCV refuses the image: {error.err}") from error
    if samples is None or samples.nbytes != row * height:
        raise UndecodableImage("the data is damaged: it cannot be unpacked")
    return samples.tobytes()


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keep OpenCV from writing lines to stderr for a damaged image."""
    # Old ones have the two functions at the top, and write one line all the same.
    logging: Any = getattr(cv2.utils, "logging", cv2)
    level = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def _write_tiff(strips: list[bytes], width: int, height: int, rows: int) -> bytes:
    """Return a file with one grey picture of 16 bits, its numbers in this machine's order."""
    sizes = [len(strip) for strip in strips]
    *offsets, end = accumulate(sizes, initial=_HEADER_BYTES)
    values = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [16]),  # bits of a sample
        (259, _SHORT, [5]),  # LZW
        (262, _SHORT, [1]),  # grey
        (273, _LONG, offsets),
        (277, _SHORT, [1]),  # samples of a pixel
        (278, _LONG, [rows]),
        (279, _LONG, sizes),
    ]
    begin = end + end % 2
    behind = begin + 2 + len(values) * _ENTRY_BYTES + 4
    directory, rest = [struct.pack("=H", len(values))], b""
    for tag, kind, numbers in values:
        packed = struct.pack(f"={len(numbers)}{'H' if kind == _SHORT else 'I'}", *numbers)
        if len(numbers) > 1:
            packed, rest = struct.pack("=I", behind + len(rest)), rest + packed
        directory.append(struct.pack("=HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0"))
    mark = b"II" if struct.pack("=H", 1) == b"\1\0" else b"MM"
    start = mark + struct.pack("=HI", 42, begin)
    return b"".join((start, *strips, bytes(end % 2), *directory, bytes(4), rest))
