# SPDX-License-Identifier: Apache-2.0
"""``perception replay --live``: a bag through real nodes gives what the pipeline gives."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from rosgraph_msgs.msg import Clock

from perception_node.cli import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_WRONG_INPUT
from perception_node.config.sections import MAX_CAMERAS
from perception_node.ros.live_cameras import plan_nodes
from perception_node.ros.messages import to_nanoseconds
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE
from tests.builders import (
    BLUE,
    GREEN,
    RED,
    SAMPLE_BAG,
    START_NS,
    compressed_message,
    encode,
    image_message,
    perception,
    solid,
    write_bag,
)
from tests.ros.harness import start_cli, wait_for

pytestmark = pytest.mark.ros
# Everything that must not matter: one stamp for all, none at all, names that are no namespace.
MESSAGES = [
    ("/raw", RAW_TYPE, START_NS, image_message(solid(RED), stamp_ns=START_NS - 5)),
    ("/jpeg", COMPRESSED_TYPE, START_NS + 10, compressed_message(encode(solid(GREEN)))),
    ("/jpeg", COMPRESSED_TYPE, START_NS + 30, compressed_message(b"broken")),
    ("/other", RAW_TYPE, START_NS + 40, image_message(solid(BLUE), encoding="32FC1")),
    ("/raw", RAW_TYPE, START_NS + 50, b"no message at all"),
    ("/raw", RAW_TYPE, START_NS + 60, image_message(solid(BLUE), stamp_ns=0, frame_id="")),
    ("/other", RAW_TYPE, START_NS + 70, image_message(solid(GREEN))),
    ("/raw", RAW_TYPE, START_NS + 80, image_message(solid(GREEN), stamp_ns=0, frame_id="")),
]


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / "bag", MESSAGES)


def read(text):
    """Return records without why a frame was dropped, which a node only logs."""
    records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [{k: v for k, v in record.items() if k != "why"} for record in records]


def test_nodes_and_pipeline_agree(domain, peer, bag, color_model, tmp_path):
    clocks = peer.collect(Clock, "/clock", 100)
    out = tmp_path / "results.mcap"
    arguments = ("replay", bag, "--model", color_model, "--top-k", 2)
    with start_cli(domain, *arguments, "--live", "--out", out) as program:
        assert program.process.wait(60) == 0, program.log()
        live = program.log()
    expected = read(perception(*arguments).stdout)
    assert len(expected) == len(MESSAGES)
    assert read(live) == expected
    assert sum("dropped" in record for record in expected) == 3
    assert read(perception("replay", out, "--model", color_model, "--top-k", 2).stdout) == expected
    times = [to_nanoseconds(clock.clock) for clock in clocks]
    assert [time for time in times if time] == [time_ns for _, _, time_ns, _ in MESSAGES]


def test_the_golden_file_of_the_sample_fits_the_node(domain, tmp_path):
    topic, golden = "/camera/image_raw/compressed", tmp_path / "golden.jsonl"
    lines = (SAMPLE_BAG / "golden.jsonl").read_text().splitlines(keepends=True)
    golden.write_text("".join(line for line in lines if f'"{topic}"' in line))
    arguments = ("replay", SAMPLE_BAG, "--topic", topic, "--live", "--golden", golden)
    with start_cli(domain, *arguments) as program:
        assert program.process.wait(60) == 0, program.log()
        assert f"100 frames as in {golden}\n" in program.log()


@pytest.fixture
def paused(domain, bag, color_model):
    """A replay that has sent one image and waits long for the next; its nodes' numbers."""
    arguments = ("replay", bag, "--model", color_model, "--live", "--rate", "1e-9")
    with start_cli(domain, *arguments) as program:
        wait_for(lambda: '"topic"' in program.log() or not program.is_alive(), program.log)
        yield program, nodes_of(program.process.pid)


def nodes_of(pid):
    """Return the numbers of a process's children that are nodes."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [
        int(number)
        for number in text.split()
        if b"perception_node.ros.main" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]


def test_an_interrupted_replay_leaves_no_node(paused):
    program, nodes = paused
    assert len(nodes) == 2
    assert program.end(signal.SIGINT) == EXIT_INTERRUPTED
    assert not [pid for pid in nodes if Path(f"/proc/{pid}").exists()]


def test_a_node_that_dies_is_one_line(paused):
    program, nodes = paused
    os.kill(nodes[0], signal.SIGKILL)
    assert program.process.wait(30) == EXIT_ENVIRONMENT
    (line,) = [line for line in program.log().splitlines() if line.startswith("perception: ")]
    assert line.startswith("perception: the node ended with code -9: ")
    assert "Traceback" not in program.log()


def test_a_model_that_is_not_there_is_said_at_once(domain, bag):
    with start_cli(domain, "replay", bag, "--model", "nowhere", "--live") as program:
        assert program.process.wait(30) == EXIT_WRONG_INPUT
        assert program.log().startswith("perception: models/nowhere not found")


def test_each_node_has_cameras_of_one_transport():
    raw = {f"/{n}": RAW_TYPE for n in range(MAX_CAMERAS + 1)}
    first, second, third = plan_nodes({**raw, "/jpeg": COMPRESSED_TYPE})
    assert [node.transport for node in (first, second, third)] == ["raw", "raw", "compressed"]
    assert [len(node.cameras) for node in (first, second, third)] == [MAX_CAMERAS, 1, 1]
    everything = [camera for node in (first, second, third) for camera in node.cameras]
    assert len({camera.published for camera in everything}) == len(everything)
    assert len({camera.prefix for camera in everything}) == len(everything)
    assert f"_{os.getpid()}/" in first.namespace  # another replay may run in this domain
    (camera,) = third.cameras
    assert camera.published == f"{camera.image}/compressed"
    assert camera.prefix == f"{third.namespace}/perception"
