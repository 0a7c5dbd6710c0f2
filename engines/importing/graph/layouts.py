# SPDX-License-Identifier: Apache-2.0
"""Orders of an image's axes, and how an image of this package is brought into them.

Here an image is float32 of shape (1, 3, height, width). RGBA is what a browser's canvas gives:
pixels from 0 to 255 with an opaque fourth channel. A grey image is made of a colour image as
OpenCV and Pillow do it, by ITU-R BT.601.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPAQUE = 255.0
GREY_OF_RGB = (0.299, 0.587, 0.114)  # they add up to 1: what was normalised alike stays so
SUFFIXES = {3: "", 4: "A", 1: "Y"}  # of the letter C in a layout's name, by number of channels


@dataclass(frozen=True, slots=True)
class Layout:
    """One order of axes.

    Attributes:
        axes: letters of N, C, H and W in the order in which the model has them; N may be absent,
            and C where the image is grey.
        channels: 3, 4 (RGBA) or 1 (grey).

    """

    axes: str
    channels: int

    @property
    def batched(self) -> bool:
        """Whether the model's input has the axis N."""
        return "N" in self.axes

    @property
    def alpha(self) -> bool:
        """Whether its channels are RGBA."""
        return self.channels == 4

    @property
    def order(self) -> tuple[int, ...]:
        """Places of N, C, H and W, as the model has them; absent axes come first."""
        absent = "".join(axis for axis in "NC" if axis not in self.axes)
        return tuple("NCHW".index(axis) for axis in absent + self.axes)

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the model's own shape for one image."""
        sizes = {"N": 1, "C": self.channels, "H": height, "W": width}
        return tuple(sizes[axis] for axis in self.axes)


# In the order in which they are looked for: where both ends could be the channels, they come
# first, as in most models.
LAYOUTS = {
    axes.replace("C", f"C{suffix}"): Layout(axes, channels)
    for channels, suffix in SUFFIXES.items()
    for axes in ("NCHW", "NHWC", "CHW", "HWC", *(["NHW"] if channels == 1 else []))
}


def find_layout(
    shape: list[int | None], wish: str = ""
) -> tuple[str, int | None, int | None] | None:
    """Return the name of the layout, the height and the width for an input's shape.

    An axis of None is open. Returns None where the shape is not that of images of 1, 3 or 4
    channels. ``wish`` is what the user says, a key of ``LAYOUTS``: then the channels may be open.
    """
    for name, layout in LAYOUTS.items():
        if wish not in {"", name} or len(layout.axes) != len(shape):
            continue
        sizes = dict(zip(layout.axes, shape, strict=True))
        channels = {layout.channels, None} if wish else {layout.channels}
        # Without C, an open axis must come first, or it could be an image without N.
        if sizes.get("C", layout.channels) in channels and ("C" in sizes or sizes["N"] is None):
            return name, sizes["H"], sizes["W"]
    return None


def arrange(
    image: NDArray[np.float32], layout: str, element: str, color: str = "RGB"
) -> NDArray[np.generic]:
    """Return an image of shape (1, 3, height, width) in another layout and element type.

    ``color`` is the order of its channels, RGB or BGR, from which grey is made.
    """
    target = LAYOUTS[layout]
    if target.alpha:
        alpha = np.full((1, 1, *image.shape[2:]), OPAQUE, np.float32)
        image = np.concatenate([image, alpha], axis=1)
    elif target.channels == 1:
        image = np.einsum("nchw,c->nhw", image, grey_weights(color))[:, np.newaxis]
    arranged = image.transpose(target.order).reshape(target.shape(*image.shape[2:]))
    kind = np.dtype(element)
    if target.channels == 1 and kind.kind in "iu":
        arranged = np.rint(arranged)
    return np.ascontiguousarray(arranged, kind)


def grey_weights(color: str) -> NDArray[np.float32]:
    """Return the shares of the channels in grey, float32 of shape (3,)."""
    weights = np.array(GREY_OF_RGB, np.float32)
    return weights if color == "RGB" else weights[::-1].copy()
