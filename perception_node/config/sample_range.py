# SPDX-License-Identifier: Apache-2.0
"""Which samples of an image are black and white, as the parameters ``mono16_range`` state it."""

from __future__ import annotations

from typing import NamedTuple

from perception_node.errors import ConfigError

AUTO, FULL = "auto", "full"
HIGHEST_16, HIGHEST_32 = 65535.0, 1e38  # the latter is near the end of single precision


class SampleRange(NamedTuple):
    """The sample that becomes 0 and the one that becomes 255."""

    low: float
    high: float


FULL_16 = SampleRange(0.0, HIGHEST_16)


def parse_range_16(text: str) -> SampleRange | None:
    """Return the range of 16-bit samples; None where it follows the images.

    Raises:
        ConfigError: it is not ``full``, ``auto`` or two numbers of 0 to 65535.

    """
    if text == FULL:
        return FULL_16
    found = _parse(text)
    if text != AUTO and (found is None or found.low < 0 or found.high > HIGHEST_16):
        raise ConfigError(
            f"parameter mono16_range must be full, auto or MIN,MAX with 0 <= MIN < MAX <= 65535, "
            f"such as 0,4095; found {text!r}"
        )
    return found


def parse_range_32(text: str) -> SampleRange | None:
    """Return the range of float samples; None where it follows the images.

    Raises:
        ConfigError: it is not ``auto`` or two finite numbers.

    """
    found = _parse(text)
    if text != AUTO and found is None:
        raise ConfigError(
            f"parameter mono32_range must be empty, auto or MIN,MAX with MIN < MAX, such as "
            f"0.3,10; found {text!r}"
        )
    return found


def _parse(text: str) -> SampleRange | None:
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        return None
    is_range = -HIGHEST_32 <= low < high <= HIGHEST_32
    return SampleRange(low, high) if is_range else None
