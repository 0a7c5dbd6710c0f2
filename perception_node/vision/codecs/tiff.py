# SPDX-License-Identifier: Apache-2.0
"""TIFF: its directory is read here, and nothing that was not understood is unpacked.

libtiff knows hundreds of tags, other codecs within the file, tiles of any size and chains of
directories, and OpenCV takes what it has decoded of damaged data for a picture. Here a picture
is grey or RGB, of 8 or 16 bits, in strips, as OpenCV writes it; ``lzw.py`` has the one codec that
is left to libtiff.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np

from perception_node.errors import UndecodableImage
from perception_node.vision.codecs.exif import read_orientation
from perception_node.vision.codecs.lzw import unpack_lzw
from perception_node.vision.codecs.opencv_decoder import cut_short
from perception_node.vision.opencv import resize

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

LITTLE, BIG = b"II*\0", b"MM\0*"
_ENTRY_BYTES, _MAX_ENTRIES = 12, 512
_TYPES = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _SIZES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_FILL_ORDER, _TILE_WIDTH, _FORMAT = 266, 322, 339
MAX_SAMPLES = 4
_NONE = 1
_LZW, _DEFLATE, _OLD_DEFLATE = 5, 8, 32946
_DIFFERENCES = 2  # a predictor: each sample is stored as its difference from the one before
_ALLOWED = {  # by tag, where the file states it
    _COMPRESSION: (_NONE, _LZW, _DEFLATE, _OLD_DEFLATE),
    _FILL_ORDER: (1,),
    _PLANAR: (1,),
    _PREDICTOR: (1, _DIFFERENCES),
    _FORMAT: (1,),
    _TILE_WIDTH: (),
}
_LAYOUTS = {(1, 1), (2, 3), (2, 4)}  # photometric interpretation, samples: grey, RGB, and alpha


class Tiff:
    """One TIFF, of which the first picture counts.

    Attributes:
        width: pixels, as the file has them.
        height: pixels.
        orientation: as EXIF numbers it, 1 to 8.
        is_deep: its samples have 16 bits.

    """

    def __init__(self, data: bytes) -> None:
        """Read the directory.

        Raises:
            UndecodableImage: it is damaged, or of a kind that is not decoded.

        """
        self._data = data
        self._order = "<" if data.startswith(LITTLE) else ">"
        self._entries = self._read_directory()
        self.width, self.height = self._number(_WIDTH, 0), self._number(_HEIGHT, 0)
        bits = set(self._numbers(_BITS, MAX_SAMPLES) or (1,))
        self._samples = self._number(_SAMPLES, 1)
        self._photometric = self._number(_PHOTOMETRIC, 0)
        for tag, allowed in _ALLOWED.items():
            for found in set(self._numbers(tag, MAX_SAMPLES)) - set(allowed):
                raise _of_another_kind(f"tag {tag} is {found}")
        if bits not in ({8}, {16}) or (self._photometric, self._samples) not in _LAYOUTS:
            raise _of_another_kind(
                f"{self._samples} samples of {sorted(bits)} bits, kind {self._photometric}"
            )
        if not self.width or not self.height:
            raise UndecodableImage("the header of the image is damaged: it states no size")
        self._bits = max(bits)
        self.is_deep = self._bits > 8
        self._compression = self._number(_COMPRESSION, _NONE)
        self._row = self.width * self._samples * self._bits // 8
        self.orientation = read_orientation(data)

    def decode(
        self, reduction: int, *, use_damaged: bool, deep: bool = False
    ) -> NDArray[np.uint8]:
        """Return uint8 BGR of 1/``reduction`` of the size, rounded up, as the file has it.

        Args:
            reduction: 1, 2, 4 or 8.
            use_damaged: has no meaning, as behind damage nothing can be decoded.
            deep: return uint16 where the file has 16 bits a sample.

        Raises:
            UndecodableImage: the file is damaged.

        """
        del use_damaged
        samples = self._read_samples()
        if self.is_deep and not deep:
            samples = samples >> 8
        colors = samples[..., 2::-1] if self._samples > 1 else samples.repeat(3, axis=2)
        kind = np.uint16 if deep and self.is_deep else np.uint8
        pixels: NDArray[Any] = np.ascontiguousarray(colors, kind)
        return pixels if reduction == 1 else _reduce(pixels, reduction)

    def _read_samples(self) -> NDArray[Any]:
        """Return all samples, uint8 or uint16, of shape (height, width, samples of a pixel)."""
        data = self._unpack_strips(*self._find_strips())
        kind = "u1" if self._bits == 8 else f"{self._order}u2"
        samples = np.frombuffer(data, kind).reshape(self.height, self.width, self._samples)
        if self._number(_PREDICTOR, 1) == _DIFFERENCES and self._compression != _NONE:
            native = samples.dtype.newbyteorder("=")
            return np.add.accumulate(samples, axis=1, dtype=native)
        return samples

    def _read_directory(self) -> dict[int, tuple[str, int, int]]:
        """Return type, number and place of the values of each tag."""
        (begin,) = self._unpack("I", 4)
        (count,) = self._unpack("H", begin)
        if not 0 < count <= _MAX_ENTRIES:
            raise UndecodableImage(f"the header of the image is damaged: {count} entries")
        entries: dict[int, tuple[str, int, int]] = {}
        for place in range(begin + 2, begin + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
            tag, kind, number = self._unpack("HHI", place)
            if kind not in _TYPES:
                continue
            letter = _TYPES[kind]
            is_inside = struct.calcsize(letter) * number <= 4
            at = place + 8 if is_inside else self._unpack("I", place + 8)[0]
            entries.setdefault(tag, (letter, number, at))
        return entries

    def _numbers(self, tag: int, most: int) -> tuple[int, ...]:
        """Return the values of a tag, at most so many; none where it is missing."""
        letter, number, place = self._entries.get(tag, ("B", 0, 0))
        if number > most:
            raise UndecodableImage(f"the TIFF is damaged: tag {tag} has {number} values")
        return self._unpack(letter * number, place)

    def _number(self, tag: int, default: int) -> int:
        return (self._numbers(tag, 1) or (default,))[0]

    def _unpack(self, letters: str, place: int) -> tuple[int, ...]:
        layout = struct.Struct(self._order + letters)
        if place + layout.size > len(self._data):
            raise cut_short(self._data)
        return layout.unpack_from(self._data, place)

    def _find_strips(self) -> tuple[int, list[bytes]]:
        """Return the rows of a strip, and the strips as they are packed.

        Raises:
            UndecodableImage: there are more or fewer than the size needs, or one ends too soon.

        """
        rows = min(self._number(_ROWS, self.height), self.height)
        number = -(-self.height // rows) if rows else 0
        offsets, sizes = (self._numbers(tag, self.height) for tag in (_OFFSETS, _SIZES))
        if not number or {len(offsets), len(sizes)} != {number}:
            raise UndecodableImage("the TIFF is damaged: its strips are not those of one image")
        if any(
            offset + size > len(self._data) for offset, size in zip(offsets, sizes, strict=True)
        ):
            raise cut_short(self._data)
        if sum(sizes) > len(self._data):
            raise UndecodableImage("the TIFF is damaged: its strips overlap")
        pairs = zip(offsets, sizes, strict=True)
        return rows, [self._data[offset : offset + size] for offset, size in pairs]

    def _unpack_strips(self, rows: int, strips: list[bytes]) -> bytes:
        """Return the bytes of all samples, row by row.

        Raises:
            UndecodableImage: they are more or fewer than the size needs, or damaged.

        """
        counts = [min(rows, self.height - first) for first in range(0, self.height, rows)]
        if self._compression == _LZW:
            return unpack_lzw(strips, self._row, self.height, rows)
        unpack = _take if self._compression == _NONE else _inflate
        return b"".join(
            unpack(strip, self._row * count) for strip, count in zip(strips, counts, strict=True)
        )


def _take(strip: bytes, size: int) -> bytes:
    if len(strip) < size:
        raise UndecodableImage("the TIFF is damaged: it has fewer pixels than its header states")
    return strip[:size]


def _inflate(strip: bytes, size: int) -> bytes:
    unpack = zlib.decompressobj()
    try:
        found = unpack.decompress(strip, size + 1)
    except zlib.error as error:
        raise UndecodableImage(f"the data is damaged: {error}") from error
    if len(found) != size or not unpack.eof:
        raise UndecodableImage("the TIFF is damaged: it has other pixels than its header states")
    return found


def _reduce(pixels: NDArray[Any], reduction: int) -> NDArray[Any]:
    height, width, colors = pixels.shape
    target = np.empty((-(-height // reduction), -(-width // reduction), colors), pixels.dtype)
    resize(pixels, target, cv2.INTER_AREA)
    return target


def _of_another_kind(what: str) -> UndecodableImage:
    return UndecodableImage(
        f"the TIFF is of a kind that is not decoded ({what}); OpenCV's own are: grey or RGB, 8 or "
        "16 bits, strips"
    )
