# SPDX-License-Identifier: Apache-2.0
"""The real node with an engine that hangs once, in the place of one whose GPU does not answer.

    python -m perception_node.bench.hil.engine_loss [--after N] [--ros-args ...]

After N inferences, those that warm it up included, one takes a minute. The node has to give that
engine up and to go on with another.
"""

from __future__ import annotations

import itertools
import sys
import time

from perception_node.engines import selection
from perception_node.engines.onnxruntime import OnnxRuntimeEngine

OPTION, DEFAULT_AFTER = "--after", 150
HANG_S = 60.0


def make_hanging(after: int) -> type[OnnxRuntimeEngine]:
    """Return ONNX Runtime's engine, of which one inference hangs, whichever instance it is of."""
    inferences = itertools.count(1)

    class HangingEngine(OnnxRuntimeEngine):
        """Hangs once."""

        def infer(self) -> None:
            """Run, or hang."""
            if next(inferences) == after:
                time.sleep(HANG_S)
            super().infer()

    return HangingEngine


def main(arguments: list[str]) -> int:
    """Run the node; arguments behind ``--after N`` are its own."""
    after = DEFAULT_AFTER
    if arguments[:1] == [OPTION]:
        after, arguments = int(arguments[1]), arguments[2:]
    selection.OnnxRuntimeEngine = make_hanging(after)  # type: ignore[attr-defined]
    from perception_node.ros.main import main as run_node  # noqa: PLC0415 - after the replacement

    return run_node(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
