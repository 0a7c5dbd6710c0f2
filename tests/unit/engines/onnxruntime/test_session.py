# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tests.builders import ROOT

# Each of the others says why it does without.
PLACES = {
    "engines/onnxruntime/session.py",
    "bench/baselines/naive.py",
    "tools/make_default_model.py",
}


def test_sessions_are_made_in_one_place():
    files = [
        file
        for folder in ("perception_node", "engines", "calibration", "bench", "tools", "deploy")
        for file in (ROOT / folder).rglob("*.py")
    ]
    found = {file for file in files if "InferenceSession(" in file.read_text()}
    assert {str(file.relative_to(ROOT)) for file in found} == PLACES
