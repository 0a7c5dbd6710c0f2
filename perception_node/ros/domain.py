# SPDX-License-Identifier: Apache-2.0
"""A corner of the ROS world for commands that start their own nodes: this machine, one domain."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE_DOMAINS = range(1, 101)  # from 102 on, ports collide with Linux's ephemeral ones


def use_private_domain() -> None:
    """Stay on this machine, and out of the domain that a robot nearby may use.

    Must come before ``rclpy.init()``; what the user has set stays.
    """
    from perception_node.ros.compat import keep_discovery_local  # noqa: PLC0415 - needs ROS

    keep_discovery_local()
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.choice(PRIVATE_DOMAINS)))  # noqa: S311


@contextmanager
def private_domain() -> Iterator[None]:
    """Let processes that are started meanwhile meet on this machine alone, with our profile.

    The domain is another one each time, so that what a run before has left cannot disturb.
    """
    from perception_node.ros.transport import use_large_frames  # noqa: PLC0415 - needs ROS

    before = dict(os.environ)
    use_private_domain()
    use_large_frames()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
