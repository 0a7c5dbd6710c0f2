# SPDX-License-Identifier: Apache-2.0
"""What ``gpu_check`` does around its checks; the checks run in ``test_pycuda_driver.py``."""

from __future__ import annotations

import json
import threading

import pytest

from perception_node.bench import gpu_check
from perception_node.bench.gpu_checks import CheckFailed, CheckSkipped
from perception_node.errors import EnvironmentLacks
from tests.standin_cuda import standin_gpu

FINDINGS = {
    "ok": lambda: {"a_ms": 1.23456, "inner": {"b": 0.000012}, "words": "yes"},
    "failed": lambda: raise_(CheckFailed("a pixel is off [/at 3]")),
    "skipped": lambda: raise_(CheckSkipped("no TensorRT")),
}


def raise_(error):
    raise error


def test_without_a_gpu_there_is_one_line_and_exit_3(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "find_gpu", lambda: None)
    monkeypatch.setattr("sys.argv", ["gpu_check"])
    assert gpu_check.main() == 3
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert "no NVIDIA GPU" in output.err
    assert output.out == ""


@pytest.mark.parametrize(("state", "finding"), FINDINGS.items())
def test_every_check_has_an_outcome(state, finding):
    outcome = gpu_check.run_check("a check", finding)
    assert outcome.state == state
    assert (outcome.problem == "") == (state == "ok")


def test_what_the_machine_lacks_is_a_failure_unless_the_check_says_so():
    outcome = gpu_check.run_check("a check", lambda: raise_(EnvironmentLacks("no nvcc")))
    assert (outcome.state, outcome.problem) == ("failed", "no nvcc")


def test_a_bug_in_a_check_is_a_failure_that_names_it():
    outcome = gpu_check.run_check("a check", lambda: 1 / 0)
    assert (outcome.state, outcome.problem) == ("failed", "ZeroDivisionError: division by zero")


def test_a_check_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(gpu_check, "TIMEOUT_S", 0.05)
    release = threading.Event()
    outcome = gpu_check.run_check("a check", lambda: release.wait(20))
    release.set()
    assert outcome.state == "failed"
    assert "hangs" in outcome.problem


def test_the_report_is_json_named_by_gpu_and_day(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "REPORTS", tmp_path / "reports")
    outcomes = [gpu_check.run_check(state, finding) for state, finding in FINDINGS.items()]
    path = gpu_check.write_report(standin_gpu(), "2026.1", outcomes)
    report = json.loads(path.read_text())
    assert path.name.startswith("gpu-stand-in-20")
    assert report["gpu"]["compute_capability"] == "8.7"
    assert [check["state"] for check in report["checks"]] == list(FINDINGS)
    assert report["checks"][0]["values"] == {"a_ms": 1.2346, "inner": {"b": 0.0}, "words": "yes"}


def test_failures_show_in_the_exit_code_and_the_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu_check, "find_gpu", standin_gpu)
    monkeypatch.setattr(gpu_check, "ensure_pycuda", lambda _: "2026.1")
    monkeypatch.setattr(gpu_check, "REPORTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["gpu_check"])
    for findings, code in ((FINDINGS, 1), ({"ok": FINDINGS["ok"]}, 0)):
        monkeypatch.setattr(gpu_check, "CHECKS", findings)
        assert gpu_check.main() == code
    shown = capsys.readouterr().out
    for words in ("a pixel is off [/at 3]", "no TensorRT", "1.2346", "report:"):
        assert words in shown
