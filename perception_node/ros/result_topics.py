# SPDX-License-Identifier: Apache-2.0
"""Where the results of several cameras go. Needs no ROS."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

COMPRESSED = "/compressed"


def name_prefixes(topics: Iterable[str], node_name: str) -> dict[str, str]:
    """Return what the topics of each image topic's results begin with.

    That is the image topic's namespace and the node's name: ``/front/perception``. Image topics
    that share a namespace have their own name in its place: ``/cam0/perception``.
    """
    spaces = {topic: topic.removesuffix(COMPRESSED).rpartition("/")[0] for topic in topics}
    shared = Counter(spaces.values())
    return {
        topic: f"{space if shared[space] == 1 else topic}/{node_name}"
        for topic, space in spaces.items()
    }
