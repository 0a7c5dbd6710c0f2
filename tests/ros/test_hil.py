# SPDX-License-Identifier: Apache-2.0
"""``perception hil`` against real nodes: what it finds, what it writes, and how it fails."""

from __future__ import annotations

import json
import signal
import sys
import time

import pytest
import yaml
from junitparser import JUnitXml
from rclpy._rclpy_pybind11 import RCLError

from perception_node.bench.hil.camera import Playback
from perception_node.bench.hil.pictures import read_pictures
from perception_node.bench.hil.recorder import HilRecord
from perception_node.bench.hil.scenario_file import load_scenario
from perception_node.bench.hil.verdict import judge
from perception_node.cli import (
    EXIT_CHECK_FAILED,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_WRONG_INPUT,
)
from perception_node.wire.bags import open_bag
from tests.ros.harness import start_cli, wait_for

pytestmark = pytest.mark.ros
ENOUGH_BYTES = 2_000_000  # 35 images of 160x120
RESULTS, IMAGES = "/perception/classification", "/image"
HANGING = ["python3", "-m", "perception_node.bench.hil.engine_loss", "--after", "60"]
SMOKE = {
    "name": "smoke",
    "node": {
        "command": HANGING,
        "parameters": {"image_timeout_s": 0.3, "diagnostics_period_s": 0.1},
    },
    "camera": {"size": "160x120", "rate_hz": 20, "seconds": 5.5, "warm_up_s": 0.5},
    "faults": [{"at_s": 1, "for_s": 0.7, "fault": "off"}],
    "steps": [{"at_s": 2.5, "do": "deactivate"}, {"at_s": 2.8, "do": "activate"}],
    "expect": {
        "settle_s": 0.3,
        "latency_ms": {"p50": 500},
        "answered_percent": 50,
        "labels": {"per_picture": "consistent"},
        "recovery_s": 5,
        "diagnostics": [
            {"row": "input", "level": "ERROR", "contains": "Timeout", "during": "off"},
            {"row": "input", "contains": "inactive", "during": "deactivate"},
            {"row": "engine", "level": "WARN", "contains": "took over"},
        ],
        "no_unexpected_alarms": True,
        "exit_code": 0,
        "account_exact": True,
    },
}


@pytest.fixture
def hil(domain, tmp_path, color_model):
    """Return a function that starts a scenario, which is the smoke test but for some sections."""

    def start(*, model=color_model, **sections):
        scenario = {**SMOKE, **sections}
        if scenario["node"].get("start") != "none":
            parameters = {"model": str(model), **scenario["node"].get("parameters", {})}
            scenario["node"] = {**scenario["node"], "parameters": parameters}
        path = tmp_path / "scenario.yaml"
        path.write_text(yaml.safe_dump(scenario), encoding="utf-8")
        return start_cli(domain, "hil", path, "--out", tmp_path / "out")

    return start


def cases(folder):
    """Return the cases of the JUnit file by their names, and whether they failed."""
    (suite,) = JUnitXml.fromfile(str(folder / "junit.xml"))
    return {case.name: case.result[0].message if case.result else "" for case in suite}


def test_a_fault_a_pause_and_a_lost_engine_are_seen_and_survived(hil, tmp_path):
    with hil() as program:
        assert program.process.wait(60) == EXIT_OK, program.log()
        output = program.log()
    out = tmp_path / "out"
    assert "FAILED" not in output
    assert str(out / "index.html") in output
    assert set(cases(out).values()) == {""}
    assert {"latency p50", "account of the node", "recovery after activate"} <= set(cases(out))
    assert json.loads((out / "report.json").read_bytes())["complete"] is True
    assert "smoke" in (out / "index.html").read_text(encoding="utf-8")
    with open_bag(out / "bag") as bag:
        assert {RESULTS, IMAGES, "/diagnostics"} <= set(bag.topics)
        assert sum(1 for _ in bag.messages([RESULTS])) > 50
        assert sum(1 for _ in bag.messages([IMAGES])) > 80


def test_what_is_not_kept_fails_and_a_killed_node_comes_back(hil, tmp_path):
    expect = {
        "latency_ms": {"p50": 0.01},
        "recovery_s": {"kill": 20},
        "exit_code": 0,
        "account_exact": True,
    }
    camera = {**SMOKE["camera"], "seconds": 7.5}
    steps = [{"at_s": 0.6, "do": "kill"}]
    with hil(node={}, expect=expect, camera=camera, steps=steps, faults=[]) as program:
        assert program.process.wait(60) == EXIT_CHECK_FAILED, program.log()
        assert program.log().count("FAILED") == 1
    found = cases(tmp_path / "out")
    assert found.pop("latency p50").endswith("demanded at most 0.01 ms")
    assert set(found.values()) == {""}
    assert {"recovery after kill", "state at the end", "exit code"} <= set(found)


def test_a_device_that_never_answers_is_named_with_its_topics(hil, tmp_path):
    node = {"start": "none", "timeout_s": 2}
    with hil(node=node, expect={"missed_percent": 1}) as program:
        assert program.process.wait(60) == EXIT_ENVIRONMENT
        (line,) = (text for text in program.log().splitlines() if "perception: " in text)
    for words in (
        "no answer of /perception/get_state within 2 s",
        "/image: publishers perception_hil (reliable, volatile), subscribers none",
        f"{RESULTS}: publishers none",
        "ROS_DOMAIN_ID is ",
    ):
        assert words in line
    assert not (tmp_path / "out").exists()


def test_a_device_that_runs_already_gets_its_parameters_and_is_left_running(hil, start, tmp_path):
    node = {"start": "none", "apply_parameters": True, "parameters": {"deadline_ms": 321}}
    run = {"camera": {"size": "64x48", "seconds": 2}, "expect": {"missed_percent": 60}}
    with start() as device, hil(node=node, steps=[], faults=[], **run) as program:
        assert program.process.wait(60) == EXIT_OK, program.log()
        assert device.is_alive()
        assert "not within 321 ms" in program.log()
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert report["device"]["deadline_ms"] == "321"
    assert "colors" in report["device"]["method"]


def test_a_node_that_does_not_start_is_one_line(hil, tmp_path):
    with hil(
        node={"command": [sys.executable, "-c", "raise SystemExit('no such GPU')"]}
    ) as program:
        assert program.process.wait(60) == EXIT_ENVIRONMENT
        assert "perception: the node ended with code 1: no such GPU" in program.log()
    assert not (tmp_path / "out").exists()


def test_a_command_that_is_not_there_is_one_line(hil, tmp_path):
    (tmp_path / "out").mkdir()
    with hil(node={"command": ["no_such_program"]}) as program:
        assert program.process.wait(60) == EXIT_WRONG_INPUT
        assert "perception: node.command: no_such_program cannot be started: " in program.log()
        assert "Traceback" not in program.log()
    assert list((tmp_path / "out").iterdir()) == []  # it was there before


class RefusingPlayer:
    """Takes frames as a middleware does that takes one in two, and keeps us waiting for it."""

    def __init__(self) -> None:
        self.number = 0

    def play(self, messages, _rate, _stop, before_publish):
        for message in messages:
            before_publish(message)
            self.number += 1
            if self.number == 1:
                time.sleep(0.2)
            if self.number % 2:
                raise RCLError("cannot publish data")


def test_frames_that_the_network_does_not_take_are_no_answered_ones(tmp_path):
    path = tmp_path / "scenario.yaml"
    camera = {"size": "32x32", "rate_hz": 50, "seconds": 0.5, "warm_up_s": 0}
    demanded = {"answered_percent": 1}
    path.write_text(yaml.safe_dump({"name": "x", "camera": camera, "expect": demanded}))
    scenario, record = load_scenario(path), HilRecord()
    playback = Playback(
        scenario, read_pictures(scenario.camera)[:2], RefusingPlayer(), record, lambda *_: None
    )
    playback.thread.start()
    playback.thread.join()
    assert len(record.held_back) >= 5  # of those that were due in 0.2 s
    assert len(record.sent) + len(record.held_back) + record.skipped == 25
    assert f"of {len(record.sent) + len(record.held_back)}" in str(judge(scenario, record))


def test_an_interrupt_leaves_a_report_of_the_part(hil, tmp_path):
    bag = tmp_path / "out" / "bag" / "bag.mcap"
    with hil(node={}, camera={**SMOKE["camera"], "seconds": 600}) as program:
        wait_for(lambda: bag.exists() and bag.stat().st_size > ENOUGH_BYTES, program.log)
        assert program.end(signal.SIGINT) == EXIT_INTERRUPTED, program.log()
        assert "partial: the run was interrupted" in program.log()
    out = tmp_path / "out"
    assert "interrupted" in cases(out)["complete"]
    assert json.loads((out / "report.json").read_bytes())["complete"] is False
    with open_bag(out / "bag") as recorded:
        assert any(recorded.messages([RESULTS]))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"expect": {"p50": 1}}, "scenario.yaml: expect: unknown key 'p50'"),
        ({"camera": {"seconds": 0}}, "scenario.yaml: camera.seconds: must be 0.5 to 604800"),
    ],
    ids=["expect", "camera"],
)
def test_a_wrong_scenario_is_one_line(hil, sections, words):
    with hil(**sections) as program:
        assert program.process.wait(30) == EXIT_WRONG_INPUT
        (line,) = program.log().splitlines()
    assert words in line


def test_an_unknown_scenario_names_those_that_come_with_us(domain):
    with start_cli(domain, "hil", "no_such") as program:
        assert program.process.wait(30) == EXIT_WRONG_INPUT
        assert "no_such: no such scenario; give a file, or one of: " in program.log()
