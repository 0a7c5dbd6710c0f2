# SPDX-License-Identifier: Apache-2.0
"""The message definitions that bags of ours are written with; no ROS is needed.

rosbags knows the messages of ROS itself. vision_msgs is not among them, so its five short
definitions are here; they are those of the real package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

CLASSIFICATION_TYPE = "vision_msgs/msg/Classification"
DEFINITIONS = {
    CLASSIFICATION_TYPE: "std_msgs/Header header\nObjectHypothesis[] results\n",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/VisionInfo": (
        "std_msgs/Header header\nstring method\nstring database_location\nint32 database_version\n"
    ),
}


def choose_bag_version() -> Literal[8, 9]:
    """Return the version of a bag that this machine's ros2 bag reads; the newest without ROS."""
    try:
        from perception_node.ros.compat import bag_version  # noqa: PLC0415 - needs ROS
    except ImportError:
        return 9
    return bag_version()


def make_typestore() -> Typestore:
    """Return the messages of ROS 2 Jazzy and vision_msgs, to write and read bags with."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store
