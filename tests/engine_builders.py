# SPDX-License-Identifier: Apache-2.0
"""Real engines that can be told to hang or to fail, behind a real fallback pipeline."""

from __future__ import annotations

import threading
import time

import numpy as np

from perception_node.engines.engine_thread import EngineThread
from perception_node.engines.fallback import FallbackPipeline
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.vision.frame import Frame
from tests.builders import solid

PATIENCE_S = 20.0
ENGINES = ("the first", "the second")
PAUSE_S = 0.05  # before an engine is made in the place of a lost one


class Engine(OnnxRuntimeEngine):
    """A real engine that can be told to go wrong, and says which threads it met."""

    def __init__(self, bundle, name):
        super().__init__(bundle, 1)
        self.description = name
        self.fault = lambda: None
        self.runs = 0
        self.is_closed = threading.Event()
        self.threads = {threading.current_thread()}

    def infer(self):
        self.threads.add(threading.current_thread())
        self.runs += 1
        super().infer()
        self.fault()

    def close(self):
        self.threads.add(threading.current_thread())
        self.is_closed.set()
        super().close()

    @property
    def owner(self):
        (owner,) = self.threads
        return owner


class Hang:
    """A fault that lasts until it is released."""

    def __init__(self):
        self.has_begun, self._end = threading.Event(), threading.Event()

    def __call__(self):
        self.has_begun.set()
        self._end.wait()

    def release(self):
        self._end.set()


class Rig:
    """A fallback pipeline with its engines at hand, as far as they were made."""

    def __init__(self, bundle):
        self.bundle = bundle
        self.engines = {}
        self.hangs = []
        self.fault_of_make = lambda: None
        self.pipeline = None

    def open(self, timeout_s=PATIENCE_S, *, first_survives=False, standby=True):
        """Make two engines, or one and others in its place once it is lost."""

        def prepare_second():
            return EngineThread(self._maker("the second"), timeout_s, survives_errors=True)

        first = EngineThread(self._maker("the first"), timeout_s, survives_errors=first_survives)
        engines = (first, prepare_second()) if standby else (first,)
        for engine in engines:
            engine.start()
        prepare = None if standby else prepare_second
        self.pipeline = FallbackPipeline(self.bundle, engines, "a test", prepare)
        return self.pipeline

    def _maker(self, name):
        def make():
            if self.engines:
                self.fault_of_make()
            self.engines[name] = Engine(self.bundle, name)
            return Pipeline(self.bundle, self.engines[name])

        return make

    @property
    def first(self):
        return self.engines["the first"]

    @property
    def second(self):
        return self.engines["the second"]

    def hang(self):
        self.hangs.append(Hang())
        return self.hangs[-1]

    def label(self, color):
        prediction = self.pipeline.run(frame_of(color), top_k=1, threshold=0.0)
        assert prediction.stamp_ns == 5
        return prediction.hypotheses[0].label

    def close(self):
        for hang in self.hangs:
            hang.release()
        if self.pipeline is not None:
            self.pipeline.close()


def frame_of(color):
    return Frame.from_bgr(np.ascontiguousarray(solid(color)[..., ::-1]), stamp_ns=5)


def raising(error):
    def fault(*_):
        raise error

    return fault


def wait_for(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < end_s
        time.sleep(0.001)
    return value
