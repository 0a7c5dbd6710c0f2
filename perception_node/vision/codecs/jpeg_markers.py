# SPDX-License-Identifier: Apache-2.0
"""The marker segments of a JPEG, read as libjpeg reads them.

What libjpeg would read in another way, skip with a warning or refuse is refused here: nothing may
hide from the checks a size or a scan that the decoder then finds (ITU-T T.81, B.1; jdmarker.c).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.errors import UndecodableImage
from perception_node.vision.codecs.exif import UPRIGHT, read_orientation
from perception_node.vision.codecs.opencv_decoder import cut_short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SOF0, SOF1, SOF2 = 0xC0, 0xC1, 0xC2  # baseline, extended, progressive; all with Huffman codes
DHT, RST0, RST7, SOI, EOI, SOS = 0xC4, 0xD0, 0xD7, 0xD8, 0xD9, 0xDA
DQT, DNL, DRI, APP0, APP1, APP15, COM, TEM = 0xDB, 0xDC, 0xDD, 0xE0, 0xE1, 0xEF, 0xFE, 0x01
_TABLES = frozenset({DHT, DQT, *range(APP0, APP15 + 1), COM})
_ALONE = frozenset({TEM, *range(RST0, RST7 + 1)})  # no length follows these
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {DHT}
_EXIF = b"Exif\0\0"
_MAX_SEGMENTS = 2048  # real files: under 100
_MAX_FILL = 4096  # bytes FF before a marker
_BLOCK = 1 << 16  # bytes that are searched at a time
_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_CHANNELS = frozenset({1, 3, 4})
_BITS = 8
# A scan goes over the whole image, however few bytes it has, at a third of a nanosecond for each
# sample; encoders make up to 12 of them. This is what the largest 4:2:0 image of the default
# max_image_pixels needs, and takes a tenth of a second, and 50 MB.
_USUAL_SCANS, _MAX_SCANS = 12, 64
_MAX_SCANNED_SAMPLES = _USUAL_SCANS * (3 << 23)


class JpegHeader(NamedTuple):
    """What stands before the pixels of a JPEG.

    Attributes:
        width: pixels.
        height: pixels.
        orientation: as EXIF numbers it, 1 to 8.
        channels: 1, 3 or 4.
        has_one_scan: all pixels are in one scan, as cameras send them; another is an error.
        restart_interval: MCUs between two restart markers; 0 for none.
        mcu_width: pixels.
        mcu_height: pixels.
        mcu_blocks: blocks of 8x8 samples in an MCU, of all channels.
        scan: where the first scan's data begins.

    """

    width: int
    height: int
    orientation: int
    channels: int
    has_one_scan: bool
    restart_interval: int
    mcu_width: int
    mcu_height: int
    mcu_blocks: int
    scan: int

    @property
    def mcus(self) -> int:
        """How many units the pixels are coded in, if they are in one scan."""
        return -(-self.width // self.mcu_width) * -(-self.height // self.mcu_height)

    @property
    def samples(self) -> int:
        """How many numbers the pixels are, of all channels together."""
        return 64 * self.mcus * self.mcu_blocks


class _Frame(NamedTuple):
    """What the frame header (SOFn) states."""

    width: int
    height: int
    channels: int
    is_sequential: bool
    mcu_width: int
    mcu_height: int
    mcu_blocks: int


def read_header(jpeg: bytes) -> JpegHeader:
    """Read all segments up to the first scan.

    Raises:
        UndecodableImage: a segment is damaged, cut short or of a kind that is not decoded.

    """
    frame: _Frame | None = None
    orientation: int | None = None
    restart_interval, position = 0, 2
    for _ in range(_MAX_SEGMENTS):
        marker, position, end = _read_segment(jpeg, position)
        if marker in {SOF0, SOF1, SOF2} and frame is None:
            frame = _read_frame(jpeg[position:end], is_sequential=marker != SOF2)
        elif marker == SOS and frame is not None:
            channels = _read_scan(jpeg[position:end])
            has_one_scan = frame.is_sequential and channels == frame.channels
            # A single channel is coded block by block, whatever its sampling.
            mcu = frame[4:] if frame.channels > 1 else (8, 8, 1)
            up = orientation or UPRIGHT
            return JpegHeader(*frame[:2], up, channels, has_one_scan, restart_interval, *mcu, end)
        elif marker == DRI:
            restart_interval = _read_interval(jpeg[position:end])
        elif marker == APP1 and orientation is None:
            if jpeg[position : position + len(_EXIF)] == _EXIF:
                orientation = read_orientation(jpeg[position + len(_EXIF) : end])
        elif marker not in _TABLES and marker not in _ALONE:
            raise _refusal(marker, jpeg, position)
        position = end
    raise UndecodableImage(f"the JPEG has more than {_MAX_SEGMENTS} segments before its pixels")


def require_few_scans(jpeg: bytes, header: JpegHeader) -> None:
    """Refuse a JPEG of several scans that goes over its pixels again and again.

    Raises:
        UndecodableImage: too many, or something between them that ``read_header`` refuses.

    """
    limit = min(_MAX_SCANS, _MAX_SCANNED_SAMPLES // header.samples)
    scans, position = 1, header.scan
    for _ in range(_MAX_SEGMENTS):
        position = next((int(marks[0]) for marks in find_marks(jpeg, position)), len(jpeg))
        if position >= len(jpeg) or jpeg[position + 1] == EOI:
            return
        while True:  # the tables of the next scan
            marker, position, end = _read_segment(jpeg, position)
            if marker == EOI:
                return
            if marker == SOS:
                break
            if marker != DRI and marker not in _TABLES and marker not in _ALONE:
                raise _refusal(marker, jpeg, position)
            position = end
        position, scans = end, scans + 1
        if scans > limit:
            raise UndecodableImage(
                f"the JPEG goes over its {header.width}x{header.height} pixels in more than "
                f"{limit} scans, which takes too long; send it with one (baseline)"
            )


def require_whole_scan(jpeg: bytes, header: JpegHeader) -> None:
    """Refuse a JPEG of one scan whose markers tell that some of it is missing or misplaced.

    For decoders that do not report damage: it finds less than these.

    Raises:
        UndecodableImage: the restart markers are not those that the header promises.

    """
    interval = header.restart_interval
    expected = -(-header.mcus // interval) - 1 if interval else 0
    found, is_in_order, octets = 0, True, np.frombuffer(jpeg, np.uint8)
    for marks in find_marks(jpeg, header.scan, with_restarts=True):
        codes = octets[marks + 1]
        ends = np.flatnonzero((codes < RST0) | (codes > RST7))
        restarts = codes[: ends[0]] if ends.size else codes
        due = RST0 + np.arange(found, found + restarts.size) % 8
        is_in_order &= np.array_equal(restarts, due)
        found += restarts.size
        if ends.size:
            break
    if found != expected or not is_in_order:
        raise UndecodableImage(
            f"the data is damaged: {found} restart markers, {expected} in order are due"
        )


def find_marks(
    jpeg: bytes, start: int, *, with_restarts: bool = False
) -> Iterator[NDArray[np.intp]]:
    """Yield where markers are from ``start`` on: int, ascending, some at a time.

    Coded data has none but restart markers.
    """
    octets = np.frombuffer(jpeg, np.uint8)
    for begin in range(start, len(jpeg) - 1, _BLOCK):
        end = min(begin + _BLOCK, len(jpeg) - 1)
        places = begin + np.flatnonzero(octets[begin:end] == 0xFF)
        codes = octets[places + 1]
        is_mark = (codes != 0) & (codes != 0xFF)
        if not with_restarts:
            is_mark &= (codes < RST0) | (codes > RST7)
        if np.any(is_mark):
            yield places[is_mark]


def _read_segment(jpeg: bytes, position: int) -> tuple[int, int, int]:
    """Return the marker at ``position``, where its content begins and where it ends."""
    found = _MARKER.match(jpeg, position, position + _MAX_FILL)
    if found is None or found[1] == b"\0":
        if position >= len(jpeg) - 1:
            raise cut_short(jpeg)
        raise UndecodableImage(
            f"the JPEG is damaged: byte {position} is not the marker that is due there"
        )
    marker, position = found[1][0], found.end()
    if marker in _ALONE or marker in {SOI, EOI}:
        return marker, position, position
    length = int.from_bytes(jpeg[position : position + 2], "big")
    end = position + length
    if end > len(jpeg) or position + 2 > len(jpeg):
        raise cut_short(jpeg)
    if length < 2:
        raise UndecodableImage(f"the JPEG is damaged: a segment of length {length} in its header")
    return marker, position + 2, end


def _read_frame(content: bytes, *, is_sequential: bool) -> _Frame:
    if len(content) < 6 or len(content) != 6 + 3 * content[5]:
        raise UndecodableImage("the header of the image is damaged: its frame header is no such")
    bits, channels = content[0], content[5]
    height, width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
    if bits != _BITS or channels not in _CHANNELS:
        raise UndecodableImage(
            f"a JPEG of {channels} channels of {bits} bits is not decoded; 1 or 3 of 8 bits are"
        )
    sampling = [(factors >> 4, factors & 15) for factors in content[7::3]]
    mcu_width, mcu_height = (8 * max(factors) for factors in zip(*sampling, strict=True))
    blocks = sum(across * down for across, down in sampling)
    if 0 in {width, height, mcu_width, mcu_height}:
        raise UndecodableImage(f"the header of the image is damaged: it states {width}x{height}")
    return _Frame(width, height, channels, is_sequential, mcu_width, mcu_height, blocks)


def _read_scan(content: bytes) -> int:
    """Return how many channels a scan has."""
    if len(content) < 4 or len(content) != 4 + 2 * content[0]:
        raise UndecodableImage("the JPEG is damaged: the header of its scan is no such")
    return content[0]


def _read_interval(content: bytes) -> int:
    if len(content) != 2:
        raise UndecodableImage("the JPEG is damaged: its restart interval is no number")
    return int.from_bytes(content, "big")


def _refusal(marker: int, jpeg: bytes, position: int) -> UndecodableImage:
    """Say why a segment is not taken."""
    reasons = {
        SOI: "a second image begins in it",
        EOI: "it ends before its pixels begin",
        SOS: "its pixels begin before their size is stated",
        DNL: "its height is to follow its pixels (DNL)",
        **dict.fromkeys((SOF0, SOF1, SOF2), "it states its size twice"),
        **dict.fromkeys(_OTHER_FRAMES, "it is lossless, hierarchical or arithmetic"),
    }
    why = reasons.get(marker, f"marker {marker:02x} is not known")
    return UndecodableImage(
        f"the header of the JPEG is refused: {why} (byte {position} of {len(jpeg)})"
    )
