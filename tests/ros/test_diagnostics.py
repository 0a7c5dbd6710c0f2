# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says, how often, and when it changes its mind."""

from __future__ import annotations

import json
import socket
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from tests.ros.harness import NODE, Stream, make_image, wait_for

pytestmark = pytest.mark.ros
OK, WARN, ERROR, STALE = range(4)
# Each row and its values, in their order.
ROWS = {
    "input": [
        "topic",
        "results",
        "received",
        "published",
        "superseded",
        "failed",
        "malformed",
    ],
    "connection": ["publishers", "images arrive as", "lost on the way", "replaced by newer ones"],
    "rate": ["rate (Hz)"],
    "picture": ["identical images in a row"],
    "deadline": [
        "deadline (ms)",
        "stale",
        "late",
        "predicted (ms)",
        "age p50 (ms)",
        "age p99 (ms)",
        "age max (ms)",
        "age histogram",
    ],
    "inference": ["published", "failed", "in flight", "last inference (ms)"],
    "engine": ["model", "engine", "chosen because"],
    "process": [],
}


def test_levels_are_those_of_the_message():
    assert DiagnosticStatus.OK == b"\x00"
    assert DiagnosticStatus.WARN == b"\x01"
    assert DiagnosticStatus.ERROR == b"\x02"
    assert DiagnosticStatus.STALE == b"\x03"


def test_an_active_node_reports_on_its_camera_its_work_and_itself(start, peer):
    diagnostics = peer.watch()
    with start(freeze_garbage=False) as node:
        stream = Stream(peer)
        stream.classify(make_image("red", 1))
        wait_for(lambda: diagnostics.value("age p50 (ms)") not in {None, "none yet"}, node.log)
        statuses = diagnostics.latest()
    assert {task: [pair.key for pair in s.values] for task, s in statuses.items()} == ROWS
    assert {status.hardware_id for status in statuses.values()} == {socket.gethostname()}
    assert {task: status.level[0] for task, status in statuses.items()} == dict.fromkeys(ROWS, OK)
    assert diagnostics.value("topic") == "/image"
    assert diagnostics.value("results") == f"{NODE}/classification"
    assert diagnostics.value("publishers") == "1"
    assert int(diagnostics.value("received")) >= 1
    assert diagnostics.value("deadline (ms)") == "5000"
    assert 0.0 < float(diagnostics.value("age p50 (ms)")) < 5000.0
    histogram = json.loads(diagnostics.value("age histogram"))
    assert histogram["bin_ms"] == 100.0
    assert sum(histogram["counts"]) == int(diagnostics.value("published"))
    assert diagnostics.value("model") == "colors"
    assert "ONNX Runtime" in diagnostics.value("engine")
    assert float(diagnostics.value("last inference (ms)")) > 0.0


def test_what_the_system_granted_is_in_the_row_of_the_process(start, peer):
    diagnostics = peer.watch()
    with start(disable_garbage_collection=True, executor_cpus="4094-4095"):
        status = diagnostics.wait_for_level("process", WARN)
    assert "4095" in status.message
    assert "give it more (systemd AllowedCPUs=, docker --cpuset-cpus)" in status.message
    assert {pair.value for pair in status.values} > {"granted"}
    assert "no garbage collection" in {pair.key for pair in status.values}


def test_names_carry_the_namespace(start, peer):
    diagnostics = peer.watch("/front/perception")
    with start("-r", "__ns:=/front"):
        diagnostics.wait_for_level("engine", OK)
    assert diagnostics.messages[-1].status[0].name == "front/perception: input"


def test_a_message_comes_once_a_period(start, peer):
    arrivals = peer.watch().messages
    with start(diagnostics_period_s=0.2):
        wait_for(lambda: arrivals, lambda: "/diagnostics")
        first, begin_s = len(arrivals), time.monotonic()
        wait_for(lambda: len(arrivals) >= first + 10, lambda: "ten more")
        took_s = time.monotonic() - begin_s
    # The first wait may end anywhere within a period; a loaded machine adds, never takes away.
    assert 1.7 < took_s < 4.0
    stamps = [m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in arrivals]
    assert stamps == sorted(stamps)
    assert abs(stamps[-1] - time.time()) < 60.0


def test_a_lone_unusable_image_is_an_error_for_one_period(start, peer):
    diagnostics = peer.watch()
    with start(diagnostics_period_s=0.3, image_timeout_s=10.0):
        stream = Stream(peer)
        stream.wait_until_heard()
        stream.camera.publish(make_image("red", 2, encoding="theora"))
        status = diagnostics.wait_for_level("input", ERROR)
        assert status.message.startswith("all images are unusable (1): encoding 'theora' is not")
        diagnostics.wait_for_level("input", OK)


def test_a_wrong_step_and_16_bits_that_are_nearly_black_are_named(start, peer):
    samples = np.arange(24 * 32 * 3, dtype="<u2") % 4096
    dark = make_image("red", 1, encoding="rgb16", step=0, data=samples.tobytes())
    diagnostics = peer.watch()
    with start(diagnostics_period_s=0.3) as node:
        Stream(peer).classify(dark)
        status = diagnostics.wait_for_level("picture", WARN)
        assert status.message.startswith("the 16-bit images use only values 0 to 2303 of 65535")
        step = "/image: the image's step is 0, but its 4608 bytes are 24 rows of 192 without"
        wait_for(lambda: step in node.log(), node.log)


def test_a_node_that_does_not_work_says_so(start, peer):
    diagnostics = peer.watch()
    with start(autostart=False):
        status = diagnostics.wait_for_level("input", WARN)
        assert "not configured" in status.message
        assert list(diagnostics.latest()) == ["input"]

        assert peer.change("configure")
        diagnostics.wait_for_level("engine", OK)
        assert "inactive" in diagnostics.latest()["input"].message

        assert peer.change("activate")
        diagnostics.wait_for_level("inference", OK)

        assert peer.change("deactivate")
        assert peer.change("cleanup")
        diagnostics.skip(2)
        assert "not configured" in diagnostics.latest()["input"].message
        assert peer.state(NODE) == "unconfigured"
