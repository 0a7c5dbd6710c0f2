# SPDX-License-Identifier: Apache-2.0
"""Make ROS work in this virtual environment without sourcing anything.

The environment is a ROS prefix (`lib/`, `share/`), but ROS looks only at environment variables,
and the dynamic loader reads its own only when a process starts. The set-up copies this file into
`site-packages` beside a `.pth` file that enters it whenever the environment's Python starts:
that covers `.venv/bin/perception`, pytest and child processes alike, in any shell.
"""

import os
import sys

RESTARTED = "_PERCEPTION_NODE_RESTARTED"


def folders(variable: str) -> list[str]:
    """Return the folders in a search path."""
    return [folder for folder in os.environ.get(variable, "").split(os.pathsep) if folder]


def leave_other_environments() -> None:
    """Forget what a parent process of another such environment has left in the search paths."""
    prefixes = folders("AMENT_PREFIX_PATH")
    others = [prefix for prefix in prefixes if os.path.exists(os.path.join(prefix, "set-up.json"))]
    foreign = tuple(os.path.join(prefix, "") for prefix in others if prefix != sys.prefix)
    for variable in ("AMENT_PREFIX_PATH", "LD_LIBRARY_PATH") if foreign else ():
        kept = [f for f in folders(variable) if not os.path.join(f, "").startswith(foreign)]
        os.environ[variable] = os.pathsep.join(kept)


def announce_prefix(release: str) -> None:
    """Name this prefix to ROS, after all that the user has sourced."""
    prefixes = folders("AMENT_PREFIX_PATH")
    is_sourced = "ROS_DISTRO" in os.environ and any(prefix != sys.prefix for prefix in prefixes)
    if sys.prefix not in prefixes:
        os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([*prefixes, sys.prefix])
    if release and not is_sourced:
        os.environ["ROS_DISTRO"] = release
        os.environ["ROS_VERSION"] = "2"
        os.environ["ROS_PYTHON_VERSION"] = "3"


def make_libraries_loadable() -> None:
    """Start Python again with this prefix in the loader's search path, unless it is there."""
    # The wheels have a restart of their own. It happens once for a process and all its children,
    # even those that belong to another environment, and not at all where ROS is sourced.
    os.environ["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] = "1"
    restarted = os.environ.pop(RESTARTED, None)  # a privileged program's path is ignored: try once
    library = os.path.join(sys.prefix, "lib")
    present = folders("LD_LIBRARY_PATH")
    if library in present or restarted:
        return
    packages = os.path.dirname(__file__)
    bundled = (name for name in os.listdir(packages) if name.startswith("ros_"))
    bundled = sorted(os.path.join(packages, name) for name in bundled if name.endswith(".libs"))
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([*present, library, *bundled])
    os.environ[RESTARTED] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def enter(release: str) -> None:
    """Make this environment the ROS of the process and its children.

    Args:
        release: The ROS release whose wheels are in it, or nothing where a ROS was sourced.
    """
    leave_other_environments()
    announce_prefix(release)
    make_libraries_loadable()
