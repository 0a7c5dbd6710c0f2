# SPDX-License-Identifier: Apache-2.0
"""A minute with a camera that fails in every way leaves the node as it was; a leak is found."""

from __future__ import annotations

import json
import sys

import pytest

from perception_node.bench.soak.__main__ import main

pytestmark = [pytest.mark.ros, pytest.mark.alone, pytest.mark.slow]
SOAK_S, NEGATIVE_CONTROL_S = 60, 15
LEAKING_ENGINE = """
import sys
import numpy as np
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
infer, leaked = OnnxRuntimeEngine.infer, []
def leak(engine):
    leaked.append(np.ones(1 << 20, np.uint8))
    infer(engine)
OnnxRuntimeEngine.infer = leak
from perception_node.ros.main import main
sys.exit(main())
"""


@pytest.fixture
def soak(domain, monkeypatch, tmp_path):
    """Return a function that soaks on the test's domain: its exit code and its rows by name."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))

    def run(seconds, command=()):
        path = tmp_path / "report.json"
        code = main(["--seconds", str(seconds), "--messages", "0", "--json", str(path)], command)
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return code, {row["what"]: row for row in rows}

    return run


@pytest.mark.timeout(SOAK_S + 90)
def test_a_minute_of_faults_leaves_the_node_as_it_was(soak):
    code, rows = soak(SOAK_S)
    assert [row for row in rows.values() if not row["is_ok"]] == []
    assert code == 0
    assert rows["faults that /diagnostics named"]["found"] == "6 of 6"  # none was too short
    assert "malformed" in rows["account"]["found"]


def test_a_leaking_engine_is_found(soak):
    code, rows = soak(NEGATIVE_CONTROL_S, [sys.executable, "-c", LEAKING_ENGINE])
    assert [name for name, row in rows.items() if not row["is_ok"]] == ["growth of memory, MiB"]
    assert code == 1
