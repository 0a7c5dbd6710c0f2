# SPDX-License-Identifier: Apache-2.0
"""``perception build`` with the real TensorRT-RTX, which needs no GPU to build."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from perception_node.cli import build as build_module
from perception_node.cli import main, plan_report
from perception_node.terminal.progress import show_work
from tests.builders import ROOT, perception


@pytest.fixture(autouse=True)
def _rtx():
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "plans"


@pytest.fixture
def run(folder, capsys):
    """Run the verb with a store of its own and return (exit code, stdout, stderr)."""

    def call(*arguments):
        code = main(["build", *map(str, arguments), "--store", str(folder)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def build(run, color_bundle):
    def call(*arguments):
        return run(color_bundle, "--backend", "tensorrt-rtx", *arguments)

    return call


def test_it_builds_a_plan_and_says_all_about_it(build, folder):
    code, shown, problems = build("--precision", "fp16")
    assert (code, problems) == (0, "")
    (plan,) = folder.glob("*.plan")
    words = shown.split()
    assert str(plan) in words
    assert "MatrixMultiply" in words
    assert "built without a GPU" in shown
    assert "tensorrt-rtx" in words


def test_json_is_one_object(build, folder):
    code, shown, _ = build("--precision", "fp32", "--json")
    assert code == 0
    record = json.loads(shown)
    assert record["fingerprint"]["precision"] == "fp32"
    assert record["details"]["network_layers"]["MatrixMultiply"] == {"fp32": 1}
    assert record["bytes"] == next(folder.glob("*.plan")).stat().st_size
    assert (record["runs_here"], record["differences"]) == (False, [])


def test_the_default_precision_is_fp16(build):
    assert json.loads(build("--json")[1])["fingerprint"]["precision"] == "fp16"


def test_a_second_build_takes_the_plan_from_the_store(build):
    first, second = (json.loads(build("--json")[1]) for _ in range(2))
    assert first == second


def test_options_reach_the_fingerprint(build):
    record = json.loads(build("--json", "--workspace-mib", 64, "--optimization-level", 1)[1])
    assert record["fingerprint"]["options"] == {"workspace_mib": 64, "optimization_level": 1}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--workspace-mib", "0"], "must be at least 1"),
        (["--optimization-level", "6"], "must be 0 to 5"),
        (["--precision", "int8"], "model.int8.onnx: missing"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_2(build, arguments, problem):
    code, shown, problems = build(*arguments)
    assert (code, shown) == (2, "")
    assert problems.count("\n") == 1
    assert problem in problems


def test_without_tensorrt_it_says_how_to_get_it(run, color_bundle):
    code, shown, problems = run(color_bundle)
    assert (code, shown) == (3, "")
    assert "python3-libnvinfer" in problems


@pytest.mark.parametrize("arguments", [[], ["--list", "--prune"], ["colors", "--list"]])
def test_it_does_one_thing_at_a_time(run, arguments):
    code, shown, problem = run(*arguments)
    assert (code, shown) == (2, "")
    assert problem.endswith("see perception build --help\n")


def test_the_list_shows_each_plan(build, run):
    build("--precision", "fp16")
    build("--precision", "fp32")
    code, shown, _ = run("--list")
    assert code == 0
    rows = shown.splitlines()
    assert len(rows) == 3
    assert {row.split()[1] for row in rows[1:]} == {"fp16", "fp32"}
    records = json.loads(run("--list", "--json")[1])
    assert [record["name"] for record in records] == ["colors", "colors"]


def test_an_empty_store_is_said_to_be_empty(run, folder):
    assert run("--list") == (0, f"{folder}: no plans\n", "")
    assert run("--list", "--json") == (0, "[]\n", "")


def test_the_list_shows_damage_and_pruning_removes_it(build, run, folder):
    build()
    (plan,) = folder.glob("*.plan")
    plan.write_bytes(b"damaged" + plan.read_bytes()[7:])
    assert "sha256" in run("--list")[1]
    (record,) = json.loads(run("--list", "--json")[1])
    assert record["runs_here"] is False
    assert "sha256" in record["problem"]
    code, shown, _ = run("--prune")
    assert code == 0
    assert str(plan) in shown.splitlines()
    assert json.loads(run("--list", "--json")[1]) == []


def test_pruning_keeps_what_fits_and_removes_what_does_not(build, run, folder, monkeypatch):
    build()
    assert json.loads(run("--prune", "--json")[1]) == []
    for module in (build_module, plan_report):
        monkeypatch.setattr(
            module, "differences_to_this_machine", lambda _: ["gpu: built for A, here B"]
        )
    assert "gpu: built for A, here B" in run("--list")[1]
    assert len(json.loads(run("--prune", "--json")[1])) >= 2
    assert list(folder.glob("*.plan")) == []


def test_a_terminal_shows_the_phase_and_the_time(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with show_work() as report:
        report("converting", None)
        report("Timing [x]", 0.5)
        time.sleep(0.3)
    shown = capsys.readouterr().err
    assert "Timing [x]" in shown
    assert "0:00:00" in shown


def test_the_time_goes_on_after_the_first_phase_is_complete(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with show_work() as report:
        report("Building", 1.0)
        time.sleep(1.2)
        report("comparing the plan with the model", None)
        time.sleep(0.3)
    shown = capsys.readouterr().err
    assert "0:00:01" in shown.partition("comparing")[0].rpartition("\r")[2]


@pytest.mark.slow
def test_eight_commands_at_once_build_one_plan(color_bundle, folder):
    arguments = ("build", color_bundle, "--backend", "tensorrt-rtx", "--store", folder, "--json")
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: perception(*arguments), range(8)))
    assert [result.returncode for result in results] == [0] * 8
    assert len({result.stdout for result in results}) == 1
    assert len(list(folder.glob("*.plan"))) == 1


def test_a_signal_ends_the_build_and_leaves_no_plan(color_bundle, folder):
    """The build waits for our go-ahead in a callback, as it would in TensorRT."""
    script = (
        "import sys\n"
        "from perception_node.cli import build, main\n"
        "real = build.ensure_plan\n"
        "def slow(*arguments, cancel, **named):\n"
        "    print('building', flush=True)\n"
        "    assert cancel.wait(30)\n"
        "    return real(*arguments, cancel=cancel, **named)\n"
        "build.ensure_plan = slow\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", script, "build", color_bundle]
    command += ["--backend", "tensorrt-rtx", "--store", folder]
    with subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        assert process.stdout.readline() == b"building\n"
        os.kill(process.pid, signal.SIGTERM)
        _, problems = process.communicate()
        watchdog.cancel()
    assert (process.returncode, problems) == (130, b"")
    assert list(folder.glob("*.plan")) == []
