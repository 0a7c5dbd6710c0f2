# SPDX-License-Identifier: Apache-2.0
"""The real node with an engine that hangs once, in the place of one whose GPU does not answer.

    python -m perception_node.bench.hil.engine_loss [--after N] [--ros-args ...]

After N inferences, those that warm it up included, one takes a minute. The node has to give that
engine up and to go on with another. It is registered as one that ``auto`` prefers.
"""

from __future__ import annotations

import itertools
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.registry import ENGINES, EngineKind
from perception_node.ros.main import main as run_node

if TYPE_CHECKING:
    from perception_node.engines.registry import Order

OPTION, DEFAULT_AFTER = "--after", 150
HANG_S = 60.0


class HangingEngine(OnnxRuntimeEngine):
    """ONNX Runtime's engine, of which one inference hangs."""

    def __init__(self, order: Order, after: int) -> None:
        """Load the model; inferences are counted from now on."""
        super().__init__(order.bundle, order.config.threads)
        self._inferences, self._after = itertools.count(1), after

    def infer(self) -> None:
        """Run, or hang."""
        if next(self._inferences) == self._after:
            time.sleep(HANG_S)
        super().infer()


def main(arguments: list[str]) -> int:
    """Run the node; arguments behind ``--after N`` are its own."""
    after = DEFAULT_AFTER
    if arguments[:1] == [OPTION]:
        after, arguments = int(arguments[1]), arguments[2:]
    load = partial(HangingEngine, after=after)
    ENGINES.insert(0, EngineKind("hanging", "an engine that hangs", load))
    return run_node(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
