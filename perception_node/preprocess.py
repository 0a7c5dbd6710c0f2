# SPDX-License-Identifier: Apache-2.0
"""Packed pixels become the engine's input: one pass, into buffers made once per image size.

Only the part of the image that ends up in the input is touched. It is halved by averaging 2x2
pixels while it is far larger than needed, smoothed by what the last step still lacks, resized
once, and normalised channel by channel into its planes. The result is close to an antialiased
resize (Pillow's, torchvision's), which is what models are trained with, in a fraction of the time;
``perception_node.bench.preprocessing`` prints how close. A crop begins at a whole pixel of the
image, so it is off by half a pixel of the image at most.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from perception_node.frame import Unpacker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.bundle import Interpolation, Preprocessing
    from perception_node.frame import Frame, PackedOrder

_INTERPOLATION: dict[Interpolation, int] = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
}
HALVE_FROM = 2.4  # image pixels per input pixel from which on the image is halved first
BLUR_PER_SCALE = 0.36  # standard deviation that makes the last step antialiased
SMALLEST_BLUR = 0.25  # in pixels; less changes nothing that can be seen


class Span(NamedTuple):
    """How one axis of the image maps onto one axis of the input.

    Attributes:
        start: where the used part of the image begins, in pixels from its edge.
        extent: length of the used part, in pixels; neither needs to be whole.
        first: first pixel of the input that is filled.
        filled: number of pixels of the input that are filled.

    """

    start: float
    extent: float
    first: int
    filled: int


class FramePreprocessor:
    """Fills a fixed input array from frames of any encoding and size, on the CPU."""

    def __init__(self, preprocessing: Preprocessing, output: NDArray[np.float32]) -> None:
        """Prepare to fill ``output``: float32, C-contiguous, shape (1, 3, height, width)."""
        self._unpacker = Unpacker()
        self._preprocess = Preprocessor(preprocessing, output)

    def __call__(self, frame: Frame) -> None:
        """Fill the input from one frame."""
        self._preprocess(*self._unpacker.unpack(frame))


class Preprocessor:
    """Fills a fixed input array from images of any size."""

    def __init__(self, preprocessing: Preprocessing, output: NDArray[np.float32]) -> None:
        """Prepare to fill ``output``: float32, C-contiguous, shape (1, 3, height, width)."""
        self._preprocessing = preprocessing
        self._planes = output[0]
        self._plane = np.empty(output.shape[2:], np.uint8)
        # (pixel * scale - mean) / std as one multiplication and one addition
        self._factors = [preprocessing.scale / std for std in preprocessing.std]
        self._offsets = [
            -mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
        ]
        self._shape: tuple[int, ...] = ()
        self._resize: Resizer | None = None

    def __call__(self, pixels: NDArray[np.uint8], order: PackedOrder) -> None:
        """Fill the input from packed uint8 pixels of shape (height, width[, channels])."""
        if self._resize is None or pixels.shape != self._shape:
            self._resize = Resizer(self._preprocessing, pixels.shape, self._plane.shape)
            self._shape = pixels.shape
        self._normalise(self._resize(pixels), order)

    def _normalise(self, image: NDArray[np.uint8], order: PackedOrder) -> None:
        for index, color in enumerate(self._preprocessing.color):
            plane = image
            if order != "GRAY":
                cv2.extractChannel(image, order.index(color), self._plane)
                plane = self._plane
            factor, offset = self._factors[index], self._offsets[index]
            cv2.addWeighted(plane, factor, plane, 0.0, offset, self._planes[index], cv2.CV_32F)


class Resizer:
    """Resizes images of one shape to the input's size, with its own buffers."""

    def __init__(
        self, preprocessing: Preprocessing, shape: tuple[int, ...], size: tuple[int, ...]
    ) -> None:
        """Prepare for uint8 images of ``shape`` (height, width[, channels]).

        ``size`` is the (height, width) of the result.
        """
        spans = fit(preprocessing, shape[:2], size)
        halvings = _count_halvings(spans)
        crops = [_crop(length, span, halvings) for length, span in zip(shape, spans, strict=False)]
        self._crop = tuple(crops)
        self._halved = [
            np.empty(_halve(crops, step) + shape[2:], np.uint8) for step in range(1, halvings + 1)
        ]
        last = _halve(crops, halvings)
        self._sigma_y, self._sigma_x = (
            _blur(length / span.filled, halvings) for length, span in zip(last, spans, strict=True)
        )
        self._blurred = np.empty(last + shape[2:], np.uint8)
        self._image = np.full(size + shape[2:], preprocessing.fill, np.uint8)
        rows, columns = (slice(span.first, span.first + span.filled) for span in spans)
        self._inner = self._image[rows, columns]
        self._interpolation = _INTERPOLATION[preprocessing.interpolation]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the resized image, in a buffer that the next call overwrites."""
        image = pixels[self._crop]
        for halved in self._halved:
            _resize(image, halved, cv2.INTER_AREA)
            image = halved
        if max(self._sigma_x, self._sigma_y) > SMALLEST_BLUR:
            image = self._blur(image)
        _resize(image, self._inner, self._interpolation)
        return self._image

    def _blur(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        taps = [2 * max(1, round(1.5 * sigma)) + 1 for sigma in (self._sigma_x, self._sigma_y)]
        cv2.GaussianBlur(
            image,
            taps,
            max(self._sigma_x, 0.01),  # 0 would let OpenCV choose
            self._blurred,
            max(self._sigma_y, 0.01),
            cv2.BORDER_REPLICATE,
        )
        return self._blurred


def fit(
    preprocessing: Preprocessing, image: tuple[int, ...], size: tuple[int, ...]
) -> tuple[Span, Span]:
    """Return the vertical and the horizontal span for an image of (height, width).

    The roundings are those of torchvision's Resize and CenterCrop and of the usual letterbox.

    Args:
        preprocessing: says how to resize.
        image: height and width of the image in pixels.
        size: height and width of the input in pixels.

    """
    if preprocessing.resize == "stretch":
        spans = [Span(0.0, length, 0, target) for length, target in zip(image, size, strict=True)]
    elif preprocessing.resize == "shorter-side":
        resized = [preprocessing.shorter_side * length // min(image) for length in image]
        spans = [_centre(*axis) for axis in zip(image, resized, size, strict=True)]
    else:
        ratio = min(target / length for length, target in zip(image, size, strict=True))
        spans = [_letterbox(*axis, ratio) for axis in zip(image, size, strict=True)]
    vertical, horizontal = spans
    return vertical, horizontal


def _centre(length: int, resized: int, target: int) -> Span:
    """Return the span of the centre crop of an axis that was resized first."""
    scale = length / resized
    return Span(round((resized - target) / 2) * scale, target * scale, 0, target)


def _letterbox(length: int, target: int, ratio: float) -> Span:
    """Return the span of a whole axis that fills the middle of the input."""
    filled = max(1, round(length * ratio))
    return Span(0.0, length, (target - filled) // 2, filled)


def _count_halvings(spans: tuple[Span, Span]) -> int:
    """Return how often both axes are halved; one alone would leave OpenCV's fast path."""
    scale = min(span.extent / span.filled for span in spans)
    return max(0, math.floor(math.log2(scale / HALVE_FROM)) + 1)


def _crop(length: int, span: Span, halvings: int) -> slice:
    """Return the pixels of an axis that are used: whole ones, also after every halving."""
    count = max(1, round(span.extent))
    count -= count % 2**halvings
    start = round(span.start + (span.extent - count) / 2)
    start = min(max(0, start), length - count)
    return slice(start, start + count)


def _halve(crops: list[slice], times: int) -> tuple[int, ...]:
    """Return the (height, width) that is left of the crops after some halvings."""
    return tuple((crop.stop - crop.start) >> times for crop in crops)


def _blur(scale: float, halvings: int) -> float:
    """Return the standard deviation of the blur that the last resize needs, in its pixels.

    A box of 2x2 pixels is a blur too: its variance, summed over the halvings, is subtracted.
    """
    if scale <= 1.0:
        return 0.0
    return math.sqrt(max(0.0, (BLUR_PER_SCALE * scale) ** 2 - (1.0 - 4.0**-halvings) / 12.0))


def _resize(image: NDArray[np.uint8], target: NDArray[np.uint8], interpolation: int) -> None:
    height, width = target.shape[:2]
    cv2.resize(image, (width, height), target, interpolation=interpolation)
