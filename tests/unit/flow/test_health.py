# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.errors import EngineLost
from perception_node.flow.accounts import FrameCounts
from perception_node.flow.health import (
    Level,
    engine_status,
    inactive_status,
    inference_status,
    process_status,
)
from perception_node.system.grants import Grant

GOOD = FrameCounts(received=10, published=8, superseded=2)
BAD = FrameCounts(
    received=14, published=8, superseded=2, malformed=3, failed=1, malformed_by_kind={"codec": 3}
)


def test_levels_are_those_of_diagnostic_status():
    assert [int(level) for level in (Level.OK, Level.WARN, Level.ERROR, Level.STALE)] == [
        0,
        1,
        2,
        3,
    ]


def test_failed_frames_are_an_error_while_they_fail():
    status = inference_status(BAD, GOOD, None)
    assert (status.task, status.level) == ("inference", Level.ERROR)
    assert status.message == "1 frame(s) failed; see the log"
    assert inference_status(BAD, BAD, None).level == Level.OK


def test_the_numbers_of_inference():
    now = FrameCounts(received=9, published=4, superseded=2, failed=1)
    assert inference_status(now, now, 12_345_000).values == {
        "published": "4",
        "failed": "1",
        "in flight": "2",
        "last inference (ms)": "12.35",
    }
    assert inference_status(now, now, None).values["last inference (ms)"] == "none yet"


def test_what_runs_and_what_does_not():
    engine = engine_status("birds", "ONNX Runtime 1.2", "no GPU", None)
    assert (engine.level, engine.message) == (Level.OK, "ONNX Runtime 1.2")
    assert engine.values == {
        "model": "birds",
        "engine": "ONNX Runtime 1.2",
        "chosen because": "no GPU",
    }
    inactive = inactive_status("unconfigured")
    assert inactive.level == Level.WARN
    assert "unconfigured" in inactive.message


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (EngineLost("it hangs"), "it hangs"),
        (ZeroDivisionError("a bug\nin two lines"), "ZeroDivisionError: a bug"),
    ],
)
def test_a_lost_engine_is_a_warning_that_says_why(error, why):
    status = engine_status("birds", "ONNX Runtime 1.2", "engine is auto", error)
    assert status.level == Level.WARN
    assert status.message.startswith(f"degraded: ONNX Runtime 1.2 took over ({why});")


def test_the_last_engine_that_is_lost_is_an_error():
    lost, outlook = EngineLost("it hangs"), "another is made in 4 s"
    status = engine_status("birds", "no engine", "engine is auto", lost, outlook=outlook)
    assert status.level == Level.ERROR
    assert status.message == "no engine is left (it hangs); another is made in 4 s"


def test_no_setting_that_nobody_asked_for_is_judged():
    status = process_status([])
    assert (status.task, status.level) == ("process", Level.OK)
    assert (status.message, status.values) == ("no real-time setting is asked for", {})


def test_settings_that_the_system_grants():
    status = process_status([Grant("CPUs 2 for the worker")])
    assert (status.level, status.message) == (Level.OK, "real-time settings are granted")
    assert status.values == {"CPUs 2 for the worker": "granted"}


def test_a_setting_that_the_system_refuses_is_a_warning_that_says_what_to_do():
    refused = Grant("priority 50", "not permitted", "sudo prlimit --rtprio=50")
    status = process_status([Grant("CPUs 2 for the worker"), refused])
    assert status.level == Level.WARN
    assert status.message == (
        "refused: priority 50: not permitted; to grant it: sudo prlimit --rtprio=50"
    )
    assert status.values == {"CPUs 2 for the worker": "granted", "priority 50": "not permitted"}
