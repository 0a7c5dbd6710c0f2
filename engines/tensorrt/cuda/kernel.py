# SPDX-License-Identifier: Apache-2.0
"""How ``preprocess.cu`` is launched for a frame: its parameters, its grid, what it can read.

Needs neither CUDA nor a GPU. A launch depends on the layout of a frame only, not on its pixels or
where they lie, so it is made once per camera and can be recorded in a CUDA graph.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from perception_node.vision.encodings import ENCODINGS
from perception_node.vision.resampling import SMALLEST_SIGMA, resample

if TYPE_CHECKING:
    from perception_node.model.bundle import Preprocessing
    from perception_node.vision import resampling
    from perception_node.vision.frame import Frame

KERNEL_NAME = "prepare_input"
TILE = 16  # a block makes TILE x TILE pixels of the input, one per thread
WINDOW_PIXELS = 4096  # halved pixels that a block can keep in shared memory
MAX_WEIGHTS = 256
BLUR_UNIT = 256  # the weights of a blur sum up to it
CHANNELS = 3

# Bytes of Y, U and V from where a pixel, and the chroma of its pair of pixels, begins.
_YUV_OFFSETS = {
    "yuyv": (0, 1, 3),
    "yuv422_yuy2": (0, 1, 3),
    "uyvy": (1, 0, 2),
    "yuv422": (1, 0, 2),
    "nv12": (0, 0, 1),
    "nv21": (0, 1, 0),
}
READABLE = frozenset(
    name for name, encoding in ENCODINGS.items() if encoding.conversion is None
) | frozenset(_YUV_OFFSETS)


class FrameLayout(NamedTuple):
    """How the bytes of a frame lie in memory.

    Attributes:
        encoding: one of ``READABLE``.
        height: pixels.
        width: pixels.
        row_bytes: bytes from one row in memory to the next, the rows of colour planes included.
        is_bigendian: byte order of 16-bit samples.

    """

    encoding: str
    height: int
    width: int
    row_bytes: int
    is_bigendian: bool = False

    @classmethod
    def of(cls, frame: Frame) -> FrameLayout:
        """Return the layout of a C-contiguous copy of ``frame.pixels``: rows are not padded."""
        row_bytes = frame.width * ENCODINGS[frame.encoding].pixel_bytes
        return cls(frame.encoding, frame.height, frame.width, row_bytes, frame.is_bigendian)

    @property
    def size(self) -> int:
        """Bytes of the whole frame."""
        return int(self.height * ENCODINGS[self.encoding].rows_per_height) * self.row_bytes


class Axis(ctypes.Structure):
    """One axis: a ``resampling.Axis`` and what the kernel derives from it for every thread."""

    _fields_ = (
        ("scale", ctypes.c_double),  # halved pixels per filled pixel of the input
        ("start", ctypes.c_int),
        ("halved", ctypes.c_int),
        ("radius", ctypes.c_int),
        ("first", ctypes.c_int),
        ("filled", ctypes.c_int),
        ("size", ctypes.c_int),  # of the input
        ("window", ctypes.c_int),  # halved pixels that one block needs, 0: too many to keep
        ("nearest", ctypes.c_int),  # nothing is blended
        ("weights", ctypes.c_ushort * MAX_WEIGHTS),  # of the blur, from the centre outwards
    )


class Parameters(ctypes.Structure):
    """The kernel's first argument: ``struct Parameters`` of ``preprocess.cu``, field by field."""

    _fields_ = (
        ("rows", Axis),
        ("columns", Axis),
        ("row_bytes", ctypes.c_longlong),
        ("chroma_start", ctypes.c_longlong),  # -1: packed pixels, not YUV
        ("chroma_shift", ctypes.c_int),  # rows of the image per row of chroma, power of two
        ("pixel_bytes", ctypes.c_int),
        ("offsets", ctypes.c_int * CHANNELS),  # of planes 0, 1, 2 in a pixel; or of Y, U, V
        ("blue_first", ctypes.c_int),
        ("halvings", ctypes.c_int),
        ("cubic", ctypes.c_int),
        ("fills", ctypes.c_int * CHANNELS),  # of the border, in the order of the planes
        ("repeats_edge", ctypes.c_int),  # the border is the outermost pixels instead
        ("factors", ctypes.c_float * CHANNELS),
        ("shifts", ctypes.c_float * CHANNELS),
    )


@dataclass(frozen=True, slots=True)
class Launch:
    """All that is needed to launch the kernel, but the two addresses.

    The kernel's arguments are the parameters by value, the address of the frame's bytes
    (``FrameLayout.size`` of them) and the address of the input: float32 (1, 3, height, width).

    Attributes:
        parameters: the bytes of a ``Parameters``.
        grid: number of blocks in x and y.
        block: number of threads of a block in x, y and z.

    """

    parameters: bytes
    grid: tuple[int, int]
    block: tuple[int, int, int] = (TILE, TILE, 1)


def kernel_source() -> str:
    """Return the CUDA C++ source of the kernel ``KERNEL_NAME``; it includes nothing."""
    return Path(__file__).with_name("preprocess.cu").read_text(encoding="utf-8")


def plan_launch(
    preprocessing: Preprocessing, layout: FrameLayout, size: tuple[int, int]
) -> Launch:
    """Return how the kernel is launched for frames of a layout whose encoding is ``READABLE``.

    ``size`` is the height and width of the engine's input.
    """
    resampling = resample(preprocessing, (layout.height, layout.width), size)
    is_cubic = preprocessing.interpolation.startswith("bicubic")
    taps = 4 if is_cubic else 2
    parameters = Parameters(
        rows=_axis(resampling.rows, size[0], taps),
        columns=_axis(resampling.columns, size[1], taps),
        halvings=resampling.halvings,
        cubic=is_cubic,
        repeats_edge=preprocessing.fill == "edge",
    )
    if isinstance(preprocessing.fill, tuple):
        parameters.fills[:] = preprocessing.fill
    elif isinstance(preprocessing.fill, int):
        parameters.fills[:] = (preprocessing.fill,) * CHANNELS
    parameters.rows.nearest = parameters.columns.nearest = preprocessing.interpolation == "nearest"
    if parameters.rows.window * parameters.columns.window > WINDOW_PIXELS:
        parameters.rows.window = parameters.columns.window = 0
    _describe_pixels(parameters, layout, preprocessing.color)
    for index in range(CHANNELS):  # (pixel * scale - mean) / std
        parameters.factors[index] = preprocessing.scale / preprocessing.std[index]
        parameters.shifts[index] = -preprocessing.mean[index] / preprocessing.std[index]
    rows, columns = (-(-length // TILE) for length in size)
    return Launch(bytes(parameters), (columns, rows))


def _axis(axis: resampling.Axis, size: int, taps: int) -> Axis:
    scale = 1.0 / (axis.filled / axis.halved)  # with OpenCV's roundings
    window = math.ceil((TILE - 1) * scale) + 1 + taps + 2 * axis.radius
    weights = _blur_weights(axis.sigma, axis.radius)
    return Axis(
        scale=scale,
        start=axis.start,
        halved=axis.halved,
        radius=axis.radius,
        first=axis.first,
        filled=axis.filled,
        size=size,
        window=min(window, axis.halved),
        weights=(ctypes.c_ushort * MAX_WEIGHTS)(*weights),
    )


def _blur_weights(sigma: float, radius: int) -> list[int]:
    """Return OpenCV's weights for 8-bit images, from the centre outwards, in 1/256.

    Each is rounded together with the error of the one before it, beginning at the far end; the
    centre takes the rest.
    """
    sigma = max(sigma, SMALLEST_SIGMA)
    curve = [math.exp(-0.5 * (x / sigma) ** 2) for x in range(radius, 0, -1)]
    total = 2.0 * sum(curve) + 1.0
    error = 0.0
    weights: list[int] = []
    for value in curve:
        exact = value / total * BLUR_UNIT + error
        weights.append(round(exact))
        error = exact - weights[-1]
    return [BLUR_UNIT - 2 * sum(weights), *reversed(weights)]


def _describe_pixels(parameters: Parameters, layout: FrameLayout, color: str) -> None:
    encoding = ENCODINGS[layout.encoding]
    parameters.row_bytes = layout.row_bytes
    parameters.pixel_bytes = encoding.pixel_bytes
    parameters.blue_first = color == "BGR"
    parameters.chroma_start = -1
    offsets: tuple[int, ...]
    if layout.encoding in _YUV_OFFSETS:
        planar = encoding.rows_per_height > 1
        parameters.chroma_start = layout.height * layout.row_bytes if planar else 0
        parameters.chroma_shift = 1 if planar else 0
        offsets = _YUV_OFFSETS[layout.encoding]
    else:
        places = encoding.places(is_bigendian=layout.is_bigendian)
        is_grey = encoding.order == "GRAY"
        offsets = tuple(places[0 if is_grey else encoding.order.index(name)] for name in color)
    parameters.offsets[:] = offsets
