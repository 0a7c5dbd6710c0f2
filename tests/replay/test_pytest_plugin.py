# SPDX-License-Identifier: Apache-2.0
"""The fixture ``perception_replay``, as another project's tests use it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

# pytester forgets what a run imports, which NumPy does not survive.
from perception_node.replay import fixture, report  # noqa: F401
from tests.builders import (
    BLUE,
    RED,
    ROOT,
    START_NS,
    compressed_message,
    encode,
    image_message,
    make_bundle,
    solid,
    write_bag,
)

pytest_plugins = ["pytester"]
PLUGIN = ("-p", "perception_node.pytest_plugin", "-p", "no:cacheprovider")
DOCUMENT = (ROOT / "docs/replay.md").read_text()
EXAMPLE = re.search(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[1]
MESSAGES = [
    ("/raw", "sensor_msgs/msg/Image", START_NS, image_message(solid(RED))),
    (
        "/jpeg",
        "sensor_msgs/msg/CompressedImage",
        START_NS + 1,
        compressed_message(encode(solid(BLUE))),
    ),
]


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with a bag and a model where the documented example expects them."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("bags", "golden"):
        pytester.mkdir(name)
    write_bag(pytester.path / "bags/crossing", MESSAGES)
    make_bundle(pytester.path / "models/birds")
    return pytester


def run(project, code, *arguments):
    project.makepyfile(code)
    return project.runpytest_inprocess(*PLUGIN, *arguments)


def test_the_documented_example(project):
    golden = project.path / "golden/crossing.jsonl"
    run(project, EXAMPLE, "--perception-update-golden").assert_outcomes(passed=1)
    first, last = golden.read_text().splitlines()
    run(project, EXAMPLE).assert_outcomes(passed=1)

    golden.write_text(f"{first}\n{last.replace('blue', 'navy')}\n")
    changed = run(project, EXAMPLE)
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines(
        [
            "frame 2: expected /jpeg at *: navy *, found /jpeg at *: blue *",
            f"1 of 2 frames differ from {golden}",
        ]
    )
    assert "Traceback" not in changed.stdout.str()
    assert "def test_crossing" not in changed.stdout.str()


ELSEWHERE = """
def test_records(perception_replay):
    records = perception_replay("../bags/crossing", model="../models/birds",
                                topics=["/raw"], arguments=["--top-k", "1"])
    assert [r["results"][0]["label"] for r in records] == ["red"]
    assert len(records[0]["results"]) == 1

def test_page(perception_replay):
    perception_replay("../bags/crossing", golden="golden.jsonl", model="../models/birds",
                      tolerance="score=0.1,top=1", report="page.html")
"""


def test_paths_records_and_pages(project):
    folder = project.mkdir("deep")
    record = {"topic": "/raw", "time_ns": START_NS, "dropped": "codec", "why": ""}
    (folder / "golden.jsonl").write_text(json.dumps(record) + "\n")
    (folder / "test_deep.py").write_text(ELSEWHERE)
    outcome = project.runpytest_inprocess(*PLUGIN, folder)
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines([f"report: {folder}/page.html"])
    assert (folder / "page.html").read_text().count("data:image/jpeg") == 2


WRONG = {
    "'bags/none'": "bags/none: no such bag",
    "'bags/crossing', model='nowhere'": "models/nowhere not found",
    "'bags/crossing', golden='g', tolerance='x=1'": "no field 'x'",
    "'bags/crossing', golden='g'": "g: no golden file: ",
    "'bags/crossing', arguments=['--top-k', '0']": "parameter top_k must be",
}


def test_what_is_wrong_is_one_line(project):
    tests = [
        f"def test_{n}(perception_replay):\n    perception_replay({c})\n"
        for n, c in enumerate(WRONG)
    ]
    outcome = run(project, "\n".join(tests))
    outcome.assert_outcomes(failed=len(WRONG))
    lines = [line for line in outcome.stdout.lines if line.startswith("perception: ")]
    assert len(lines) == len(WRONG)
    for line, words in zip(lines, WRONG.values(), strict=True):
        assert words in line
    assert "During handling" not in outcome.stdout.str()


def test_loading_the_plugin_imports_nothing_else():
    code = (
        "import sys, pytest, pathlib; before = set(sys.modules); "
        "import perception_node.pytest_plugin; print(sorted(set(sys.modules) - before))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "['perception_node', 'perception_node.pytest_plugin']\n"
