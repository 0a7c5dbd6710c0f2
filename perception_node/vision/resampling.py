# SPDX-License-Identifier: Apache-2.0
"""Which pixels of an image end up where in the input, and what is done to them on the way.

Only data: the CPU (``preprocess.py``) and the CUDA kernel (``engines/tensorrt/cuda``) both do
what it says. A crop begins at a whole pixel of the image, so it is off by half a pixel at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from perception_node.model.bundle import ANTIALIASED

if TYPE_CHECKING:
    from perception_node.model.bundle import Preprocessing

HALVE_FROM = 2.4  # image pixels per input pixel from which on the image is halved first
BLUR_PER_SCALE = 0.36  # standard deviation that makes the last step antialiased
SMALLEST_BLUR = 0.25  # in pixels; less changes nothing that can be seen
SMALLEST_SIGMA = 0.01  # in pixels; an axis that needs no blur beside one that does
MAX_HALVINGS = 15  # no image is that large
MAX_RADIUS = 250  # in pixels; reached at more than 450 image pixels per input pixel


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


@dataclass(frozen=True, slots=True)
class Axis:
    """How one axis of the image becomes one axis of the input, in whole pixels.

    Attributes:
        start: first pixel of the image that is used.
        count: pixels of the image that are used; they can be halved without a rest.
        halved: pixels that are left after the halvings.
        sigma: standard deviation of the blur, in pixels of the halved image, may be 0.
        radius: pixels that the blur takes in on each side; 0 where nothing is blurred.
        first: first pixel of the input that is filled.
        filled: number of pixels of the input that are filled.

    """

    start: int
    count: int
    halved: int
    sigma: float
    radius: int
    first: int
    filled: int


@dataclass(frozen=True, slots=True)
class Resampling:
    """Both axes of an image of one size, and how often it is halved."""

    rows: Axis
    columns: Axis
    halvings: int

    @property
    def blurred(self) -> bool:
        """Whether anything is blurred at all."""
        return self.rows.radius > 0


def resample(
    preprocessing: Preprocessing, image: tuple[int, ...], size: tuple[int, ...]
) -> Resampling:
    """Return how an image of (height, width) becomes an input of ``size`` (height, width)."""
    spans = fit(preprocessing, image, size)
    is_antialiased = preprocessing.interpolation in ANTIALIASED
    halvings = _count_halvings(spans) if is_antialiased else 0
    crops = [_crop(length, span, halvings) for length, span in zip(image, spans, strict=True)]
    sigmas = [
        _blur((count >> halvings) / span.filled, halvings) if is_antialiased else 0.0
        for (_, count), span in zip(crops, spans, strict=True)
    ]
    blurred = max(sigmas) > SMALLEST_BLUR
    rows, columns = (
        Axis(
            start,
            count,
            count >> halvings,
            sigma,
            _radius(sigma) if blurred else 0,
            span.first,
            span.filled,
        )
        for (start, count), sigma, span in zip(crops, sigmas, spans, strict=True)
    )
    return Resampling(rows, columns, halvings)


def fit(
    preprocessing: Preprocessing, image: tuple[int, ...], size: tuple[int, ...]
) -> tuple[Span, Span]:
    """Return the vertical and the horizontal span; ``image`` and ``size`` are (height, width).

    The roundings are those of torchvision's Resize and CenterCrop and of the usual letterbox.
    """
    if preprocessing.resize == "stretch":
        spans = [Span(0.0, length, 0, target) for length, target in zip(image, size, strict=True)]
    elif preprocessing.resize == "stretch-crop":
        side = preprocessing.shorter_side
        spans = [_centre(length, side, target) for length, target in zip(image, size, strict=True)]
    elif preprocessing.resize == "shorter-side":
        resized = [preprocessing.shorter_side * length // min(image) for length in image]
        spans = [_centre(*axis) for axis in zip(image, resized, size, strict=True)]
    elif preprocessing.resize == "pad-square":
        ratios = [target / max(image) for target in size]
        spans = [_padded(*axis) for axis in zip(image, size, ratios, strict=True)]
    else:
        ratio = min(target / length for length, target in zip(image, size, strict=True))
        spans = [_padded(*axis, ratio) for axis in zip(image, size, strict=True)]
    vertical, horizontal = spans
    return vertical, horizontal


def _centre(length: int, resized: int, target: int) -> Span:
    """Return the span of the centre crop of an axis that was resized first."""
    scale = length / resized
    return Span(round((resized - target) / 2) * scale, target * scale, 0, target)


def _padded(length: int, target: int, ratio: float) -> Span:
    """Return the span of a whole axis that fills the middle of the input."""
    filled = max(1, round(length * ratio))
    return Span(0.0, length, (target - filled) // 2, filled)


def _count_halvings(spans: tuple[Span, Span]) -> int:
    """Return how often both axes are halved; one alone would leave OpenCV's fast path."""
    scale = min(span.extent / span.filled for span in spans)
    return min(max(0, math.floor(math.log2(scale / HALVE_FROM)) + 1), MAX_HALVINGS)


def _crop(length: int, span: Span, halvings: int) -> tuple[int, int]:
    """Return the first pixel and the number of pixels of an axis that are used."""
    count = max(1, round(span.extent))
    count -= count % 2**halvings
    start = round(span.start + (span.extent - count) / 2)
    return min(max(0, start), length - count), count


def _blur(scale: float, halvings: int) -> float:
    """Return the standard deviation of the blur that the last resize needs, in its pixels.

    A box of 2x2 pixels is a blur too: its variance, summed over the halvings, is subtracted.
    """
    if scale <= 1.0:
        return 0.0
    return math.sqrt(max(0.0, (BLUR_PER_SCALE * scale) ** 2 - (1.0 - 4.0**-halvings) / 12.0))


def _radius(sigma: float) -> int:
    return min(MAX_RADIUS, max(1, round(1.5 * sigma)))
