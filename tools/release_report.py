# SPDX-License-Identifier: Apache-2.0
"""What tools/try_release.sh asks Python: what is missing here, and how the steps went.

    python3 tools/release_report.py missing
    python3 tools/release_report.py report FOLDER REPORT.json

FOLDER holds for each step NAME.step (exit code and seconds), what it printed, NAME.out and
NAME.err, and of tests NAME.xml.
Standard library only: it has to say what else is missing.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

VERSION = 1
ROOT = Path(__file__).resolve().parent.parent
SUITES = ("unit", "ros", "faults")
STEPS = ("doctor", "demo", *SUITES)
NOT_RUN = "not run"
ROS_PACKAGES = (
    *("rclpy", "builtin_interfaces", "diagnostic_msgs", "lifecycle_msgs", "rcl_interfaces"),
    *("rosgraph_msgs", "sensor_msgs", "std_msgs", "vision_msgs"),
)
# Which modules the demo and the tests import, with the package that has each.
APT = {
    "cv2": "python3-opencv",
    "hypothesis": "python3-hypothesis",
    "jinja2": "python3-jinja2",
    "jsonschema": "python3-jsonschema",
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "PIL": "python3-pil",
    "pytest": "python3-pytest",
    "pytest_timeout": "python3-pytest-timeout",
    "rich": "python3-rich",
    "yaml": "python3-yaml",
}
PIP = {
    "flask": "flask>=3.1",
    "flask_cors": "flask-cors>=6.0",
    "hdrh": "hdrhistogram",
    "junitparser": "junitparser",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "prometheus_client": "prometheus-client",
    "rosbags": "rosbags",
    "simplejpeg": "simplejpeg",
    "waitress": "waitress",
}
# Whose versions explain a result.
EXPLAINS_ROS = (
    *(*ROS_PACKAGES, "launch", "launch_ros", "rmw_fastrtps_cpp", "rmw_cyclonedds_cpp"),
    *("fastrtps", "fastdds", "rosbag2"),
)
EXPLAINS_PYTHON = (
    *("numpy", "onnxruntime", "opencv-python-headless", "opencv-python", "pytest", "rosbags"),
    "simplejpeg",
    *("tensorrt", "tensorrt-rtx"),
)


def main(arguments: list[str]) -> int:
    """Do what is asked and return the exit code."""
    match arguments:
        case ["missing"]:
            problems = find_missing()
            print(*problems, sep="\n", end="\n" if problems else "")
            return 1 if problems else 0
        case ["report", folder, out]:
            report = make_report(Path(folder))
            write_report(report, Path(out))
            print(*summarize(report), sep="\n")
            return 0 if report["good"] else 1
    print(__doc__, file=sys.stderr)
    return 2


def write_report(report: dict[str, object], out: Path) -> None:
    """Write it whole or not at all."""
    new = out.with_suffix(".new")
    new.write_text(json.dumps(report, indent=2) + "\n")
    new.replace(out)


def find_missing() -> list[str]:
    """Return what this Python cannot import, all of it, with the commands that help."""
    distribution = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
    apt = {name: f"ros-{distribution}-{name.replace('_', '-')}" for name in ROS_PACKAGES} | APT
    reasons = {name: reason for name in (*apt, *PIP) if (reason := why_not(name))}
    if not reasons:
        return []
    by_apt = [apt[name] for name in reasons if name in apt]
    by_pip = [PIP[name] for name in reasons if name in PIP]
    problems = [f"{sys.executable} cannot import {name}: {why}" for name, why in reasons.items()]
    if by_apt:
        problems.append(f"sudo apt install {' '.join(by_apt)}")
    if by_pip:
        quoted = " ".join(f"'{each}'" if ">" in each else each for each in by_pip)
        problems.append(f"{sys.executable} -m pip install {quoted}")
    return problems


def why_not(module: str) -> str:
    """Return why a module cannot be imported, or nothing."""
    try:
        importlib.import_module(f"{module}.msg" if module.endswith("_msgs") else module)
    except Exception as error:  # noqa: BLE001 - a wrong NumPy makes OpenCV raise anything
        return (str(error).strip() or type(error).__name__).splitlines()[-1]
    return ""


def make_report(folder: Path) -> dict[str, object]:
    """Return the report of a run, complete also where steps failed or did not run."""
    steps = {name: read_step(folder, name) for name in STEPS}
    tests = {name: {**steps[name], **read_results(folder / f"{name}.xml")} for name in SUITES}
    doctor = {**steps["doctor"], "report": read_json(folder / "doctor.out")}
    good = all(step["exit_code"] == 0 for step in steps.values())
    return {
        "report": "perception_node tried on a ROS release",
        "version": VERSION,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "good": good and all(tests[name]["passed"] for name in SUITES),
        "release": os.environ.get("ROS_DISTRO", ""),
        "rmw": ask_rmw(),
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "system": read_system(),
        "commit": run("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "versions": {**ros_versions(), **python_versions()},
        "missing": find_missing(),
        "doctor": doctor,
        "demo": steps["demo"],
        "tests": tests,
    }


def read_step(folder: Path, name: str) -> dict[str, object]:
    """Return how a step ended; of one that failed also the end of what it printed."""
    try:
        exit_code, seconds = map(int, (folder / f"{name}.step").read_text().split())
    except (OSError, ValueError):
        return {"result": NOT_RUN, "exit_code": None, "seconds": None}
    found = {"result": "failed" if exit_code else "good", "exit_code": exit_code}
    found["seconds"] = seconds
    printed = [folder / f"{name}{suffix}" for suffix in (".out", ".err")]
    if exit_code or name == "demo":
        lines = [line for path in printed if path.exists() for line in read_lines(path)[-40:]]
        found["output"] = lines
    return found


def read_lines(path: Path) -> list[str]:
    """Return what a step printed."""
    return path.read_text(errors="replace").splitlines()


def read_results(path: Path) -> dict[str, object]:
    """Return the numbers of a JUnit file and the tests that failed, each with its reason."""
    counts: dict[str, int] = {"passed": 0, "failed": 0, "skipped": 0}
    failures: list[dict[str, str]] = []
    try:
        cases = list(ET.parse(path).iter("testcase"))
    except (OSError, ET.ParseError):
        return {**counts, "failures": failures}
    for case in cases:
        wrong = [each for each in case if each.tag in {"failure", "error"}]
        is_skipped = case.find("skipped") is not None
        counts["failed" if wrong else "skipped" if is_skipped else "passed"] += 1
        if wrong:
            name = f"{case.get('classname')}::{case.get('name')}"
            reason = (wrong[0].get("message") or wrong[0].text or "").strip()
            failures.append({"test": name, "reason": reason[:500]})
    return {**counts, "failures": failures}


def read_json(path: Path) -> object:
    """Return what `perception doctor --json` printed, as text if it is no JSON."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def ask_rmw() -> str:
    """Return the middleware that rclpy uses, or what the environment asks for."""
    code = "import rclpy; print(rclpy.get_rmw_implementation_identifier())"
    return run(sys.executable, "-c", code) or os.environ.get("RMW_IMPLEMENTATION", "")


def read_system() -> str:
    """Return the name of the operating system."""
    try:
        found = re.search(r'(?m)^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.platform()


def ros_versions() -> dict[str, str]:
    """Return the versions of ROS packages, as their package.xml has them."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    found = {}
    for name in EXPLAINS_ROS:
        for prefix in filter(None, prefixes):
            manifest = Path(prefix, "share", name, "package.xml")
            if name not in found and manifest.is_file():
                match = re.search(r"<version>\s*([^<\s]+)", manifest.read_text(errors="replace"))
                found[name] = match[1] if match else "unknown"
    return found


def python_versions() -> dict[str, str]:
    """Return the versions of Python packages."""
    found = {}
    for name in EXPLAINS_PYTHON:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def run(*command: str) -> str:
    """Return what a command prints, or nothing if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def summarize(report: dict) -> list[str]:
    """Return a few lines for the terminal."""
    here = (report["release"], report["rmw"], f"Python {report['python']}", report["architecture"])
    lines = [", ".join(filter(None, here))]
    lines += [f"doctor: {report['doctor']['result']}", f"demo: {report['demo']['result']}"]
    for name, suite in report["tests"].items():
        counts = ", ".join(f"{suite[key]} {key}" for key in ("passed", "failed", "skipped"))
        lines.append(f"tests/{name}: {suite['result']}: {counts}")
        lines += [f"  {each['test']}" for each in suite["failures"]]
    return [*lines, "all good" if report["good"] else "not all is good"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
