# SPDX-License-Identifier: Apache-2.0
"""What it costs to hand a frame to the engine's own thread and to wait for the answer.

python -m perception_node.bench.handover
"""

from __future__ import annotations

import time

from perception_node.fallback import EngineThread

CALLS = 20_000
TIMEOUT_S = 1.0


def main() -> None:
    """Hand over jobs that do nothing, and print how long each took."""
    thread = EngineThread()
    times_us = []
    for _ in range(CALLS):
        begin_ns = time.perf_counter_ns()
        thread.call(lambda: None, TIMEOUT_S)
        times_us.append((time.perf_counter_ns() - begin_ns) / 1e3)
    thread.abandon()
    times_us.sort()
    p50, p99 = times_us[CALLS // 2], times_us[CALLS * 99 // 100]
    print(f"hand-over to the engine's thread: p50 {p50:.0f} us, p99 {p99:.0f} us")


if __name__ == "__main__":
    main()
