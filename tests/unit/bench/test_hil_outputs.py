# SPDX-License-Identifier: Apache-2.0
"""What a run leaves: bag, JSON, JUnit XML, page, and the view while it goes on."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import JUnitXml

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault, Interval
from perception_node.bench.check import Check
from perception_node.bench.hil import junit, page, report_json
from perception_node.bench.hil import recorder as recording
from perception_node.bench.hil.live import RunView, Tally
from perception_node.bench.hil.recorder import (
    DiagnosticChange,
    HilRecord,
    Recorder,
    SentFrame,
    StateChange,
    StepDone,
)
from perception_node.bench.hil.round_trips import find_effects, join
from perception_node.bench.hil.scenario import (
    CameraPlan,
    DeviceUnderTest,
    Expectations,
    Scenario,
)
from perception_node.bench.hil.scenario_file import SHIPPED, load_scenario
from perception_node.bench.hil.svg import thin_out
from perception_node.bench.reporting.durations import Durations
from perception_node.errors import ConfigError
from perception_node.rehearsal.heard import Result
from perception_node.ros.definitions import CLASSIFICATION_TYPE, make_typestore
from perception_node.terminal.console import make_console
from perception_node.wire.bags import open_bag
from tests.builders import ROOT, START_NS, image_message, string_message

RATE_HZ, BEGIN_NS, LATENCY_NS = 20, 7_000 * SECOND_NS, 12_000_000
SLOWEST_NS = 87_000_000
IMAGE, DIAGNOSTICS = "sensor_msgs/msg/Image", "diagnostic_msgs/msg/DiagnosticArray"
SCENARIO = Scenario(
    name="made_up",
    description="Nothing of it <em>happened</em> & all of it is shown.",
    node=DeviceUnderTest(),
    camera=CameraPlan(rate_hz=RATE_HZ, seconds=12.0),
    faults=(),
    random_faults=None,
    steps=(),
    expect=Expectations(deadline_ms=80.0, latency_ms={"p50": 30.0, "max": 60.0}),
    given={"name": "made_up"},
)
CHECKS = [
    Check("latency p50", "12.0 ms", "at most 30 ms", is_ok=True),
    Check("latency max", "87.0 ms", "at most <60> ms", is_ok=False),
]


def make_record(seconds=12, **changes):
    """A camera that is off from 4 to 6 s; the frame at 8 s is slow, that at 9 s gets no answer."""
    off = Interval(Fault.OFF, BEGIN_NS + 4 * SECOND_NS, BEGIN_NS + 6 * SECOND_NS)
    noise = Interval(Fault.GARBAGE, BEGIN_NS + 10 * SECOND_NS, BEGIN_NS + 11 * SECOND_NS)
    sent, answers = [], []
    for number in range(seconds * RATE_HZ):
        due_ns = BEGIN_NS + number * SECOND_NS // RATE_HZ
        fault = Fault.GARBAGE if noise.begin_ns <= due_ns < noise.end_ns else Fault.OK
        if off.begin_ns <= due_ns < off.end_ns:
            continue
        stamp_ns = START_NS + due_ns
        sent.append(SentFrame(stamp_ns, due_ns, due_ns, fault, number % 4))
        latency_ns = SLOWEST_NS if number == 8 * RATE_HZ else LATENCY_NS
        if fault is Fault.OK and number != 9 * RATE_HZ:
            answers.append(Result(stamp_ns, due_ns + latency_ns, "tabby", 0.8))
    record = HilRecord(
        begin_ns=BEGIN_NS,
        end_ns=BEGIN_NS + seconds * SECOND_NS,
        complete=True,
        faults=[off, noise],
        sent=sent,
        answers=answers,
        diagnostics=[
            DiagnosticChange(BEGIN_NS - 1, "input", "OK", "images arrive"),
            DiagnosticChange(off.begin_ns + 1, "input", "ERROR", "Timeout: <no image>"),
            DiagnosticChange(off.end_ns + 1, "input", "OK", "images arrive"),
            DiagnosticChange(noise.begin_ns + 1, "input", "WARN", "1 unusable image(s)"),
        ],
        steps=[StepDone(BEGIN_NS + 7 * SECOND_NS, "deactivate", 0.1, "<refused>")],
        states=[StateChange(BEGIN_NS - 1, "active")],
        device={"method": "efficientnet_lite0 <on> a CPU", "deadline_ms": "100"},
        log=["[INFO] active <script>"],
    )
    return replace(record, **changes)


RECORD = make_record()
JUDGED = 12 * RATE_HZ - 3 * RATE_HZ  # without what is off and noise


def read(folder):
    with open_bag(folder) as bag:
        return list(bag.messages(list(bag.topics)))


def classification(stamp_s):
    types = make_typestore()
    message = types.types[CLASSIFICATION_TYPE](
        header=types.types["std_msgs/msg/Header"](
            stamp=types.types["builtin_interfaces/msg/Time"](sec=stamp_s, nanosec=0),
            frame_id="camera",
        ),
        results=[types.types["vision_msgs/msg/ObjectHypothesis"](class_id="281", score=0.5)],
    )
    return bytes(types.serialize_cdr(message, CLASSIFICATION_TYPE))


def test_bag_holds_what_was_written(tmp_path):
    image = image_message(np.zeros((4, 4, 3), np.uint8), "bgr8")
    with Recorder(tmp_path / "run" / "bag") as recorder:
        recorder.write("image", IMAGE, image, START_NS)
        recorder.write("/perception/classification", CLASSIFICATION_TYPE, classification(5), 7)
    messages = {message.topic: message for message in read(tmp_path / "run" / "bag")}
    assert messages["/image"].data == image
    assert messages["/image"].time_ns == START_NS
    result = messages["/perception/classification"]
    read_back = make_typestore().deserialize_cdr(result.data, result.type_name)
    assert read_back.results[0].class_id == "281"
    assert recorder.remarks == ()


def test_full_bag_leaves_out_images_only(tmp_path):
    image = image_message(np.zeros((8, 8, 3), np.uint8), "bgr8")
    with Recorder(tmp_path / "bag", max_bytes=2 * len(image)) as recorder:
        for number in range(5):
            recorder.write("/image", IMAGE, image, number)
            recorder.write("/answer", CLASSIFICATION_TYPE, classification(number), number)
    topics = Counter(message.topic for message in read(tmp_path / "bag"))
    assert topics["/answer"] == 5
    assert 1 <= topics["/image"] <= 2
    assert f"{5 - topics['/image']} later images" in recorder.remarks[0]


def test_writing_never_waits_for_the_disk(tmp_path, monkeypatch):
    image = image_message(np.zeros((8, 8, 3), np.uint8), "bgr8")
    monkeypatch.setattr(recording, "MAX_WAITING_BYTES", 3 * len(image))
    recorder = Recorder(tmp_path / "bag")
    for number in range(10):  # nobody writes yet: the disk could not be slower
        recorder.write("/image", IMAGE, image, number)
    recorder.write("/answer", CLASSIFICATION_TYPE, classification(1), 11)
    with recorder:
        pass
    assert [message.topic for message in read(tmp_path / "bag")] == [*["/image"] * 3, "/answer"]
    assert recorder.remarks == ("bag: 7 images are left out, the disk is too slow",)


def test_bag_of_nothing_can_be_read(tmp_path):
    with Recorder(tmp_path / "bag"):
        pass
    assert read(tmp_path / "bag") == []


def test_bag_outlives_a_message_that_it_cannot_take(tmp_path):
    with Recorder(tmp_path / "bag") as recorder:
        recorder.write("/words", "std_msgs/msg/String", string_message("one"), 1)
        recorder.write("/secret", "nobody/msg/Knows", b"\0" * 8, 2)
    assert [message.topic for message in read(tmp_path / "bag")] == ["/words"]
    assert "ends early" in recorder.remarks[0]


def test_bag_replaces_nothing(tmp_path):
    with pytest.raises(ConfigError, match="exists already; choose another folder"):
        Recorder(tmp_path)


def test_round_trips_are_joined_by_stamps():
    trips = join(make_record(answers=[*RECORD.answers, RECORD.answers[0]._replace(received_ns=0)]))
    assert np.count_nonzero(~trips.is_answered) == RATE_HZ + 1  # noise, and one
    assert trips.latency_ms[0] == LATENCY_NS / 1e6  # the first answer counts
    assert np.nanmax(trips.latency_ms) == SLOWEST_NS / 1e6


def test_effects_of_faults():
    off, noise = find_effects(RECORD, join(RECORD))
    assert (off.fault, off.begin_s, off.end_s, off.sent, off.answered) == ("off", 4, 6, 0, 0)
    assert off.recovery_s == pytest.approx(LATENCY_NS / 1e9)
    assert (noise.sent, noise.answered) == (RATE_HZ, 0)
    early = make_record(end_ns=BEGIN_NS + 5 * SECOND_NS)
    assert [effect.fault for effect in find_effects(early, join(early))] == ["off"]
    unanswered = make_record(answers=[])
    assert all(np.isinf(e.recovery_s) for e in find_effects(unanswered, join(unanswered)))


def test_report_is_json_that_says_it_all():
    report = report_json.to_report(SCENARIO, RECORD, CHECKS, ["bag: full"])
    report = json.loads(json.dumps(report, allow_nan=False))
    assert (report["format"], report["version"]) == ("perception_node hil report", 1)
    assert (report["complete"], report["passed"]) == (True, False)
    assert report["counts"]["sent"] == len(RECORD.sent)
    assert report["counts"]["answered"] == len(RECORD.answers)
    everything = Durations.decode(report["latencies"]["all"]["histogram"])
    assert len(everything) == len(RECORD.answers)
    assert report["latencies"]["judged"]["max_ms"] == pytest.approx(87.0, rel=2e-3)
    assert [fault["fault"] for fault in report["faults"]] == ["off", "garbage"]
    assert report["steps"][0]["problem"] == "<refused>"
    assert report["diagnostics"][1]["at_s"] == pytest.approx(4.0)
    assert report["checks"][1]["is_ok"] is False
    assert report["remarks"] == ["bag: full"]
    assert report["host"]["versions"]["perception_node"]


def test_frames_that_the_network_held_back_are_said():
    record = make_record(held_back=[BEGIN_NS + 3 * SECOND_NS])
    counts = report_json.to_report(SCENARIO, record, [])["counts"]
    before = report_json.to_report(SCENARIO, RECORD, [])["counts"]
    assert (counts["held_back"], counts["judged"]) == (1, before["judged"] + 1)
    assert "1 frame(s) were not sent, because the network" in page.to_html(SCENARIO, record, [])


def test_report_of_nothing_has_null_for_what_is_not_known():
    report = report_json.to_report(SCENARIO, HilRecord(), [])
    assert report["latencies"]["all"]["p50_ms"] is None
    assert report["passed"] is False  # it is not complete
    json.dumps(report, allow_nan=False)


def test_junit_has_one_case_for_each_check():
    (suite,) = JUnitXml.fromstring(junit.to_xml("made_up", CHECKS, 12.0))
    good, bad = list(suite)
    assert (suite.tests, suite.failures, suite.errors) == (2, 1, 0)
    assert good.result == []
    assert bad.result[0].message == "found 87.0 ms, demanded at most <60> ms"


def test_junit_of_a_part_is_an_error():
    strange = Check("a\x00b\x1b\ud800", "\n", "", is_ok=False)  # nothing that XML can say
    written = junit.to_xml("made_up", [strange], 3.5, is_complete=False)
    (suite,) = JUnitXml.fromstring(written)
    assert (suite.tests, suite.failures, suite.errors) == (2, 1, 1)
    assert "3.5 s" in list(suite)[1].result[0].message


def drawings(html):
    texts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    return [ET.fromstring(text) for text in texts]


def test_page_needs_nothing_else_and_escapes_everything():
    html = page.to_html(SCENARIO, RECORD, CHECKS, ["bag: <full>"])
    assert "<script" not in html
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", html.replace("xlink:", ""))
    assert not re.search(r"url\((?!#)", html)
    for text in ("<em>", "<on>", "<60>", "<refused>", "<no image>", "<full>"):
        assert text not in html
        assert text.replace("<", "&lt;").replace(">", "&gt;") in html


def test_page_says_the_verdict_in_words():
    passed = page.to_html(SCENARIO, RECORD, CHECKS[:1])
    assert "All 1 checks are met." in passed
    failed = page.to_html(SCENARIO, RECORD, CHECKS)
    assert "1 of 2 checks are met. latency max: found 87.0 ms" in failed
    assert failed.index("latency max") < failed.index("latency p50")  # what failed comes first
    partial = page.to_html(SCENARIO, make_record(complete=False), CHECKS[:1])
    assert "Interrupted" in partial
    assert "Passed" not in partial


def test_drawings_are_valid_and_their_ids_are_their_own():
    html = page.to_html(SCENARIO, RECORD, CHECKS)
    wide, narrow, distribution = drawings(html)
    ids = [e.get("id") for d in (wide, narrow, distribution) for e in d.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    words = " ".join(wide.itertext())
    for word in ("off", "garbage", "deactivate", "active", "input", "deadline 80 ms"):
        assert word in words
    assert "#0b0d" not in html  # each colour is the page's


def test_same_run_gives_the_same_page():
    assert page.to_html(SCENARIO, RECORD, CHECKS) == page.to_html(SCENARIO, RECORD, CHECKS)


def test_page_of_nothing_says_so():
    html = page.to_html(SCENARIO, HilRecord(), [])
    assert "nothing was judged" in html
    assert "no frame was answered" in html


def test_page_of_an_hour_stays_small():
    hour = make_record(3600, faults=RECORD.faults * 150)
    html = page.to_html(SCENARIO, hour, CHECKS)
    assert len(html) < 5_000_000
    assert "150 times" in html
    assert "are drawn: of each moment the slowest" in html


@given(
    st.lists(st.floats(0.1, 1e4), min_size=1, max_size=400),
    st.integers(12, 60),
)
def test_thinning_keeps_the_extremes(values, most):
    values_ms = np.array(values)
    chosen = thin_out(np.arange(len(values)) / 30.0, values_ms, most)
    assert len(chosen) <= max(most, 1)
    assert list(chosen) == sorted(set(chosen))
    assert values_ms[chosen].max() == values_ms.max()
    assert values_ms[chosen].min() == values_ms.min()


def grow():
    """Yield what was known, and when, four times a second."""
    for now_ns in range(BEGIN_NS, RECORD.end_ns + 1, SECOND_NS // 4):
        yield (
            now_ns,
            make_record(
                sent=[frame for frame in RECORD.sent if frame.sent_ns <= now_ns],
                answers=[answer for answer in RECORD.answers if answer.received_ns <= now_ns],
                diagnostics=[d for d in RECORD.diagnostics if d.time_ns <= now_ns],
            ),
        )


def test_tally_counts_each_entry_once():
    tally, faults = Tally(80.0), set()
    for now_ns, growing in grow():
        tally.update(growing, now_ns)
        faults.add((tally.fault, BEGIN_NS + 4 * SECOND_NS <= now_ns < BEGIN_NS + 6 * SECOND_NS))
    assert faults == {(Fault.OFF, True), (Fault.OK, False), (Fault.GARBAGE, False)}
    assert (tally.sent, tally.answered) == (len(RECORD.sent), len(RECORD.answers))
    assert tally.missed == RATE_HZ + 2  # noise, the slow one, and one without an answer
    assert (tally.state, tally.alarms) == ("active", {"input": "WARN"})
    p50_ms, p99_ms = tally.percentiles_ms()
    assert p50_ms == pytest.approx(12.0)
    assert p99_ms > p50_ms


def test_live_view_prints_lines_where_there_is_no_terminal():
    console = make_console(file=io.StringIO(), force_terminal=False)
    moments = iter([now_ns for now_ns, _ in grow()])
    with RunView(console, SCENARIO, lambda: next(moments)) as view:
        view.update(HilRecord())
        for _, growing in grow():
            view.update(growing)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3  # two in twelve seconds, and the last
    assert lines[-1].startswith("time: 12 of 12 s, camera: ok, state: active, sent: 200")


def test_live_view_draws_on_a_terminal():
    console = make_console(file=io.StringIO(), force_terminal=True, width=120)
    with RunView(console, SCENARIO, lambda: RECORD.end_ns) as view:
        view.update(RECORD)
    assert "input WARN" in console.file.getvalue()


EXAMPLES = SHIPPED.with_name("examples")
FILES = sorted([*SHIPPED.glob("*.yaml"), *EXAMPLES.glob("*.yaml")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_scenarios_are_valid(path):
    assert load_scenario(path).name == path.stem


def test_reference_names_every_key():
    reference = (ROOT / "docs/hil.md").read_text(encoding="utf-8")
    schema = json.loads((SHIPPED.parent / "scenario.schema.json").read_bytes())

    def keys(part):
        if isinstance(part, dict):
            yield from part.get("properties", {})
            for value in part.values():
                yield from keys(value)
        elif isinstance(part, list):
            for value in part:
                yield from keys(value)

    missing = {key for key in keys(schema) if f"`{key}`" not in reference}
    words = {*schema["definitions"]["fault"]["enum"], *schema["definitions"]["step"]["enum"]}
    missing |= {word for word in words if f"`{word}`" not in reference}
    assert not missing
