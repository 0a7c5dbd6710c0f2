# SPDX-License-Identifier: Apache-2.0
"""What it costs to hand a frame to the engine's own thread and to wait for the answer.

python -m perception_node.bench.handover
"""

from __future__ import annotations

import time

from perception_node.bundle import load_bundle
from perception_node.engine_thread import EngineThread
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.pipeline import Pipeline
from perception_node.resources import find_model

CALLS = 20_000
TIMEOUT_S = 1.0


def main() -> None:
    """Hand over jobs that do nothing, and print how long each took."""
    bundle = load_bundle(find_model(""))
    engine = EngineThread(lambda: Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)), TIMEOUT_S)
    engine.start()
    times_us = []
    for _ in range(CALLS):
        begin_ns = time.perf_counter_ns()
        engine.call(lambda _: None)
        times_us.append((time.perf_counter_ns() - begin_ns) / 1e3)
    engine.close()
    times_us.sort()
    p50, p99 = times_us[CALLS // 2], times_us[CALLS * 99 // 100]
    print(f"hand-over to the engine's thread: p50 {p50:.0f} us, p99 {p99:.0f} us")


if __name__ == "__main__":
    main()
