# SPDX-License-Identifier: Apache-2.0
"""A picture for viewers: pixels until somebody asks for it, a JPEG from then on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from perception_node.vision.opencv import to_jpeg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_SIDE = 1280  # pixels


class Picture:
    """One overlay, made a JPEG when the first viewer asks for it."""

    def __init__(self, number: int, pixels: NDArray[np.uint8]) -> None:
        """Keep uint8 BGR pixels of shape (height, width, 3), which nobody changes any more."""
        self.number = number
        self._pixels: NDArray[np.uint8] | None = pixels
        self._jpeg = b""
        self._lock = threading.Lock()

    def to_jpeg(self) -> bytes:
        """Return it with sides of at most 1280 pixels; the work is done once."""
        with self._lock:
            if self._pixels is not None:
                self._jpeg, self._pixels = to_jpeg(self._pixels, LONGEST_SIDE), None
            return self._jpeg
