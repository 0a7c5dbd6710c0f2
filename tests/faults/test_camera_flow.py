# SPDX-License-Identifier: Apache-2.0
"""Cameras that are off, slow, delayed, unsteady or stuck: what /diagnostics says, what is lost."""

from __future__ import annotations

import itertools
import random
import re
import time

import pytest

from tests.ros.harness import (
    NANOSECONDS,
    Stream,
    account,
    make_image,
    require_balance,
    stamp_of,
    wait_for,
)

pytestmark = pytest.mark.ros
OK, WARN, ERROR, STALE = range(4)
JUDGED = ("rate", "picture", "deadline")  # rows that need images
SILENCE_S = re.compile(r"no image for ([\d.]+) s")
ROUNDED_S = 0.05
DELAY_NS = NANOSECONDS // 2


def send_until(camera, period_s, condition, what):
    """Send a picture that changes, with the stamp of its moment, until a condition holds."""
    colors = itertools.cycle(("red", "green", "blue"))

    def is_reached():
        camera.publish(make_image(next(colors), time.time_ns()))
        time.sleep(period_s)
        return condition()

    return wait_for(is_reached, what)


def first_silence(diagnostics, kind):
    """Return the silence that a kind's first report states, and the time since the one before.

    Both in seconds; one row per report is looked at: ``input``.
    """
    reports = [(stamp_of(message), message.status[0]) for message in list(diagnostics.messages)]
    for (before_ns, _), (now_ns, status) in itertools.pairwise(reports):
        if status.message.startswith(kind):
            return float(SILENCE_S.search(status.message)[1]), (now_ns - before_ns) / NANOSECONDS
    return None


@pytest.mark.parametrize("came_before", [False, True], ids=["never came", "went away"])
def test_a_camera_that_is_off_is_reported_within_a_period(start, peer, came_before):
    timeout_s = 0.5
    diagnostics = peer.watch()
    with start(image_timeout_s=timeout_s, diagnostics_period_s=0.2, autostart=False):
        assert peer.change("configure")
        diagnostics.skip(1)  # so that the report before the first silence is among these
        assert peer.change("activate")
        stream = Stream(peer)
        if came_before:
            stream.classify(make_image("red", 1))
            diagnostics.wait_for_level("input", OK)
        status = diagnostics.wait_for_level("input", ERROR)
        kind = "Timeout" if came_before else "NotReceived"
        assert status.message.startswith(f"{kind}: no image for ")
        assert status.message.endswith("; check the camera and that /image is its topic")
        # The report before was still within the timeout, however long ago it was.
        silence_s, period_s = first_silence(diagnostics, kind)
        assert timeout_s - ROUNDED_S <= silence_s <= timeout_s + period_s + ROUNDED_S
        levels = {task: diagnostics.level(task) for task in JUDGED}
        assert levels == dict.fromkeys(JUDGED, STALE)
        assert diagnostics.latest()["picture"].message == "no images to judge"
        assert "publisher(s), but no image arrives" in diagnostics.latest()["connection"].message

        stream.classify(make_image("green", 2))
        assert diagnostics.wait_for_level("input", OK).message == "images arrive"
        wait_for(
            lambda: OK == diagnostics.level("picture") == diagnostics.level("deadline"),
            diagnostics.latest,
        )


def test_a_slow_camera_is_a_warning_then_an_error_then_silent(start, peer):
    diagnostics = peer.watch()
    rates = {"warn_rate_hz": 25.0, "error_rate_hz": 4.0}
    with start(age_reference="stamp", image_timeout_s=2.5, **rates):
        camera = Stream(peer).camera

        def send_until_rate_is(level, period_s):
            def find_message():
                status = diagnostics.latest().get("rate")
                return status is not None and status.level[0] == level and status.message

            return send_until(camera, period_s, find_message, diagnostics.latest)

        send_until_rate_is(OK, 0.002)
        message = send_until_rate_is(WARN, 0.1)
        assert re.match(r"[\d.]+ images per second, at least 25 are expected; check the", message)
        # Now it sends nothing: the rate falls by itself, until there is none to judge.
        status = diagnostics.wait_for_level("rate", ERROR)
        assert "at least 4 are expected" in status.message
        assert diagnostics.level("input") == OK
        diagnostics.wait_for_level("rate", STALE)
        assert diagnostics.level("input") == ERROR
        assert "images per second" in send_until_rate_is(OK, 0.002)


def test_an_unsteady_camera_gets_every_answer_in_time(start, peer):
    """Of 100 frames in 2 s, 30 % never leave the camera, and the others when they like."""
    source = random.Random(5)
    deadline_ms = 1000
    diagnostics = peer.watch()
    with start(age_reference="stamp", deadline_ms=deadline_ms) as node:
        stream = Stream(peer)
        send_until(stream.camera, 0.05, lambda: stream.results, lambda: "a result")
        wait_for(lambda: diagnostics.value("in flight") == "0", diagnostics.latest)
        sent = []
        for number in range(100):
            time.sleep(source.uniform(0.0, 0.04))
            if source.random() >= 0.3:
                sent.append(time.time_ns())
                stream.camera.publish(make_image(("red", "green")[number % 2], sent[-1]))
        wait_for(lambda: stream.result(sent[-1]), lambda: "the last result")
        oldest_ms = float(diagnostics.value("age max (ms)"))
        assert 0.0 < oldest_ms <= deadline_ms
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert 60 < len(sent) < 80
    assert counts["malformed"] == counts["failed"] == 0
    answered = [stamp_ns for stamp_ns in stream.stamps() if stamp_ns >= sent[0]]
    assert answered == [stamp_ns for stamp_ns in sent if stamp_ns in set(answered)], "the order"
    assert len(answered) > len(sent) / 2


def test_a_delayed_camera_is_not_answered(start, peer):
    diagnostics = peer.watch()
    with start(age_reference="stamp", deadline_ms=DELAY_NS // 2_000_000) as node:
        stream = Stream(peer)

        def send_late():
            stream.camera.publish(make_image("red", time.time_ns() - DELAY_NS))
            time.sleep(0.01)
            return int(diagnostics.value("stale") or 0) >= 20

        wait_for(send_late, diagnostics.latest)
        status = diagnostics.wait_for_level("deadline", ERROR)
        assert status.message.startswith("100 % of the images missed the deadline (")
        assert re.search(r"it is \d{3,4}\.\d ms old when its turn comes", status.message)
        assert "the engine is busy, else look before the node" in status.message
        assert diagnostics.value("age max (ms)") == "none yet"
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert not stream.results
    assert counts["stale"] >= 20
    assert counts["published"] == counts["late"] == 0


def test_a_stuck_camera_is_a_warning_until_the_picture_moves(start, peer):
    diagnostics = peer.watch()
    with start(stuck_after=5, image_timeout_s=10.0):
        stream = Stream(peer)
        stream.classify(make_image("blue", 100))
        for stamp_ns in range(1, 6):  # the first is like none before it
            stream.classify_once(make_image("red", stamp_ns))
        diagnostics.wait_for_value("identical images in a row", 4)
        assert diagnostics.level("picture") == OK
        stream.classify_once(make_image("red", 6))
        status = diagnostics.wait_for_level("picture", WARN)
        assert status.message == (
            "stuck: 5 identical images in a row; restart the camera's driver "
            "(a still picture without noise: set stuck_after to 0)"
        )
        assert diagnostics.level("input") == OK
        assert stream.classify_once(make_image("green", 7)).results[0].class_id == "1"
        assert diagnostics.wait_for_level("picture", OK).message == "the picture changes"


def test_a_still_picture_may_be_wanted(start, peer):
    diagnostics = peer.watch()
    with start(stuck_after=0, image_timeout_s=10.0):
        stream = Stream(peer)
        for stamp_ns in range(1, 40):
            stream.classify(make_image("red", stamp_ns))
        wait_for(
            lambda: int(diagnostics.value("identical images in a row") or 0) > 30,
            diagnostics.latest,
        )
        assert diagnostics.level("picture") == OK
