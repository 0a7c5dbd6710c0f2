# SPDX-License-Identifier: Apache-2.0
"""What an option of a benchmark may be; all raise ``ConfigError`` with the option's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.load_sources import HIGHEST_PIXELS
from perception_node.errors import ConfigError, FrameError, quote
from perception_node.vision.encodings import ENCODINGS
from perception_node.vision.layout import MAX_SIDE, require_size

if TYPE_CHECKING:
    from perception_node.bench.camera.load import Load

LOWEST_SIDE = 16


def require_range(option: str, value: float, lowest: float, highest: float) -> None:
    """Require a number within limits."""
    if not lowest <= value <= highest:  # NaN is refused as well
        raise ConfigError(f"{option} must be {lowest:g} to {highest:g}, found {value:g}")


def require_choice(option: str, value: str, allowed: dict[str, Any]) -> None:
    """Require one of the keys."""
    if value not in allowed:
        msg = f"{option} must be one of {', '.join(allowed)}, found {quote(value)}"
        raise ConfigError(msg)


def require_picture_size(load: Load) -> None:
    """Require a size that cameras have and the node takes, and that suits the encoding."""
    size = f"{load.width}x{load.height}"
    if min(load.width, load.height) < LOWEST_SIDE:
        msg = f"--size {size}: a side has {LOWEST_SIDE} to {MAX_SIDE} pixels"
        raise ConfigError(msg)
    try:
        require_size(load.width, load.height, HIGHEST_PIXELS)
    except FrameError as error:
        msg = f"--size {size}: at most {MAX_SIDE} pixels a side and {HIGHEST_PIXELS} in all"
        raise ConfigError(msg) from error
    layout = ENCODINGS[load.encoding]
    is_odd = load.width % 2 or (layout.rows_per_height > 1 and load.height % 2)
    if load.transport == "raw" and layout.even and is_odd:
        raise ConfigError(f"--size {size}: {load.encoding} needs even numbers")
