# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of shared memory, beside a real process of Fast DDS."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perception_node.cli.findings import OPTIONAL
from perception_node.cli.segment_findings import check_segments, find_segments
from perception_node.cli.transport_findings import SHARED_MEMORY
from tests.ros.harness import Program, wait_for

pytestmark = [pytest.mark.ros, pytest.mark.alone]

CHILD = """
import rclpy
rclpy.init()
node = rclpy.create_node("child")
print("ready", flush=True)
rclpy.spin(node)
"""
LOCK = re.compile(r"^fast(rtps|dds)_.*_[es]l$")
REMOVE = 'flock -n "$0_el" rm -f "$0" "$0_el" "${0%/*}/sem.${0##*/}_mutex"'


@pytest.fixture
def child(domain):
    """A node in a process of its own, and what it has in shared memory: gone at the end."""
    with Program([sys.executable, "-c", CHILD], {"ROS_DOMAIN_ID": str(domain)}) as program:
        wait_for(lambda: "ready" in program.log(), program.log)
        files = owned_files(program.process.pid)
        yield program, files
    for file in files:
        if file.with_name(f"{file.name}_el").exists():
            subprocess.run(["/bin/bash", "-c", REMOVE, file], check=False)


def owned_files(pid):
    """Return the files of Fast DDS in shared memory whose locks a process keeps open.

    It maps more than these: also the segments of those who write to it.
    """
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    locks = [file for file in links if file.parent == SHARED_MEMORY and LOCK.search(file.name)]
    return [lock.with_name(lock.name[:-3]) for lock in sorted(locks)]


def segments_among(files):
    return [segment for segment in find_segments(SHARED_MEMORY) if segment.path in files]


def test_the_segments_of_a_process_are_in_use_until_it_is_killed(child):
    program, files = child
    if not files:
        pytest.skip("another middleware than Fast DDS")
    for _ in range(100):  # asking does not take the lock away
        alive = segments_among(files)
        assert alive
        assert all(segment.is_in_use for segment in alive)
    assert program.end(signal.SIGKILL) == -signal.SIGKILL
    killed = segments_among(files)
    assert [segment.path for segment in killed] == [segment.path for segment in alive]
    assert not any(segment.is_in_use for segment in killed)
    assert max(segment.size_bytes for segment in killed) >= 32 << 20  # the profile's
    finding = check_segments()
    assert finding.state == OPTIONAL
    assert "left behind by killed processes" in finding.found
    assert all(segment.path.exists() for segment in killed)


def test_a_process_that_ends_in_order_leaves_no_segment(child):
    program, files = child
    program.end(signal.SIGINT)
    assert segments_among(files) == []
