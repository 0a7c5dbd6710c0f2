# SPDX-License-Identifier: Apache-2.0
"""What an engine's thread does by itself; what a pipeline does with it is in test_fallback.py."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from perception_node.engines import engine_thread
from perception_node.engines.engine_thread import EngineThread
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.errors import EngineError, EngineLost
from perception_node.model.bundle import load_bundle
from tests.builders import ROOT

HANG_S = 0.2
PATIENCE_S = 20.0


def wait_for(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def test_an_engine_that_cannot_be_made_leaves_no_thread():
    def fail():
        raise EngineError("no plan")

    engine = EngineThread(fail, PATIENCE_S)
    with pytest.raises(EngineError, match="no plan"):
        engine.start()
    assert engine.is_lost
    engine._thread.join(PATIENCE_S)
    assert not engine._thread.is_alive()
    engine.start()  # nobody tries again
    with pytest.raises(EngineLost, match="could not be made"):
        engine.call(lambda _: None)


def test_ctrl_c_while_an_engine_is_made_waits_until_it_is_freed(color_bundle):
    """Python must not end while ONNX Runtime works on a thread: that aborts the process."""
    bundle, made = load_bundle(color_bundle), []
    main = threading.get_ident()

    def make():
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(HANG_S)  # so that a caller that does not wait is gone
        made.append(OnnxRuntimeEngine(bundle, 1))
        return Pipeline(bundle, made[0])

    engine = EngineThread(make, PATIENCE_S)
    with pytest.raises(KeyboardInterrupt):
        engine.start()
    assert not engine._thread.is_alive()
    assert made[0]._session is None


def test_ctrl_c_does_not_wait_for_an_engine_that_hangs_for_ever(monkeypatch):
    monkeypatch.setattr(engine_thread, "INTERRUPT_TIMEOUT_S", HANG_S)
    end, heard, main = threading.Event(), threading.Event(), threading.get_ident()

    def interrupt(*_):
        heard.set()
        raise KeyboardInterrupt

    def make():
        # Again, for Python hears nothing of a signal that comes just before it begins to wait.
        while not heard.wait(HANG_S):
            signal.pthread_kill(main, signal.SIGINT)
        end.wait(PATIENCE_S)
        raise EngineError("too late")

    before = signal.signal(signal.SIGINT, interrupt)
    engine = EngineThread(make, PATIENCE_S)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.start()
        assert engine._thread.is_alive()
    finally:
        signal.signal(signal.SIGINT, before)
        end.set()
        engine._thread.join(PATIENCE_S)


STOPPED = """
import sys, threading
from perception_node.model.bundle import load_bundle
from perception_node.engines.engine_thread import EngineThread
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.errors import EngineLost
from perception_node.engines.pipeline import Pipeline

bundle = load_bundle(__import__("pathlib").Path(sys.argv[1]))
engine = EngineThread(lambda: Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)), float(sys.argv[2]))
engine.start()

def job(_):
    print("working", flush=True)
    return sys.stdin.readline()

try:
    print("answered", engine.call(job).strip(), flush=True)
except EngineLost as error:
    print("lost:", error, flush=True)
"""


class Child:
    """A process that calls an engine, which answers when a line is written."""

    def __init__(self, bundle, timeout_s):
        self._process = subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(bundle), str(timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self):
        assert self.read() == "working"
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def read(self):
        return self._process.stdout.readline().strip()

    def write(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def stop_for(self, duration_s):
        """Stop it as Ctrl-Z, a debugger or a container's pause would, and let it go on."""
        os.kill(self._process.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self._process.pid}/stat")
        wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        end_s = time.monotonic() + duration_s
        wait_for(lambda: time.monotonic() > end_s)
        os.kill(self._process.pid, signal.SIGCONT)


def test_an_engine_is_not_blamed_for_a_process_that_was_stopped(color_bundle):
    timeout_s = 2.0
    with Child(color_bundle, timeout_s) as child:
        child.stop_for(timeout_s + 0.2)
        # It goes on and waits again: one who counted on a clock would have given up by now.
        child.write("late")
        assert child.read() == "answered late"


def test_that_process_gives_up_an_engine_that_hangs_all_the_same(color_bundle):
    with Child(color_bundle, HANG_S) as child:
        child.stop_for(HANG_S)
        assert child.read() == "lost: the engine did not answer within 0.2 s"


def test_the_threads_of_the_engine_itself_are_known(color_bundle):
    bundle = load_bundle(color_bundle)
    engine = EngineThread(lambda: Pipeline(bundle, OnnxRuntimeEngine(bundle, 3)), 60.0)
    assert engine.native_ids == ()
    engine.start()
    living = {int(task.name) for task in Path("/proc/self/task").iterdir()}
    assert len(engine.native_ids) >= 3, "the thread itself and a pool of two"
    assert set(engine.native_ids) <= living
    engine.close()


def test_an_error_does_not_keep_the_frame(color_bundle):
    """Neither the collector, which may be off, nor anybody else has to find it."""
    bundle = load_bundle(color_bundle)
    engine = EngineThread(
        lambda: Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)), PATIENCE_S, survives_errors=True
    )
    engine.start()

    class Frame:
        pass

    def fail(_frame):
        raise EngineError("not finite")

    gc.disable()
    try:
        frames = [Frame() for _ in range(10)]
        kept = [weakref.ref(frame) for frame in frames]
        while frames:
            frame = frames.pop()
            with pytest.raises(EngineError):
                engine.call(lambda _pipeline, frame=frame: fail(frame))
            del frame
        wait_for(lambda: not any(ref() is not None for ref in kept))
    finally:
        gc.enable()
        engine.close()
