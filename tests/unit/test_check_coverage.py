# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

pytest.importorskip("coverage", reason="coverage is not installed")

from tools import check_coverage
from tools.check_coverage import FLOOR, FLOORS, folder_of


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("perception_node/errors.py", "perception_node"),
        ("perception_node/flow/gaps.py", "perception_node/flow"),
        ("perception_node/vision/codecs/png.py", "perception_node/vision"),
        ("engines/plans/store.py", "engines"),
        ("bench/burst.py", "bench"),
    ],
)
def test_a_file_counts_for_its_folder(file, folder):
    assert folder_of(file) == folder


@pytest.mark.parametrize(
    ("measured", "status"),
    [
        ({"bench": FLOORS["bench"], "engines": FLOOR}, 0),
        ({"bench": FLOORS["bench"] - 0.1, "engines": FLOOR}, 1),
        ({"bench": FLOORS["bench"], "engines": FLOOR - 0.1}, 1),
        ({"a_new_folder": FLOOR - 0.1}, 1),
    ],
)
def test_a_folder_below_its_floor_fails(measured, status, monkeypatch, capsys):
    monkeypatch.setattr(check_coverage, "measure", lambda: measured)
    assert check_coverage.main() == status
    assert ("TOO LOW" in capsys.readouterr().out) == bool(status)
