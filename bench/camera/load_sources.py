# SPDX-License-Identifier: Apache-2.0
"""Where the pictures of a load come from: the sample bag, a bag of the user's, a folder."""

from __future__ import annotations

import hashlib
import math
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from perception_node.errors import ConfigError, FrameError
from perception_node.system.files import read_regular_file
from perception_node.system.resources import SAMPLE_BAG, SAMPLE_TOPICS, find_resource
from perception_node.vision.frame import MAX_SIDE
from perception_node.wire.bags import open_bag
from perception_node.wire.images import (
    COMPRESSED_TYPE,
    LITTLE_ENDIAN,
    RAW_TYPE,
    TRANSPORTS,
    ImageReader,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from perception_node.config.sections import Transport

TYPES = {"raw": RAW_TYPE, "compressed": COMPRESSED_TYPE}
HIGHEST_PIXELS = 4096 * 4096  # max_image_pixels of the node
HIGHEST_MESSAGES, HIGHEST_BYTES = 64, 256 << 20  # kept in memory at once
SAMPLE_STEP = 10  # neighbours of the sample bag look alike
ENDINGS = (".jpg", ".jpeg", ".png")


class BagImages(NamedTuple):
    """What a topic of a bag holds, by its first image; the fields are those of ``Load``."""

    topic: str
    transport: Transport
    encoding: str
    width: int
    height: int


def read_pictures() -> list[NDArray[np.uint8]]:
    """Return every tenth picture of the sample bag, uint8 BGR (height, width, 3)."""
    reader = ImageReader("compressed", HIGHEST_PIXELS, smallest_side=MAX_SIDE)
    with open_bag(find_resource(SAMPLE_BAG)) as bag:
        messages = list(bag.messages([SAMPLE_TOPICS["compressed"]]))
    return [reader.read(message.data).pixels for message in messages[::SAMPLE_STEP]]


def look_into(path: Path, topic: str, transport: str) -> BagImages:
    """Look at the first image of a bag.

    Args:
        path: the bag.
        topic: the topic; empty for the first with images.
        transport: raw or compressed, which is preferred where there are both.

    Raises:
        ConfigError: the topic has no message, or its first cannot be read.
        BagError: the bag cannot be read, or has no such topic.

    """
    with open_bag(path) as bag:
        kinds = bag.select([topic] if topic else None, tuple(TYPES.values()))
        chosen = min(kinds, key=lambda name: (kinds[name] != TYPES[transport], name))
        first = next(bag.messages([chosen]), None)
    if first is None:
        raise ConfigError(f"--bag {path}: {chosen} has no message; choose another --topic")
    found = TRANSPORTS[kinds[chosen]]
    try:
        frame = ImageReader(found, HIGHEST_PIXELS, smallest_side=MAX_SIDE).read(first.data)
    except FrameError as error:
        raise ConfigError(f"--bag {path}: {chosen} cannot be played: {error}") from error
    return BagImages(chosen, found, frame.encoding, frame.width, frame.height)


def read_bag(path: Path, topic: str) -> Iterator[bytearray]:
    """Yield the messages of a topic as they are.

    Raises:
        ConfigError: they are big-endian, so that their stamps cannot be written.
        BagError: the bag cannot be read.

    """
    with open_bag(path) as bag:
        for message in bag.messages([topic]):
            if message.data[: len(LITTLE_ENDIAN)] != LITTLE_ENDIAN:
                msg = f"--bag {path}: {topic} is big-endian; choose another --topic"
                raise ConfigError(msg)
            yield bytearray(message.data)


def read_images(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of ``find_images``, uint8 BGR (height, width, 3).

    Raises:
        ConfigError: one cannot be decoded.

    """
    for path in find_images(folder):
        try:
            content = np.frombuffer(read_regular_file(path, HIGHEST_BYTES), np.uint8)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"--images: {path} cannot be read: {reason}") from error
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
        if picture is None:
            raise ConfigError(f"--images: {path} cannot be decoded; take it out of the folder")
        yield picture.astype("uint8", copy=False)


def find_images(folder: Path) -> list[Path]:
    """Return at most 64 JPEG and PNG files, evenly taken from all, in the order of their names.

    Raises:
        ConfigError: there are none.

    """
    files = folder.iterdir() if folder.is_dir() else ()
    paths = sorted(path for path in files if path.suffix.lower() in ENDINGS)
    if not paths:
        raise ConfigError(f"--images {folder}: no folder with {', '.join(ENDINGS)} files")
    return paths[:: math.ceil(len(paths) / HIGHEST_MESSAGES)]


def limit(messages: Iterable[bytearray]) -> list[bytearray]:
    """Return the first: at most 64 and 256 MiB, but at least one."""
    kept: list[bytearray] = []
    room_bytes = HIGHEST_BYTES
    for message in islice(messages, HIGHEST_MESSAGES):
        room_bytes -= len(message)
        if kept and room_bytes < 0:
            break
        kept.append(message)
    return kept


def hash_all(contents: Iterable[bytes | bytearray]) -> str:
    """Return the sha256 of all contents, one behind the other."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()
