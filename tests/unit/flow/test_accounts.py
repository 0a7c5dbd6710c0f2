# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from perception_node.flow.accounts import OUTCOMES as NAMES
from perception_node.flow.accounts import FrameCounters, FrameCounts, add_up

OUTCOMES = {
    "publish": lambda counters: counters.publish(),
    "supersede": lambda counters: counters.keep_out(),
    "fail": lambda counters: counters.fail(),
    "layout": lambda counters: counters.drop("layout"),
    "codec": lambda counters: counters.drop("codec"),
    "stale": lambda counters: counters.drop("stale"),
    "late": lambda counters: counters.drop("late"),
    "wait": lambda _counters: None,
}


def test_nothing_came_in_yet():
    counts = FrameCounters().snapshot()
    assert counts == FrameCounts()
    assert counts.in_flight == 0
    assert str(counts) == (
        "received 0 = published 0 + superseded 0 + stale 0 + late 0 + malformed 0 + failed 0 "
        "+ in flight 0"
    )


@given(st.lists(st.sampled_from(sorted(OUTCOMES))))
def test_the_account_is_balanced_after_every_step(outcomes):
    counters = FrameCounters()
    for done, outcome in enumerate(outcomes, start=1):
        counters.receive()
        assert counters.snapshot().in_flight == outcomes[: done - 1].count("wait") + 1
        OUTCOMES[outcome](counters)
        counts = counters.snapshot()
        dropped = counts.superseded + counts.stale + counts.late + counts.malformed
        ended = counts.published + dropped + counts.failed
        assert counts.received == done == ended + counts.in_flight
        assert counts.malformed == sum(counts.malformed_by_kind.values())
    counts = counters.snapshot()
    assert counts.published == outcomes.count("publish")
    assert counts.superseded == outcomes.count("supersede")
    assert counts.stale == outcomes.count("stale")
    assert counts.late == outcomes.count("late")
    assert counts.failed == outcomes.count("fail")
    assert set(counts.malformed_by_kind) <= {"codec", "layout"}
    assert counts.malformed_by_kind.get("codec", 0) == outcomes.count("codec")
    assert counts.in_flight == outcomes.count("wait")


def test_the_account_as_a_line_for_a_log():
    counters = FrameCounters()
    for _ in range(14):
        counters.receive()
    counters.keep_out()
    counters.keep_out()
    counters.publish()
    counters.fail()
    for kind in ("stamp", "codec", "late", "stamp", "stale", "late"):
        counters.drop(kind)
    assert str(counters.snapshot()) == (
        "received 14 = published 1 + superseded 2 + stale 1 + late 2 "
        "+ malformed 3 (codec 1, stamp 2) + failed 1 + in flight 4"
    )


def test_images_that_were_replaced_are_received_and_superseded():
    counters = FrameCounters()
    for number in (4, 7, 8):
        counters.receive()
        counters.gaps.follow(number)
        counters.publish()
    assert str(counters.snapshot()).startswith("received 5 = published 3 + superseded 2 + ")
    assert counters.snapshot().in_flight == 0
    counters.gaps.follow(None)
    assert str(counters.snapshot()).endswith(
        "+ in flight 0; received and superseded are at least these: "
        "the middleware does not number images"
    )


def test_the_doubts_of_several_cameras_are_each_said_once():
    counts = [
        FrameCounts(doubt="b"),
        FrameCounts(),
        FrameCounts(doubt="a"),
        FrameCounts(doubt="b"),
    ]
    assert add_up(counts).doubt == "b, a"


def test_a_snapshot_does_not_change():
    counters = FrameCounters()
    counters.drop("codec")
    before = counters.snapshot()
    counters.drop("codec")
    assert before.malformed_by_kind == {"codec": 1}


COUNTS = st.builds(
    FrameCounts,
    **{name: st.integers(0, 10**6) for name in NAMES},
    malformed_by_kind=st.dictionaries(st.sampled_from(["codec", "stamp", "layout"]), st.just(3)),
)


@given(st.lists(COUNTS, max_size=5))
def test_several_cameras_add_up(cameras):
    total = add_up(cameras)
    for name in (*NAMES, "in_flight"):
        assert getattr(total, name) == sum(getattr(one, name) for one in cameras)
    for kind in ("codec", "stamp", "layout"):
        parts = [one.malformed_by_kind.get(kind, 0) for one in cameras]
        assert total.malformed_by_kind.get(kind, 0) == sum(parts)


def test_no_camera_adds_up_to_nothing():
    assert add_up([]) == FrameCounts()


def test_threads_lose_no_count():
    counters, rounds = FrameCounters(), 2000

    def work():
        for _ in range(rounds):
            counters.receive()
            counters.publish()
            counters.receive()
            counters.drop("codec")
            assert counters.snapshot().in_flight >= 0

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot() == FrameCounts(
        received=8 * rounds,
        published=4 * rounds,
        malformed=4 * rounds,
        malformed_by_kind={"codec": 4 * rounds},
    )
