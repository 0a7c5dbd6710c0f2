# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

from perception_node.doctor import realtime_findings
from perception_node.doctor.findings import OK, OPTIONAL
from perception_node.doctor.realtime_findings import check_locked_memory, check_priority
from tests.builders import ROOT

UNLIMITED = resource.RLIM_INFINITY
WITHOUT_RIGHTS = """
import json, os, resource
from dataclasses import asdict
from perception_node.doctor.realtime_findings import check_locked_memory, check_priority
checks = check_priority, check_locked_memory
[check() for check in checks]  # loads modules that nobody but root may be able to read
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if os.geteuid() == 0:
    os.setuid(65534)
print(json.dumps([asdict(check()) for check in checks]))
"""


@pytest.fixture
def capable(monkeypatch):
    """Return the set of the capabilities that this process then has."""
    has: set[int] = set()
    monkeypatch.setattr(realtime_findings, "has_capability", has.__contains__)
    return has


def test_a_user_without_rights_is_told_what_would_grant_them():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_RIGHTS],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    priority, memory = json.loads(result.stdout)
    assert (priority["state"], priority["found"]) == (OPTIONAL, "not permitted")
    assert '"$USER - rtprio 99"' in priority["advice"]
    assert (memory["state"], memory["found"]) == (OPTIONAL, "at most 64 KiB")
    assert '"$USER - memlock -1"' in memory["advice"]


@pytest.mark.parametrize(
    ("limit", "state", "found"),
    [
        (0, OPTIONAL, "not permitted"),
        (98, OPTIONAL, "priorities up to 98"),
        (99, OK, "priorities up to 99"),
        (UNLIMITED, OK, "priorities up to 99"),
    ],
)
def test_the_highest_priority(capable, monkeypatch, limit, state, found):
    monkeypatch.setattr(resource, "getrlimit", lambda _name: (limit, UNLIMITED))
    finding = check_priority()
    assert (finding.state, finding.found) == (state, found)
    capable.add(realtime_findings.CAP_SYS_NICE)
    assert check_priority().state == OK


@pytest.mark.parametrize(("limit", "state"), [(8 << 20, OPTIONAL), (UNLIMITED, OK)])
def test_memory_that_may_be_locked(capable, monkeypatch, limit, state):
    monkeypatch.setattr(resource, "getrlimit", lambda _name: (limit, UNLIMITED))
    finding = check_locked_memory()
    assert finding.state == state
    assert ("8192 KiB" in finding.found) == (state == OPTIONAL)
    capable.add(realtime_findings.CAP_IPC_LOCK)
    assert check_locked_memory().state == OK
