# SPDX-License-Identifier: Apache-2.0
"""Packed pixels become the engine's input: one pass, into buffers made once per image size.

Only the part of the image that ends up in the input is touched. It is halved by averaging 2x2
pixels while it is far larger than needed, smoothed by what the last step still lacks, resized
once, and normalised channel by channel into its planes. The result is close to an antialiased
resize (Pillow's, torchvision's), which is what models are trained with, in a fraction of the time;
``perception_node.bench.preprocessing`` prints how close. ``resampling.py`` says which pixels go
where, also to the CUDA kernel that does the same on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from perception_node.frame import Unpacker
from perception_node.opencv import resize
from perception_node.resampling import SMALLEST_SIGMA, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.bundle import Interpolation, Preprocessing
    from perception_node.frame import Frame, PackedOrder

_INTERPOLATION: dict[Interpolation, int] = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
}


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
        self._resampling = resample(preprocessing, shape[:2], size)
        rows, columns = self._resampling.rows, self._resampling.columns
        self._crop = tuple(slice(axis.start, axis.start + axis.count) for axis in (rows, columns))
        self._halved = [
            np.empty((rows.count >> step, columns.count >> step, *shape[2:]), np.uint8)
            for step in range(1, self._resampling.halvings + 1)
        ]
        self._blurred = np.empty((rows.halved, columns.halved, *shape[2:]), np.uint8)
        self._image = np.full(size + shape[2:], preprocessing.fill, np.uint8)
        self._inner = self._image[
            rows.first : rows.first + rows.filled, columns.first : columns.first + columns.filled
        ]
        self._interpolation = _INTERPOLATION[preprocessing.interpolation]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the resized image, in a buffer that the next call overwrites."""
        image = pixels[self._crop]
        for halved in self._halved:
            resize(image, halved, cv2.INTER_AREA)
            image = halved
        if self._resampling.blurred:
            image = self._blur(image)
        resize(image, self._inner, self._interpolation)
        return self._image

    def _blur(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows, columns = self._resampling.rows, self._resampling.columns
        cv2.GaussianBlur(
            image,
            (2 * columns.radius + 1, 2 * rows.radius + 1),
            max(columns.sigma, SMALLEST_SIGMA),
            self._blurred,
            max(rows.sigma, SMALLEST_SIGMA),
            cv2.BORDER_REPLICATE,
        )
        return self._blurred
