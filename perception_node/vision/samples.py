# SPDX-License-Identifier: Apache-2.0
"""Samples of 16 bits, or floats, become 8 bits: in a fixed range, or in one that follows them."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING

import numpy as np

from perception_node.config.sample_range import (
    AUTO,
    FULL_16,
    SampleRange,
    parse_range_16,
    parse_range_32,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

LOOKED_AT = 1 << 14  # pixels of an image, on a grid
PERCENT = (0.01, 0.99)  # of them are darker than black and than white
FOLLOWED = 0.1  # how far a range goes, with each image, to what is found in it
LEAST_SPREAD = 1e-30  # between black and white, so that single precision holds its inverse
LEAST_LEVELS = 16  # of 256 that a picture should use


warn_in_log = getLogger("perception.images").warning


class SampleScaler:
    """Makes 8-bit samples of deeper ones, for one camera.

    Attributes:
        complaint: why the last deep image is almost of one colour; empty if it is not.
        takes_floats: whether a range is set for floats.

    """

    def __init__(
        self,
        mono16_range: str = "full",
        mono32_range: str = "",
        warn: Callable[[str], object] = warn_in_log,
    ) -> None:
        """Prepare for parameters of ``CameraConfig``; ``warn`` is called at the first complaint.

        Raises:
            ConfigError: they are no ranges.

        """
        self.complaint = ""
        self._warn: Callable[[str], object] | None = warn
        self._of_16 = _Follower(parse_range_16(mono16_range))
        self._of_32 = _Follower(parse_range_32(mono32_range or AUTO))
        self.takes_floats = bool(mono32_range)

    @property
    def is_full(self) -> bool:
        """Whether of 16 bits the high ones are the pixels, as ``Unpacker`` takes them."""
        return self._of_16.fixed == FULL_16

    def forget(self) -> None:
        """Let a range that follows images begin with the next one, which is no neighbour."""
        self._of_16.forget()
        self._of_32.forget()

    def scale(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Return uint8 samples of the same shape.

        Args:
            samples: uint16 or float32, in any byte order, of shape (height, width[, samples of a
                pixel]). NaN becomes black.

        """
        follower = self._of_16 if samples.dtype.kind == "u" else self._of_32
        return _to_bytes(samples, follower.find(samples))

    def judge(self, samples: NDArray[Any]) -> None:
        """Note in ``complaint`` whether a 16-bit image is nearly of one colour.

        ``samples`` are uint16 in any byte order, or the high bytes of these.
        """
        bits = 8 * (samples.dtype.itemsize - 1)
        low, high = (int(sample) >> bits for sample in _percentiles(samples))
        self.complaint = ""
        if high - low < LEAST_LEVELS:
            self.complaint = (
                f"the 16-bit images use only values {low << 8} to {high << 8 | 255} of 65535, so "
                "they look almost of one colour; set mono16_range to auto, or to these two "
                f"({low << 8},{high << 8 | 255})"
            )
            self._warn_once()

    def _warn_once(self) -> None:
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(self.complaint)


class _Follower:
    """A range that is fixed, or slowly goes where the images' samples are."""

    def __init__(self, fixed: SampleRange | None) -> None:
        self.fixed = fixed
        self._range: SampleRange | None = None

    def forget(self) -> None:
        """Begin with the next image."""
        self._range = None

    def find(self, samples: NDArray[Any]) -> SampleRange:
        """Return the range for an image."""
        if self.fixed is not None:
            return self.fixed
        found = SampleRange(*map(float, _percentiles(samples)))
        if self._range is not None:
            pairs = zip(self._range, found, strict=True)
            found = SampleRange(*(old + FOLLOWED * (new - old) for old, new in pairs))
        self._range = found
        return found


def _percentiles(samples: NDArray[Any]) -> tuple[Any, Any]:
    """Return the samples of which a hundredth is darker and brighter; 0 where none is finite."""
    height, width = samples.shape[:2]
    # Odd, so that all colours of a Bayer pattern are met.
    step = int((height * width / LOOKED_AT) ** 0.5) | 1
    some = samples[::step, ::step].ravel()
    some = some.astype(some.dtype.newbyteorder("="), copy=False)
    if some.dtype.kind == "f":
        some = some[np.isfinite(some)]
    if not some.size:
        return 0, 0
    places = [round(percent * (some.size - 1)) for percent in PERCENT]
    some = np.partition(some, places)
    return some[places[0]], some[places[1]]


def _to_bytes(samples: NDArray[Any], found: SampleRange) -> NDArray[np.uint8]:
    """Scale in single precision, which holds every 16-bit number."""
    levels = samples.astype(np.float32)
    factor = 255.0 / max(found.high - found.low, LEAST_SPREAD)
    with np.errstate(over="ignore", invalid="ignore"):
        levels -= np.float32(found.low)
        levels *= np.float32(factor)
    if samples.dtype.kind == "f":
        np.nan_to_num(levels, copy=False, nan=0.0)
    np.clip(levels, 0.0, 255.0, out=levels)
    return np.rint(levels, out=levels).astype(np.uint8)
