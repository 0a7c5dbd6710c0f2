# SPDX-License-Identifier: Apache-2.0
"""What a benchmark plays: which pictures, how large, how often, as which kind of message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from perception_node.bench.camera.camera_messages import (
    encode,
    encode_jpeg,
    serialize,
    write_compressed,
)
from perception_node.bench.camera.load_sources import (
    HIGHEST_BYTES,
    HIGHEST_PIXELS,
    TYPES,
    find_images,
    hash_all,
    limit,
    look_into,
    read_bag,
    read_images,
    read_pictures,
)
from perception_node.config.sections import MAX_CAMERAS
from perception_node.errors import ConfigError, FrameError, quote
from perception_node.system.files import read_regular_file
from perception_node.vision.encodings import ENCODINGS
from perception_node.vision.frame import MAX_SIDE, require_size
from perception_node.vision.opencv import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.config.sections import Transport


SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
HIGHEST_RATE_HZ, HIGHEST_FRAMES, HIGHEST_WARM_UP = 1000.0, 10_000_000, 10_000


@dataclass(frozen=True)
class Load:
    """Images at a fixed rate.

    Attributes:
        rate_hz: frames per second of each camera.
        frames: frames of each camera that are measured.
        warm_up_frames: frames of each camera before them, which are not.
        width: pixels; of the first image where they come from a bag.
        height: pixels; the same.
        encoding: a key of ``encodings.ENCODINGS``; has no meaning where the images are compressed.
        transport: raw or compressed; a bag that has no such topic decides it by itself.
        cameras: 1 to 8, evenly staggered, all with the same pictures.
        bag: its images as they are, in the place of the sample's pictures.
        topic: of the bag; empty for the first that holds images.
        images: folder of JPEG and PNG files, in the place of the sample's pictures.

    """

    rate_hz: float = 30.0
    frames: int = 1000
    warm_up_frames: int = 30
    width: int = 640
    height: int = 480
    encoding: str = "bgr8"
    transport: Transport = "raw"
    cameras: int = 1
    bag: Path | None = None
    topic: str = ""
    images: Path | None = None

    def __post_init__(self) -> None:
        """Check every value; look into the bag for topic, transport, encoding and size.

        Raises:
            ConfigError: an option has no meaning; names it and what is allowed.
            BagError: the bag cannot be read.

        """
        require_range("--rate", self.rate_hz, 0.001, HIGHEST_RATE_HZ)
        require_range("--frames", self.frames, 1, HIGHEST_FRAMES)
        require_range("--warm-up", self.warm_up_frames, 0, HIGHEST_WARM_UP)
        require_range("--cameras", self.cameras, 1, MAX_CAMERAS)
        require_choice("--transport", self.transport, TYPES)
        require_choice("--encoding", self.encoding, ENCODINGS)
        if self.bag is not None and self.images is not None:
            raise ConfigError("--bag and --images exclude each other; choose one")
        if self.bag is not None:
            self._look_into(self.bag)
        elif self.topic:
            raise ConfigError("--topic names a topic of a bag; give --bag as well")
        require_picture_size(self)
        if self.images is not None:
            find_images(self.images)

    @property
    def period_ns(self) -> int:
        """From one frame of a camera to its next."""
        return round(1e9 / self.rate_hz)

    @property
    def total(self) -> int:
        """Frames of all cameras that are measured."""
        return self.frames * self.cameras

    @property
    def name(self) -> str:
        """What tells this load from others, such as ``640x480 bgr8 raw at 30 Hz``."""
        kind = f"{self.encoding} raw" if self.transport == "raw" else "compressed"
        source = "" if self._source is None else f", {self._source}"
        several = "" if self.cameras == 1 else f", {self.cameras} cameras"
        return f"{self.width}x{self.height} {kind} at {self.rate_hz:g} Hz{several}{source}"

    def describe(self) -> dict[str, Any]:
        """Return plain values: equal for the same load, also on another machine.

        How many frames are played is no part of it: a longer run has the same load.
        """
        described: dict[str, Any] = {
            "name": self.name,
            "rate_hz": self.rate_hz,
            "width": self.width,
            "height": self.height,
            "encoding": self.encoding if self.transport == "raw" else "",
            "transport": self.transport,
            "cameras": self.cameras,
            "source": self._source or "samples",
        }
        if self.bag is not None:
            described["source_sha256"] = hash_all(make_messages(self))
        elif self.images is not None:
            files = find_images(self.images)
            described["source_sha256"] = hash_all(
                read_regular_file(file, HIGHEST_BYTES) for file in files
            )
        return described

    @property
    def _source(self) -> str | None:
        if self.bag is not None:
            return f"bag {self.bag.resolve().name} {self.topic}"
        return None if self.images is None else f"images {self.images.resolve().name}"

    def _look_into(self, bag: Path) -> None:
        """Take topic, transport, encoding and size from a bag."""
        for field, value in look_into(bag, self.topic, self.transport)._asdict().items():
            object.__setattr__(self, field, value)


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a text such as ``640x480``.

    Raises:
        ConfigError: it is another text; whether a camera may be so large is not looked at.

    """
    match = SIZE.fullmatch(text)
    if match is None:
        msg = f"--size must be WIDTHxHEIGHT in pixels such as 640x480, found {quote(text)}"
        raise ConfigError(msg)
    return int(match[1]), int(match[2])


def read_load(fields: dict[str, Any]) -> Load:
    """Return the load whose fields came as JSON.

    Raises:
        ConfigError, BagError: it cannot be played.

    """
    paths = {name: Path(fields[name]) for name in ("bag", "images") if fields[name] is not None}
    return Load(**{**fields, **paths})


def make_messages(load: Load) -> list[bytearray]:
    """Return serialized little-endian messages with pictures that differ, to be shown in turn.

    At most 64 and 256 MiB, at least one. ``camera_messages.write_stamp`` changes their stamps in
    place.

    Raises:
        ConfigError: a file of ``--images``, or a message of the bag, cannot be used.
        BagError: the bag cannot be read.

    """
    if load.bag is not None:
        return limit(read_bag(load.bag, load.topic))
    pictures = read_pictures() if load.images is None else read_images(load.images)
    return limit(_to_message(picture, load) for picture in pictures)


def _to_message(picture: NDArray[np.uint8], load: Load) -> bytearray:
    size = (load.width, load.height)
    resized = np.empty((*size[::-1], 3), np.uint8)
    resize(picture, resized, cv2.INTER_LINEAR)
    if load.transport == "compressed":
        return write_compressed(encode_jpeg(resized))
    return serialize(encode(resized, load.encoding), load.encoding, *size)


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
