# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import LateFrame, MissingStamp, StaleFrame
from perception_node.flow.deadline import WINDOW, Deadline, RemainingTime, reserve_ns

MS = 1_000_000
LIMIT = 100 * MS
NOW = 1_700_000_000_000 * MS
VGA = (640, 480, "bgr8")
AGES = st.one_of(st.integers(-300 * MS, 300 * MS), st.integers(-90_000 * MS, 90_000 * MS))
LIMITS = st.integers(1 * MS, 60_000 * MS)
DURATIONS = st.lists(st.integers(0, 200 * MS), max_size=80)


class Clock:
    def __init__(self, now_ns=NOW):
        self.now_ns = now_ns

    def __call__(self):
        return self.now_ns


def make_deadline(reference="stamp", now_ns=NOW, steady_ns=0):
    clock, steady = Clock(now_ns), Clock(steady_ns)
    return Deadline(reference, clock, steady), clock, steady


def learned(durations, subject=VGA):
    remaining = RemainingTime()
    for duration in durations:
        remaining.learn(duration, subject)
    return remaining


def is_admitted(deadline, age_ns, limit_ns=LIMIT):
    try:
        deadline.admit(age_ns, limit_ns)
    except StaleFrame as error:
        message = str(error)
    else:
        return True
    assert deadline.refusal == message
    return False


def is_let_out(deadline, age_ns, limit_ns=LIMIT):
    try:
        deadline.require(age_ns, limit_ns)
    except LateFrame:
        return False
    return True


# The rules


@given(AGES, LIMITS, DURATIONS)
def test_what_cannot_be_in_time_is_not_admitted_and_all_else_is(age_ns, limit_ns, durations):
    deadline, _, _ = make_deadline()
    deadline.remaining = learned(durations)
    predicted_ns = deadline.remaining.predict_ns()
    end_ns = age_ns + predicted_ns + reserve_ns(limit_ns)
    is_possible = -limit_ns <= age_ns <= limit_ns and end_ns <= limit_ns
    assert is_admitted(deadline, age_ns, limit_ns) == is_possible


@given(AGES, LIMITS)
def test_what_is_too_old_is_not_let_out_and_all_else_is(age_ns, limit_ns):
    deadline, _, _ = make_deadline()
    is_in_time = -limit_ns <= age_ns <= limit_ns - reserve_ns(limit_ns)
    assert is_let_out(deadline, age_ns, limit_ns) == is_in_time
    assert abs(age_ns) <= limit_ns or not is_in_time


@given(LIMITS)
def test_the_reserve_is_small(limit_ns):
    assert limit_ns / 25 <= reserve_ns(limit_ns) <= limit_ns / 20 or reserve_ns(limit_ns) == MS


@pytest.mark.parametrize(
    ("age_ns", "admitted"),
    [(99 * MS, True), (99 * MS + 1, False), (-100 * MS, True), (-100 * MS - 1, False)],
)
def test_the_bound_itself_is_in_time(age_ns, admitted):
    assert is_admitted(make_deadline()[0], age_ns) == admitted


def test_the_bound_itself_is_in_time_with_the_prediction():
    deadline, _, _ = make_deadline()
    deadline.remaining.learn(30 * MS, VGA)
    assert is_admitted(deadline, 69 * MS)
    assert not is_admitted(deadline, 70 * MS + 1)


def test_what_the_publishing_takes_is_kept_back():
    deadline, _, _ = make_deadline()
    assert is_let_out(deadline, 99 * MS)
    assert not is_let_out(deadline, 99 * MS + 1)
    assert is_let_out(deadline, -100 * MS)
    assert not is_let_out(deadline, -100 * MS - 1)


# Clocks


def test_the_age_counts_from_the_stamp():
    deadline, clock, steady = make_deadline()
    steady.now_ns += 999 * MS
    assert deadline.age_ns(NOW - 5 * MS, arrived_ns=0) == 5 * MS
    clock.now_ns += 7 * MS
    assert deadline.age_ns(NOW - 5 * MS, arrived_ns=0) == 12 * MS


def test_a_stamp_of_0_is_missing():
    with pytest.raises(MissingStamp, match="set age_reference to arrival") as caught:
        make_deadline()[0].age_ns(0, 0)
    assert caught.value.kind == "stamp"


def test_a_stamp_of_0_is_missing_before_the_clock_begins_too():
    with pytest.raises(MissingStamp):
        make_deadline(now_ns=0)[0].age_ns(0, 0)


@pytest.mark.parametrize("stamp_ns", [0, 1, NOW, NOW + 10**18])
@pytest.mark.parametrize("now_ns", [0, NOW])
def test_the_age_since_arrival_needs_neither_stamp_nor_clock(stamp_ns, now_ns):
    deadline, clock, steady = make_deadline("arrival", now_ns, steady_ns=1000)
    assert deadline.age_ns(stamp_ns, 400) == 600
    clock.now_ns -= 50
    assert deadline.age_ns(stamp_ns, 400) == 600
    steady.now_ns += 100
    assert deadline.age_ns(stamp_ns, 400) == 700


def test_before_the_clock_begins_every_frame_is_stale():
    deadline, clock, _ = make_deadline(now_ns=0)
    age_ns = deadline.age_ns(NOW, 0)
    assert age_ns is None
    assert not is_admitted(deadline, age_ns)
    assert "the node's clock stands at 0; let the player publish /clock" in deadline.refusal
    assert not is_let_out(deadline, age_ns)
    clock.now_ns = NOW + 5 * MS
    assert is_admitted(deadline, deadline.age_ns(NOW, 0))


def test_a_stamp_that_is_ahead_is_stale_and_the_words_say_so():
    deadline, _, _ = make_deadline()
    assert not is_admitted(deadline, deadline.age_ns(NOW + 250 * MS, 0))
    assert deadline.refusal == (
        "its stamp is 0.250 s ahead of the node's clock; synchronise the clocks, set use_sim_time "
        "for a bag with /clock, or set age_reference to arrival"
    )


def test_a_stamp_that_is_far_behind_is_that_of_another_clock():
    deadline, _, _ = make_deadline()
    assert not is_admitted(deadline, 10_001 * MS)
    assert "its stamp is 10.001 s behind the node's clock; synchronise" in deadline.refusal
    assert is_admitted(deadline, 10_001 * MS, limit_ns=60_000 * MS)


def test_a_stamp_that_is_a_little_ahead_is_not():
    deadline, _, _ = make_deadline()
    deadline.remaining.learn(120 * MS, VGA)
    assert is_admitted(deadline, deadline.age_ns(NOW + 30 * MS, 0))  # 90 ms when it is done
    assert not is_admitted(deadline, deadline.age_ns(NOW + 10 * MS, 0))


def test_the_words_for_an_old_frame():
    deadline, _, _ = make_deadline()
    assert not is_admitted(deadline, 140 * MS)
    assert deadline.refusal == (
        "it is 140.0 ms old when its turn comes, the deadline is 100 ms; "
        "if wait in ~/latency is long the engine is busy, else look before the node"
    )


def test_the_words_for_a_slow_engine():
    deadline, _, _ = make_deadline()
    deadline.remaining.learn(95 * MS, VGA)
    assert not is_admitted(deadline, 10 * MS)
    assert deadline.refusal == (
        "it is 10.0 ms old and takes 95.0 ms more, the deadline is 100 ms; "
        "take a faster model or raise deadline_ms"
    )


def test_stamps_that_go_back_age_on_their_own():
    deadline, _, _ = make_deadline()
    ages_ns = [deadline.age_ns(NOW - back_ms * MS, 0) for back_ms in (5, 50, 150, 5)]
    assert [is_admitted(deadline, age_ns) for age_ns in ages_ns] == [True, True, False, True]


@pytest.mark.parametrize("jump_ms", [-3_600_000, -102, 102, 3_600_000])
def test_a_clock_that_jumps_costs_only_the_frames_of_before(jump_ms):
    deadline, clock, _ = make_deadline()
    stamp_ns = clock() - 1 * MS
    assert is_admitted(deadline, deadline.age_ns(stamp_ns, 0))
    clock.now_ns += jump_ms * MS  # while the engine works
    assert not is_let_out(deadline, deadline.age_ns(stamp_ns, 0))
    assert not is_admitted(deadline, deadline.age_ns(stamp_ns, 0))
    fresh_ns = deadline.age_ns(clock() - 1 * MS, 0)
    assert is_admitted(deadline, fresh_ns)
    assert is_let_out(deadline, fresh_ns)


def test_a_clock_that_goes_back_to_0_meanwhile_makes_the_result_late():
    deadline, clock, _ = make_deadline()
    clock.now_ns = 0
    with pytest.raises(LateFrame, match="the clock was set back"):
        deadline.require(deadline.age_ns(NOW, 0), LIMIT)


def test_on_a_paused_clock_nothing_ages():
    deadline, _, steady = make_deadline()
    stamp_ns = NOW - 20 * MS
    steady.now_ns += 3600 * 1000 * MS
    assert is_admitted(deadline, deadline.age_ns(stamp_ns, 0))
    assert is_let_out(deadline, deadline.age_ns(stamp_ns, 0))


# The prediction


def test_nothing_is_predicted_before_the_first_frame():
    assert RemainingTime().predict_ns() == 0
    assert is_admitted(make_deadline()[0], LIMIT - reserve_ns(LIMIT))


@given(DURATIONS)
def test_at_most_one_frame_in_ten_took_longer_than_predicted(durations):
    remaining = learned(durations)
    known = durations[-WINDOW:]
    longer = [duration for duration in known if duration > remaining.predict_ns()]
    assert len(longer) <= len(known) / 10
    assert remaining.predict_ns() in (known or [0])


@given(st.lists(st.none() | st.integers(0, 9), max_size=4 * WINDOW))
def test_the_prediction_is_that_of_the_last_frames_in_order(steps):
    """None forgets a frame; the next that is learnt stands for it as well."""
    remaining, known, forgotten = RemainingTime(), [], 0
    for step in steps:
        if step is not None:
            remaining.learn(step, VGA)
            known, forgotten = (known + [step] * (1 + forgotten))[-WINDOW:], 0
        else:
            remaining.forget_newest()
            forgotten += bool(known)
            known = known[:-1]
        ordered = sorted(known)
        expected = ordered[-(len(known) // 10) - 1] if known else 0
        assert remaining.predict_ns() == expected


@pytest.mark.parametrize("frames", [10, 20, 30, 40, 50, 60, 100])
def test_one_slow_frame_in_ten_does_not_count(frames):
    durations = [500 * MS if number % 10 == 5 else 20 * MS for number in range(frames)]
    assert learned(durations).predict_ns() == 20 * MS


def test_more_than_one_slow_frame_in_ten_does():
    assert learned([20 * MS] * 44 + [500 * MS] * 6).predict_ns() == 500 * MS


def test_only_the_last_frames_count():
    assert learned([500 * MS] * 1000 + [20 * MS] * 45).predict_ns() == 20 * MS


def test_another_size_begins_anew():
    remaining = learned([500 * MS] * WINDOW)
    remaining.learn(20 * MS, (320, 240, "bgr8"))
    assert remaining.predict_ns() == 20 * MS
    remaining.learn(30 * MS, (320, 240, "rgb8"))
    assert remaining.predict_ns() == 30 * MS


def refusals_until_admitted(deadline, age_ns=10 * MS):
    for refusals in range(10 * WINDOW):
        if is_admitted(deadline, age_ns):
            return refusals
    return None


@given(st.lists(st.integers(0, 1000 * MS), max_size=200), st.integers(-LIMIT, LIMIT - MS))
def test_a_slow_spell_keeps_no_camera_out_for_ever(durations, age_ns):
    deadline, _, _ = make_deadline()
    deadline.remaining = learned(durations)
    assert refusals_until_admitted(deadline, age_ns) <= min(WINDOW, len(durations))


def test_after_a_slow_spell_one_trial_is_enough():
    deadline, _, _ = make_deadline()
    deadline.remaining = learned([500 * MS] * 1000)
    assert refusals_until_admitted(deadline) == WINDOW
    deadline.remaining.learn(20 * MS, VGA)
    assert refusals_until_admitted(deadline) == 0


def test_while_the_spell_lasts_trials_become_rare():
    deadline, _, _ = make_deadline()
    refusals = []
    for _ in range(60):
        refusals.append(refusals_until_admitted(deadline))
        deadline.remaining.learn(500 * MS, VGA)
    assert refusals == [*range(WINDOW), *[WINDOW] * 10]


def test_a_trial_of_another_size_stands_only_for_itself():
    deadline, _, _ = make_deadline()
    deadline.remaining = learned([500 * MS] * WINDOW)
    refusals_until_admitted(deadline)
    deadline.remaining.learn(400 * MS, (320, 240, "bgr8"))
    assert refusals_until_admitted(deadline) == 1


@pytest.mark.parametrize("age_ns", [None, LIMIT + 1, -LIMIT - 1])
def test_a_wrong_clock_says_nothing_about_the_engine(age_ns):
    deadline, _, _ = make_deadline()
    deadline.remaining = learned([20 * MS] * WINDOW)
    for _ in range(2 * WINDOW):
        assert not is_admitted(deadline, age_ns)
    assert deadline.remaining.predict_ns() == 20 * MS


@pytest.mark.timeout(30)
def test_any_thread_may_ask_while_the_worker_learns():
    remaining, errors, done = RemainingTime(), [], threading.Event()

    def ask():
        while not done.is_set():
            try:
                assert 0 <= remaining.predict_ns() <= 2
            except Exception as error:  # noqa: BLE001 - shown below
                errors.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20_000):
        remaining.learn(1 + number % 2, number % 3)
        remaining.forget_newest()
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
