# SPDX-License-Identifier: Apache-2.0
"""PNG: checked and unpacked here, so that OpenCV gets its pixels and nothing else.

A text chunk of 7 kB unpacks to 7 MB and a file may have thousands; the pixels themselves may
unpack to a thousand times what the header states. libpng would do all of that. So only the header,
the palette and exactly the pixels that the header promises are passed on, packed but not
compressed, which costs libpng little. No other chunk changes what OpenCV makes of the pixels.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from perception_node.errors import UndecodableImage
from perception_node.vision.codecs.exif import UPRIGHT, read_orientation
from perception_node.vision.codecs.opencv_decoder import cut_short, decode_with_opencv

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_FRAME = 12  # bytes of a chunk beside its content: length, name and checksum
_HEADER_START, _HEADER_BYTES = b"\0\0\0\x0dIHDR", 13
_MAX_CHUNKS = 1 << 14  # encoders put 8 KiB and more into one
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})  # 150 bytes of these crash OpenCV 4.11
_ANCILLARY = 0x20  # in the first letter of a chunk's name: a decoder may skip it
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the header's kind of colour
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3  # the kind of colour that has one
_HIGHEST_FILTER = 4
_PIECE = 1 << 18  # bytes: unpacked, checked and packed while they are in the cache
# Where Adam7 begins its passes, and its steps: x, y, step in x, step in y.
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


class _Chunk(NamedTuple):
    """Where a chunk's content is."""

    name: bytes
    begin: int
    end: int


class _Rows(NamedTuple):
    """Rows of one size, as they are unpacked: each begins with the number of its filter."""

    bytes: int
    number: int


class Png:
    """One PNG.

    Attributes:
        width: pixels, as the file has them.
        height: pixels.
        orientation: as EXIF numbers it, 1 to 8; known once it is decoded.
        is_deep: its samples have 16 bits.

    """

    def __init__(self, data: bytes) -> None:
        """Read the header.

        Raises:
            UndecodableImage: it is damaged.

        """
        self._data = data
        header = data[16 : 16 + _HEADER_BYTES]
        if data[8:16] != _HEADER_START or len(header) < _HEADER_BYTES:
            raise UndecodableImage(f"the header of the image is damaged ({len(data)} bytes)")
        self.width, self.height, depth, color, packing, filters, interlace = struct.unpack(
            ">IIBBBBB", header
        )
        is_known = depth in _DEPTHS.get(color, ()) and (packing, filters) == (0, 0)
        if 0 in {self.width, self.height} or not is_known or interlace > 1:
            raise UndecodableImage(f"the header of the image is damaged: {header.hex()}")
        self.orientation = UPRIGHT
        self._depth, self._has_palette = depth, color == _PALETTE
        self.is_deep = depth > 8
        self._is_interlaced, self._pixel_bits = bool(interlace), depth * _CHANNELS[color]
        self._chunks: list[_Chunk] = []

    def decode(
        self, reduction: int, *, use_damaged: bool, deep: bool = False
    ) -> NDArray[np.uint8]:
        """Return uint8 BGR of 1/``reduction`` of the size, rounded in any way, as the file has it.

        Args:
            reduction: 1, 2, 4 or 8.
            use_damaged: take a file with damage that the pixels do not suffer from.
            deep: return uint16 where the file has 16 bits a sample.

        Raises:
            UndecodableImage: the file is damaged, or has other pixels than its header states.

        """
        self._chunks = list(self._find_chunks())
        self._require_order()
        self._require_checksums(use_damaged=use_damaged)
        for exif in self._contents(b"eXIf")[:1]:
            self.orientation = read_orientation(self._data[exif.begin : exif.end])
        return decode_with_opencv(self._repack(), reduction, deep=deep)

    def _find_chunks(self) -> Iterator[_Chunk]:
        """Walk the chunks; OpenCV 5 allocates, and clears, whatever length one states."""
        data, position = self._data, len(SIGNATURE)
        for _ in range(_MAX_CHUNKS):
            begin = position + 8
            end = begin + int.from_bytes(data[position : position + 4], "big")
            name, position = data[begin - 4 : begin], end + 4
            if name in _ANIMATION:
                raise UndecodableImage(
                    "an animated PNG is not decoded; send each picture by itself"
                )
            if position > len(data):
                raise cut_short(data)
            yield _Chunk(name, begin, end)
            if name == b"IEND":
                return
        raise UndecodableImage(
            f"the image was cut short, or has more than {_MAX_CHUNKS} chunks; encoders make fewer"
        )

    def _contents(self, name: bytes) -> list[_Chunk]:
        return [chunk for chunk in self._chunks if chunk.name == name]

    def _require_order(self) -> None:
        """Refuse critical chunks that are missing, unknown, there twice or in the wrong place."""
        names = [chunk.name for chunk in self._chunks if not chunk.name[0] & _ANCILLARY]
        critical = [b"IHDR", *([b"PLTE"] if b"PLTE" in names else [])]
        critical += [b"IDAT"] * names.count(b"IDAT") + [b"IEND"]
        places = [place for place, chunk in enumerate(self._chunks) if chunk.name == b"IDAT"]
        is_split = bool(places) and places[-1] - places[0] >= len(places)
        if (
            not places
            or is_split
            or names != critical
            or self._chunks[-1].end != (self._chunks[-1].begin)
        ):
            raise UndecodableImage("the PNG is damaged: its chunks are not those of one image")

    def _read_palette(self) -> bytes:
        """Return the chunk of the palette; empty where the pixels are colours."""
        if not self._has_palette:
            return b""
        palettes = self._contents(b"PLTE")
        size = palettes[0].end - palettes[0].begin if palettes else 0
        if not 3 <= size <= 3 << self._depth or size % 3:
            raise UndecodableImage(f"the PNG is damaged: its palette has {size} bytes")
        return self._data[palettes[0].begin - 8 : palettes[0].end + 4]

    def _require_checksums(self, *, use_damaged: bool) -> None:
        octets = memoryview(self._data)
        for name, begin, end in self._chunks:
            found = zlib.crc32(octets[begin - 4 : end])
            if found == int.from_bytes(octets[end : end + 4], "big"):
                continue
            if not use_damaged or not name[0] & _ANCILLARY:
                raise UndecodableImage(
                    f"the data is damaged: the checksum of the chunk at byte {begin - 8} is wrong"
                )

    def _repack(self) -> bytes:
        """Return the same picture with nothing but its pixels, which are not compressed."""
        palette = self._read_palette()
        pack, size, checksum = zlib.compressobj(0), 0, zlib.crc32(b"IDAT")
        packed: list[bytes] = []
        for piece in self._unpack():
            packed.append(pack.compress(piece))
            checksum = zlib.crc32(packed[-1], checksum)
            size += len(packed[-1])
        packed.append(pack.flush())
        checksum = zlib.crc32(packed[-1], checksum)
        size += len(packed[-1])
        header = self._data[: self._chunks[0].end + 4]
        begin, check = struct.pack(">I4s", size, b"IDAT"), struct.pack(">I", checksum)
        return b"".join((header, palette, begin, *packed, check, _END))

    def _unpack(self) -> Iterator[bytes]:
        """Yield the rows in pieces.

        Raises:
            UndecodableImage: they are more or fewer than the header states, or damaged.

        """
        size = (self.width, self.height)
        parts = list(_passes(*size, self._pixel_bits, is_interlaced=self._is_interlaced))
        expected, found = sum(rows.bytes * rows.number for rows in parts), 0
        filters = _FilterCheck(parts)
        unpack, octets = zlib.decompressobj(), memoryview(self._data)
        try:
            # The last has nothing but lets out what is held back.
            for _, begin, end in (*self._contents(b"IDAT"), _Chunk(b"", 0, 0)):
                rest: bytes | memoryview = octets[begin:end]
                while not unpack.eof and (piece := unpack.decompress(rest, _PIECE)):
                    rest, found = unpack.unconsumed_tail, found + len(piece)
                    if found > expected:
                        raise UndecodableImage("the PNG has more pixels than its header states")
                    filters.look(piece)
                    yield piece
        except zlib.error as error:
            raise UndecodableImage(f"the data is damaged: {error}") from error
        if found < expected or not unpack.eof:
            raise UndecodableImage(
                "the PNG is damaged: it has fewer pixels than its header states"
            )


class _FilterCheck:
    """Looks at the filter of each row: libpng says of each unknown one so, on stderr."""

    def __init__(self, parts: list[_Rows]) -> None:
        self._parts = iter(parts)
        self._rows = next(self._parts)
        self._left = self._rows.number  # of these rows
        self._next = 0  # where the next row begins in the next piece

    def look(self, piece: bytes) -> None:
        """Take in the next piece; raises UndecodableImage for a filter that there is not."""
        while self._left and self._next < len(piece):
            stride = self._rows.bytes
            end = min(len(piece), self._next + self._left * stride)
            filters = piece[self._next : end : stride]
            if max(filters) > _HIGHEST_FILTER:
                raise UndecodableImage("the PNG is damaged: a row has a filter that there is not")
            self._next += len(filters) * stride
            self._left -= len(filters)
            if not self._left:
                self._rows = next(self._parts, _Rows(1, 0))
                self._left = self._rows.number
        self._next -= len(piece)


def _passes(width: int, height: int, pixel_bits: int, *, is_interlaced: bool) -> Iterator[_Rows]:
    """Yield the rows of a picture, pass by pass."""
    for x, y, step_x, step_y in _ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:
            yield _Rows(1 + (columns * pixel_bits + 7) // 8, rows)
