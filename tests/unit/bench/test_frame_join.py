# SPDX-License-Identifier: Apache-2.0
"""What camera and subscriber say is joined by the stamp, whatever comes first or never."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.bench.camera.load import Load
from perception_node.bench.levels.camera_schedule import plan, to_system_ns
from perception_node.bench.levels.frame_join import FrameJoin
from perception_node.bench.levels.frame_records import (
    LATENCY,
    LATENCY_STAGES,
    RESULT,
    SENT,
    Heard,
    SentRecord,
    pack_heard,
    read_latency,
    take_heard,
    take_sent,
)
from perception_node.bench.levels.frames import (
    collect_stages,
    count_dropped,
    count_frames,
    make_timeline,
)
from perception_node.bench.levels.node_run import Looks, make_run
from perception_node.bench.process_watch import StolenTime, Usage
from perception_node.errors import MalformedMessage
from tests.builders import TYPES

MS = 1_000_000
DEADLINE_NS = 50 * MS
PERIOD_NS = 100 * MS
LOAD = Load(rate_hz=10, frames=4, warm_up_frames=1)


def latency_message(outcome="published", **stages_ms) -> bytes:
    """Serialize what the node says of a frame, with the serializer of rosbags."""
    kinds = TYPES.types
    pairs = [
        kinds["diagnostic_msgs/msg/KeyValue"](f"{name} (ms)", f"{stages_ms.get(name, 1.0):.3f}")
        for name in LATENCY_STAGES
    ]
    row = kinds["diagnostic_msgs/msg/DiagnosticStatus"](
        0, "perception: latency", outcome, "", pairs
    )
    header = kinds["std_msgs/msg/Header"](kinds["builtin_interfaces/msg/Time"](1, 2), "camera")
    array = kinds["diagnostic_msgs/msg/DiagnosticArray"](header, [row])
    return bytes(TYPES.serialize_cdr(array, "diagnostic_msgs/msg/DiagnosticArray"))


def sent(number, *, camera=0, late_ns=0) -> SentRecord:
    due_ns = number * PERIOD_NS + camera
    call_ns = due_ns + late_ns
    return SentRecord(camera, number, 7_000 + number, due_ns, call_ns, call_ns + MS)


def result(number, age_ms, *, camera=0) -> Heard:
    received_ns = number * PERIOD_NS + camera + round(age_ms * MS)
    return Heard(RESULT, camera, True, 7_000 + number, received_ns, b"")


def latency(number, payload, *, camera=0) -> Heard:
    return Heard(LATENCY, camera, False, 7_000 + number, 0, payload)


def join_of(*heard, frames=5) -> FrameJoin:
    join = FrameJoin(LOAD, DEADLINE_NS)
    for number in range(frames):
        join.add_sent(sent(number))
    join.add_heard(heard)
    return join


def test_stages_are_of_the_same_frame():
    stages_ms = dict.fromkeys(LATENCY_STAGES, 0.5) | {"wait": 1.0, "infer": 8.0}
    join = join_of(result(1, 15.0), latency(1, latency_message(**stages_ms)), result(2, 9.0))
    stages = collect_stages(join.measured())
    p50_ms = {name: d.summarize().max_ms for name, d in stages.items()}
    assert p50_ms["end to end"] == pytest.approx(15.0, rel=1e-3)
    assert p50_ms["own code"] == pytest.approx(2.0, rel=1e-3)
    assert p50_ms["overhead"] == pytest.approx(7.0, rel=1e-3)
    assert p50_ms["transport"] == pytest.approx(4.0, rel=1e-3)
    assert p50_ms["publish call"] == pytest.approx(1.0, rel=1e-3)
    assert (len(stages["end to end"]), len(stages["infer"])) == (2, 1)


def test_warm_up_is_left_out_and_order_is_that_of_the_schedule():
    join = FrameJoin(Load(rate_hz=10, frames=2, warm_up_frames=1, cameras=2), DEADLINE_NS)
    for number in (0, 2, 1):
        for camera in (1, 0):
            join.add_sent(sent(number, camera=camera))
    join.add_heard([result(1, 20.0, camera=1), result(0, 1.0)])
    frames = join.measured()
    assert [(f.sent.number, f.sent.camera) for f in frames] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    timeline = make_timeline(frames)
    assert timeline.times_s == pytest.approx([0.0, 0.0, 0.1, 0.1], abs=1e-6)
    assert [math.isnan(age) for age in timeline.ages_ms] == [True, False, True, True]
    assert timeline.ages_ms[1] == pytest.approx(20.0)


def test_a_result_may_come_before_its_frame_and_counts_once():
    join = FrameJoin(LOAD, DEADLINE_NS)
    join.add_heard([result(1, 5.0)])
    assert join.results == 0
    join.add_sent(sent(1))
    join.add_heard([result(1, 99.0)])
    assert join.results == 1
    assert join.measured()[0].age_ns == 5 * MS


def test_late_and_missing_answers_are_missed():
    join = join_of(result(1, 50.0), result(2, 50.1), result(4, 1.0))
    counts = count_frames(join.measured(), DEADLINE_NS)
    assert counts == {"sent": 4, "answered": 3, "missed": 2}


def test_every_frame_goes_one_way():
    ways = ["stale", "late", "codec", "failed"]
    heard = [latency(i + 1, latency_message(way)) for i, way in enumerate(ways)]
    counts = count_dropped(join_of(*heard, frames=7).measured(), lost=1)
    assert counts == {
        "superseded": 1,
        "stale": 1,
        "late": 1,
        "malformed": 1,
        "failed": 1,
        "lost": 1,
    }
    lost_on_the_way_back = join_of(latency(1, latency_message("published")), frames=2)
    assert count_dropped(lost_on_the_way_back.measured(), lost=5)["lost"] == 1


def test_progress_counts_what_is_certain():
    join = join_of(result(1, 5.0), result(2, 70.0))
    soon = join.progress(3 * PERIOD_NS + DEADLINE_NS // 2)
    assert (soon.sent, soon.answered, soon.missed, soon.total) == (4, 2, 1, 4)
    later = join.progress(9 * PERIOD_NS)
    assert (later.missed, later.seconds_left) == (3, 0.0)
    assert later.p99_ms == pytest.approx(69.35)
    much_later = join.progress(10**12)
    assert math.isnan(much_later.p99_ms)


@given(st.data())
def test_records_survive_any_pieces_of_the_pipe(data):
    heard = [result(1, 1.0), latency(2, b"abc" * 50), latency(3, b"")]
    stream = b"".join(map(pack_heard, heard))
    frames = [sent(number) for number in range(3)]
    camera_stream = b"".join(SENT.pack(*frame) for frame in frames)
    for whole, take, expected in (
        (stream, take_heard, heard),
        (camera_stream, take_sent, frames),
    ):
        buffer, taken, position = bytearray(), [], 0
        while position < len(whole):
            step = data.draw(st.integers(1, len(whole)))
            buffer += whole[position : position + step]
            position += step
            taken += list(take(buffer))
        assert taken == expected
        assert not buffer


def test_other_messages_are_no_latency():
    assert read_latency(latency_message("late", wait=2.5)).stages_ns["wait"] == 2_500_000
    for message in (
        b"",
        latency_message()[:90],
        latency_message().replace(b"infer (", b"other ("),
    ):
        with pytest.raises(MalformedMessage):
            read_latency(message)


@given(rate_hz=st.floats(1.0, 1000.0), cameras=st.integers(1, 8), frames=st.integers(1, 20))
def test_cameras_take_turns_evenly(rate_hz, cameras, frames):
    load = Load(rate_hz=rate_hz, frames=frames, warm_up_frames=2, cameras=cameras)
    turns = list(plan(load))
    assert len(turns) == load.total + 2 * cameras
    assert {turn.camera for turn in turns} == set(range(cameras))
    step_ns = 1e9 / rate_hz / cameras
    assert all(abs(b.due_ns - a.due_ns - step_ns) <= 1.0 for a, b in pairwise(turns))


def test_stamps_are_on_the_clock_of_the_system():
    moments_ns = [to_system_ns(steady_ns) for steady_ns in (0, 10**9)]
    assert moments_ns[1] - moments_ns[0] == pytest.approx(10**9, abs=10**8)


LOG = [
    "[INFO] [1.5] [perception]: frames of /a: received 4 = published 2 + superseded 2 + ...",
    "[INFO] [1.5] [perception]: frames of /b: received 0 = published 1 + superseded 0 + ...",
]


def run_of(join, looks=None, **changes):
    known = {"subject": "node", "deadline_ns": DEADLINE_NS, "log": (), "exit_code": 0}
    return make_run(join, looks or Looks(), **{**known, **changes})


def test_a_run_says_why_it_is_not_to_be_trusted():
    looks = Looks()
    looks.add(Usage(0, 1.0, 10, 5, 1, {7: 0.9}), StolenTime(0, 100))
    looks.add(Usage(10 * PERIOD_NS, 1.5, 30, 25, 11, {7: 1.3, 8: 0.1}), StolenTime(5, 200))
    join = join_of(result(1, 5.0), result(2, 5.0), latency(1, latency_message()))
    run = run_of(join, looks, log=LOG, exit_code=-9)
    assert run.counts["lost"] == 1
    assert run.resources == {
        "cpu_ms_per_frame": 250.0,
        "page_faults_per_frame": 10.0,
        "voluntary_switches_per_frame": 10.0,
        "involuntary_switches_per_frame": 5.0,
        "other_threads_ms_per_image": pytest.approx(100.0 / 4),  # the first was sent before
    }
    assert [remark.split(" ", 1)[0] for remark in run.remarks] == ["1", "node", "5.0%"]


def test_an_unhurried_run_has_no_remarks():
    looks = Looks()
    for second in (0, 10):
        looks.add(Usage(second * 10**9, second / 10, 0, 0, 0, {}), StolenTime(0, second))
    run = run_of(join_of(result(1, 5.0)), looks)
    assert run.remarks == ()
    assert "superseded" not in run.counts


def test_a_slow_camera_is_told():
    load = Load(rate_hz=10, frames=20, warm_up_frames=0)
    join = FrameJoin(load, DEADLINE_NS)
    for number in range(20):
        join.add_sent(sent(number, late_ns=number * PERIOD_NS))
    remarks = run_of(join).remarks
    assert remarks[0].startswith("the camera could not keep its schedule")
    assert remarks[1] == "the camera sent only 5.0 of 10.0 frames per second"


def test_an_interrupted_run_leaves_out_what_may_still_be_answered():
    join, end_ns = join_of(result(1, 5.0)), 4 * PERIOD_NS + DEADLINE_NS
    run = run_of(join, interrupted_ns=end_ns, log=LOG)
    assert run.counts == {"sent": 3, "answered": 1, "missed": 2}
    assert run.remarks == ()
    assert run_of(join_of(frames=1), interrupted_ns=end_ns) is None
