# SPDX-License-Identifier: Apache-2.0
"""Write the results of a replay as a bag: classifications beside their images. Needs no ROS."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from perception_node.errors import ConfigError
from perception_node.ros.definitions import (
    CLASSIFICATION_TYPE,
    choose_bag_version,
    make_typestore,
)
from perception_node.ros.result_topics import name_prefixes
from perception_node.wire.images import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rosbags.interfaces import Connection

    from perception_node.replay.golden import Record
    from perception_node.untyped import RosObject
    from perception_node.wire.bags import BagMessage

LABELS_TYPE = "vision_msgs/msg/LabelInfo"
NODE_NAME, FILE_SUFFIX = "perception", ".mcap"
FOREVER = QosTime(2_147_483_647, 4_294_967_295)
LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    FOREVER,
    FOREVER,
    QosLiveliness.AUTOMATIC,
    FOREVER,
    avoid_ros_namespace_conventions=False,
)


class ResultBag:
    """Writes serialized images as they are, and the classifications that belong to them."""

    def __init__(self, writer: Writer, topics: dict[str, str], labels: tuple[str, ...]) -> None:
        """Describe the topics in the bag.

        Args:
            writer: of rosbags, open.
            topics: names of the image topics and their message types.
            labels: of the model, in the order of its classes; they are written once per camera.

        """
        self._store = make_typestore()
        self._writer = writer
        self._labels = labels
        prefixes = name_prefixes(topics, NODE_NAME)
        self._images = {topic: self._connect(topic, kind) for topic, kind in topics.items()}
        self._results = {
            topic: self._connect(f"{prefix}/classification", CLASSIFICATION_TYPE)
            for topic, prefix in prefixes.items()
        }
        self._unlabelled = {
            topic: self._connect(f"{prefix}/label_info", LABELS_TYPE, LATCHED)
            for topic, prefix in prefixes.items()
        }

    def write(self, message: BagMessage, record: Record) -> None:
        """Write an image and, unless it was dropped, its classification, at its recorded time."""
        topic, time_ns = message.topic, message.time_ns
        if topic in self._unlabelled:
            connection = self._unlabelled.pop(topic)
            self._writer.write(connection, time_ns, self._serialize_labels(time_ns))
        self._writer.write(self._images[topic], time_ns, message.data)
        if "dropped" not in record:
            self._writer.write(self._results[topic], time_ns, self._serialize_results(record))

    def _connect(self, topic: str, kind: str, *qos: Qos) -> Connection:
        return self._writer.add_connection(
            topic, kind, typestore=self._store, offered_qos_profiles=qos
        )

    def _serialize_results(self, record: Record) -> memoryview:
        make = self._store.types["vision_msgs/msg/ObjectHypothesis"]
        results = [make(class_id=r["class_id"], score=r["score"]) for r in record["results"]]
        header = self._header(record["stamp_ns"], record["frame_id"])
        message = self._store.types[CLASSIFICATION_TYPE](header=header, results=results)
        return self._store.serialize_cdr(message, CLASSIFICATION_TYPE)

    def _serialize_labels(self, time_ns: int) -> memoryview:
        make = self._store.types["vision_msgs/msg/VisionClass"]
        message = self._store.types[LABELS_TYPE](
            header=self._header(time_ns, ""),
            class_map=[make(class_id=i, class_name=name) for i, name in enumerate(self._labels)],
            threshold=np.float32(0.0),
        )
        return self._store.serialize_cdr(message, LABELS_TYPE)

    def _header(self, stamp_ns: int, frame_id: str) -> RosObject:
        sec, nanosec = divmod(stamp_ns, NANOSECONDS)
        time = self._store.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
        return self._store.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def require_place(path: Path) -> None:
    """Raise ``ConfigError`` if ``open_result_bag`` could not write to ``path``."""
    if path.suffix == FILE_SUFFIX:
        problem = "is a folder; give another name" if path.is_dir() else ""
    else:
        problem = "exists already; remove it or give another name" if path.exists() else ""
    if not path.parent.is_dir():
        problem = f"the folder {path.parent} does not exist"
    if problem:
        msg = f"{path}: {problem}"
        raise ConfigError(msg)


@contextmanager
def open_result_bag(
    path: Path, topics: dict[str, str], labels: tuple[str, ...]
) -> Iterator[ResultBag]:
    """Write a bag, which appears as a whole at the end or not at all.

    A ``path`` that ends in ``.mcap`` becomes that one file, any other a bag's folder.

    Raises:
        ConfigError: the bag cannot be written.

    """
    require_place(path)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            bag = Path(folder) / path.stem
            version = choose_bag_version()
            with Writer(bag, version=version, storage_plugin=StoragePlugin.MCAP) as writer:
                yield ResultBag(writer, topics, labels)
            if path.suffix == FILE_SUFFIX:
                (bag / path.name).replace(path)
            else:
                bag.rename(path)
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise ConfigError(msg) from error
