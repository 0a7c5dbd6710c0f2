# SPDX-License-Identifier: Apache-2.0
"""Unpack zstd and lz4 within a limit: four bytes can stand for 128 KiB of zeros."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "zstd": zstd.ZstdDecompressor,
    "lz4": LZ4FrameDecompressor,
}
PIECE_BYTES = 1 << 20


def unpack(data: bytes, method: str, limit_bytes: int) -> bytes:
    """Return what was packed by ``method``: ``zstd``, ``lz4`` or an empty string for nothing.

    Raises:
        ValueError: there is no such method, or the data unpack to more than the limit.
        Exception: they are damaged.

    """
    if not method:
        return data
    if method not in DECOMPRESSORS:
        raise ValueError(f"packed by {method[:20]!a}, which is unknown; zstd and lz4 are")
    parts, left = [], limit_bytes
    while data:  # one frame after the other
        decompressor = DECOMPRESSORS[method]()
        while not decompressor.eof:
            part = decompressor.decompress(data, max_length=min(left + 1, PIECE_BYTES))
            data = b""
            left -= len(part)
            if left < 0:
                raise ValueError(f"it unpacks to more than the {limit_bytes} bytes allowed")
            if not part and not decompressor.eof and decompressor.needs_input:
                raise ValueError("it is packed and was cut off")
            parts.append(part)
        data = decompressor.unused_data or b""
    return b"".join(parts)


def unpack_file(packed: BinaryIO, target: BinaryIO, limit_bytes: int) -> None:
    """Unpack a file that zstd has packed into another.

    Raises:
        ValueError: it unpacks to more than the limit.
        Exception: it is damaged.

    """
    left = limit_bytes
    with zstd.open(packed, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise ValueError(f"it unpacks to more than the {limit_bytes} bytes allowed")
            target.write(piece)
