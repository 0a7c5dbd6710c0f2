# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.counters import FrameCounts
from perception_node.errors import EngineLost
from perception_node.health import (
    Level,
    engine_status,
    inactive_status,
    inference_status,
    input_status,
)

GOOD = FrameCounts(received=10, published=8, superseded=2)
BAD = FrameCounts(
    received=14, published=8, superseded=2, malformed=3, failed=1, malformed_by_kind={"codec": 3}
)


def judge_input(silent_s, now=GOOD, before=GOOD):
    return input_status("/camera/image", silent_s, 2.0, now, before)


def test_levels_are_those_of_diagnostic_status():
    assert [int(level) for level in (Level.OK, Level.WARN, Level.ERROR, Level.STALE)] == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("silent_s", "level"), [(0.0, Level.OK), (2.0, Level.OK), (2.01, Level.ERROR)]
)
def test_a_silent_camera_is_an_error(silent_s, level):
    status = judge_input(silent_s)
    assert (status.task, status.level) == ("input", level)
    assert ("no image for 2.0 s" in status.message) == (level == Level.ERROR)
    assert ("/camera/image" in status.message) == (level == Level.ERROR)


def test_unusable_images_are_a_warning_while_they_arrive():
    status = judge_input(0.1, now=BAD, before=GOOD)
    assert status.level == Level.WARN
    assert status.message.startswith("3 unusable image(s)")
    assert status.values == {
        "topic": "/camera/image",
        "received": "14",
        "malformed": "3",
        "malformed (codec)": "3",
    }
    assert judge_input(0.1, now=BAD, before=BAD).level == Level.OK


def test_silence_is_worse_than_unusable_images():
    assert judge_input(9.0, now=BAD, before=GOOD).level == Level.ERROR


def test_failed_frames_are_an_error_while_they_fail():
    status = inference_status(BAD, GOOD, None)
    assert (status.task, status.level) == ("inference", Level.ERROR)
    assert status.message == "1 frame(s) failed; see the log"
    assert inference_status(BAD, BAD, None).level == Level.OK


def test_the_numbers_of_inference():
    now = FrameCounts(received=9, published=4, superseded=2, failed=1)
    assert inference_status(now, now, 12.345).values == {
        "published": "4",
        "superseded": "2",
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
