# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile without which camera-sized frames do not arrive.

Fast DDS moves messages through a shared-memory segment of 512 KiB by default; a 640x480 colour
frame is 900 KiB and is lost. The setting counts in the process that *publishes* the images.
"""

from __future__ import annotations

import os

from perception_node.ros.compat import PROFILE_VARIABLES, find_fast_dds
from perception_node.system.resources import FAST_DDS_PROFILE, find_resource


def use_large_frames() -> str:
    """Point Fast DDS at our profile, unless the user chose one; return the file in use.

    Must come before ``rclpy.init()``. Another middleware needs none: the result is empty then.
    """
    fast_dds = find_fast_dds()
    if fast_dds is None:
        return ""
    # A profile under the name of another release is what the user wants as well.
    names = (fast_dds.variable, *PROFILE_VARIABLES.values())
    chosen = next(filter(None, map(os.environ.get, names)), None)
    os.environ[fast_dds.variable] = chosen or str(find_resource(FAST_DDS_PROFILE))
    return os.environ[fast_dds.variable]
