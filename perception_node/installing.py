# SPDX-License-Identifier: Apache-2.0
"""The one command that gets what this machine lacks."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from typing import TYPE_CHECKING

from perception_node.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Iterable

RELEASES = ("humble", "jazzy", "kilted", "lyrical")  # of ROS 2, that we run on
RELEASE_OF_UBUNTU = {"22.04": "humble", "24.04": "jazzy", "26.04": "lyrical"}
APT = {
    "PIL": "python3-pil",
    "cv2": "python3-opencv",
    "jinja2": "python3-jinja2",
    "jsonschema": "python3-jsonschema",
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "rich": "python3-rich",
    "yaml": "python3-yaml",
}
PIP = {
    "backports": "rosbags",  # which brings backports.zstd and lz4
    "flask": "flask",
    "flask_cors": "flask-cors",
    "hdrh": "hdrhistogram",
    "junitparser": "junitparser",
    "keras": "keras",
    "lz4": "rosbags",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "prometheus_client": "prometheus-client",
    "pycuda": "pycuda",
    "rosbags": "rosbags",
    "simplejpeg": "simplejpeg",
    "torch": "torch==2.13.0",
    "waitress": "waitress",
}
TENSORRT = {  # by the name of its product
    "tensorrt": (
        "on a Jetson: sudo apt install python3-libnvinfer, and a virtual environment needs "
        "--system-site-packages; on a PC: pip install tensorrt"
    ),
    "tensorrt-rtx": "run: pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings",
}
NEED_NUMPY = {"onnx", "onnxruntime", "onnxscript", "pycuda", "rosbags", "simplejpeg"}
REPORT = "perception doctor --json > doctor.json, and attach it to a report"  # nothing else helps
# What OpenCV says that was built for NumPy 1, as Ubuntu's is, once pip has brought NumPy 2.
NUMPY_IS_TOO_NEW = "numpy.core.multiarray failed to import"

# What rclpy says that was built for another Python than this.
OTHER_PYTHON = "isn't present on the system"


class MissingPackage(EnvironmentLacks):
    """A Python package that is needed cannot be imported."""

    def __init__(self, error: ImportError) -> None:
        super().__init__(str(error), f"run: {repair_command(error)} (in a checkout: make setup)")


def ros_release() -> str:
    """Return the release of ROS 2 in this shell, else the one of this Ubuntu; "" for neither."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    version = system.get("VERSION_ID", "") if system.get("ID") == "ubuntu" else ""
    return os.environ.get("ROS_DISTRO") or RELEASE_OF_UBUNTU.get(version, "")


def source_command() -> str:
    """Return the command that sources ROS 2; bash finds the release where we do not know it."""
    return f"source /opt/ros/{ros_release() or '*'}/setup.bash"


def install_command(*modules: str) -> str:
    """Return one command that installs Python modules.

    Any other than those of ``APT`` and ``PIP`` is taken for one of ROS. Where no ROS is sourced,
    nothing can be said of its modules: sourcing it comes first.
    """
    of_ros = [name for name in modules if name not in APT and name not in PIP]
    is_sourced = _is_sourced()
    apt = [APT[name] for name in modules if name in APT]
    if is_sourced:
        apt += [f"ros-{ros_release()}-{name.replace('_', '-')}" for name in of_ros]
    pip = [name for name in modules if name in PIP]
    commands = [source_command()] if of_ros and not is_sourced else []
    if apt:
        commands.append(f"sudo apt install {' '.join(apt)}")
    if pip:
        commands.append(f"pip install {' '.join(PIP[name] for name in pip)}{_keep_numpy(pip)}")
    return " && ".join(commands)


def _keep_numpy(modules: list[str]) -> str:
    """Return what keeps NumPy 1 where it is installed and pip would bring NumPy 2.

    OpenCV and the ROS messages of Ubuntu 22.04 and 24.04 are compiled against NumPy 1.
    """
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 10 ms

    try:
        is_numpy_1 = version("numpy").startswith("1.")
    except PackageNotFoundError:
        is_numpy_1 = False
    return " 'numpy<2'" if is_numpy_1 and NEED_NUMPY & {*modules} else ""


def install_missing(modules: Iterable[str]) -> str:
    """Return one command that installs all that can be installed now, "" if there is nothing.

    Modules of ROS come later where none is sourced: most are there then.
    """
    wanted = dict.fromkeys(modules)
    names = [name for name in wanted if name in APT or name in PIP or _is_sourced()]
    return install_command(*names)


def repair_command(error: ImportError) -> str:
    """Return the command that most likely lets an import succeed which has failed."""
    package, _, part = (error.name or "").partition(".")
    if NUMPY_IS_TOO_NEW in str(error):
        return "pip install 'numpy<2'"
    if OTHER_PYTHON in str(error):
        return "make setup PYTHON=/usr/bin/python3"
    if isinstance(error, ModuleNotFoundError) and package and not (part and is_here(package)):
        return install_command(package)
    is_library = "cannot import name" not in str(error) and not part
    return source_command() if is_library and not _is_sourced() else REPORT


def is_here(package: str) -> bool:
    """Tell whether Python finds a package; it need not be complete."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _is_sourced() -> bool:
    return bool(os.environ.get("ROS_DISTRO") and os.environ.get("AMENT_PREFIX_PATH"))
