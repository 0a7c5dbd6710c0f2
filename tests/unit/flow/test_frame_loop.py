# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import threading
import time
from typing import NamedTuple

import pytest

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import CameraConfig, LatencyConfig, OutputConfig
from perception_node.engines.pipeline import StageTimes
from perception_node.errors import EngineError, InvalidStamp, UndecodableImage
from perception_node.flow.accounts import FrameCounters, add_up
from perception_node.flow.camera import Arrival, Camera
from perception_node.flow.deadline import WINDOW, Deadline
from perception_node.flow.frame_loop import FrameLoop
from tests.newest_images import Images

pytestmark = pytest.mark.timeout(30)

MS = 1_000_000
NOW = 1_700_000_000_000 * MS
ONE = NodeConfig()
TWO = NodeConfig(cameras=CameraConfig(image_topics=("front/image", "rear/image")))


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now_ns=NOW):
        self.now_ns = now_ns

    def __call__(self):
        return self.now_ns

    def pass_ms(self, milliseconds):
        self.now_ns += milliseconds * MS


class Frame(NamedTuple):
    """A message is text: a name, and how old its stamp is when the test begins, in ms."""

    name: str
    stamp_ns: int
    frame_id: str = "camera"
    width: int = 640
    height: int = 480
    encoding: str = "bgr8"
    handler: object = None


class Prediction(NamedTuple):
    name: str
    times: StageTimes = StageTimes(1, 2, 3)


class OpenImage(NamedTuple):
    frame: Frame
    stamp_ns: int
    frame_id: str
    read: object


class Handler:
    """Notes what it was asked to do; ``gate`` holds the engine up while it is closed."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.published, self.finished, self.reported, self.traces = [], [], [], []
        self.threads, self.configs = set(), []
        self.raises = {}
        self.during = {}  # what happens in a stage, such as time that passes

    def enter(self, stage, name):
        self.threads.add(threading.current_thread().name)
        self.during.get((stage, name), lambda: None)()
        if error := self.raises.get((stage, name)):
            raise error

    def open(self, message):
        name, _, age_ms = message.decode().partition("@")
        frame = Frame(name, NOW - int(age_ms or 0) * MS)
        self.enter("header", frame.name)

        def read():
            self.enter("read", frame.name)
            return frame._replace(handler=self)

        return OpenImage(frame, frame.stamp_ns, frame.frame_id, read)

    def classify(self, frame, limits):
        self.busy.set()
        assert self.gate.wait(20)
        self.configs.append([limits])
        self.enter("classify", frame.name)
        return Prediction(frame.name)

    def compose(self, prediction, config):
        self.configs[-1].append((config.top_k, config.threshold))
        self.enter("compose", prediction.name)
        return prediction.name.upper()

    def send(self, result):
        self.enter("send", result.lower())
        self.published.append(result)

    def show(self, frame, prediction):
        self.enter("after", frame.name)
        self.finished.append((frame.name, prediction.name))

    def record(self, trace):
        self.traces.append(trace)
        self.enter("record", "")

    def report(self, error):
        self.reported.append(error)
        self.enter("report", "")


class Engine:
    """Lets the handler of a frame's camera classify it."""

    def run(self, frame, *, top_k, threshold):
        return frame.handler.classify(frame, (top_k, threshold))


class Setup:
    """A loop with cameras whose clocks stand still."""

    def __init__(self, config=ONE, get_config=None, *, runs=True):
        self.clock, self.steady = Clock(), Clock(1000 * MS)
        self.handlers = [Handler() for _ in config.cameras.image_topics]
        self.cameras = [
            Camera(
                handler.open,
                handler.compose,
                handler.send,
                handler.report,
                FrameCounters(),
                Deadline("stamp", self.clock, self.steady),
                handler.show,
                handler.record,
            )
            for handler in self.handlers
        ]
        self.handler = self.handlers[0]
        self.images = Images(self.steady)
        self.sent = [0 for _ in self.cameras]
        self.loop = FrameLoop(
            self.cameras, self.images, get_config or (lambda: config), self.steady
        )
        self.loop.begin()
        self.ended = []
        self.thread = threading.Thread(target=self._run, name="the loop")
        if runs:
            self.thread.start()

    def _run(self, frame=None):
        self.ended.append(self.loop.run(Engine(), lambda _frame, _error: False, frame))

    def counts(self, camera=0):
        return self.cameras[camera].counters.snapshot()

    def pass_ms(self, milliseconds):
        self.clock.pass_ms(milliseconds)
        self.steady.pass_ms(milliseconds)

    def send(self, camera, message):
        self.sent[camera] += 1
        self.images.put(camera, message)

    def wait_until_idle(self):
        """Wait until every message is accounted for and its record is made as well."""
        end = time.monotonic() + 10
        while any(
            self.counts(index).in_flight
            or self.counts(index).received < self.sent[index]
            or len(handler.traces) < self.counts(index).received - self.counts(index).superseded
            for index, handler in enumerate(self.handlers)
        ):
            assert time.monotonic() < end
            time.sleep(0.001)

    def feed(self, *messages, camera=0):
        for message in messages:
            self.send(camera, message)
            self.wait_until_idle()

    def occupy(self, camera=0, message=b"first"):
        """Let the loop begin a frame that it finishes when the gate is opened."""
        self.handlers[camera].gate.clear()
        self.handlers[camera].busy.clear()
        self.send(camera, message)
        assert self.handlers[camera].busy.wait(5)

    def stop(self, timeout_s=5.0):
        self.loop.stop()
        self.thread.join(timeout_s)
        assert not self.thread.is_alive()
        return self.counts()


@pytest.fixture
def make():
    setups = []

    def make_setup(*arguments, **options):
        setups.append(Setup(*arguments, **options))
        return setups[-1]

    yield make_setup
    for setup in setups:
        for handler in setup.handlers:
            handler.gate.set()
        setup.stop()


# One camera


def test_every_message_is_classified_in_one_thread(make):
    setup = make()
    setup.feed(b"a", b"b", b"c")
    counts = setup.stop()
    assert setup.handler.published == ["A", "B", "C"]
    assert setup.handler.finished == [("a", "a"), ("b", "b"), ("c", "c")]
    assert setup.handler.threads == {"the loop"}
    assert (counts.received, counts.published, counts.in_flight) == (3, 3, 0)


def test_while_one_frame_is_worked_on_only_the_newest_waits(make):
    setup = make()
    setup.occupy()
    for number in range(100):
        setup.send(0, b"%d" % number)
    counts = setup.counts()
    assert (counts.received, counts.superseded, counts.in_flight) == (1, 0, 1)
    setup.handler.gate.set()
    setup.wait_until_idle()
    assert setup.handler.published == ["FIRST", "99"]
    counts = setup.stop()
    assert (counts.received, counts.superseded, counts.published) == (101, 99, 2)
    assert counts.doubt == ""


@pytest.mark.parametrize("stage", ["header", "read", "classify", "compose", "send"])
@pytest.mark.parametrize(
    ("error", "malformed", "failed"),
    [
        (UndecodableImage("damaged"), 1, 0),
        (EngineError("out of memory"), 0, 1),
        (ZeroDivisionError("a bug"), 0, 1),
    ],
)
def test_a_frame_that_is_lost_is_counted_and_reported_once(make, stage, error, malformed, failed):
    setup = make()
    setup.handler.raises = {(stage, "bad"): error}
    setup.feed(b"good", b"bad", b"better")
    counts = setup.stop()
    assert setup.handler.published == ["GOOD", "BETTER"]
    assert setup.handler.reported == [error]
    assert (counts.received, counts.published, counts.in_flight) == (3, 2, 0)
    assert (counts.malformed, counts.failed) == (malformed, failed)
    assert counts.malformed_by_kind == ({"codec": 1} if malformed else {})
    assert setup.cameras[0].stream.unusable == ("damaged" if malformed else "")
    outcome = "codec" if malformed else "failed"
    assert [trace.outcome for trace in setup.handler.traces] == ["published", outcome, "published"]


@pytest.mark.parametrize("error", [UndecodableImage("late"), OSError("no space")])
def test_what_fails_after_publishing_does_not_change_the_account(make, error):
    setup = make()
    setup.handler.raises = {("after", "a"): error}
    setup.feed(b"a", b"b")
    counts = setup.stop()
    assert setup.handler.published == ["A", "B"]
    assert setup.handler.reported == [error]
    assert setup.handler.finished == [("b", "b")]
    assert (counts.published, counts.malformed, counts.failed) == (2, 0, 0)


@pytest.mark.parametrize("stage", ["report", "record"])
@pytest.mark.parametrize("lost_in", ["read", "after", ""])
def test_a_report_that_fails_does_not_end_the_thread(make, stage, lost_in):
    setup = make()
    setup.handler.raises = {(stage, ""): OSError("no space"), (lost_in, "a"): EngineError("x")}
    setup.feed(b"a", b"b")
    counts = setup.stop()
    assert setup.handler.published == (["B"] if lost_in == "read" else ["A", "B"])
    assert (counts.received, counts.in_flight) == (2, 0)
    assert len(setup.handler.reported) == (1 if lost_in else 0)
    assert len(setup.handler.traces) == 2


# Stopping


def test_stopping_finishes_the_frame_and_takes_no_other(make):
    setup = make()
    setup.occupy(message=b"current")
    setup.send(0, b"waiting")
    setup.loop.stop()
    setup.handler.gate.set()
    counts = setup.stop()
    assert setup.ended == [True]
    assert setup.handler.published == ["CURRENT"]
    assert (counts.received, counts.published, counts.in_flight) == (1, 1, 0)


def test_an_idle_loop_stops(make):
    make().stop()


def test_a_wait_that_fails_is_reported_and_tried_again(make):
    setup = make()
    failures = [OSError("the middleware failed"), OSError("the middleware failed")]
    wait = setup.images.wait
    setup.images.wait = lambda: wait() if not failures else (_ for _ in ()).throw(failures.pop())
    setup.feed(b"a", b"b", b"c")
    setup.stop()
    assert setup.handler.published == ["A", "B", "C"]
    assert [str(error) for error in setup.handler.reported] == ["the middleware failed"] * 2


# Taking a frame away from an engine that hangs


def test_a_frame_that_was_taken_away_is_neither_published_nor_counted(make):
    setup = make()
    setup.occupy(message=b"slow")
    frame = setup.loop.at_hand
    assert frame.claim()
    setup.handler.gate.set()
    setup.thread.join(5)
    assert setup.ended == [False]
    assert (setup.handler.published, setup.handler.traces) == ([], [])
    assert setup.counts().in_flight == 1
    another = threading.Thread(target=setup._run, args=(frame.with_new_claim(),))
    another.start()
    setup.wait_until_idle()
    setup.loop.stop()
    another.join(5)
    assert setup.ended == [False, True]
    assert setup.handler.published == ["SLOW"]
    assert not frame.claim(), "the old claim stays worthless"


def test_a_frame_is_ended_by_one_of_many_threads(make):
    setup = make()
    setup.occupy()
    frame, got, start = setup.loop.at_hand, [], threading.Barrier(8)

    def claim():
        start.wait()
        got.append(frame.claim())

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


# The deadline


def test_an_old_frame_costs_no_inference(make):
    setup = make()
    setup.feed(b"old@100", b"older@101", b"ahead@-101", b"next@0")
    counts = setup.stop()  # 1 of 100 ms is kept back for publishing
    assert setup.handler.published == ["NEXT"]
    assert (counts.published, counts.late, counts.stale) == (1, 0, 3)
    assert len(setup.handler.configs) == 1
    assert [error.kind for error in setup.handler.reported] == ["stale", "stale", "stale"]
    assert [trace.age_ns for trace in setup.handler.traces] == [100 * MS, 101 * MS, -101 * MS, 0]


def test_a_result_that_is_too_old_is_not_published(make):
    setup = make()
    setup.handler.during = {("classify", "slow"): lambda: setup.pass_ms(91)}
    setup.feed(b"slow@9")
    counts = setup.stop()
    assert (setup.handler.published, setup.handler.finished) == ([], [])
    assert (counts.late, counts.in_flight) == (1, 0)
    trace = setup.handler.traces[0]
    assert (trace.outcome, trace.age_ns, trace.infer_ns) == ("late", 100 * MS, 2)
    assert setup.cameras[0].ages.summarize() is None


@pytest.mark.parametrize("stage", ["classify", "compose"])
def test_all_that_happens_before_publishing_counts(make, stage):
    setup = make()
    setup.handler.during = {(stage, "slow"): lambda: setup.pass_ms(101)}
    setup.feed(b"slow")
    assert setup.stop().late == 1


def test_an_image_whose_decoding_misses_the_deadline_is_no_fault_of_the_engine(make):
    setup = make()
    setup.handler.during = {("read", "slow"): lambda: setup.pass_ms(95)}
    setup.feed(b"slow@5", b"next@-95")
    counts = setup.stop()
    assert setup.handler.published == ["NEXT"]
    assert (counts.published, counts.malformed, counts.in_flight) == (1, 1, 0)
    assert counts.malformed_by_kind == {"slow_codec": 1}
    assert len(setup.handler.configs) == 1, "the engine has seen it"
    assert str(setup.handler.reported[0]) == (
        "decoding took 95.0 ms, then it was 100.0 ms old, the deadline is 100 ms; "
        "send smaller or raw images, or raise deadline_ms"
    )
    trace = setup.handler.traces[0]
    assert (trace.outcome, trace.age_ns, trace.read_ns) == ("slow_codec", 100 * MS, 95 * MS)


def test_decoding_that_was_too_slow_teaches_nothing(make):
    setup = make()
    setup.handler.during = {("read", "slow"): lambda: setup.pass_ms(400)}
    setup.feed(b"slow", b"next@-400")
    setup.stop()
    assert setup.handler.published == ["NEXT"]
    assert setup.cameras[0].deadline.remaining.predict_ns() == 0


def test_while_an_image_is_decoded_no_engine_is_at_work(make):
    """So the supervisor blames none, however long it takes."""
    setup = make()
    seen = []
    setup.handler.during = {("read", "slow"): lambda: seen.append(setup.loop.at_hand)}
    setup.feed(b"first", b"slow", b"last")
    setup.stop()
    assert seen == [None]
    assert setup.handler.published == ["FIRST", "SLOW", "LAST"]


def test_what_took_too_long_teaches_how_long_it_takes(make):
    setup = make()
    setup.handler.during = {
        ("classify", "slow"): lambda: setup.pass_ms(60),
        ("send", "slow"): lambda: setup.pass_ms(1),
    }
    setup.feed(b"slow")
    setup.clock.now_ns = NOW
    setup.feed(b"hopeless@40", b"possible@39")
    counts = setup.stop()
    assert (counts.published, counts.stale) == (2, 1)
    assert setup.handler.published == ["SLOW", "POSSIBLE"]


def test_an_age_that_was_dropped_is_none_of_the_ages(make):
    setup = make()
    setup.feed(b"a@10", b"b@500", b"c@20")
    assert setup.cameras[0].ages.summarize().max_ms == 20.0


def test_a_slow_spell_keeps_frames_out_only_for_a_while(make):
    setup = make()
    setup.handler.during = {("classify", "slow"): lambda: setup.steady.pass_ms(500)}
    setup.feed(*[b"slow"] * 1500)
    while_slow = setup.counts()
    assert while_slow.stale > 0.95 * 1500  # trials become rare
    setup.feed(*[b"fast"] * (2 * WINDOW))
    counts = setup.stop()
    assert counts.stale - while_slow.stale <= WINDOW
    assert setup.handler.published[-WINDOW:] == ["FAST"] * WINDOW


def test_a_clock_that_stands_at_0_makes_frames_stale(make):
    setup = make()
    setup.clock.now_ns = 0
    setup.feed(b"a")
    setup.clock.now_ns = NOW
    setup.feed(b"b")
    assert setup.stop().stale == 1
    assert setup.handler.published == ["B"]
    assert [trace.age_ns for trace in setup.handler.traces] == [None, 0]


def test_a_stamp_of_0_is_malformed(make):
    setup = make()
    setup.feed(b"a@%d" % (NOW // MS))
    counts = setup.stop()
    assert (counts.stale, counts.malformed_by_kind) == (0, {"stamp": 1})


def test_each_camera_has_its_own_deadline(make):
    setup = make(TWO.with_values({"camera_deadlines_ms": (0, 500)}))
    setup.feed(b"a@400", camera=0)
    setup.feed(b"a@400", camera=1)
    assert (setup.counts(0).stale, setup.counts(1).published) == (1, 1)


# Where the time went


def test_the_trace_of_a_frame(make):
    setup = make()
    setup.occupy()
    setup.send(0, b"a@3")
    setup.handler.during = {
        ("header", "a"): lambda: setup.pass_ms(1),
        ("read", "a"): lambda: setup.pass_ms(4),
        ("classify", "a"): lambda: setup.pass_ms(20),
        ("compose", "a"): lambda: setup.pass_ms(2),
        ("send", "a"): lambda: setup.pass_ms(5),
        ("after", "a"): lambda: setup.pass_ms(40),
    }
    setup.pass_ms(7)
    setup.handler.gate.set()
    setup.wait_until_idle()
    trace = setup.handler.traces[1]
    assert (trace.stamp_ns, trace.frame_id, trace.outcome) == (NOW - 3 * MS, "camera", "published")
    assert (trace.wait_ns, trace.read_ns, trace.publish_ns) == (7 * MS, 5 * MS, 7 * MS)
    assert (trace.preprocess_ns, trace.infer_ns, trace.postprocess_ns) == (1, 2, 3)
    assert trace.age_ns == (3 + 7 + 1 + 4 + 20 + 2) * MS
    assert setup.cameras[0].deadline.remaining.predict_ns() == (1 + 4 + 20 + 2 + 5) * MS


def test_the_stream_is_watched(make):
    setup = make()
    setup.feed(b"a", b"a", b"a", b"b@7000")
    stream = setup.cameras[0].stream
    assert stream.has_images
    assert stream.identical == 3  # these messages are all stamp
    setup.pass_ms(300)
    assert stream.silent_ns(setup.steady()) == 300 * MS


# The configuration


def test_one_frame_sees_one_configuration(make):
    numbers = itertools.count()

    def get_config():
        return NodeConfig(output=OutputConfig(top_k=1 + next(numbers) % 1000))

    setup = make(get_config=get_config)
    setup.feed(*[b"a"] * 50)
    setup.stop()
    assert len(setup.handler.configs) == 50
    assert all(classified == composed for classified, composed in setup.handler.configs)
    assert len({top_k for (top_k, _), _ in setup.handler.configs}) == 50


def test_the_deadline_may_change_between_two_frames(make):
    configs = iter([NodeConfig(latency=LatencyConfig(deadline_ms=ms)) for ms in (50, 200)])
    setup = make(get_config=lambda: next(configs))
    setup.feed(b"a@100", b"b@100")
    assert setup.handler.published == ["B"]
    assert setup.stop().stale == 1


def test_images_beyond_the_rate_are_superseded(make):
    setup = make(NodeConfig(cameras=CameraConfig(max_rate_hz=10.0)))
    setup.occupy()
    setup.handler.gate.set()
    setup.wait_until_idle()
    for number in range(1, 301):  # 30 a second, for ten seconds
        setup.steady.now_ns = 1000 * MS + number * 100 * MS // 3
        setup.feed(b"%d" % number)
    counts = setup.stop()
    assert counts.received == 301
    assert 100 <= counts.published <= 102
    assert counts.superseded == 301 - counts.published
    assert setup.cameras[0].stream.rate.rate_hz(setup.steady()) == pytest.approx(30.0)


# Several cameras


def test_the_camera_with_the_earliest_deadline_is_next(make):
    """How old a camera's images are when they come is known from the one before."""
    setup = make(NodeConfig(cameras=CameraConfig(image_topics=("a", "b", "c"))))
    for camera, age_ms in enumerate((10, 30, 20)):
        setup.feed(b"%d" % age_ms + b"@%d" % age_ms, camera=camera)
    setup.occupy(0)
    order = []
    for handler in setup.handlers:
        for name in ("x", "y", "z"):
            handler.during[("send", name)] = lambda name=name: order.append(name)
    setup.send(0, b"x@10")
    setup.send(1, b"y@30")
    setup.send(2, b"z@20")
    setup.handler.gate.set()
    setup.wait_until_idle()
    assert order == ["y", "z", "x"]


def test_a_longer_deadline_waits(make):
    setup = make(TWO.with_values({"camera_deadlines_ms": (500, 100)}))
    setup.occupy(0)
    order = []
    for handler in setup.handlers:
        for name in ("x", "y"):
            handler.during[("send", name)] = lambda name=name: order.append(name)
    setup.send(0, b"x@200")
    setup.send(1, b"y@10")
    setup.handler.gate.set()
    setup.wait_until_idle()
    assert order == ["y", "x"]


@pytest.mark.parametrize("error", [InvalidStamp(-1, 0), ZeroDivisionError("a bug")])
def test_a_header_that_cannot_be_read_holds_up_nobody(make, error):
    setup = make(TWO)
    setup.handlers[1].raises = {("header", "bad"): error}
    setup.occupy(0)
    setup.send(0, b"a")
    setup.send(1, b"bad")
    setup.handler.gate.set()
    setup.wait_until_idle()
    assert setup.handlers[0].published == ["FIRST", "A"]
    assert setup.handlers[1].reported == [error]
    assert setup.counts(1).malformed + setup.counts(1).failed == 1
    setup.feed(b"b", camera=1)
    assert setup.handlers[1].published == ["B"]


def test_frames_that_are_stale_take_no_turn(make):
    setup = make(TWO)
    setup.feed(*[b"old@5000"] * 5, camera=1)
    assert setup.loop._schedule._passed_over == [0, 0]
    setup.occupy(0)
    setup.send(1, b"old@5000")
    setup.send(0, b"a")
    setup.handler.gate.set()
    setup.wait_until_idle()
    assert setup.loop._schedule._passed_over == [0, 0]


def test_a_camera_with_a_long_deadline_does_not_starve(make):
    setup = make(TWO.with_values({"camera_deadlines_ms": (0, 60_000)}))
    setup.feed(b"first", camera=1)
    order = []
    for index, handler in enumerate(setup.handlers):
        handler.during[("send", "a")] = lambda index=index: order.append(index)

    def refill():
        for camera in (0, 1):  # both always have a frame
            setup.send(camera, b"a@%d" % 0)

    for handler in setup.handlers:
        handler.during[("classify", "a")] = lambda: len(order) < 20 and refill()
    setup.occupy(0, b"a")
    setup.handler.gate.set()
    setup.wait_until_idle()
    assert setup.handlers[1].published
    turns = [turn for turn, camera in enumerate(order) if camera == 1]
    assert all(b - a <= 4 for a, b in itertools.pairwise(turns))
    assert len(turns) >= 5


CAMERAS = 3


@pytest.mark.parametrize("changes_config", [False, True])
def test_the_account_of_a_storm_is_exact(make, changes_config):
    configs = itertools.cycle(
        NodeConfig(
            cameras=CameraConfig(image_topics=("a", "b", "c"), max_rate_hz=hz),
            latency=LatencyConfig(deadline_ms=ms),
        )
        for ms, hz in itertools.product((50, 100, 200), (0.0, 1000.0))
    )
    config = next(configs)
    setup = make(config, (lambda: next(configs)) if changes_config else None)
    frames = range(4000)
    for handler in setup.handlers:
        handler.raises = {("classify", str(n)): EngineError("x") for n in frames[::5]}
        handler.raises |= {("read", str(n)): UndecodableImage("x") for n in frames[1::5]}
        handler.raises |= {("after", str(n)): OSError("x") for n in frames[2::5]}
        handler.raises[("record", "")] = OSError("no space")
    lull = threading.Barrier(CAMERAS, setup.wait_until_idle)

    for camera in range(CAMERAS):
        setup.feed(b"first", camera=camera)  # the account begins with it

    def send(camera):
        for number in frames[1:]:
            setup.send(camera, b"%d@%d" % (number, 700 if number % 7 == 0 else 0))
            setup.steady.pass_ms(1)
            if number % 100 == 99:  # else it may be over before the loop got a core
                lull.wait(20)

    threads = [threading.Thread(target=send, args=(camera,)) for camera in range(CAMERAS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    setup.stop()
    for camera, handler in enumerate(setup.handlers):
        counts = setup.counts(camera)
        assert (counts.received, counts.in_flight) == (len(frames), 0)
        assert counts.published == len(handler.published) > 0
        lost = counts.malformed + counts.failed + counts.stale + counts.late
        assert lost + counts.published == len(handler.traces)
        assert lost == len([t for t in handler.traces if t.outcome != "published"])
    total = add_up(camera.counters.snapshot() for camera in setup.cameras)
    assert total.received == CAMERAS * len(frames)


class SimulatedCameras:
    """Cameras at 30 Hz in simulated time; images are as old on arrival as ``transport_ms``."""

    PERIOD_NS = 100 * MS // 3

    def __init__(self, setup, transport_ms):
        self._setup, self._begin_ns = setup, setup.steady()
        self._transport_ms = transport_ms
        self._taken = [-1] * len(transport_ms)

    def _newest(self, camera):
        phase_ns = camera * self.PERIOD_NS // len(self._taken)
        return (self._setup.steady() - self._begin_ns - phase_ns) // self.PERIOD_NS

    def wait(self):
        while not (ready := [c for c in self._cameras() if self._newest(c) > self._taken[c]]):
            self._setup.pass_ms(1)
        return ready

    def _cameras(self):
        return range(len(self._taken))

    def take(self, camera):
        number = self._taken[camera] = self._newest(camera)
        phase_ns = camera * self.PERIOD_NS // len(self._taken)
        arrived_ns = self._begin_ns + phase_ns + number * self.PERIOD_NS
        stamp_ns = arrived_ns - self._setup.steady() + self._setup.clock()
        age_ms = (NOW - stamp_ns) // MS + self._transport_ms[camera]
        return Arrival(b"%d@%d" % (number, age_ms), arrived_ns, number)

    def wake(self):
        pass


@pytest.mark.parametrize("transport_ms", [(2, 2, 2, 2), (2, 30, 2, 30)])
def test_four_cameras_share_an_engine_that_keeps_up_with_two(transport_ms):
    config = NodeConfig(cameras=CameraConfig(image_topics=("a", "b", "c", "d")))
    setup = Setup(config, runs=False)
    images = SimulatedCameras(setup, transport_ms)
    loop = FrameLoop(setup.cameras, images, lambda: config, setup.steady)
    for handler in setup.handlers:
        handler.enter = lambda stage, _name: stage == "classify" and setup.pass_ms(16)
    end_ns = setup.steady() + 60 * 1000 * MS
    while setup.steady() < end_ns:
        frame = loop._next_frame()
        assert frame is None or loop._finish(frame, Engine(), lambda _frame, _error: False)
    counts = [setup.counts(camera) for camera in range(4)]
    published = [one.published for one in counts]
    assert sum(published) > 0.99 * 60_000 / 16
    assert min(published) > 0.2 * sum(published), published
    for camera, one in enumerate(counts):
        assert (one.late, one.stale, one.in_flight, one.doubt) == (0, 0, 0, "")
        assert one.received == one.published + one.superseded
        assert one.received in range(images._taken[camera] - 1, images._taken[camera] + 2)
        ages = setup.cameras[camera].ages.summarize()
        assert ages.max_ms <= 100 - 1
