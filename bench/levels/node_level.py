# SPDX-License-Identifier: Apache-2.0
"""The node level: camera, node and subscriber in processes of their own, over real DDS.

This process joins no ROS graph: it starts the others, reads their pipes and tells how it goes.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from perception_node.bench.levels.child_process import ChildProcess
from perception_node.bench.levels.node_turn import NodeTurn, Processes, RunInterrupted
from perception_node.errors import ConfigError
from perception_node.rehearsal.domain import private_domain
from perception_node.rehearsal.node_process import NodeProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perception_node.bench.camera.load import Load
    from perception_node.bench.reporting.live_table import Progress
    from perception_node.bench.reporting.measurement import Run
    from perception_node.config.parameter import Value

__all__ = ["BASELINES", "RunInterrupted", "measure_node"]

BASELINES = ("naive", "floor")


def measure_node(
    load: Load,
    subject: str,
    deadline_ms: float,
    parameters: dict[str, Value],
    *,
    command: Sequence[str] = (),
    with_stages: bool = True,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Run:
    """Start a subject, play to it, end it.

    Args:
        load: what is played.
        subject: node, or one of ``BASELINES``.
        deadline_ms: what counts as missed; the node's own as well, unless ``parameters`` say
            otherwise.
        parameters: further parameters of the subject.
        command: what starts the node instead, without ROS arguments.
        with_stages: listen to the node's ~/latency, which costs it 0.4 ms of processor time per
            frame; without it the run has no stages of the node, nor the ways of dropped frames.
        on_progress: called about four times per second.

    Raises:
        ConfigError: the subject does not take this load.
        EnvironmentLacks: a process does not start, ends early or never answers.
        RunInterrupted: the user pressed Ctrl-C.

    """
    if subject in BASELINES and load.cameras > 1:
        raise ConfigError(f"--cameras: --baseline {subject} takes 1, found {load.cameras}")
    with private_domain():
        processes = Processes(
            subject,
            _make_subject(load, subject, deadline_ms, parameters, command),
            _make_camera(load),
            _make_subscriber(load, is_node=subject not in BASELINES, with_stages=with_stages),
        )
        return NodeTurn(load, round(deadline_ms * 1e6), processes).run(on_progress)


def _make_subject(
    load: Load,
    subject: str,
    deadline_ms: float,
    parameters: dict[str, Value],
    command: Sequence[str],
) -> NodeProcess:
    topics = Topics(load)
    common: dict[str, Value] = {**parameters, "image_transport": load.transport}
    if subject in BASELINES:
        program = (sys.executable, "-m", f"perception_node.bench.baselines.{subject}")
        return NodeProcess(common, topics.remaps, program)
    own: dict[str, Value] = {"autostart": True, "deadline_ms": max(1, math.ceil(deadline_ms))}
    return NodeProcess({**own, **topics.parameters, **common}, topics.remaps, command)


def _make_camera(load: Load) -> ChildProcess:
    task = {"load": asdict(load), "topics": Topics(load).images}
    return ChildProcess("camera", "perception_node.bench.levels.camera_process", task)


def _make_subscriber(load: Load, *, is_node: bool, with_stages: bool) -> ChildProcess:
    topics = Topics(load)
    task = {
        "images": topics.images,
        "results": topics.outputs("classification"),
        "latency": topics.outputs("latency") if is_node and with_stages else [],
        "labels": topics.outputs("label_info") if is_node else [],
    }
    return ChildProcess("subscriber", "perception_node.bench.levels.subscriber_process", task)


class Topics:
    """Names of all topics of a run; with several cameras each has its own namespace."""

    def __init__(self, load: Load) -> None:
        """Name them for the cameras and the transport of a load."""
        several = [f"/camera{number}" for number in range(1, load.cameras + 1)]
        self._namespaces = several if load.cameras > 1 else ["/camera"]
        self._bases = [f"{namespace}/image_raw" for namespace in self._namespaces]
        self._suffix = "" if load.transport == "raw" else "/compressed"

    @property
    def images(self) -> list[str]:
        """What the cameras publish."""
        return [base + self._suffix for base in self._bases]

    @property
    def remaps(self) -> dict[str, str]:
        """Of a subject with one camera."""
        return {"image": self._bases[0]} if len(self._bases) == 1 else {}

    @property
    def parameters(self) -> dict[str, Value]:
        """Of a node with several cameras."""
        return {"image_topics": tuple(self._bases)} if len(self._bases) > 1 else {}

    def outputs(self, name: str) -> list[str]:
        """What the subject publishes under this name."""
        if len(self._bases) == 1:
            return [f"/perception/{name}"]
        return [f"{namespace}/perception/{name}" for namespace in self._namespaces]
