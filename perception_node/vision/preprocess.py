# SPDX-License-Identifier: Apache-2.0
"""Packed pixels become the engine's input: one pass, into buffers made once per image size.

Only the part of the image that ends up in the input is touched. It is halved by averaging 2x2
pixels while it is far larger than needed, smoothed by what the last step still lacks, resized
once, split into planes and normalised into the input. The result is close to an antialiased
resize (Pillow's, torchvision's), which is what models are trained with, in a fraction of the time;
``perception_node.bench.preprocessing`` prints how close. ``resampling.py`` says which pixels go
where, also to the CUDA kernel that does the same on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from perception_node.vision.frame import Unpacker
from perception_node.vision.opencv import SINGLE, resize
from perception_node.vision.resampling import SMALLEST_SIGMA, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.model.bundle import Fill, Interpolation, Preprocessing
    from perception_node.vision.encodings import PackedOrder
    from perception_node.vision.frame import Frame
    from perception_node.vision.resampling import Axis, Resampling

_INTERPOLATION: dict[Interpolation, int] = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,  # done by Picker: OpenCV's releases round differently
    "bilinear-aliased": cv2.INTER_LINEAR,
    "bicubic-aliased": cv2.INTER_CUBIC,
}
# OpenCV works on so many pixels at once at most, and rounds those left over at the end of a plane
# in another way. Where none are, all planes together give the same input as one by one.
LANES = 64


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
        self._size = output.shape[2:]
        self._planes = np.empty((4, *self._size), np.uint8)  # of the image; the last takes alpha
        self._normalise = Normaliser(preprocessing, self._planes[:3], output[0])
        self._shape: tuple[int, ...] = ()
        self._order: PackedOrder | None = None
        self._resize: Resizer | None = None
        self._border: Border | None = None
        self._split_into: list[NDArray[np.uint8]] = []

    def __call__(self, pixels: NDArray[np.uint8], order: PackedOrder) -> None:
        """Fill the input from packed uint8 pixels of shape (height, width[, channels])."""
        if self._resize is None or pixels.shape != self._shape:
            self._resize = Resizer(self._preprocessing, pixels.shape, self._size)
            self._shape = pixels.shape
            if not isinstance(self._preprocessing.fill, int):
                fill = self._preprocessing.fill
                self._border = Border(self._planes[:3], self._resize.resampling, fill)
        image = self._resize(pixels)
        if order == "GRAY":
            self._planes[:3] = image
        else:
            if order != self._order:
                self._split_into = [self._plane_of(channel) for channel in order]
                self._order = order
            cv2.split(image, self._split_into)
        if self._border is not None:
            self._border()
        self._normalise()

    def _plane_of(self, channel: str) -> NDArray[np.uint8]:
        index = self._preprocessing.color.find(channel)  # alpha: -1, the last
        plane: NDArray[np.uint8] = self._planes[index]
        return plane


class Normaliser:
    """Turns planes of uint8 pixels into planes of the input, both fixed arrays."""

    def __init__(
        self, preprocessing: Preprocessing, planes: NDArray[np.uint8], output: NDArray[np.float32]
    ) -> None:
        """Prepare to fill ``output``; both have the shape (3, height, width), C-contiguous."""
        # (pixel * scale - mean) / std as one multiplication and one addition
        terms = [
            (preprocessing.scale / std, -mean / std)
            for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
        ]
        self._parts = list(zip(planes, output, terms, strict=True))
        if len(set(terms)) == 1 and planes[0].size % LANES == 0:  # one call does for all
            width = planes.shape[-1]
            self._parts = [(planes.reshape(-1, width), output.reshape(-1, width), terms[0])]

    def __call__(self) -> None:
        """Fill the output."""
        for plane, target, (factor, offset) in self._parts:
            cv2.addWeighted(plane, factor, plane, 0.0, offset, target, cv2.CV_32F)


class Border:
    """Fills what an image leaves open of its planes, where that is more than one pixel value."""

    def __init__(self, planes: NDArray[np.uint8], resampling: Resampling, fill: Fill) -> None:
        """Prepare to fill ``planes``: uint8 of shape (3, height, width)."""
        rows, columns = resampling.rows, resampling.columns
        top, bottom = rows.first, rows.first + rows.filled
        left, right = columns.first, columns.first + columns.filled
        inside = planes[:, top:bottom]
        strips = [
            (inside[..., :left], inside[..., left : left + 1]),
            (inside[..., right:], inside[..., right - 1 : right]),
            (planes[:, :top], planes[:, top : top + 1]),  # with the corners, after the sides
            (planes[:, bottom:], planes[:, bottom - 1 : bottom]),
        ]
        if fill != "edge":
            colour = np.empty((3, 1, 1), np.uint8)
            colour[:, 0, 0] = fill
            strips = [(strip, colour) for strip, _ in strips]
        self._strips = [(strip, source) for strip, source in strips if strip.size]

    def __call__(self) -> None:
        """Fill the border; the planes hold the image already."""
        for strip, source in self._strips:
            strip[...] = source


class Resizer:
    """Resizes images of one shape to the input's size, with its own buffers."""

    def __init__(
        self, preprocessing: Preprocessing, shape: tuple[int, ...], size: tuple[int, ...]
    ) -> None:
        """Prepare for uint8 images of ``shape`` (height, width[, channels]).

        ``size`` is the (height, width) of the result.
        """
        self.resampling = resampling = resample(preprocessing, shape[:2], size)
        rows, columns = resampling.rows, resampling.columns
        self._crop = tuple(slice(axis.start, axis.start + axis.count) for axis in (rows, columns))
        self._halved = [
            np.empty((rows.count >> step, columns.count >> step, *shape[2:]), np.uint8)
            for step in range(1, resampling.halvings + 1)
        ]
        self._is_blurred = resampling.blurred
        self._blurred = np.empty((rows.halved, columns.halved, *shape[2:]), np.uint8)
        fill = preprocessing.fill if isinstance(preprocessing.fill, int) else 0
        self._image = np.full(size + shape[2:], fill, np.uint8)
        self._inner = self._image[
            rows.first : rows.first + rows.filled, columns.first : columns.first + columns.filled
        ]
        images = [shape, *(one.shape for one in (*self._halved, self._blurred, self._inner))]
        is_careful = SINGLE in {(rows.count, columns.count), *(one[:2] for one in images)}
        self._resize = resize if is_careful else _resize
        is_nearest = preprocessing.interpolation == "nearest"
        self._finish = Picker(rows, columns, shape[2:]) if is_nearest else self._resize
        self._interpolation = _INTERPOLATION[preprocessing.interpolation]
        self._kernel = (2 * columns.radius + 1, 2 * rows.radius + 1)
        self._sigmas = (max(columns.sigma, SMALLEST_SIGMA), max(rows.sigma, SMALLEST_SIGMA))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the resized image, in a buffer that the next call overwrites."""
        image = pixels[self._crop]
        for halved in self._halved:
            self._resize(image, halved, cv2.INTER_AREA)
            image = halved
        if self._is_blurred:
            across, down = self._sigmas
            cv2.GaussianBlur(
                image, self._kernel, across, self._blurred, down, cv2.BORDER_REPLICATE
            )
            image = self._blurred
        self._finish(image, self._inner, self._interpolation)
        return self._image


class Picker:
    """Takes for each target pixel the one in which its centre lies, as Pillow's NEAREST does."""

    def __init__(self, rows: Axis, columns: Axis, channels: tuple[int, ...]) -> None:
        """Prepare for uint8 images of the axes' ``halved`` pixels."""
        self._rows, self._columns = (
            (2 * np.arange(axis.filled) + 1) * axis.halved // (2 * axis.filled)
            for axis in (rows, columns)
        )
        self._picked = np.empty((rows.filled, columns.halved, *channels), np.uint8)

    def __call__(
        self, image: NDArray[np.uint8], target: NDArray[np.uint8], _interpolation: int
    ) -> None:
        """Fill ``target``."""
        np.take(image, self._rows, 0, self._picked, "clip")
        np.take(self._picked, self._columns, 1, target, "clip")


def _resize(image: NDArray[np.uint8], target: NDArray[np.uint8], interpolation: int) -> None:
    """Resize into ``target``; neither may be a single pixel."""
    cv2.resize(image, target.shape[1::-1], target, 0, 0, interpolation)
