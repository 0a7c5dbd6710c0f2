# SPDX-License-Identifier: Apache-2.0
"""The commands of the README's section on HTTP work as printed, and answer what is printed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from tests.builders import ROOT
from tests.http_builders import is_open

PORT = 5000  # the commands are run as printed
TOLERANCE = 1e-4  # of scores: another CPU rounds differently
VARIES = {"latency_ms", "engine"}  # from machine to machine


def blocks(language: str) -> list[str]:
    """Return the code blocks of the section."""
    text = (ROOT / "README.md").read_text().partition("\n## Over HTTP\n")[2]
    section = text.partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def assert_same(found, printed) -> None:
    """Compare two answers: everything but scores and what varies must be equal."""
    if isinstance(printed, dict):
        assert found.keys() == printed.keys()
        for key in printed.keys() - VARIES:
            assert_same(found[key], printed[key])
    elif isinstance(printed, list):
        assert len(found) == len(printed)
        for one, other in zip(found, printed, strict=True):
            assert_same(one, other)
    elif isinstance(printed, float):
        assert found == pytest.approx(printed, abs=TOLERANCE)
    else:
        assert found == printed


def to_value(line: str):
    return json.loads(line) if line.startswith("{") else line


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
@pytest.mark.skipif(
    not (ROOT / ".venv/bin/perception").exists(), reason="no .venv in the checkout"
)
def test_the_commands_answer_what_is_printed():
    if is_open(PORT):
        pytest.skip(f"something else uses port {PORT}")
    (commands,), (answers,) = blocks("sh"), blocks("text")
    # What it prints ends when the server has ended too, as `kill` tells it to.
    result = subprocess.run(
        ["bash", "-c", commands],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found, printed = result.stdout.splitlines(), answers.splitlines()
    assert len(found) == len(printed), result.stdout + result.stderr
    for line, expected in zip(found, printed, strict=True):
        assert_same(to_value(line), to_value(expected))
    assert not is_open(PORT)
