# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import CameraConfig, OutputConfig
from perception_node.errors import (
    DeadlineMissed,
    EngineError,
    EngineLost,
    FrameTooLarge,
    ServerBusy,
    UndecodableImage,
)
from perception_node.model.bundle import load_bundle
from perception_node.serving import classification
from perception_node.serving.classification import ClassificationQueue
from perception_node.serving.settings import ServerSettings
from tests.builders import BLUE, GREEN, RED, encode, smooth, solid
from tests.engine_builders import PATIENCE_S, Rig, raising, wait_for

COLORS = {"red": RED, "green": GREEN, "blue": BLUE}
IMAGES = {name: encode(solid(color), ".png") for name, color in COLORS.items()}
HANG_S = 0.2


@pytest.fixture
def rig(color_bundle):
    rig = Rig(load_bundle(color_bundle))
    yield rig
    rig.close()


@pytest.fixture
def open_queue(rig):
    queues = []

    def open_queue(config=None, *, pipeline=None, **settings):
        pipeline = pipeline or rig.open(first_survives=True)
        queue = ClassificationQueue(pipeline, config or NodeConfig(), ServerSettings(**settings))
        queues.append(queue)
        return queue

    yield open_queue
    for hang in rig.hangs:
        hang.release()
    for queue in queues:
        queue.close()


@pytest.fixture
def clients():
    with ThreadPoolExecutor(16) as clients:
        yield clients


def label(queue, name):
    return queue.classify(IMAGES[name]).hypotheses[0].label


def fill(queue, clients, names):
    """Put images into the queue, one after the other; return the futures of their labels."""
    jobs = []
    for name in names:
        depth = queue.depth
        jobs.append(clients.submit(label, queue, name))
        wait_for(lambda depth=depth: queue.depth == depth + 1)
    return jobs


CUT = encode(smooth(64, 64))[:-300]


def test_an_image_that_is_damaged_is_refused(open_queue):
    with pytest.raises(UndecodableImage, match="cut short"):
        open_queue().classify(CUT)


def test_an_image_that_is_damaged_is_classified_where_that_is_wanted(open_queue):
    assert (
        open_queue(NodeConfig(cameras=CameraConfig(damaged_images="use"))).classify(CUT).hypotheses
    )


def test_an_image_whose_decoding_misses_the_deadline_costs_no_engine(open_queue, monkeypatch):
    queue = open_queue(deadline_ms=50)
    decode, has_decoded = queue._decoder.decode, threading.Event()

    def decode_slowly(data):
        time.sleep(0.1)
        has_decoded.set()
        return decode(data)

    ran = []
    monkeypatch.setattr(queue.pipeline, "run", lambda *_, **__: ran.append("the engine"))
    monkeypatch.setattr(queue._decoder, "decode", decode_slowly)
    with pytest.raises(DeadlineMissed):
        queue.classify(IMAGES["red"])
    assert has_decoded.wait(PATIENCE_S)
    wait_for(lambda: queue.depth == 0)
    assert (ran, queue.pipeline.lost) == ([], None)


def test_an_image_is_classified_as_the_configuration_says(open_queue):
    queue = open_queue(NodeConfig(output=OutputConfig(top_k=2, threshold=0.5)))
    (best,) = queue.classify(IMAGES["red"]).hypotheses
    assert (best.label, best.class_id) == ("red", 0)
    assert (queue.model, queue.depth, queue.capacity) == ("colors", 0, 16)


def test_each_thread_gets_the_answer_to_its_own_image(open_queue, clients):
    queue = open_queue(queue=16)
    names = [name for _ in range(100) for name in IMAGES]
    assert list(clients.map(lambda name: label(queue, name), names)) == names
    assert queue.depth == 0


def test_one_thread_works_in_the_order_of_arrival(open_queue, clients, rig):
    queue = open_queue()
    order = []
    run = rig.pipeline.run

    def noting(frame, **options):
        order.append((threading.current_thread().name, run(frame, **options)))
        return order[-1][1]

    rig.pipeline.run = noting
    rig.first.fault = hang = rig.hang()
    names = ["red", "blue", "green", "green", "red", "blue"]
    jobs = fill(queue, clients, names)
    rig.first.fault = lambda: None
    hang.release()
    assert [job.result(PATIENCE_S) for job in jobs] == names
    assert [prediction.hypotheses[0].label for _, prediction in order] == names
    assert len({thread for thread, _ in order}) == 1


def test_exactly_as_many_wait_as_there_are_places(open_queue, clients, rig):
    queue = open_queue(queue=3)
    rig.first.fault = hang = rig.hang()
    jobs = fill(queue, clients, ["red", "green", "blue"])
    with pytest.raises(ServerBusy, match="3 images are waiting") as busy:
        queue.classify(IMAGES["red"])
    assert busy.value.retry_after_s >= 1
    rig.first.fault = lambda: None
    hang.release()
    assert [job.result(PATIENCE_S) for job in jobs] == ["red", "green", "blue"]
    wait_for(lambda: queue.depth == 0)
    assert label(queue, "blue") == "blue"


def test_an_image_that_nobody_waits_for_keeps_its_place_and_is_skipped(open_queue, clients, rig):
    queue = open_queue(queue=3, deadline_ms=20_000)
    rig.first.fault = hang = rig.hang()
    (at_work,) = fill(queue, clients, ["red"])
    assert hang.has_begun.wait(PATIENCE_S)
    for name in ("green", "blue"):
        with pytest.raises(DeadlineMissed, match="within 20000 ms"):
            queue.classify(IMAGES[name], arrival_ns=time.monotonic_ns() - 20_000_000_000)
    assert queue.depth == 3
    with pytest.raises(ServerBusy):
        queue.classify(IMAGES["red"])
    rig.first.fault = lambda: None
    hang.release()
    assert at_work.result(PATIENCE_S) == "red"
    wait_for(lambda: queue.depth == 0)
    assert rig.first.runs == 1


def test_a_deadline_ends_the_wait_for_an_engine_that_hangs(open_queue, clients, rig):
    queue = open_queue(deadline_ms=500)
    rig.first.fault = rig.hang()
    (job,) = fill(queue, clients, ["red"])
    with pytest.raises(DeadlineMissed, match="within 500 ms"):
        job.result(PATIENCE_S)


def test_the_deadline_counts_from_the_arrival_of_the_request(open_queue, rig):
    queue = open_queue(deadline_ms=1000)
    with pytest.raises(DeadlineMissed):
        queue.classify(IMAGES["red"], arrival_ns=time.monotonic_ns() - 1_000_000_000)
    wait_for(lambda: queue.depth == 0)
    assert rig.first.runs == 0


def test_an_engine_that_hangs_is_replaced_and_the_log_says_so(open_queue, rig, caplog):
    queue = open_queue(pipeline=rig.open(HANG_S, first_survives=True))
    rig.first.fault = rig.hang()
    assert label(queue, "green") == "green"
    assert label(queue, "blue") == "blue"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "did not answer within 0.2 s; now: the second" in record.message
    assert record.exc_info is None


def test_the_traceback_of_a_bug_that_cost_an_engine_is_logged(open_queue, rig, caplog):
    queue = open_queue(pipeline=rig.open())
    rig.first.fault = raising(ZeroDivisionError("a bug"))
    assert label(queue, "green") == "green"
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"hello", UndecodableImage), (encode(solid(RED, 1000, 1001)), FrameTooLarge)],
)
def test_an_image_that_cannot_be_used_costs_nothing_else(open_queue, data, error):
    queue = open_queue(NodeConfig(cameras=CameraConfig(max_image_pixels=1_000_000)))
    with pytest.raises(error):
        queue.classify(data)
    assert label(queue, "red") == "red"
    assert queue.depth == 0


def test_an_engine_that_fails_costs_one_image(open_queue, rig):
    queue = open_queue()
    rig.first.fault = raising(EngineError("once"))
    with pytest.raises(EngineError, match="once"):
        queue.classify(IMAGES["red"])
    rig.first.fault = lambda: None
    assert label(queue, "red") == "red"


def test_without_an_engine_every_image_fails_at_once(open_queue, rig):
    queue = open_queue()
    rig.pipeline.interrupt()
    for _ in range(3):
        with pytest.raises(EngineLost, match="no engine is left"):
            queue.classify(IMAGES["red"])
    assert queue.depth == 0


def test_an_image_that_failed_is_not_kept_in_memory(open_queue):
    queue = open_queue()
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(UndecodableImage) as caught:
            queue.classify(b"hello")
        error = weakref.ref(caught.value)
        del caught
        wait_for(lambda: error() is None)
    finally:
        gc.enable()


# The end


def test_what_waits_when_the_queue_closes_is_refused(open_queue, clients, rig, monkeypatch):
    monkeypatch.setattr(classification, "CLOSE_TIMEOUT_S", PATIENCE_S)
    queue = open_queue()
    rig.first.fault = hang = rig.hang()
    first, *others = fill(queue, clients, ["red", "green", "blue"])
    assert hang.has_begun.wait(PATIENCE_S)
    closing = clients.submit(queue.close)
    wait_for(lambda: queue._is_closed)
    with pytest.raises(ServerBusy, match="stopping"):
        queue.classify(IMAGES["red"])
    rig.first.fault = lambda: None
    hang.release()
    closing.result(PATIENCE_S)
    assert first.result(PATIENCE_S) == "red", "what is at work is finished"
    for job in others:
        with pytest.raises(ServerBusy, match="stopping"):
            job.result(PATIENCE_S)
    assert rig.first.runs == 1
    queue.close()


def test_an_engine_that_hangs_does_not_keep_the_queue_from_closing(
    open_queue, clients, rig, monkeypatch
):
    monkeypatch.setattr(classification, "CLOSE_TIMEOUT_S", HANG_S)
    queue = open_queue()
    queue.on_exhausted = lambda: pytest.fail("it was told to close")
    rig.first.fault = hang = rig.hang()
    (job,) = fill(queue, clients, ["red"])
    assert hang.has_begun.wait(PATIENCE_S)
    queue.close()
    with pytest.raises(EngineLost, match="did not finish"):
        job.result(PATIENCE_S)
    assert rig.pipeline.is_exhausted
