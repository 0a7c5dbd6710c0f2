# SPDX-License-Identifier: Apache-2.0
"""Images to calibrate and judge with: a folder, a list of files or a bag, as the node sees them.

Every image goes through the node's own decoder and preprocessing, one at a time, in a fixed
order. What cannot be decoded is skipped and counted.
"""

from __future__ import annotations

import csv
import hashlib
import os
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from perception_node.config.sections import CameraConfig
from perception_node.errors import CalibrationError, ConfigError, FrameError
from perception_node.system.files import read_regular_file
from perception_node.vision.decode import IMAGE_SUFFIXES, Decoder
from perception_node.vision.frame import Frame, Unpacker
from perception_node.vision.preprocess import FramePreprocessor
from perception_node.vision.samples import SampleScaler
from perception_node.wire.bags import open_bag
from perception_node.wire.images import TRANSPORTS, ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from perception_node.model.bundle import ModelBundle
    from perception_node.wire.bags import BagMessage

    Read = Callable[[], tuple[bytes, Frame]]

Row = TypeVar("Row")

MAX_FILE_BYTES = 256 << 20
MAX_TEXT_BYTES = 64 << 20  # of a list of files or of labels
MAX_LINES = 500_000  # of either
MAX_REASONS = 3
MAX_IMAGE_PIXELS = CameraConfig().max_image_pixels  # larger ones are skipped


class PreparedImage(NamedTuple):
    """One image.

    Attributes:
        name: the file relative to its folder, or the topic and time of a message.
        values: what the model gets: float32 (1, 3, height, width), a copy of its own.
        frame: the image itself; ``to_bgr`` shows it.

    """

    name: str
    values: NDArray[np.float32]
    frame: Frame

    def to_bgr(self) -> NDArray[np.uint8]:
        """Return the picture for people: uint8 BGR (height, width, 3), a copy."""
        pixels, order = Unpacker().unpack(self.frame)
        if order == "GRAY":
            return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
        return np.ascontiguousarray(pixels[:, :, [order.index(color) for color in "BGR"]])


class ImageSet:
    """Images in their order; each iteration reads them anew, one at a time.

    Attributes:
        source: where they come from; its ``kind`` says so without paths of this machine, its
            ``place`` is what an error message begins with.
        names: of these images, each once; a choice among the source's.

    """

    def __init__(self, bundle: ModelBundle, source: Files | BagImages) -> None:
        """Read all images of ``source``, for the bundle's model."""
        self.source = source
        self.names = source.names
        self._bundle = bundle
        self._sha256: dict[str, str] = {}  # what was read, and
        self._skipped: dict[str, str] = {}  # what was not: shared with all subsets

    def __len__(self) -> int:
        """Return how many images there are, with those that cannot be used."""
        return len(self.names)

    def __iter__(self) -> Iterator[PreparedImage]:
        """Yield the images that can be used.

        Raises:
            CalibrationError: an image has other bytes than when it was read before.
            BagError: the bag is damaged.

        """
        size = self._bundle.manifest.input
        values = np.zeros((1, 3, size.height, size.width), np.float32)
        prepare = FramePreprocessor(self._bundle.manifest.preprocessing, values)
        wanted = frozenset(self.names)
        for name, read in self.source.contents():
            if name not in wanted:
                continue
            try:
                content, frame = read()
                prepare(frame)
            except (FrameError, OSError) as error:
                self._skipped[name] = getattr(error, "strerror", None) or str(error)
                continue
            self._remember(name, content)
            yield PreparedImage(name, values.copy(), frame)

    def subset(self, names: Collection[str]) -> ImageSet:
        """Return the images of these names only, in this set's order."""
        chosen = frozenset(names)
        subset = copy(self)
        subset.names = tuple(name for name in self.names if name in chosen)
        return subset

    def sample(self, count: int) -> ImageSet:
        """Return ``count`` images, evenly spaced; all of them if there are not more."""
        if count < 1:
            msg = f"{count} samples are no number of images; use 1 or more, 500 are plenty"
            raise ConfigError(msg)
        if count >= len(self.names):
            return self
        return self.subset(
            [self.names[index * len(self.names) // count] for index in range(count)]
        )

    @property
    def skipped(self) -> dict[str, str]:
        """Names and reasons of the images that were read and cannot be used."""
        return {name: self._skipped[name] for name in self.names if name in self._skipped}

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the images that were read and can be used."""
        return tuple(name for name in self.names if name in self._sha256)

    @property
    def distinct(self) -> int:
        """How many of the images that were read differ from all others."""
        return len({self._sha256[name] for name in self.used})

    def digest(self) -> str:
        """Return the sha256 over names and contents of the images that were read."""
        lines = "".join(f"{self._sha256[name]}  {name}\n" for name in self.used)
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()

    def why_skipped(self) -> str:
        """Return how many images were skipped and why the first few were, as one line or none."""
        skipped = self.skipped
        if not skipped:
            return ""
        some = [f"{name}: {why}" for name, why in list(skipped.items())[:MAX_REASONS]]
        dots = "; ..." if len(skipped) > len(some) else ""
        return f"{len(skipped)} skipped ({'; '.join(some)}{dots})"

    def _remember(self, name: str, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        if self._sha256.setdefault(name, sha256) != sha256:
            msg = f"{name}: changed while it was in use; begin again when nobody writes there"
            raise CalibrationError(msg)


class Files:
    """Image files: all in a folder and below it, or those that a list names."""

    def __init__(
        self, bundle: ModelBundle, path: Path, scaler: SampleScaler | None = None
    ) -> None:
        """Find images in a folder, or by a text file with paths relative to itself.

        The bundle's input says how far JPEGs may be reduced while they are decoded; ``scaler``
        makes bytes of deeper samples, of each file by itself.

        Raises:
            ConfigError: there is no such folder or list.
            CalibrationError: no images are there.

        """
        self.place = str(path)
        if path.is_dir():
            self.kind, self._files = "folder", _find(path)
        else:
            self.kind, self._files = "list", _read_list(path)
        self.names = tuple(self._files)
        self._scaler = SampleScaler() if scaler is None else scaler
        self._decoder = Decoder(
            MAX_IMAGE_PIXELS, bundle.manifest.smallest_side, scaler=self._scaler
        )

    def contents(self) -> Iterator[tuple[str, Read]]:
        """Yield names in order, each with what reads the file and decodes it.

        What is yielded raises ``FrameError`` or ``OSError``.
        """
        for name, file in self._files.items():
            yield name, partial(self._read, file)

    def _read(self, file: Path) -> tuple[bytes, Frame]:
        content = read_regular_file(file, MAX_FILE_BYTES)
        self._scaler.forget()
        return content, Frame.from_bgr(self._decoder.decode(content))


class BagImages:
    """The images of one topic of a bag, raw or compressed, in the order of their time."""

    def __init__(
        self, bundle: ModelBundle, path: Path, topic: str, scaler: SampleScaler | None = None
    ) -> None:
        """Find the images, which each iteration reads; ``scaler`` is as in ``Files``.

        Raises:
            BagError: there is no such bag or image topic, or it is damaged.
            CalibrationError: the topic has no messages.

        """
        self.kind, self.place = f"bag, topic {topic}", f"{path}, topic {topic}"
        self._path, self._topic = path, topic
        with open_bag(path) as bag:
            transport = TRANSPORTS[bag.select([topic], tuple(TRANSPORTS))[topic]]
            self.names = tuple(
                self._name(*numbered) for numbered in enumerate(bag.messages([topic]))
            )
        if not self.names:
            msg = f"{self.place}: no messages; choose a topic that has some"
            raise CalibrationError(msg)
        self._scaler = SampleScaler() if scaler is None else scaler
        self._reader = ImageReader(
            transport, MAX_IMAGE_PIXELS, bundle.manifest.smallest_side, scaler=self._scaler
        )

    def contents(self) -> Iterator[tuple[str, Read]]:
        """Yield names in order, each with what decodes the message, or raises ``FrameError``."""
        self._scaler.forget()  # each time the same
        with open_bag(self._path) as bag:
            for number, message in enumerate(bag.messages([self._topic])):
                yield self._name(number, message), partial(self._read, message.data)

    def _read(self, data: bytes) -> tuple[bytes, Frame]:
        return data, self._reader.read(data)

    def _name(self, number: int, message: BagMessage) -> str:
        return f"{self._topic}#{number}@{message.time_ns}"


def open_images(
    bundle: ModelBundle,
    *,
    images: Path | None = None,
    bag: Path | None = None,
    topic: str | None = None,
    scaler: SampleScaler | None = None,
) -> ImageSet:
    """Return the images of a folder or list, or of a bag and its topic.

    ``scaler`` makes bytes of deeper samples.

    Raises:
        ConfigError: not exactly one of ``images`` and ``bag`` is given, or a bag has no topic.
        CalibrationError: there are no images.
        BagError: the bag or the topic in it cannot be read.

    """
    if (images is None) == (bag is None):
        msg = "say where the images are: --images FOLDER, or --bag BAG --topic TOPIC"
        raise ConfigError(msg)
    if images is not None:
        if topic is not None:
            msg = "--topic names a topic of a bag; use it with --bag"
            raise ConfigError(msg)
        return ImageSet(bundle, Files(bundle, images, scaler))
    if bag is None or topic is None:
        msg = "--bag needs --topic, the images to read from it"
        raise ConfigError(msg)
    return ImageSet(bundle, BagImages(bundle, bag, topic, scaler))


def read_labels(path: Path, names: Collection[str], classes: int) -> dict[str, int]:
    """Return the class index of each of these images from a CSV ``file,class_index``.

    A row is for the image of the same name, or else for all whose last part it is.

    Raises:
        ConfigError: the file is no such CSV.
        CalibrationError: a class does not exist, or an image has no row.

    """
    rows = _read_csv(path, int)
    _check_classes(path, rows, classes)
    return _find_rows(path, dict(rows), names)


def read_label_sets(path: Path, names: Collection[str], classes: int) -> dict[str, frozenset[int]]:
    """Return all class indices of each image from a CSV ``file,class_index``, one in a row.

    An image with several classes has several rows; one without any has a row with none.

    Raises:
        ConfigError: the file is no such CSV.
        CalibrationError: a class does not exist, or an image has no row.

    """
    rows = _read_csv(path, lambda text: int(text) if text.strip() else None)
    said = [(file, index) for file, index in rows if index is not None]
    _check_classes(path, said, classes)
    found: dict[str, set[int]] = {file: set() for file, _ in rows}
    for file, index in said:
        found[file].add(index)
    sets = {file: frozenset(indices) for file, indices in found.items()}
    return _find_rows(path, sets, names)


def _check_classes(path: Path, rows: Iterable[tuple[str, int]], classes: int) -> None:
    for file, index in rows:
        if not 0 <= index < classes:
            msg = f"{path}: {file} has class {index}, the model has classes 0 to {classes - 1}"
            raise CalibrationError(f"{msg}; are these the labels of another model?")


def _find_rows(path: Path, rows: Mapping[str, Row], names: Collection[str]) -> dict[str, Row]:
    """Return what is said of each image."""
    found = {name: rows.get(name, rows.get(name.rpartition("/")[2])) for name in names}
    missing = [name for name, row in found.items() if row is None]
    if names and len(missing) == len(found):
        msg = f"{path}: has none of the images, such as {missing[0]}"
        raise CalibrationError(f"{msg}; it has {next(iter(rows), 'no rows')}")
    if missing:
        msg = f"{path}: {len(missing)} of {len(found)} images have no row, such as {missing[0]}"
        raise CalibrationError(f"{msg}; add them, or take these images away")
    return {name: row for name, row in found.items() if row is not None}


def _read_csv(path: Path, parse: Callable[[str], Row]) -> list[tuple[str, Row]]:
    reader = csv.DictReader(_read_text(path).splitlines())
    fields = ("file", "class_index")
    if not set(fields) <= set(reader.fieldnames or ()):
        msg = f"{path}: its first line must be file,class_index"
        raise ConfigError(msg)
    rows: list[tuple[str, Row]] = []
    try:
        for row in reader:
            rows.append((row["file"], parse(row["class_index"])))
            if len(rows) > MAX_LINES:
                msg = f"{path}: more than {MAX_LINES} rows; give those of the images alone"
                raise ConfigError(msg)
    except (AttributeError, csv.Error, TypeError, ValueError) as error:
        msg = f"{path}: line {reader.line_num} is not a file and a class index: {error}"
        raise ConfigError(msg) from error
    return rows


def _find(folder: Path) -> dict[str, Path]:
    files = [file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        msg = f"{folder}: the folder holds no {', '.join(sorted(IMAGE_SUFFIXES))} file"
        raise CalibrationError(f"{msg}; give one with about 500 images like the robot's")
    return dict(sorted((file.relative_to(folder).as_posix(), file) for file in files))


def _read_list(path: Path) -> dict[str, Path]:
    """Return the files that a list names, in its order, by their names below a common folder."""
    lines = [line.strip() for line in _read_text(path).splitlines()]
    files = list(dict.fromkeys(_absolute(path.parent / line) for line in lines if line))
    if not files:
        msg = f"{path}: the list is empty; it needs one image file per line"
        raise CalibrationError(msg)
    common = os.path.commonpath([file.parent for file in files])
    return {file.relative_to(common).as_posix(): file for file in files}


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _read_text(path: Path) -> str:
    try:
        content = read_regular_file(path, MAX_TEXT_BYTES)
        if content.count(b"\n") > MAX_LINES:  # Python makes half a kilobyte of each
            raise ConfigError(f"{path}: more than {MAX_LINES} lines; give fewer images")
        return content.decode("utf-8-sig")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise ConfigError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: not a text file; give a folder, or a list with one path per line"
        raise ConfigError(msg) from error
