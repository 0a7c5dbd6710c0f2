# SPDX-License-Identifier: Apache-2.0
"""The encodings of raw images: how their bytes lie in memory, and by which names they go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2

PackedOrder = Literal["RGB", "BGR", "RGBA", "BGRA", "GRAY"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of one encoding lie in memory and how they become packed pixels.

    Attributes:
        order: channel order of the packed uint8 pixels, as they are or after ``conversion``.
        pixel_bytes: bytes per pixel in one row of memory.
        rows_per_height: rows of memory per row of the image, colour planes included.
        conversion: OpenCV colour conversion code, or None where the bytes are pixels already.
        even: the width (and, for planar formats, the height) must be even.
        sample_bytes: bytes of one sample; of two, the high one is the pixel's.
        first: samples of a pixel that mean nothing and come before the others.
        narrow: the encoding with the same samples in one byte each; empty where they have one.

    """

    order: PackedOrder
    pixel_bytes: int = 1
    rows_per_height: float = 1.0
    conversion: int | None = None
    even: bool = False
    sample_bytes: int = 1
    first: int = 0
    narrow: str = ""

    @property
    def samples(self) -> int:
        """Samples of a pixel in one row of memory, with those that mean nothing."""
        return self.pixel_bytes // self.sample_bytes

    def places(self, *, is_bigendian: bool) -> tuple[int, ...]:
        """Return where in a pixel the bytes are that make it up; of two bytes, the high one."""
        high = 0 if is_bigendian else self.sample_bytes - 1
        return tuple(n * self.sample_bytes + high for n in range(self.first, self.samples))


_YUYV = Encoding("BGR", pixel_bytes=2, conversion=cv2.COLOR_YUV2BGR_YUYV, even=True)
_UYVY = Encoding("BGR", pixel_bytes=2, conversion=cv2.COLOR_YUV2BGR_UYVY, even=True)
_MONO8 = Encoding("GRAY")
_RGBA8 = Encoding("RGBA", pixel_bytes=4)
_BGR8 = Encoding("BGR", pixel_bytes=3)
_BGRA8 = Encoding("BGRA", pixel_bytes=4)


def _planar(rows_per_height: float, conversion: int) -> Encoding:
    return Encoding("BGR", rows_per_height=rows_per_height, conversion=conversion, even=True)


# Names of sensor_msgs/image_encodings.hpp, and those that drivers use besides; YUV 4:2:2 has other
# names on Humble than later.
# OpenCV names a Bayer pattern by its second row, ROS by its first: hence the mirrored pairs.
_OF_BYTES: dict[str, Encoding] = {
    "rgb8": Encoding("RGB", pixel_bytes=3),
    "bgr8": _BGR8,
    "8UC3": _BGR8,
    "rgba8": _RGBA8,
    "bgra8": _BGRA8,
    "8UC4": _BGRA8,
    "rgbx8": _RGBA8,
    "bgrx8": _BGRA8,
    "xrgb8": Encoding("RGB", pixel_bytes=4, first=1),
    "xbgr8": Encoding("BGR", pixel_bytes=4, first=1),
    "mono8": _MONO8,
    "8UC1": _MONO8,
    "bayer_rggb8": Encoding("BGR", conversion=cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": Encoding("BGR", conversion=cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": Encoding("BGR", conversion=cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": Encoding("BGR", conversion=cv2.COLOR_BayerGB2BGR),
    "yuyv": _YUYV,
    "yuv422_yuy2": _YUYV,
    "uyvy": _UYVY,
    "yuv422": _UYVY,
    "nv12": _planar(1.5, cv2.COLOR_YUV2BGR_NV12),
    "nv21": _planar(1.5, cv2.COLOR_YUV2BGR_NV21),
    "nv24": _planar(3.0, cv2.COLOR_YUV2BGR_NV12),  # after its chroma is halved
    "i420": _planar(1.5, cv2.COLOR_YUV2BGR_I420),
    "yv12": _planar(1.5, cv2.COLOR_YUV2BGR_YV12),
}


_BAYER = ("rggb", "bggr", "gbrg", "grbg")


def _of_words(narrow: str) -> Encoding:
    """Return the encoding that has the samples of another one in two bytes each."""
    form = _OF_BYTES[narrow]
    return replace(form, pixel_bytes=2 * form.pixel_bytes, sample_bytes=2, narrow=narrow)


ENCODINGS: dict[str, Encoding] = {
    **_OF_BYTES,
    "mono16": _of_words("mono8"),
    **{f"16UC{channels}": _of_words(f"8UC{channels}") for channels in (1, 3, 4)},
    **{f"{order}16": _of_words(f"{order}8") for order in ("rgb", "bgr", "rgba", "bgra")},
    **{f"bayer_{pattern}16": _of_words(f"bayer_{pattern}8") for pattern in _BAYER},
}
THREE_PLANES = ("i420", "yv12")
# Has no range of its own: where mono32_range gives one, an image is read and is mono8 then.
FLOATS = "32FC1"
READ = {
    **ENCODINGS,
    FLOATS: Encoding("GRAY", pixel_bytes=4, sample_bytes=4, narrow="mono8"),
}
# What V4L2, FFmpeg, GStreamer and GenICam call some of them.
_ALIASES = {
    "rgb8": "rgb24 rgb3",
    "bgr8": "bgr24 bgr3",
    "rgba8": "rgba rgba32",
    "bgra8": "bgra bgra32",
    "rgbx8": "rgbx rgb0",
    "bgrx8": "bgrx bgr0",
    "xrgb8": "xrgb 0rgb argb argb8",
    "xbgr8": "xbgr 0bgr abgr abgr8",
    "mono8": "grey gray grey8 gray8 y8 y800",
    "mono16": "grey16 gray16 y16",
    **{
        f"bayer_{pattern}{bits}": f"bayer{pattern[:2]}{bits}"
        for pattern in _BAYER
        for bits in (8, 16)
    },
    "yuyv": "yuy2 yuyv422 yuv422_yuyv",
    "uyvy": "uyvy422 yuv422_uyvy",
    "i420": "yuv420 yuv420p iyuv yu12",
}
NAMES = {name.lower(): name for name in READ} | {
    alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()
}
