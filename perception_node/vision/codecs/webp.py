# SPDX-License-Identifier: Apache-2.0
"""WebP: looked through here, so that OpenCV gets one still picture and nothing else.

A file may state one size for all and another one for the picture, have several pictures, and
profiles and texts of any length. Only the picture's own chunk is passed on; its transparency,
which would be dropped, is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perception_node.errors import UndecodableImage
from perception_node.vision.codecs.exif import read_orientation
from perception_node.vision.codecs.opencv_decoder import cut_short, decode_with_opencv

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = b"RIFF"
_MAX_CHUNKS = 64  # encoders make a handful
_LOSSY, _LOSSLESS, _EXTENDED, _EXIF = b"VP8 ", b"VP8L", b"VP8X", b"EXIF"
_ANIMATION = frozenset({b"ANIM", b"ANMF"})
_KEY_FRAME, _LOSSLESS_MARK = b"\x9d\x01\x2a", 0x2F
_EXIF_MARK = b"Exif\0\0"  # some write it, as in a JPEG


class _Size(NamedTuple):
    width: int
    height: int


class Webp:
    """One WebP.

    Attributes:
        width: pixels, as the file has them.
        height: pixels.
        orientation: as EXIF numbers it, 1 to 8.
        is_deep: its samples have 16 bits: none has.

    """

    is_deep = False

    def __init__(self, data: bytes) -> None:
        """Read the header.

        Raises:
            UndecodableImage: it is damaged, or of a kind that is not decoded.

        """
        end = 8 + int.from_bytes(data[4:8], "little")
        if data[8:12] != b"WEBP":
            raise UndecodableImage(f"the RIFF file is no WebP: it is {data[8:12]!r}")
        if end > len(data):
            raise cut_short(data)
        chunks = list(_find_chunks(data[:end]))
        pictures = [chunk for chunk in chunks if chunk[0] in {_LOSSY, _LOSSLESS}]
        if any(name in _ANIMATION for name, _ in chunks):
            raise UndecodableImage("an animated WebP is not decoded; send each picture by itself")
        if len(pictures) != 1:
            raise UndecodableImage(f"the WebP is damaged: it has {len(pictures)} pictures")
        ((self._name, self._picture),) = pictures
        size = _read_size(self._name, self._picture)
        others = dict(chunks)
        if _EXTENDED in others and _read_canvas(others[_EXTENDED]) != size:
            raise UndecodableImage("the WebP is damaged: it states two sizes")
        self.width, self.height = size
        self.orientation = read_orientation(others.get(_EXIF, b"").removeprefix(_EXIF_MARK))

    def decode(
        self, reduction: int, *, use_damaged: bool, deep: bool = False
    ) -> NDArray[np.uint8]:
        """Return uint8 BGR of 1/``reduction`` of the size, rounded in any way, as the file has it.

        ``use_damaged`` and ``deep`` have no meaning: behind damage nothing can be decoded, and a
        WebP has 8 bits.

        Raises:
            UndecodableImage: the file is damaged.

        """
        del use_damaged, deep
        size = len(self._picture)
        body = b"".join(
            (b"WEBP", self._name, size.to_bytes(4, "little"), self._picture, bytes(size % 2))
        )
        return decode_with_opencv(SIGNATURE + len(body).to_bytes(4, "little") + body, reduction)


def _find_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of all chunks."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position >= len(data):
            return
        begin = position + 8
        end = begin + int.from_bytes(data[position + 4 : begin], "little")
        if begin > len(data) or end > len(data):
            raise cut_short(data)
        yield data[position : position + 4], data[begin:end]
        position = end + end % 2
    raise UndecodableImage(f"the WebP has more than {_MAX_CHUNKS} chunks; encoders make fewer")


def _read_size(name: bytes, picture: bytes) -> _Size:
    """Return what the picture itself states.

    Raises:
        UndecodableImage: its header is damaged.

    """
    if name == _LOSSLESS and len(picture) > 5 and picture[0] == _LOSSLESS_MARK:
        bits = int.from_bytes(picture[1:5], "little")
        if bits >> 29 == 0:  # the version
            return _Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    tag, size = int.from_bytes(picture[:3], "little"), picture[6:10]
    is_key = tag & 1 == 0 and picture[3:6] == _KEY_FRAME and tag >> 5 < len(picture)
    if name == _LOSSY and is_key and len(size) == 4:
        width, height = (int.from_bytes(part, "little") & 0x3FFF for part in (size[:2], size[2:]))
        if width and height:
            return _Size(width, height)
    raise UndecodableImage(f"the header of the image is damaged: {picture[:10].hex()}")


def _read_canvas(extended: bytes) -> _Size:
    """Return the size that the whole file states."""
    width, height = (int.from_bytes(extended[n : n + 3], "little") + 1 for n in (4, 7))
    return _Size(width, height)
