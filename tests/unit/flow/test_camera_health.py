# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from perception_node.config.sections import HealthConfig
from perception_node.flow.camera_health import camera_statuses
from perception_node.flow.health import Level
from tests.camera_reports import BEFORE, GOOD, NOW

TASKS = ["input", "connection", "rate", "picture", "deadline"]
JUDGES_OF_IMAGES = ["rate", "picture", "deadline"]
CONFIG = HealthConfig(image_timeout_s=2.0)


def judge(task, config=CONFIG, **changes):
    rows = camera_statuses(replace(GOOD, **changes), config)
    assert [row.task for row in rows] == TASKS
    return next(row for row in rows if row.task == task)


def missed(stale=0, late=0, published=0, superseded=0):
    """Return the counters after a period with these outcomes."""
    return replace(
        BEFORE,
        received=BEFORE.received + stale + late + published + superseded,
        published=BEFORE.published + published,
        superseded=BEFORE.superseded + superseded,
        stale=stale,
        late=late,
    )


def test_a_good_camera_is_ok_in_every_row():
    assert {row.level for row in camera_statuses(GOOD, CONFIG)} == {Level.OK}
    messages = [row.message for row in camera_statuses(GOOD, CONFIG)]
    assert messages == [
        "images arrive",
        "nothing is lost",
        "30.0 images per second",
        "the picture changes",
        "results are in time",
    ]


def test_decoding_that_misses_the_deadline_is_named():
    now = replace(
        missed(published=1), malformed=4, malformed_by_kind={"slow_codec": 3, "codec": 1}
    )
    row = judge("deadline", now=now, before=BEFORE)
    assert row.level == Level.ERROR
    assert row.message == (
        "75 % of the images missed the deadline (0 stale, 0 late, 3 while decoded (slow_codec)): "
        "decoding takes too long; send smaller or raw images, or raise deadline_ms"
    )
    row = judge("input", now=now, before=BEFORE, unusable="cut short")
    assert (row.level, row.message) == (Level.WARN, "1 unusable image(s); the last: cut short")
    assert row.values["malformed (slow_codec)"] == "3"


# input


@pytest.mark.parametrize(
    ("silent_s", "level"), [(0.0, Level.OK), (2.0, Level.OK), (2.01, Level.ERROR)]
)
def test_a_silent_camera_is_an_error(silent_s, level):
    assert judge("input", silent_s=silent_s).level == level


def test_a_camera_that_stopped_and_one_that_never_came():
    assert judge("input", silent_s=3.14).message == (
        "Timeout: no image for 3.1 s; check the camera and that /front/image is its topic"
    )
    assert judge("input", silent_s=3.14, has_images=False).message == (
        "NotReceived: no image for 3.1 s; check the camera and that /front/image is its topic"
    )


def test_before_the_timeout_the_first_image_is_waited_for():
    row = judge("input", has_images=False, rate_hz=None)
    assert (row.level, row.message) == (Level.OK, "waiting for the first image")


def test_a_clock_that_stands_still_is_no_fault_of_the_camera():
    row = judge("input", silent_s=3.0, clock_stands=True)
    assert row.level == Level.WARN
    assert "simulated time stands still" in row.message
    assert "/clock" in row.message
    assert judge("input", silent_s=2.0, clock_stands=True).level == Level.OK


def test_unusable_images_are_a_warning_while_they_arrive():
    now = replace(NOW, malformed=3, malformed_by_kind={"stamp": 1, "codec": 2})
    row = judge("input", now=now, unusable="encoding 'x' is not supported")
    assert row.level == Level.WARN
    assert row.message == "3 unusable image(s); the last: encoding 'x' is not supported"
    assert row.values == {
        "topic": "/front/image",
        "results": "/front/perception/classification",
        "received": "200",
        "published": "180",
        "superseded": "20",
        "failed": "0",
        "malformed": "3",
        "malformed (codec)": "2",
        "malformed (stamp)": "1",
    }
    assert judge("input", now=now, before=now).level == Level.OK
    assert judge("input", now=now, silent_s=2.1).level == Level.ERROR


def test_images_that_are_all_unusable_are_an_error_with_the_cause():
    reason = "encoding 'theora' is not supported; use one of: rgb8"
    now = replace(missed(superseded=4), received=105, malformed=1)
    row = judge("input", now=now, before=BEFORE, unusable=reason)
    assert row.level == Level.ERROR
    assert row.message == f"all images are unusable (1): {reason}"
    for outcome in ("published", "failed", "stale", "late"):
        other = replace(now, **{outcome: getattr(BEFORE, outcome) + 1})
        assert judge("input", now=other, before=BEFORE, unusable=reason).level == Level.WARN


def test_a_slow_image_is_not_unusable():
    now = replace(missed(), malformed=2, malformed_by_kind={"slow_codec": 1, "codec": 1})
    assert judge("input", now=now, before=BEFORE, unusable="damaged").level == Level.WARN


@pytest.mark.parametrize(
    "changes", [{"silent_s": 2.01}, {"has_images": False}, {"silent_s": 9.0, "has_images": False}]
)
def test_while_no_image_comes_nothing_of_images_is_judged(changes):
    bad = {"now": missed(stale=100), "rate_hz": 0.1, "identical": 999}
    config = replace(CONFIG, error_rate_hz=10.0)
    for task in JUDGES_OF_IMAGES:
        assert judge(task, config, **bad).level in {Level.WARN, Level.ERROR}
        row = judge(task, config, **bad, **changes)
        assert (row.level, row.message) == (Level.STALE, "no images to judge")
        assert row.values == judge(task, config, **bad).values


def test_a_publisher_whose_images_never_come_is_the_transports_fault():
    row = judge("connection", has_images=False, silent_s=2.01, publishers=2)
    assert row.level == Level.WARN
    assert row.message.startswith(
        "2 publisher(s), but no image arrives; start the camera's driver"
    )
    row = judge("connection", has_images=False, silent_s=0.1, publishers=2)
    assert (row.level, row.message) == (Level.OK, "waiting for the first image")
    assert judge("connection", silent_s=9.0, publishers=0).level == Level.OK


def test_an_account_that_is_not_exact_says_why():
    row = judge("connection", now=replace(NOW, replaced=4, doubt="a publisher started again"))
    assert row.level == Level.OK
    assert row.values["replaced by newer ones"] == (
        "at least 4, and so for received and superseded: a publisher started again"
    )


def test_a_camera_that_a_lazy_node_does_not_subscribe_to_is_no_error():
    silent = replace(GOOD, is_heard=False, silent_s=99.0, has_images=False, rate_hz=None)
    rows = camera_statuses(silent, CONFIG)
    assert [row.task for row in rows] == TASKS
    assert {row.level for row in rows} == {Level.OK}
    assert {row.message for row in rows} == {"nobody listens, so the lazy node does not subscribe"}


# connection


def test_what_the_middleware_says_is_shown():
    now = replace(NOW, replaced=7)
    assert judge("connection", lost=3, lost_before=3, now=now).values == {
        "publishers": "1",
        "images arrive as": "bytes",
        "lost on the way": "3",
        "replaced by newer ones": "7",
    }
    assert judge("connection", publishers=None).values["publishers"] == "unknown"
    assert judge("connection", publishers=0).values["publishers"] == "0"


def test_images_that_are_lost_are_a_warning_while_they_are():
    row = judge("connection", lost=5, lost_before=3)
    assert row.level == Level.WARN
    assert row.message == (
        "2 image(s) were lost on the way; start the camera's driver with our Fast DDS profile "
        "(perception doctor prints the command)"
    )
    assert judge("connection", lost=5, lost_before=5).level == Level.OK


@pytest.mark.parametrize("publishers", [None, 0])
def test_a_camera_that_was_refused_is_an_error(publishers):
    row = judge("connection", incompatible="reliability", publishers=publishers, silent_s=9.0)
    assert row.level == Level.ERROR
    assert row.message == (
        "a publisher of /front/image was refused for its reliability; "
        "set image_qos to sensor_data, or change the camera's QoS"
    )


def test_a_refused_publisher_beside_an_accepted_one_is_not():
    assert judge("connection", incompatible="reliability", publishers=1).level == Level.OK


# rate


@pytest.mark.parametrize(
    ("rate_hz", "level"),
    [
        (30.0, Level.OK),
        (20.0, Level.OK),
        (19.99, Level.WARN),
        (10.0, Level.WARN),
        (9.99, Level.ERROR),
        (0.0, Level.ERROR),
    ],
)
def test_the_rate_is_compared_with_what_is_expected(rate_hz, level):
    config = replace(CONFIG, warn_rate_hz=20.0, error_rate_hz=10.0)
    row = judge("rate", config, rate_hz=rate_hz)
    assert row.level == level
    assert row.values == {"rate (Hz)": f"{rate_hz:.1f}"}


def test_a_low_rate_says_what_is_expected_and_what_to_do():
    config = replace(CONFIG, warn_rate_hz=25.0)
    assert judge("rate", config, rate_hz=12.34).message == (
        "12.3 images per second, at least 25 are expected; "
        "check the camera's frame rate and the network"
    )


def test_without_an_expectation_no_rate_is_too_low():
    assert judge("rate", rate_hz=0.001).level == Level.OK


def test_an_error_may_be_expected_without_a_warning():
    config = replace(CONFIG, error_rate_hz=10.0)
    assert judge("rate", config, rate_hz=10.0).level == Level.OK
    assert judge("rate", config, rate_hz=9.9).level == Level.ERROR


def test_the_rate_of_one_image_is_unknown():
    config = replace(CONFIG, error_rate_hz=10.0)
    row = judge("rate", config, rate_hz=None)
    assert (row.level, row.values) == (Level.OK, {"rate (Hz)": "unknown"})
    assert row.message == "not known before the second image"


def test_a_rate_that_may_be_higher_is_not_judged():
    config = replace(CONFIG, warn_rate_hz=25.0)
    row = judge("rate", config, rate_hz=12.34, is_rate_at_least=True)
    assert (row.level, row.message) == (Level.OK, "at least 12.3 images per second")
    assert row.values == {"rate (Hz)": "at least 12.3"}


# picture


@pytest.mark.parametrize(
    ("stuck_after", "identical", "level"),
    [
        (30, 29, Level.OK),
        (30, 30, Level.WARN),
        (30, 10_000, Level.WARN),
        (1, 0, Level.OK),
        (1, 1, Level.WARN),
        (0, 0, Level.OK),
        (0, 10_000, Level.OK),
    ],
)
def test_a_picture_that_does_not_change_is_stuck(stuck_after, identical, level):
    row = judge("picture", replace(CONFIG, stuck_after=stuck_after), identical=identical)
    assert row.level == level
    assert row.values == {"identical images in a row": str(identical)}


def test_a_stuck_picture_says_what_to_do():
    assert judge("picture", identical=45).message == (
        "stuck: 45 identical images in a row; restart the camera's driver "
        "(a still picture without noise: set stuck_after to 0)"
    )


# deadline


@pytest.mark.parametrize(
    ("now", "level"),
    [
        (missed(published=100), Level.OK),
        (missed(stale=4, published=96), Level.OK),
        (missed(stale=5, published=95), Level.WARN),
        (missed(late=5, published=95), Level.WARN),
        (missed(stale=2, late=3, published=95), Level.WARN),
        (missed(stale=49, published=51), Level.WARN),
        (missed(stale=25, late=25, published=50), Level.ERROR),
        (missed(stale=100), Level.ERROR),
        (BEFORE, Level.OK),
    ],
)
def test_missed_deadlines_are_compared_with_what_is_allowed(now, level):
    assert judge("deadline", now=now).level == level


def test_superseded_images_do_not_hide_that_all_others_missed():
    row = judge("deadline", now=missed(late=10, superseded=990))
    assert row.level == Level.ERROR
    assert row.message.startswith("100 % of the images missed the deadline (0 stale, 10 late)")


def test_an_image_that_was_received_a_period_ago_counts_as_well():
    now = replace(BEFORE, stale=2)
    assert judge("deadline", now=now).level == Level.ERROR
    assert "100 %" in judge("deadline", now=now).message


def test_misses_of_the_past_are_over():
    past = replace(BEFORE, stale=50, late=50)
    assert judge("deadline", before=past, now=past).level == Level.OK


@pytest.mark.parametrize(
    ("warn", "error", "level"),
    [
        (0.0, 100.0, Level.WARN),
        (0.0, 0.0, Level.ERROR),
        (100.0, 100.0, Level.OK),
        (100.0, 1.0, Level.ERROR),
    ],
)
def test_the_shares_are_free(warn, error, level):
    config = replace(CONFIG, warn_missed_percent=warn, error_missed_percent=error)
    assert judge("deadline", config, now=missed(stale=1, published=99)).level == level
    assert judge("deadline", config, now=missed(published=100)).level == Level.OK


def test_missed_deadlines_say_why():
    now = missed(stale=30, late=12, published=58)
    assert judge("deadline", now=now, refusal="it is 140 ms old; do this").message == (
        "42 % of the images missed the deadline (30 stale, 12 late): it is 140 ms old; do this"
    )
    assert judge("deadline", now=now).message == (
        "42 % of the images missed the deadline (30 stale, 12 late): "
        "the engine takes too long; see ~/latency, or raise deadline_ms"
    )


def test_the_numbers_of_the_deadline():
    now = missed(stale=30, late=12, published=58)
    assert judge("deadline", now=now).values == {
        "deadline (ms)": "100",
        "stale": "30",
        "late": "12",
        "predicted (ms)": "12.3",
        "age p50 (ms)": "20.0",
        "age p99 (ms)": "40.2",
        "age max (ms)": "55.0",
        "age histogram": '{"bin_ms":2.0,"counts":[0,90,0]}',
    }
    values = judge("deadline", ages=None, histogram=None).values
    assert values["age histogram"] == "none yet"
    assert {values[f"age {name} (ms)"] for name in ("p50", "p99", "max")} == {"none yet"}


# All together


def test_every_row_has_words_whatever_happens():
    choices = {
        "silent_s": (0.0, 9.0),
        "has_images": (False, True),
        "clock_stands": (False, True),
        "rate_hz": (None, 0.5),
        "identical": (0, 99),
        "publishers": (None, 0, 2),
        "lost": (0, 1),
        "incompatible": ("", "durability"),
        "ages": (None, GOOD.ages),
        "histogram": (None, GOOD.histogram),
        "now": (NOW, missed(stale=1), missed(late=1)),
    }
    for values in itertools.product(*choices.values()):
        report = replace(GOOD, **dict(zip(choices, values, strict=True)))
        rows = camera_statuses(report, CONFIG)
        assert [row.task for row in rows] == TASKS
        for row in rows:
            assert row.message
            assert row.values
            assert "\n" not in row.message
