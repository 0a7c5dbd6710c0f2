# SPDX-License-Identifier: Apache-2.0
"""JPEG, decoded by simplejpeg, which reports damage; without it by OpenCV, which hides it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from perception_node.codecs.jpeg_markers import (
    read_header,
    require_few_scans,
    require_whole_scan,
)
from perception_node.codecs.opencv_decoder import cut_short, decode_with_opencv
from perception_node.errors import UndecodableImage
from perception_node.installing import install_command

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
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


class Jpeg:
    """One JPEG.

    Attributes:
        width: pixels, as the file has them.
        height: pixels.
        orientation: as EXIF numbers it, 1 to 8.

    """

    def __init__(self, data: bytes) -> None:
        """Read the header.

        Raises:
            UndecodableImage: it is damaged, or of a kind that is not decoded.

        """
        self._data = data
        self._header = read_header(data)
        self.width, self.height, self.orientation = self._header[:3]

    def decode(self, reduction: int, *, use_damaged: bool) -> NDArray[np.uint8]:
        """Return uint8 BGR of 1/``reduction`` of the size, rounded up, as the file has it.

        Args:
            reduction: 1, 2, 4 or 8.
            use_damaged: take what can be decoded of a damaged file; the rest is grey or wrong.

        Raises:
            UndecodableImage: the file is damaged, cut short, or asks for too much.

        """
        if not self._header.has_one_scan:
            require_few_scans(self._data, self._header)
        if not use_damaged and self._data.rfind(_END, self._header.scan) < 0:
            raise cut_short(self._data)
        if decode_jpeg is None:
            return self._decode_leniently(reduction, use_damaged=use_damaged)
        try:
            return cast(
                "NDArray[np.uint8]",
                decode_jpeg(
                    self._data,
                    "BGR",
                    min_height=-(-self.height // reduction) if reduction > 1 else 0,
                    min_width=-(-self.width // reduction) if reduction > 1 else 0,
                    strict=not use_damaged,
                ),
            )
        except ValueError as error:
            raise UndecodableImage(_explain(str(error))) from error

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
