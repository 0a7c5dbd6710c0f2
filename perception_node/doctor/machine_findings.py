# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says of the machine, its Python and the packages that we import."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from importlib import import_module
from pathlib import Path

from perception_node import __version__
from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding, read_text
from perception_node.errors import PerceptionError
from perception_node.installing import install_command
from perception_node.system.resources import find_model

LIBRARIES = ("numpy", "cv2", "jsonschema", "rosbags", "rich", "yaml")
OF_REPORTS = ("hdrh", "jinja2", "junitparser", "matplotlib", "PIL")


def check_python() -> Finding:
    """Look at the interpreter and this package."""
    found = f"{platform.python_version()} ({sys.executable}), perception_node {__version__}"
    return Finding("Python", OK, found)


def check_machine() -> Finding:
    """Look at the processor and how its clock is governed."""
    governor = read_text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    found = f"{platform.machine()}, {os.cpu_count()} cores, governor {governor or 'unknown'}"
    if governor in {"powersave", "schedutil", "ondemand"}:
        advice = "for steady latency: sudo cpupower frequency-set -g performance"
        return Finding("machine", OK, found, advice)
    return Finding("machine", OK, found)


def check_onnxruntime() -> Finding:
    """Look at ONNX Runtime and its providers."""
    try:
        ort = import_module("onnxruntime")
    except ImportError as error:
        command = install_command("onnxruntime")
        return Finding("ONNX Runtime", MISSING, str(error), command, ("onnxruntime",))
    providers = ", ".join(ort.get_available_providers())
    return Finding("ONNX Runtime", OK, f"{ort.__version__}: {providers}")


def check_libraries() -> Finding:
    """Look at the other packages that the node and the command line import."""
    missing = _missing_of(LIBRARIES)
    if missing:
        found = f"no {', '.join(missing)}"
        return Finding("libraries", MISSING, found, install_command(*missing), missing)
    numpy, cv2 = (import_module(name) for name in ("numpy", "cv2"))
    found = f"numpy {numpy.__version__}, OpenCV {cv2.__version__}, {', '.join(LIBRARIES[2:])}"
    return Finding("libraries", OK, found)


def check_jpeg() -> Finding:
    """Look for the decoder that says which JPEGs are damaged."""
    try:
        simplejpeg = import_module("simplejpeg")
    except (ImportError, ValueError) as error:
        found = f"{error}: damage in a JPEG is only found where its markers show it"
        return Finding("JPEG", OPTIONAL, found, install_command("simplejpeg"), ("simplejpeg",))
    return Finding("JPEG", OK, f"simplejpeg {simplejpeg.__version__}: a damaged one is found")


def check_reports() -> Finding:
    """Look for the packages with which benchmarks and tests report."""
    missing = _missing_of(OF_REPORTS)
    if missing:
        found = f"no {', '.join(missing)}: without perception bench, hil, replay --report"
        return Finding("reports", OPTIONAL, found, install_command(*missing), missing)
    return Finding("reports", OK, ", ".join(OF_REPORTS))


def _missing_of(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if importlib.util.find_spec(name) is None)


def check_model() -> Finding:
    """Read the default model bundle and compare its digests."""
    from perception_node.model.bundle import load_bundle

    try:
        bundle = load_bundle(find_model(""))
        bundle.read()
    except PerceptionError as error:
        return Finding("default model", MISSING, str(error), "copy the bundle again")
    return Finding("default model", OK, f"{bundle.manifest.name} ({bundle.path})")
