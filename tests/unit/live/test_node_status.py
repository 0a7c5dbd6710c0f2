# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.config.sections import HealthConfig
from perception_node.errors import EngineLost
from perception_node.flow.accounts import FrameCounts
from perception_node.flow.camera_health import camera_statuses
from perception_node.flow.deadline import AgeHistogram, AgeSummary
from perception_node.flow.health import (
    Level,
    Status,
    engine_status,
    inactive_status,
    inference_status,
    process_status,
)
from perception_node.live.node_status import MOST_ALARMS, MOST_BINS, read_status
from tests.camera_reports import GOOD

COUNTS = FrameCounts(received=20, published=11, superseded=1, stale=2, late=3, malformed=1)
REPORT = replace(
    GOOD,
    now=COUNTS,
    before=COUNTS,
    rate_hz=29.96,
    ages=AgeSummary(11.3, 14.6, 20.1),
    histogram=AgeHistogram(2.0, [0, 0, 3]),
)
ENGINE = engine_status("colors", "ONNX Runtime, CPU, float32", "no NVIDIA GPU", None)
INFERENCE = inference_status(COUNTS, COUNTS, 5_000_000)


def node_rows(*reports, engine=ENGINE):
    """Return the rows of an active node, made by the code that makes them in the node."""
    config, rows = HealthConfig(), []
    for report in reports or (REPORT,):
        of = f" of {report.topic}" if len(reports) > 1 else ""
        cameras = camera_statuses(report, config)
        rows += [replace(row, task=f"{row.task}{of}") for row in cameras]
    return [*rows, INFERENCE, engine, process_status([])]


def without(rows, *keys):
    kept = [{k: v for k, v in row.values.items() if k not in keys} for row in rows]
    return [replace(row, values=values) for row, values in zip(rows, kept, strict=True)]


def with_value(rows, key, value):
    return [
        replace(row, values={**row.values, key: value}) if key in row.values else row
        for row in rows
    ]


def test_a_good_node_says_all_that_the_page_shows():
    status = read_status(node_rows())
    assert (status.is_active, status.level, status.is_degraded) == (True, "ok", False)
    assert status.summary == "images are classified in time"
    assert status.alarms == []
    assert status.engine == {
        "model": "colors",
        "description": "ONNX Runtime, CPU, float32",
        "reason": "no NVIDIA GPU",
        "level": "ok",
    }
    (camera,) = status.cameras
    assert camera.topic == "/front/image"
    assert camera.results_topic == "/front/perception/classification"
    assert camera.facts == {
        "rate_hz": 30.0,
        "deadline_ms": 100.0,
        "counters": {
            "received": 20,
            "published": 11,
            "superseded": 1,
            "stale": 2,
            "late": 3,
            "malformed": 1,
            "failed": 0,
        },
        "ages": {"p50_ms": 11.3, "p99_ms": 14.6, "max_ms": 20.1},
        "histogram": {"bin_ms": 2.0, "counts": [0, 0, 3]},
    }


def test_each_camera_gets_its_own_rows():
    rear = replace(REPORT, topic="/rear/image", now=replace(COUNTS, published=7), rate_hz=5.0)
    cameras = read_status(node_rows(REPORT, rear)).cameras
    assert [camera.topic for camera in cameras] == ["/front/image", "/rear/image"]
    assert [camera.facts["counters"]["published"] for camera in cameras] == [11, 7]
    assert [camera.facts["rate_hz"] for camera in cameras] == [30.0, 5.0]


def test_the_worst_row_gives_level_and_summary():
    silent = replace(REPORT, silent_s=9.0)
    lost = engine_status("colors", "ONNX Runtime", "because", EngineLost("TensorRT hangs"))
    status = read_status(node_rows(silent, engine=lost))
    assert (status.level, status.is_degraded) == ("error", True)
    assert status.summary.startswith("Timeout: no image for 9.0 s")
    assert [(alarm["task"], alarm["level"]) for alarm in status.alarms] == [
        ("input", "error"),
        ("connection", "warn"),
        ("engine", "warn"),
    ]
    assert "TensorRT hangs" in status.alarms[2]["message"]


def test_thousands_of_alarms_are_not_sent_to_everybody_who_looks():
    rows = [Status(str(number), Level.ERROR, "no", {}) for number in range(5000)]
    status = read_status([*node_rows(), *rows])
    assert (status.level, len(status.alarms)) == ("error", MOST_ALARMS)


def test_a_node_that_waits_for_its_first_image_says_so():
    new = replace(REPORT, now=FrameCounts(), before=FrameCounts(), has_images=False, ages=None)
    status = read_status(node_rows(replace(new, rate_hz=None, histogram=None)))
    assert (status.level, status.summary) == ("ok", "waiting for the first image")
    facts = status.cameras[0].facts
    assert (facts["rate_hz"], facts["ages"], facts["histogram"]) == (None, None, None)


def test_a_node_that_is_not_active_has_no_cameras():
    status = read_status([inactive_status("inactive"), ENGINE])
    assert (status.is_active, status.level, status.cameras) == (False, "warn", ())
    assert status.summary == "the node is inactive; activate it to classify"
    assert status.engine["model"] == "colors"
    assert read_status([inactive_status("not configured")]).engine is None


def test_an_older_node_is_read_as_far_as_it_goes():
    rows = without(node_rows(), "results", "age histogram")
    rows[0] = without(rows[:1], "published", "failed")[0]
    (camera,) = read_status(rows).cameras
    assert camera.results_topic == ""
    assert camera.facts["counters"]["published"] == 11
    assert camera.facts["histogram"] is None


@pytest.mark.parametrize(
    "text",
    [
        "none yet",
        "",
        "null",
        "[]",
        "{}",
        '{"bin_ms": 2.0}',
        '{"bin_ms": 0.0, "counts": [1]}',
        '{"bin_ms": NaN, "counts": [1]}',
        '{"bin_ms": 1e999, "counts": [1]}',
        '{"bin_ms": 2.0, "counts": []}',
        '{"bin_ms": 2.0, "counts": [-1]}',
        f'{{"bin_ms": 2.0, "counts": [{10**400}]}}',
        '{"bin_ms": 2.0, "counts": [1e999]}',
        '{"bin_ms": 2.0, "counts": ["x"]}',
        '{"bin_ms": 2.0, "counts": 3}',
        json.dumps({"bin_ms": 2.0, "counts": [1] * (MOST_BINS + 1)}),
        "[" * 10_000,
        "[" * 1_000_000,
    ],
)
def test_a_histogram_that_makes_no_sense_is_none(text):
    assert (
        read_status(with_value(node_rows(), "age histogram", text)).cameras[0].facts["histogram"]
        is None
    )


@pytest.mark.parametrize("text", ["unknown", "nan", "inf", "-inf", "", "1e999", "ten"])
def test_a_number_that_is_none_is_none(text):
    facts = read_status(with_value(node_rows(), "rate (Hz)", text)).cameras[0].facts
    assert facts["rate_hz"] is None
    facts = read_status(with_value(node_rows(), "age p99 (ms)", text)).cameras[0].facts
    assert facts["ages"] is None


@given(
    st.lists(
        st.builds(
            Status,
            task=st.sampled_from(["input", "input of /a", "deadline", "rate", "engine", "x", ""]),
            level=st.sampled_from(Level),
            message=st.text(),
            values=st.dictionaries(
                st.sampled_from(
                    ["topic", "results", "published", "rate (Hz)", "age histogram", "age p50 (ms)"]
                ),
                st.text() | st.integers().map(str) | st.floats().map(str),
            ),
        )
    )
)
def test_whatever_is_said_becomes_json(rows):
    status = read_status(rows)
    shown = [status.level, status.summary, status.alarms, status.engine]
    json.dumps([shown, [camera.facts for camera in status.cameras]], allow_nan=False)
