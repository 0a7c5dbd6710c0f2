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
PACKAGES += ("matplotlib", "onnx", "pillow", "protobuf", "pytest", "rich", "rosbags", "simplejpeg")
# The machine has no ROS, GPU or PyTorch, so modules that import one of these are left out.
NOT_THERE = {"ament_index_python", "builtin_interfaces", "diagnostic_msgs", "launch"}
NOT_THERE |= {"launch_ros", "lifecycle_msgs", "rcl_interfaces", "rclpy", "rosgraph_msgs"}
NOT_THERE |= {"sensor_msgs", "std_msgs", "vision_msgs", "pycuda", "tensorrt", "torch"}
SLOW = "too slow under emulation: it plays or classifies many frames, or waits for a time"
TIMES = "it measures times"
USERS = "the emulated machine has no user but root"
PROC = "QEMU answers /proc/self/stat with zeros"
LEFT_OUT = {  # tests and files of tests that cannot say anything under emulation
    "tests/unit/bench/test_camera_faults.py": SLOW,
    "tests/unit/vision/test_allocations.py": SLOW,
    "tests/unit/cli/test_import_model.py::"
    "test_the_default_model_with_its_preprocessing_inside_gives_its_golden_results": SLOW,
    "tests/unit/test_project.py::test_onnx_runtime_reports_to_nobody": SLOW,
    "tests/unit/doctor/test_realtime_findings.py::"
    "test_a_user_without_rights_is_told_what_would_grant_them": USERS,
    "tests/unit/engines/plans/test_private_folder.py::"
    "test_a_file_that_was_given_away_is_refused": USERS,
    "tests/unit/system/test_process.py::test_who_gives_up_root_has_no_capabilities": USERS,
    "tests/unit/system/test_realtime.py::"
    "test_memory_is_not_locked_where_a_later_allocation_would_fail": USERS,
    "tests/unit/system/test_realtime.py::test_without_the_right_the_answer_is_the_command": USERS,
    "tests/unit/bench/test_child_process.py::test_usage_grows": PROC,
    "tests/unit/serving/test_metrics.py::test_the_process_is_measured": PROC,
}
NEEDS_ROS = re.compile(rf"No module named '({'|'.join(sorted(NOT_THERE))})\b")


def sample_photos(folder: Path) -> None:
    """Write one JPEG of each photo in the sample bag."""
    from perception_node.wire.bags import open_bag  # noqa: PLC0415 - the machine needs none of it

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
        "unit_tests": count_tests(results),
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


def count_tests(results: Path) -> dict[str, object]:
    """Return how many tests passed, and the names or reasons of the others, from JUnit's XML.

    Tests that were run again count with their second outcome, and are named.
    """
    first, again = read_cases(results / "tests.xml"), read_cases(results / "again.xml")
    cases = {name: case for name, case in (first | again).items() if name not in LEFT_OUT}
    bad = {n: c for n, c in cases.items() if {child.tag for child in c} & {"failure", "error"}}
    need_ros = [n for n, case in bad.items() if NEEDS_ROS.search("".join(case.itertext()))]
    skips = Counter(s.get("message") for case in cases.values() for s in case.iter("skipped"))
    return {
        "passed": len(cases) - len(bad) - skips.total(),
        "failed": len(bad) - len(need_ros),
        "need_ros": len(need_ros),
        "skipped": skips.total(),
        "failures": [name for name in bad if name not in need_ros],
        "run_again_after_a_mend": list(again),
        "names_that_need_ros": need_ros,
        "reasons_of_skips": dict(skips.most_common()),
        "left_out": {
            reason: [n for n, why in LEFT_OUT.items() if why == reason]
            for reason in (SLOW, USERS, PROC)
        }
        | {TIMES: "all that is marked `alone`"},
    }


def read_cases(file: Path) -> dict[str, ET.Element]:
    """Return the tests of a file of JUnit's XML by their names, as pytest takes them."""
    if not file.exists():
        return {}
    found = {}
    for case in ET.parse(file).iter("testcase"):
        place, name = str(case.get("classname")), str(case.get("name"))
        if place:
            found[f"{place.replace('.', '/')}.py::{name}"] = case
        else:  # a file that could not be read
            found[f"{name.replace('.', '/')}.py"] = case
    return found


def failed_tests(results: Path) -> list[str]:
    """Return the names of the tests that failed in the last run."""
    return list(count_tests(results)["failures"])


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
