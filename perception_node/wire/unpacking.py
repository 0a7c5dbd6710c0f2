# SPDX-License-Identifier: Apache-2.0
"""Unpack zstd, lz4 and bz2 within a limit: four bytes can stand for 128 KiB of zeros."""

from __future__ import annotations

import bz2
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "zstd": zstd.ZstdDecompressor,
    "lz4": LZ4FrameDecompressor,
    "bz2": bz2.BZ2Decompressor,
}
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
PIECE_BYTES = 1 << 20


def unpack(data: bytes, method: str, limit_bytes: int) -> bytes:
    """Return what was packed by ``method``, one of ``DECOMPRESSORS``, or empty for nothing.

    Raises:
        ValueError: there is no such method, or the data unpack to more than the limit.
        Exception: they are damaged.

    """
    return b"".join(_unpack(data, method, limit_bytes)) if method else data


def unpack_beginning(data: bytes, method: str, limit_bytes: int) -> bytes:
    """Return what can be unpacked of data whose end is missing or damaged."""
    if not method:
        return data[:limit_bytes]
    parts = []
    with suppress(Exception):
        for part in _unpack(data, method, limit_bytes):
            parts += [part]  # kept, whatever comes behind
    return b"".join(parts)


def _unpack(data: bytes, method: str, limit_bytes: int) -> Iterator[bytes]:
    if method not in DECOMPRESSORS:
        known = ", ".join(DECOMPRESSORS)
        raise ValueError(f"packed by {method[:20]!a}, which is unknown; {known} are known")
    left = limit_bytes
    while data:  # one frame after the other
        decompressor = DECOMPRESSORS[method]()
        while not decompressor.eof:
            part = decompressor.decompress(data, max_length=min(left + 1, PIECE_BYTES))
            data = b""
            left -= len(part)
            if left < 0:
                raise ValueError(f"it unpacks to more than the {limit_bytes} bytes allowed")
            yield part
            if not part and not decompressor.eof and decompressor.needs_input:
                raise ValueError("it is packed and was cut off")
        data = decompressor.unused_data or b""


def unpack_file(packed: BinaryIO, target: BinaryIO, limit_bytes: int) -> None:
    """Unpack a file that zstd has packed into another, up to where it was cut off.

    Raises:
        ValueError: it unpacks to more than the limit.
        Exception: it is damaged.

    """
    left = limit_bytes
    with suppress(EOFError), zstd.open(packed, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise ValueError(f"it unpacks to more than the {limit_bytes} bytes allowed")
            target.write(piece)
