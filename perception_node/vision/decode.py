# SPDX-License-Identifier: Apache-2.0
"""Decode JPEG, PNG, WebP and TIFF, after a look of our own has shown what that will cost.

A PNG of 100 kB can ask for gigabytes, by the size of its image or of a chunk, and a JPEG can ask
for its pixels thousands of times. Neither reaches a decoder. ``FORMATS`` has what is decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perception_node.errors import UndecodableImage
from perception_node.vision.codecs import png, tiff, webp
from perception_node.vision.codecs.exif import turn_upright
from perception_node.vision.codecs.jpeg import Jpeg
from perception_node.vision.codecs.png import Png
from perception_node.vision.codecs.tiff import Tiff
from perception_node.vision.codecs.webp import Webp
from perception_node.vision.frame import require_size
from perception_node.vision.samples import SampleScaler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from perception_node.config.sections import DamagedImages


class Format(NamedTuple):
    """One format: how files of it begin and are called, and what reads their header.

    ``decode`` of what is opened is called once the size in the header is known to be allowed, and
    must take no more memory and time than that size accounts for.
    """

    signature: bytes
    suffixes: tuple[str, ...]
    open: type[Jpeg | Png | Tiff | Webp]


FORMATS = (
    Format(b"\xff\xd8\xff", (".jpg", ".jpeg"), Jpeg),
    Format(png.SIGNATURE, (".png",), Png),
    Format(webp.SIGNATURE, (".webp",), Webp),
    Format(tiff.LITTLE, (".tif", ".tiff"), Tiff),
    Format(tiff.BIG, (".tif", ".tiff"), Tiff),
)
IMAGE_SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes)


class Decoder:
    """Decodes files of ``FORMATS`` into BGR, within limits."""

    def __init__(
        self,
        max_pixels: int,
        smallest_side: int,
        damaged_images: DamagedImages = "drop",
        scaler: SampleScaler | None = None,
    ) -> None:
        """Accept up to ``max_pixels``.

        An image is decoded at 1/2, 1/4 or 1/8 of its size, which is faster for a JPEG, as long
        as its shorter side keeps ``smallest_side`` pixels. ``damaged_images`` is that of
        ``CameraConfig``. ``scaler`` makes bytes of samples of 16 bits.
        """
        self._max_pixels = max_pixels
        self._smallest_side = smallest_side
        self._use_damaged = damaged_images == "use"
        self._scaler = SampleScaler() if scaler is None else scaler

    def decode(self, data: memoryview | bytes) -> NDArray[np.uint8]:
        """Return the image as uint8 BGR of shape (height, width, 3), upright as EXIF says.

        Raises:
            UndecodableImage: of no such format, animated, damaged or cut short.
            FrameTooLarge: the header states more than ``max_pixels``.
            MalformedImage: the header states a side that is longer than ``MAX_SIDE``.

        """
        image = _open(data)
        require_size(image.width, image.height, self._max_pixels)
        reduction = self._reduction(image.width, image.height)
        is_scaled = image.is_deep and not self._scaler.is_full
        pixels = image.decode(reduction, use_damaged=self._use_damaged, deep=is_scaled)
        _require_shape(pixels, image, reduction)
        if is_scaled:
            pixels = self._scaler.scale(pixels)
        elif image.is_deep:
            self._scaler.judge(pixels)
        return turn_upright(pixels, image.orientation)

    def _reduction(self, width: int, height: int) -> int:
        shorter_side = min(width, height)
        fitting = (r for r in (8, 4, 2) if shorter_side // r >= self._smallest_side)
        return next(fitting, 1)


def _open(data: memoryview | bytes) -> Jpeg | Png | Tiff | Webp:
    content = bytes(data)  # no copy where it is that already
    for form in FORMATS:
        if content.startswith(form.signature):
            return form.open(content)
    msg = f"no JPEG, PNG, WebP or TIFF: it begins with {content[:8]!r}"
    raise UndecodableImage(msg)


def _require_shape(
    pixels: NDArray[np.uint8], image: Jpeg | Png | Tiff | Webp, reduction: int
) -> None:
    """Refuse what a decoder has found a larger or smaller image in than the header states."""
    for found, stated in zip(pixels.shape, (image.height, image.width), strict=False):
        if not stated // reduction <= found <= -(-stated // reduction):
            msg = (
                f"the header states {image.width}x{image.height} pixels, decoded were "
                f"{pixels.shape[1]}x{pixels.shape[0]} at 1/{reduction}"
            )
            raise UndecodableImage(msg)
