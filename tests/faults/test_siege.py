# SPDX-License-Identifier: Apache-2.0
"""A siege that a node does not survive is lost; one that holds is a lane's."""

from __future__ import annotations

import json
import sys
import threading

import pytest

from perception_node.bench.siege.__main__ import main

pytestmark = [pytest.mark.ros, pytest.mark.alone, pytest.mark.slow]
MINUTES = 0.5
# A node that is killed by the first damaged picture.
WEAK_NODE = """
import os, sys
from perception_node.flow.accounts import FrameCounters
FrameCounters.drop = lambda *_: os._exit(3)
from perception_node.ros.main import main
sys.exit(main())
"""


def test_a_node_that_falls_is_seen_to_fall(domain, monkeypatch, tmp_path):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    path = tmp_path / "report.json"
    given = ["--minutes", str(MINUTES), "--seed", "1", "--json", str(path), "--attack", "images"]
    assert main(given, [sys.executable, "-c", WEAK_NODE], threading.Event()) == 1
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    ends = [row["found"] for each in rows.values() for row in each if row["what"] == "exit"]
    assert any("ended with code 3" in found and "images" in found for found in ends)
