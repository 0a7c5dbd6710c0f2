# SPDX-License-Identifier: Apache-2.0
"""What tools/test_arm64.py hands to the emulated machine, and what it makes of the answers.

Run as a program, on that machine, it prints the packages, and whether our modules can be imported.
"""

from __future__ import annotations

import importlib
import json
import platform
import re
import subprocess
from collections import Counter
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "bench" / "reports" / "arm64.json"
BAG = ROOT / "samples" / "photos"
FOLDERS = ("perception_node", "engines", "calibration", "bench")
PACKAGES = (
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "flask",
    "hdrhistogram",
    "jsonschema",
)
PACKAGES += ("matplotlib", "onnx", "pillow", "protobuf", "pytest", "rich", "rosbags")
# The machine has no ROS, GPU or PyTorch, so modules that import one of these are left out.
NOT_THERE = {"ament_index_python", "builtin_interfaces", "diagnostic_msgs", "launch"}
NOT_THERE |= {"launch_ros", "lifecycle_msgs", "rcl_interfaces", "rclpy", "rosgraph_msgs"}
NOT_THERE |= {"sensor_msgs", "std_msgs", "vision_msgs", "pycuda", "tensorrt", "torch"}
NEEDS_ROS = re.compile(rf"No module named '({'|'.join(sorted(NOT_THERE))})\b")


def sample_photos(folder: Path) -> None:
    """Write one JPEG of each photo in the sample bag."""
    from perception_node.bags import open_bag  # noqa: PLC0415 - the machine needs none of it

    folder.mkdir(parents=True)
    photos = json.loads((BAG / "expected.json").read_text())
    first = {photo["first_stamp_ns"]: photo["photo"] for photo in photos}
    with open_bag(BAG) as bag:
        for message in bag.messages(["/camera/image_raw/compressed"]):
            if message.time_ns in first:
                jpeg = message.data[message.data.index(b"\xff\xd8") :]
                (folder / f"{first[message.time_ns]}.jpg").write_bytes(jpeg)


def write_report(results: Path, qemu: str, cpu: str, sandbox: dict[str, object] | str) -> bool:
    """Put together what the machine has written, and the same photos' scores on this one.

    Returns whether all is well.
    """
    command = [ROOT / ".venv/bin/perception", "classify", "--json", results / "photos"]
    here = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    report = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "command": "make test-arm64",
        "qemu": qemu,
        "qemu_cpu": cpu,
        **json.loads((results / "facts.json").read_text()),
        "unit_tests": count_tests(results / "tests.xml"),
        "sandbox": sandbox,
        "classify": compare(here, (results / "classify.jsonl").read_text()),
    }
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    held = isinstance(sandbox, str) or not (
        sandbox["not_enforced"] or sandbox["attempts_not_refused"]
    )
    tests, scores = report["unit_tests"], report["classify"]
    same = scores["same_labels_in_order"] == scores["photos"]
    return bool(tests["passed"] and not tests["failed"] and held and same)


def count_tests(file: Path) -> dict[str, object]:
    """Return how many tests passed, and the names or reasons of the others, from JUnit's XML."""
    cases = list(ET.parse(file).iter("testcase"))  # noqa: S314 - pytest has just written it
    bad = [case for case in cases if {child.tag for child in case} & {"failure", "error"}]
    need_ros = [case for case in bad if NEEDS_ROS.search("".join(case.itertext()))]
    skips = Counter(skip.get("message") for case in cases for skip in case.iter("skipped"))
    return {
        "passed": len(cases) - len(bad) - skips.total(),
        "failed": len(bad) - len(need_ros),
        "need_ros": len(need_ros),
        "skipped": skips.total(),
        "failures": [name_of(case) for case in bad if case not in need_ros],
        "names_that_need_ros": [name_of(case) for case in need_ros],
        "reasons_of_skips": dict(skips.most_common()),
    }


def name_of(case: ET.Element) -> str:
    """Return the name of a test, or of a file that could not be read."""
    return f"{case.get('classname')}::{case.get('name')}".removeprefix("::")


def compare(here: str, there: str) -> dict[str, object]:
    """Compare the answers of two machines to the same photos, lines of JSON."""
    pairs = [
        (json.loads(left), json.loads(right))
        for left, right in zip(here.splitlines(), there.splitlines(), strict=True)
    ]
    differences = [
        abs(ours["score"] - theirs["score"])
        for left, right in pairs
        for ours, theirs in zip(left["results"], right["results"], strict=True)
    ]
    labels = [[[r["label"] for r in answer["results"]] for answer in pair] for pair in pairs]
    return {
        "compared_with": {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES[:3]},
        },
        "photos": len(pairs),
        "same_first_label": sum(left[0] == right[0] for left, right in labels),
        "same_labels_in_order": sum(left == right for left, right in labels),
        "largest_score_difference": round(max(differences), 6),
    }


def facts() -> dict[str, object]:
    """Return what the emulated machine has, and how many of our modules it can import."""
    modules = [import_module(file) for folder in FOLDERS for file in python_files(folder)]
    return {
        "machine": platform.machine(),
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "python": platform.python_version(),
        "modules_imported": modules.count(None),
        "modules_left_out": dict(Counter(filter(None, modules)).most_common()),
        "packages": {name: version(name) for name in PACKAGES},
    }


def python_files(folder: str) -> list[Path]:
    """Return our Python files of a folder."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return [file for file in files if file.name != "__main__.py"]  # which are programs


def import_module(file: Path) -> str | None:
    """Import a module; return what it needs if the machine does not have it."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "perception_node" else ("perception_node", *parts))
    try:
        importlib.import_module(name.removesuffix(".__init__"))
    except ModuleNotFoundError as error:
        needed = str(error.name).partition(".")[0]
        if needed in NOT_THERE:
            return needed
        raise
    return None


if __name__ == "__main__":
    print(json.dumps(facts()))
