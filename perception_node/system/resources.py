# SPDX-License-Identifier: Apache-2.0
"""Find the files that come with the package: models, launch files, the sample bag."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from perception_node.errors import ConfigError

PACKAGE = "perception_node"
DEFAULT_MODEL = "efficientnet_lite0"
FAST_DDS_PROFILE = "launch/fastdds_profile.xml"
SAMPLE_BAG = "samples/photos"
SAMPLE_TOPICS = {"raw": "/camera/image_raw", "compressed": "/camera/image_raw/compressed"}


def share_folders() -> list[Path]:
    """Return the folders that may hold our files: the checkout first, then ROS prefixes."""
    checkout = Path(__file__).resolve().parents[2]
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    return [checkout, *(Path(prefix, "share", PACKAGE) for prefix in prefixes if prefix)]


def find_resource(name: str) -> Path:
    """Return the path of a file or folder such as ``models/efficientnet_lite0``.

    Raises:
        ConfigError: it is in none of the folders; the message lists them.

    """
    folders = share_folders()
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    searched = ", ".join(str(folder) for folder in folders)
    msg = f"{name} not found in {searched}; source the workspace's install/setup.bash"
    raise ConfigError(msg)


def find_model(model: str) -> Path:
    """Return the bundle folder for a path, or for the name of a bundle that comes with us.

    Args:
        model: a path such as ``/opt/models/birds``, a name such as ``efficientnet_lite0``,
            or the empty string for the default.

    Raises:
        ConfigError: there is no such folder.

    """
    name = model or DEFAULT_MODEL
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        if os.sep not in name:
            return find_resource(f"models/{name}")
        problem = "no such folder"
    except (OSError, RuntimeError) as error:  # too long, not permitted; no such user after ~
        problem = getattr(error, "strerror", None) or str(error)
    msg = f"model {name[:200]}: {problem}; give the folder that holds bundle.json"
    raise ConfigError(msg)
