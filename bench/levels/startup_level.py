# SPDX-License-Identifier: Apache-2.0
"""From the start of a node's process to its first result, while a camera already plays."""

from __future__ import annotations

import re
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.camera_messages import write_stamp
from perception_node.bench.camera.load import Load, make_messages
from perception_node.bench.levels.paced_run import measure_first_inference
from perception_node.bench.levels.startup_node import IMPORTED
from perception_node.bench.process_watch import read_sample
from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.measurement import Run
from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.bag_rehearsal import TYPES
from perception_node.rehearsal.domain import private_domain
from perception_node.rehearsal.driver import NODE, Driver
from perception_node.rehearsal.listener import RESULTS, Listener
from perception_node.rehearsal.node_process import NodeProcess
from perception_node.rehearsal.player import Player
from perception_node.ros.session import open_session
from perception_node.system.resources import SAMPLE_TOPICS
from perception_node.wire.bags import BagMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUBJECT = "startup"
COMMAND = (sys.executable, "-m", "perception_node.bench.levels.startup_node")
LOG_LINE = re.compile(r"\[INFO\] \[(\d+)\.(\d{9})\] \[[^]]+\]: (.*)")
# What the node says at the end of each stage, in their order.
MARKS = {"import": IMPORTED, "configure": "model ", "activate": "active: "}
START_TO_ACTIVE, START_TO_RESULT = "start to active", "start to first result"
TIMEOUT_S = 60.0
# The pictures bear old stamps. Several cameras would have their results elsewhere.
FIXED: dict[str, Any] = {"autostart": True, "age_reference": "arrival", "image_topics": ("image",)}


def measure_start(parameters: Mapping[str, Any]) -> Run:
    """Start a node once, beside a camera that plays 640x480 at 30 Hz, and wait for its result.

    ``import`` is from the start of the process until all modules are loaded, ``configure`` until
    the model is warm, ``activate`` until the node waits for images. The first and the steady
    inference are of another process, which does not warm up.

    Args:
        parameters: of the node.

    Raises:
        ConfigError: a parameter, or the model, cannot be used.
        EnvironmentLacks: the node does not start, or sends no result.

    """
    load = Load(transport=parameters.get("image_transport", "raw"))
    first_ns, steady_ns = measure_first_inference(load, parameters)
    fixed = {**parameters, **FIXED, "camera_deadlines_ms": (0,)}
    arrivals_ns: list[int] = []

    node = NodeProcess(fixed, {"image": SAMPLE_TOPICS["raw"]}, COMMAND)
    with (
        private_domain(),
        open_session("perception_startup") as session,
        Listener(session) as listener,
        _playing(Player(session, {SAMPLE_TOPICS[load.transport]: TYPES[load.transport]}), load),
    ):
        listener.subscribe(NODE, {RESULTS: lambda _, arrived_ns: arrivals_ns.append(arrived_ns)})
        begin_ns, epoch_ns = time.monotonic_ns(), time.time_ns()
        with Driver(node) as driver:
            driver.require(lambda: bool(arrivals_ns), "the node sent no result", TIMEOUT_S)
            memory_mib = read_sample(node.pid).own_mib
            driver.end()  # a result may be out before the line that says "active"
            log = node.log()
    stages_ns = {
        **read_stages(log, epoch_ns),
        START_TO_RESULT: arrivals_ns[0] - begin_ns,
        "first inference": first_ns,
        "steady inference": steady_ns,
    }
    stages = {name: Durations([duration_ns]) for name, duration_ns in stages_ns.items()}
    return Run(SUBJECT, stages, resources={"memory_mib": memory_mib})


def read_stages(log: list[str], start_ns: int) -> dict[str, int]:
    """Return the nanoseconds of each stage, by the times in a node's log.

    Args:
        log: its lines.
        start_ns: when the process was started, since the epoch.

    Raises:
        EnvironmentLacks: a line is missing.

    """
    matches = [found for line in log if (found := LOG_LINE.search(line))]
    stages: dict[str, int] = {}
    begin_ns = end_ns = start_ns
    for stage, mark in MARKS.items():
        line = next((found for found in matches if found[3].startswith(mark)), None)
        if line is None:
            said = log[-1] if log else "nothing"
            advice = "unset RCUTILS_CONSOLE_OUTPUT_FORMAT"
            msg = f"the node's log has no line '{mark.strip()}', the last is: {said}; {advice}"
            raise EnvironmentLacks(msg)
        end_ns = int(line[1]) * 1_000_000_000 + int(line[2])
        stages[stage] = end_ns - begin_ns
        begin_ns = end_ns
    return {**stages, START_TO_ACTIVE: end_ns - start_ns}


@contextmanager
def _playing(player: Player, load: Load) -> Iterator[None]:
    """Play on a thread of its own, over and over."""
    topic, kind = SAMPLE_TOPICS[load.transport], TYPES[load.transport]
    messages = []
    for number, message in enumerate(make_messages(load), start=1):
        time_ns = number * load.period_ns
        write_stamp(message, time_ns)  # a stamp of 0 is refused
        messages.append(BagMessage(topic, kind, time_ns, bytes(message)))
    stop = threading.Event()
    camera = threading.Thread(
        target=player.play_again_and_again, args=(lambda: messages, 1.0, stop), daemon=True
    )
    camera.start()
    try:
        yield
    finally:
        stop.set()
        camera.join()
