# SPDX-License-Identifier: Apache-2.0
"""JPEG, decoded by simplejpeg, which reports damage; without it by OpenCV, which hides it."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from perception_node.errors import UndecodableImage
from perception_node.installing import install_command
from perception_node.vision.codecs.jpeg_markers import (
    read_header,
    require_few_scans,
    require_whole_scan,
)
from perception_node.vision.codecs.opencv_decoder import cut_short, decode_with_opencv

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

why_lenient = ""  # why damage in a JPEG is not always found; empty where it is
try:
    from simplejpeg import decode_jpeg
except (ImportError, ValueError) as error:  # the latter: built for another NumPy
    decode_jpeg = None
    why_lenient = (
        "damage in a JPEG is only found where its markers show it, because simplejpeg cannot be "
        f"imported ({' '.join(str(error).split())}); run: {install_command('simplejpeg')}"
    )

_untold = [why_lenient] if why_lenient else []
_END = b"\xff\xd9"
# Before a restart marker or the end. Logitech's C270, C310 and C910 add a few bytes there, and
# libjpeg adds up those of several restart markers.
_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd([0-79])$")
_MAX_PADDING, _MAX_PADDING_OF_SEVERAL = 9, 32
_COLORS = 3


class Jpeg:
    """One JPEG.

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
        self._data = data
        self._header = read_header(data)
        self.width, self.height, self.orientation = self._header[:3]

    def decode(
        self, reduction: int, *, use_damaged: bool, deep: bool = False
    ) -> NDArray[np.uint8]:
        """Return uint8 BGR of 1/``reduction`` of the size, rounded up, as the file has it.

        Args:
            reduction: 1, 2, 4 or 8.
            use_damaged: take what can be decoded of a damaged file; the rest is grey or wrong.
            deep: has no meaning, a JPEG has 8 bits.

        Raises:
            UndecodableImage: the file is damaged, cut short, or asks for too much.

        """
        del deep
        if not self._header.has_one_scan:
            require_few_scans(self._data, self._header)
        if not use_damaged and self._data.rfind(_END, self._header.scan) < 0:
            raise cut_short(self._data)
        if decode_jpeg is None:
            return self._decode_leniently(reduction, use_damaged=use_damaged)
        height, width = -(-self.height // reduction), -(-self.width // reduction)
        pixels = np.empty((height, width, 3), np.uint8)
        is_reduced = reduction > 1
        try:
            decode_jpeg(
                self._data,
                "BGR",
                min_height=is_reduced * height,
                min_width=is_reduced * width,
                buffer=pixels,
                strict=not use_damaged,
            )
        except ValueError as error:
            if not self._is_only_padded(str(error)):
                raise UndecodableImage(_explain(str(error))) from error
        return pixels

    def _is_only_padded(self, problem: str) -> bool:
        """Return whether libjpeg has decoded all and complains of padding that cameras add.

        It says no more than the first of its warnings, so the restart markers are looked at.
        """
        padding = _PADDING.search(problem)
        if padding is None or self._header.channels > _COLORS:
            return False
        if int(padding[1]) > (_MAX_PADDING if padding[2] == "9" else _MAX_PADDING_OF_SEVERAL):
            return False
        if self._header.has_one_scan:
            require_whole_scan(self._data, self._header)
        return self._header.has_one_scan

    def _decode_leniently(self, reduction: int, *, use_damaged: bool) -> NDArray[np.uint8]:
        if not use_damaged:
            tell_leniency(logging.getLogger("perception.decode").warning)
            if self._header.has_one_scan:
                require_whole_scan(self._data, self._header)
        return decode_with_opencv(self._data, reduction)


def _explain(problem: str) -> str:
    """Return what libjpeg says, for people."""
    if "determine subsampling" in problem:
        return (
            "the JPEG's channels are sampled in a way that is not decoded; cameras send grey, "
            "4:4:4, 4:2:2, 4:2:0, 4:4:0 or 4:1:1"
        )
    return f"the data is damaged: {problem.removeprefix('tjDecompressHeader3(): ')}"


def tell_leniency(tell: Callable[[str], object]) -> None:
    """Say, once in this process, why damage in a JPEG is not always found, where that is so."""
    with suppress(IndexError):
        tell(_untold.pop())
