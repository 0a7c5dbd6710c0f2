# SPDX-License-Identifier: Apache-2.0
"""How much memory an import takes, all processes together."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.builders import ROOT


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_an_import_takes_less_than_three_times_the_models_size():
    """400 MB here; ``tools/measure_import.py`` does it with 1.2 GB, where Python counts less."""
    command = [sys.executable, ROOT / "tools/measure_import.py", "--json"]
    command += ["--width", "768", "--depth", "14"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["model_mib"] > 380
    assert found["peak_to_size"] < 3.0
