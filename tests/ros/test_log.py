# SPDX-License-Identifier: Apache-2.0
"""The node's log: nothing in a message looks like another one, or reaches a terminal as it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from perception_node.ros.messages import to_nanoseconds
from tests.builders import ROOT
from tests.foreign_text import FOREIGN, find_unprintable
from tests.ros.harness import Peer, Stream, make_image, start_node, wait_for

pytestmark = pytest.mark.ros
SEVERITIES = ("debug", "info", "warning", "warn", "error", "fatal")
LOG_FORMAT = "[{severity}] {line_number} {message}"
SCRIPT = """
import json, sys
from rclpy.logging import get_logger
from perception_node.ros.logger import PrintableLogger
get_logger("perception").set_level(10)
for text in json.loads(sys.stdin.read()):
    for severity in sys.argv[1:]:
        log = getattr(PrintableLogger(get_logger("perception")), severity)
        log(text)  # several severities: other lines of this program
PrintableLogger(get_logger("perception")).info("once", once=True)
"""


def test_every_severity_and_every_kind_of_text():
    script = SCRIPT.replace(
        "log(text)", "\n        ".join(f"if severity == {s!r}: log(text)" for s in SEVERITIES)
    )
    texts = [text for kind, text in FOREIGN.items() if kind != "null"]
    result = subprocess.run(
        [sys.executable, "-c", script, *SEVERITIES],
        cwd=ROOT,
        input=json.dumps(texts).encode(),
        capture_output=True,
        env={
            **os.environ,
            "RCUTILS_CONSOLE_OUTPUT_FORMAT": "[{severity}] {line_number} {message}",
        },
        check=True,
    )
    shown = (result.stdout + result.stderr).decode()
    assert find_unprintable(shown) == []
    lines = shown.splitlines()
    begun = [line for line in lines if re.match(r"\[(DEBUG|INFO|WARN|ERROR|FATAL)\] ", line)]
    assert len(begun) == len(SEVERITIES) * len(texts) + 1
    assert all(line.startswith("  ") for line in lines if line not in begun)
    numbers = {line.split()[1] for line in begun}
    assert len(numbers) == len(SEVERITIES) + 1, "of the callers, not of the class between"


def test_what_an_image_says_of_itself_is_one_line(domain, color_bundle):
    parameters = {"model": str(color_bundle), "autostart": True, "deadline_ms": 10_000}
    encodings = [text[:30] for kind, text in FOREIGN.items() if kind not in {"null", "surrogates"}]
    with start_node(domain, parameters) as node, Peer(domain) as peer:
        peer.wait_until("active")
        stream = Stream(peer)
        stream.wait_until_heard()
        for encoding in encodings:
            image = make_image(
                "red", stamp_ns=to_nanoseconds(peer.node.get_clock().now().to_msg())
            )
            image.encoding = encoding
            image.header.frame_id = FOREIGN["escape"].replace("\0", "")
            stream.camera.publish(image)
        wait_for(lambda: "dropped (encoding)" in node.log(), node.log)
        lines = node.log().splitlines()
    for line in lines:
        assert find_unprintable(line) == []
        assert line.startswith(("[", "  ")), line
