# SPDX-License-Identifier: Apache-2.0
"""Orders of an image's axes, and how an image of this package is brought into them.

Here an image is float32 of shape (1, 3, height, width). RGBA is what a browser's canvas gives:
pixels from 0 to 255 with an opaque fourth channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPAQUE = 255.0
CHANNELS = {3: "", 4: "A"}


@dataclass(frozen=True, slots=True)
class Layout:
    """One order of axes.

    Attributes:
        order: places of N, C, H and W, in the order in which the model has them.
        batched: the model's input has the axis N.
        alpha: its channels are RGBA.

    """

    order: tuple[int, int, int, int]
    batched: bool
    alpha: bool


LAYOUTS = {
    name.replace("C", f"C{suffix}"): Layout(order, name.startswith("N"), suffix == "A")
    for suffix in CHANNELS.values()
    for name, order in (
        ("NCHW", (0, 1, 2, 3)),
        ("NHWC", (0, 2, 3, 1)),
        ("CHW", (0, 1, 2, 3)),
        ("HWC", (0, 2, 3, 1)),
    )
}


def find_layout(shape: list[int | None]) -> tuple[str, int | None, int | None] | None:
    """Return the name of the layout, the height and the width for an input's shape.

    An axis of None is open. Returns None where the shape is not one image of 3 or 4 channels.
    Where both ends could be the channels, they come first, as in most models.
    """
    if len(shape) == 4:
        if shape[0] not in {None, 1}:
            return None
        prefix, axes = "N", shape[1:]
    elif len(shape) == 3:
        prefix, axes = "", shape
    else:
        return None
    first, middle, last = axes
    if first in CHANNELS:
        return f"{prefix}C{CHANNELS[first]}HW", middle, last
    if last in CHANNELS:
        return f"{prefix}HWC{CHANNELS[last]}", first, middle
    return None


def arrange(image: NDArray[np.float32], layout: str, element: str) -> NDArray[np.generic]:
    """Return an image of shape (1, 3, height, width) in another layout and element type."""
    target = LAYOUTS[layout]
    if target.alpha:
        alpha = np.full((1, 1, *image.shape[2:]), OPAQUE, np.float32)
        image = np.concatenate([image, alpha], axis=1)
    arranged = image.transpose(target.order)
    if not target.batched:
        arranged = arranged[0]
    return np.ascontiguousarray(arranged, np.dtype(element))
