# SPDX-License-Identifier: Apache-2.0
"""A short siege of real processes holds; one that a node does not survive is lost."""

from __future__ import annotations

import json
import sys
import threading

import pytest

from perception_node.bench.siege.__main__ import main

pytestmark = [pytest.mark.ros, pytest.mark.alone]
MINUTES = 0.5
UNJUDGED = "calm time that cannot be judged"
# A node that is killed by the first damaged picture.
WEAK_NODE = """
import os, sys
from perception_node.counters import FrameCounters
FrameCounters.drop = lambda *_: os._exit(3)
from perception_node.ros.main import main
sys.exit(main())
"""


@pytest.fixture
def siege(domain, monkeypatch, tmp_path):
    """Return a function that besieges on the test's domain: its exit code and its report."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))

    def run(*attacks, command=()):
        path = tmp_path / "report.json"
        chosen = [word for attack in attacks for word in ("--attack", attack)]
        given = ["--minutes", str(MINUTES), "--seed", "1", "--json", str(path), *chosen]
        code = main(given, command, threading.Event())
        return code, json.loads(path.read_text(encoding="utf-8"))

    return run


def failed(report):
    """Return the rows that were not kept, but for what a busy machine kept from being judged."""
    rows = {f"{name}: {row['what']}": row for name, rows in report["rows"].items() for row in rows}
    return {n: row for n, row in rows.items() if not row["is_ok"] and not n.endswith(UNJUDGED)}


def test_a_short_siege_holds(siege):
    code, report = siege("images", "requests", "second camera")
    assert failed(report) == {}
    assert code == int(any(not row["is_ok"] for rows in report["rows"].values() for row in rows))
    assert report["inputs"]


def test_a_node_that_falls_is_seen_to_fall(siege):
    code, report = siege("images", command=[sys.executable, "-c", WEAK_NODE])
    assert code == 1
    lost = failed(report)
    ends = [row["found"] for name, row in lost.items() if name.endswith("exit")]
    assert any("ended with code 3" in found and "images" in found for found in ends)
