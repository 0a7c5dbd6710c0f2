# SPDX-License-Identifier: Apache-2.0
"""The health check of the robot's image, on the real node as the image starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from perception_node.rehearsal.domain import private_domain
from tests.builders import ROOT

pytestmark = pytest.mark.ros
CHECK = [sys.executable, str(ROOT / "deploy/robot_health.py")]
START_S = 60.0


def command() -> list[str]:
    """Return what the image runs, with this Python."""
    text = (ROOT / "deploy/robot.Containerfile").read_text()
    program, *arguments = json.loads(re.search(r"^CMD (.*)$", text, re.MULTILINE)[1])
    assert program == "perception_node"
    return [sys.executable, "-m", "perception_node.ros.main", *arguments]


def check(**environment: str) -> tuple[int, str]:
    done = subprocess.run(
        CHECK,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_S,
    )
    return done.returncode, done.stdout.strip()


@pytest.fixture
def node():
    with private_domain(), subprocess.Popen(command(), stderr=subprocess.DEVNULL) as process:
        try:
            end_s = time.monotonic() + START_S
            while check()[0]:
                assert process.poll() is None
                assert time.monotonic() < end_s, "never healthy"
            yield process
        finally:
            process.kill()


def test_it_is_healthy_until_it_hangs_and_again_when_it_goes_on(node):
    node.send_signal(signal.SIGSTOP)
    code, text = check()
    assert (code, text) == (
        1,
        "unhealthy: no /diagnostics of /perception in 8 s; it hangs, see its log",
    )
    node.send_signal(signal.SIGCONT)
    assert check() == (0, "healthy: /diagnostics of /perception are heard")
    node.terminate()
    assert node.wait(START_S) == 0
    assert check()[0] == 1


def test_a_node_of_another_name_is_pointed_at(node):
    code, text = check(PERCEPTION_NODE="/front/perception")
    assert code == 1
    assert text.endswith("heard: /perception; set PERCEPTION_NODE")
    assert node.poll() is None
