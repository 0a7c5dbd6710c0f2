# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from perception_node.engines.fallback import MOST_HANGING
from perception_node.errors import EngineError, EngineLost, FrameTooLarge, ModelFormatError
from perception_node.model.bundle import load_bundle
from perception_node.vision.frame import Frame
from tests.builders import BLUE, GREEN, RED, solid
from tests.engine_builders import ENGINES, PATIENCE_S, PAUSE_S, Rig, raising, wait_for

HANG_S = 0.2


@pytest.fixture
def rig(color_bundle):
    rig = Rig(load_bundle(color_bundle))
    yield rig
    rig.close()
    for thread in engine_threads():
        thread.join(PATIENCE_S)
    assert not engine_threads()


@pytest.fixture
def _no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def engine_threads():
    return [t for t in threading.enumerate() if t.name == "perception-engine"]


class Call:
    """A ``run`` on a thread of its own, and how it ended."""

    def __init__(self, rig, color=RED):
        self.error = None
        self._rig, self._color = rig, color
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            self._rig.label(self._color)
        except Exception as error:  # noqa: BLE001 - it is what the test asks for
            self.error = error

    def join(self):
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.error


# What works


def test_the_first_engine_works_as_long_as_it_can(rig):
    pipeline = rig.open()
    assert [rig.label(color) for color in (RED, GREEN, BLUE)] == ["red", "green", "blue"]
    assert (rig.first.runs, rig.second.runs) == (3, 0)
    assert pipeline.lost is None
    assert not pipeline.is_exhausted
    assert pipeline.description == "the first"
    assert (pipeline.reason, pipeline.bundle) == ("a test", rig.bundle)


def test_one_thread_makes_runs_and_closes_an_engine(rig):
    pipeline = rig.open()
    rig.label(RED)
    owners = [rig.first.owner, rig.second.owner]
    assert threading.current_thread() not in owners
    assert pipeline.native_thread_ids == tuple(owner.native_id for owner in owners)
    pipeline.close()
    for engine in (rig.first, rig.second):
        assert engine.is_closed.is_set()
        assert engine.owner in owners  # nobody else has closed it
        assert not engine.owner.is_alive()


def test_the_threads_have_a_name_for_top_and_perf(rig):
    for number in rig.open().native_thread_ids:
        name = Path(f"/proc/self/task/{number}/comm").read_text().strip()
        assert name == "perc-engine"


@pytest.mark.usefixtures("_no_collector")
def test_an_engine_that_waits_keeps_no_frame(rig):
    pipeline = rig.open()
    pixels = solid(RED)
    ended = weakref.ref(pixels)
    pipeline.run(Frame.from_bgr(pixels), top_k=1, threshold=0.0)
    del pixels
    wait_for(lambda: ended() is None)


def test_the_size_of_images_is_known_while_the_engine_hangs(rig):
    pipeline = rig.open(first_survives=True)
    rig.first.fault = hang = rig.hang()
    call = Call(rig)
    assert hang.has_begun.wait(PATIENCE_S)
    assert pipeline.smallest_side == 16
    hang.release()
    assert call.join() is None


# What fails

FAULTS = {
    "raises": lambda _: raising(EngineError("out of memory"))(),
    "raises a foreign error": lambda _: raising(ZeroDivisionError("a bug"))(),
    "loses its device": lambda _: raising(EngineLost("illegal address"))(),
    "NaN": lambda engine: engine.output.fill(np.nan),
    "infinite": lambda engine: engine.output.fill(np.inf),
    "another shape": lambda engine: setattr(engine, "output", np.zeros((1, 2), np.float32)),
    "no output": lambda engine: setattr(engine, "output", None),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_the_standby_answers_for_the_very_frame_that_the_first_failed_on(rig, kind):
    pipeline = rig.open()
    assert rig.label(RED) == "red"
    rig.first.fault = lambda: FAULTS[kind](rig.first)
    assert rig.label(GREEN) == "green"
    assert pipeline.lost is not None
    assert not pipeline.is_exhausted
    assert pipeline.description == "the second"
    assert pipeline.native_thread_ids == (rig.second.owner.native_id,)


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"loses its device"}))
def test_an_engine_that_survives_errors_loses_one_frame(rig, kind):
    pipeline = rig.open(first_survives=True, standby=False)
    engine, output = rig.first, rig.first.output
    rig.first.fault = lambda: FAULTS[kind](engine)
    with pytest.raises(Exception, match=r"."):
        rig.label(GREEN)
    engine.fault, engine.output = (lambda: None), output
    assert rig.label(BLUE) == "blue"
    assert pipeline.lost is None
    assert set(rig.engines) == {"the first"}


def test_a_lost_device_costs_also_an_engine_that_survives_errors(rig):
    pipeline = rig.open(first_survives=True)
    rig.first.fault = raising(EngineLost("illegal address"))
    assert rig.label(GREEN) == "green"
    assert str(pipeline.lost) == "illegal address"
    assert pipeline.description == "the second"


def test_a_lost_engine_is_never_tried_again(rig):
    rig.open()
    rig.first.fault = raising(EngineError("once"))
    rig.label(RED)
    rig.first.fault = lambda: None
    assert [rig.label(color) for color in (RED, GREEN, BLUE)] == ["red", "green", "blue"]
    assert rig.first.runs == 1


@pytest.mark.parametrize("error", [EngineError("NaN"), EngineLost("illegal address")])
def test_a_lost_engine_is_freed_by_its_own_thread(rig, error):
    rig.open()
    rig.first.fault = raising(error)
    rig.label(RED)
    owner = rig.first.owner
    owner.join(PATIENCE_S)
    assert not owner.is_alive()
    assert rig.first.is_closed.is_set()
    assert rig.first.owner is owner


def test_an_engine_that_writes_no_output_is_noticed(rig):
    pipeline = rig.open()
    rig.label(RED)
    rig.first.infer = lambda: None
    assert rig.label(GREEN) == "green"
    assert "NaN" in str(pipeline.lost)


def test_a_frame_that_cannot_be_read_is_not_the_engines_fault(rig):
    pipeline = rig.open()
    rig.first.fault = raising(FrameTooLarge(9, 9, 1))
    with pytest.raises(FrameTooLarge):
        rig.label(RED)
    assert pipeline.lost is None
    rig.first.fault = lambda: None
    assert rig.label(RED) == "red"
    assert pipeline.description == "the first"


def test_where_the_standby_fails_too_the_frame_is_lost_but_not_the_standby(rig):
    pipeline = rig.open()
    rig.first.fault = raising(EngineError("first"))
    rig.second.fault = raising(EngineError("second"))
    with pytest.raises(EngineError, match="second"):
        rig.label(RED)
    assert (str(pipeline.lost), pipeline.is_exhausted) == ("first", False)
    rig.second.fault = lambda: None
    assert rig.label(BLUE) == "blue"


def test_the_traceback_of_a_bug_is_kept_for_the_log(rig):
    pipeline = rig.open()
    rig.first.fault = raising(ZeroDivisionError("a bug"))
    rig.label(RED)
    assert pipeline.lost.__traceback__ is not None


# What hangs


def test_an_engine_that_hangs_is_replaced_and_its_late_answer_is_not_used(rig):
    pipeline = rig.open(HANG_S)
    rig.first.fault = hang = rig.hang()
    assert rig.label(GREEN) == "green"
    assert isinstance(pipeline.lost, EngineLost)
    assert "did not answer within 0.2 s" in str(pipeline.lost)
    assert pipeline.description == "the second"
    assert pipeline.native_thread_ids == (rig.second.owner.native_id,)
    hang.release()
    rig.first.owner.join(PATIENCE_S)
    assert not rig.first.owner.is_alive()
    assert rig.first.is_closed.is_set()
    assert rig.label(BLUE) == "blue"
    assert rig.first.runs == 1


def require_nothing_left(rig, why):
    """Neither is an engine tried again, nor does anybody wait."""
    runs = [engine.runs for engine in rig.engines.values()]
    for _ in range(3):
        with pytest.raises(EngineLost, match=rf"no engine is left: .*{why}.*; clean up and conf"):
            rig.label(BLUE)
    assert [engine.runs for engine in rig.engines.values()] == runs
    assert rig.pipeline.is_exhausted
    assert rig.pipeline.is_over
    assert rig.pipeline.outlook == "clean up and configure again"
    assert rig.pipeline.description == "no engine"


def test_the_one_that_took_over_is_watched_too(rig):
    pipeline = rig.open(HANG_S)
    rig.first.fault = rig.hang()
    rig.label(GREEN)
    first_loss = pipeline.lost
    rig.second.fault = rig.hang()
    with pytest.raises(EngineLost, match=r"no engine is left: .*clean up and configure again"):
        rig.label(RED)
    require_nothing_left(rig, "did not answer within")
    assert pipeline.lost is first_loss


# What is made in the place of a lost engine


@pytest.fixture
def pauses(monkeypatch):
    """Shorten the pauses before an engine is made; the longest is as long as the first."""
    monkeypatch.setattr("perception_node.engines.fallback.FIRST_PAUSE_S", PAUSE_S)
    return lambda longest_s: monkeypatch.setattr(
        "perception_node.engines.fallback.LONGEST_PAUSE_S", longest_s
    )


def lose_frame(rig, why="did not answer within 0.2 s"):
    """Classify a frame in vain."""
    message = rf"no engine is left: .*{why}.*; another is made as soon as possible"
    with pytest.raises(EngineLost, match=message):
        rig.label(BLUE)


def label_at_last(rig, color):
    """Return the label of the first frame that an engine answers."""

    def attempt():
        with contextlib.suppress(EngineLost):
            return rig.label(color)

    return wait_for(attempt)


@pytest.mark.usefixtures("pauses")
def test_where_none_stands_by_a_frame_is_lost_and_another_engine_is_made_once(rig):
    pipeline = rig.open(HANG_S, first_survives=True, standby=False)
    rig.label(RED)
    assert set(rig.engines) == {"the first"}
    assert len(pipeline.native_thread_ids) == 1
    assert (pipeline.exhausted_s, pipeline.is_over) == (0, False)
    rig.first.fault = hang = rig.hang()
    lose_frame(rig)
    assert pipeline.is_exhausted
    assert not pipeline.is_over
    assert label_at_last(rig, GREEN) == "green"
    assert pipeline.exhausted_s == 0
    second = rig.second
    assert [rig.label(color) for color in (RED, BLUE)] == ["red", "blue"]
    assert rig.second is second
    assert second.runs == 3
    assert "did not answer" in str(pipeline.lost), "the loss stays known"
    hang.release()


@pytest.mark.usefixtures("pauses")
def test_nothing_waits_for_an_engine_in_the_making(rig):
    pipeline = rig.open(HANG_S, first_survives=True, standby=False)
    rig.first.fault = rig.hang()
    rig.fault_of_make = making = rig.hang()
    lose_frame(rig)
    wait_for(lambda: pipeline.keep_up() or making.has_begun.is_set())
    for _ in range(3):
        lose_frame(rig)
    assert pipeline.outlook == "another is being made"
    assert pipeline.exhausted_s > 0
    making.release()
    assert label_at_last(rig, GREEN) == "green"


@pytest.mark.usefixtures("pauses")
def test_an_engine_that_is_made_too_late_is_freed(rig):
    pipeline = rig.open(HANG_S, first_survives=True, standby=False)
    rig.first.fault = rig.hang()
    rig.fault_of_make = making = rig.hang()
    lose_frame(rig)
    wait_for(lambda: pipeline.keep_up() or making.has_begun.is_set())
    pipeline.close()
    making.release()
    closed = wait_for(lambda: rig.engines.get("the second")).is_closed
    assert closed.wait(PATIENCE_S)
    assert rig.second.runs == 0


def test_an_engine_that_cannot_be_made_is_tried_again_after_longer_and_longer_pauses(rig, pauses):
    pauses(4 * PAUSE_S)
    pipeline = rig.open(HANG_S, first_survives=True, standby=False)
    rig.first.fault = rig.hang()
    attempts_s = []

    def fail():
        attempts_s.append(time.monotonic())
        raise ModelFormatError(Path("model.onnx"), "missing")

    rig.fault_of_make = fail
    lose_frame(rig)
    wait_for(lambda: pipeline.keep_up() or len(attempts_s) == 5)
    begin_s = attempts_s.pop(0)
    for attempt_s, factor in zip(attempts_s, (2, 4, 4, 4), strict=True):
        assert attempt_s - begin_s >= factor * PAUSE_S
        begin_s = attempt_s
    lose_frame(rig, "model.onnx: missing")
    rig.fault_of_make = lambda: None
    assert label_at_last(rig, GREEN) == "green"


def test_the_outlook_says_when_another_engine_is_made(rig):
    pipeline = rig.open(HANG_S, first_survives=True, standby=False)
    rig.first.fault = rig.hang()
    lose_frame(rig)
    assert pipeline.outlook == "another is made in 1 s"


def test_engines_that_hang_are_not_piled_up(rig, pauses):
    pauses(PAUSE_S)
    pipeline = rig.open(HANG_S, first_survives=True, standby=False)
    rig.first.fault = rig.hang()
    lose_frame(rig)
    for _ in range(MOST_HANGING - 1):
        assert label_at_last(rig, GREEN) == "green"
        rig.second.fault = rig.hang()
        lose_frame(rig)
    last = rig.second
    time.sleep(2 * PAUSE_S)  # longer than any pause
    pipeline.keep_up()
    assert pipeline.outlook == "4 engines hang, so no other is made; start the process again"
    assert rig.second is last
    rig.hangs[0].release()  # that one ends, so there is room for another
    wait_for(lambda: pipeline.keep_up() or not pipeline.is_exhausted)
    assert rig.label(BLUE) == "blue"


# Interrupting


def test_one_who_waits_for_a_hanging_engine_can_be_told_to_stop(rig):
    pipeline = rig.open(first_survives=True)
    rig.first.fault = hang = rig.hang()
    call = Call(rig)
    assert hang.has_begun.wait(PATIENCE_S)
    pipeline.interrupt()
    assert "no engine is left: it did not finish" in str(call.join())
    assert isinstance(call.error, EngineLost)
    assert "it did not finish" in str(pipeline.lost)
    assert rig.second.runs == 0, "the frame must not be tried again"
    require_nothing_left(rig, "it did not finish")


@pytest.mark.parametrize("standby", [True, False], ids=["warm", "never made"])
def test_an_interrupt_between_two_frames_ends_the_second(rig, standby):
    pipeline = rig.open(standby=standby)
    rig.label(RED)
    pipeline.interrupt()
    assert pipeline.is_exhausted
    assert "it did not finish" in str(pipeline.lost)
    require_nothing_left(rig, "it did not finish")
    for engine in rig.engines.values():
        assert engine.is_closed.wait(PATIENCE_S)
    assert ("the second" in rig.engines) == standby


def test_an_interrupt_after_the_end_does_no_harm(rig):
    pipeline = rig.open()
    pipeline.close()
    pipeline.interrupt()
    with pytest.raises(EngineLost, match="the pipeline is closed"):
        rig.label(RED)


def test_the_answer_to_a_call_that_ctrl_c_broke_off_is_not_given_to_the_next(rig):
    """``perception replay`` waits for a frame: what follows is another call, or close."""
    rig.open(first_survives=True)
    rig.label(RED)
    main, hang = threading.get_ident(), rig.hang()

    def fault():
        rig.first.fault = lambda: None
        signal.pthread_kill(main, signal.SIGINT)
        hang()

    rig.first.fault = fault
    with pytest.raises(KeyboardInterrupt):
        rig.label(RED)
    hang.release()
    assert rig.label(GREEN) == "green"


# The end


def test_closing_does_not_wait_for_an_engine_that_hangs_in_close(rig, monkeypatch):
    monkeypatch.setattr("perception_node.engines.engine_thread.CLOSE_TIMEOUT_S", HANG_S)
    pipeline = rig.open()
    hang = rig.hang()
    rig.first.close = hang
    pipeline.close()
    assert hang.has_begun.is_set()
    assert rig.first.owner.is_alive()
    assert rig.second.is_closed.is_set()


def test_closing_does_not_wait_for_an_engine_that_was_lost(rig):
    pipeline = rig.open(HANG_S)
    rig.first.fault = rig.hang()
    rig.label(RED)
    pipeline.close()  # would wait for ever without its own limit
    assert rig.first.owner.is_alive()
    assert rig.second.is_closed.is_set()
    pipeline.close()


def test_an_engine_that_cannot_be_freed_does_not_keep_the_rest(rig):
    pipeline = rig.open()
    rig.first.close = raising(ZeroDivisionError("cuMemFree failed"))
    pipeline.close()
    assert rig.second.is_closed.is_set()
    assert not rig.first.owner.is_alive()


@pytest.mark.usefixtures("_no_collector")
def test_neither_of_two_engines_keeps_the_other_in_memory(rig):
    """Also where the garbage collector is off: nothing is held by a cycle."""
    pipeline = rig.open(HANG_S, first_survives=True)
    rig.first.fault = hang = rig.hang()
    rig.label(GREEN)
    first, second = (weakref.ref(rig.engines.pop(name)) for name in ENGINES)
    owner = first().owner

    pipeline.close()
    whole = weakref.ref(pipeline)
    rig.pipeline = pipeline = None
    assert whole() is None
    assert second() is None, "an engine that hangs keeps its replacement"
    assert first() is not None

    hang.release()
    owner.join(PATIENCE_S)
    assert first() is None


@pytest.mark.usefixtures("_no_collector")
def test_an_engine_that_came_back_is_not_kept_by_its_replacement(rig):
    rig.open(HANG_S, first_survives=True)
    rig.first.fault = hang = rig.hang()
    rig.label(GREEN)
    first = weakref.ref(rig.engines.pop("the first"))
    owner = first().owner
    hang.release()
    owner.join(PATIENCE_S)
    assert first() is None
    assert rig.label(BLUE) == "blue"
