# SPDX-License-Identifier: Apache-2.0
"""The text in which TensorRT up to 10.x keeps the scales of an int8 calibration.

::

    TRT-100300-MinMaxCalibration
    image: 3c810204
    features.0: 3d0a1b2c

The first line names TensorRT's version and the calibrator, each other one a tensor and its scale
as the bits of a float32. TensorRT takes a cache of its own version and calibrator only, so ours
is written without a version and gets the header of whichever TensorRT reads it.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Literal

from perception_node.errors import CalibrationError, quote

CALIBRATION_CACHE = "calibration.cache"  # its name in a bundle
ANY_VERSION = 0

Algorithm = Literal["entropy", "minmax"]
ALGORITHMS: dict[Algorithm, str] = {
    "entropy": "EntropyCalibration2",
    "minmax": "MinMaxCalibration",
}

_HEADER = re.compile(r"TRT-(\d{1,9})-([A-Za-z0-9]+)")
_SCALE = re.compile(r"(.+): ?([0-9a-fA-F]{8})")
_NUMBER_CHANGED_IN = 10  # TensorRT 8.6.1 calls itself 8601, 10.3.0 100300


@dataclass(frozen=True, slots=True)
class CalibrationCache:
    """What a cache says.

    Attributes:
        scales: by tensor, positive: the largest magnitude divided by 127.
        algorithm: whose header it has; to readers the scales mean the same.
        version: TensorRT's own number of its version, ``ANY_VERSION`` if ours wrote the cache.

    """

    scales: dict[str, float]
    algorithm: Algorithm = "minmax"
    version: int = ANY_VERSION

    def to_bytes(self) -> bytes:
        """Return the text, tensors in their order.

        Raises:
            CalibrationError: a scale is no positive number, or a name cannot be written.

        """
        lines = [f"TRT-{self.version}-{ALGORITHMS[self.algorithm]}"]
        for name, scale in self.scales.items():
            if not name or not name.isprintable():
                msg = f"tensor {quote(name)}: its name cannot be in a calibration cache; rename it"
                raise CalibrationError(msg)
            _check_scale(name, scale)
            lines.append(f"{name}: {struct.pack('!f', scale).hex()}")
        return "".join(f"{line}\n" for line in lines).encode()


def parse_cache(content: bytes) -> CalibrationCache:
    """Read a cache, ours or one that TensorRT wrote.

    Raises:
        CalibrationError: it is none, or a scale in it is no positive number.

    """
    try:
        header, *lines = content.decode().splitlines()
    except ValueError as error:  # no text, or none at all
        raise CalibrationError(_not_a_cache("it is no text")) from error
    found = _HEADER.fullmatch(header)
    algorithms = {text: name for name, text in ALGORITHMS.items()}
    if not found or found[2] not in algorithms:
        raise CalibrationError(_not_a_cache(f"line 1 is {quote(header)}"))
    scales: dict[str, float] = {}
    for number, line in enumerate(lines, start=2):
        entry = _SCALE.fullmatch(line)
        if not entry or entry[1] in scales:
            raise CalibrationError(_not_a_cache(f"line {number} is {quote(line)}"))
        scales[entry[1]] = _check_scale(entry[1], struct.unpack("!f", bytes.fromhex(entry[2]))[0])
    if not scales:
        raise CalibrationError(_not_a_cache("it has no tensors"))
    return CalibrationCache(scales, algorithms[found[2]], int(found[1]))


def version_number(version: str) -> int:
    """Return the number by which a TensorRT, such as "10.3.0.30", calls itself in a header."""
    major, minor, patch = [*map(int, re.findall(r"\d+", version)), 0, 0, 0][:3]
    return major * (1000 if major < _NUMBER_CHANGED_IN else 10_000) + minor * 100 + patch


def _check_scale(name: str, scale: float) -> float:
    if not math.isfinite(scale) or struct.unpack("!f", struct.pack("!f", scale))[0] <= 0:
        msg = f"tensor {quote(name)}: the scale {scale} is no positive number; calibrate again"
        raise CalibrationError(msg)
    return scale


def _not_a_cache(why: str) -> str:
    return f"this is no calibration cache of TensorRT ({why}); run perception calibrate"
