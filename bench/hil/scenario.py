# SPDX-License-Identifier: Apache-2.0
"""What a scenario says: what is played, what is done to the device, what must hold.

Times are seconds since the camera began. ``load_scenario`` reads a file; everything else here is
plain data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.fault_schedule import (
    SECOND_NS,
    Fault,
    FaultSchedule,
    Interval,
    make_schedule,
)

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.bench.hil.expectations import Expectations
    from perception_node.config.parameter import Value
    from perception_node.config.sections import Transport

DOWN = ("deactivate", "cleanup", "kill")  # after these steps the device does not answer


@dataclass(frozen=True)
class DeviceUnderTest:
    """The node that is tested.

    Attributes:
        start: ``local`` starts it on this machine; ``none``: it runs already, somewhere.
        target: its full name.
        parameters: of the node; given at start, or set by its service (``apply_parameters``).
        command: what starts it, without ROS arguments; empty for the node as it is. ``python3``
            is the one that runs this program.
        respawn: start it again when it has ended, as the launch file does.
        apply_parameters: set ``parameters`` on a device that runs already, unconfigured meanwhile.
        timeout_s: how long to wait for its first sign, and for each answer of a service.

    """

    start: str = "local"
    target: str = "/perception"
    parameters: dict[str, Value] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    respawn: bool = True
    apply_parameters: bool = False
    timeout_s: float = 30.0

    @property
    def is_local(self) -> bool:
        """This host starts it."""
        return self.start == "local"


@dataclass(frozen=True)
class CameraPlan:
    """What the host's camera plays.

    Attributes:
        topic: without ``/compressed``.
        source: ``synthetic``, ``bag`` or ``images``.
        path: of the bag, or of the folder of images; None for ``synthetic``.
        bag_topic: of the images in the bag; empty for the first that holds images.
        size: width and height in pixels; a bag is played as it is.
        encoding: of raw images.
        transport: ``raw`` or ``compressed``.
        rate_hz: frames per second.
        seconds: how long it plays.
        warm_up_s: how much of that, at the beginning, is not judged.

    """

    topic: str = "image"
    source: str = "synthetic"
    path: Path | None = None
    bag_topic: str = ""
    size: tuple[int, int] = (640, 480)
    encoding: str = "bgr8"
    transport: Transport = "raw"
    rate_hz: float = 30.0
    seconds: float = 10.0
    warm_up_s: float = 1.0

    @property
    def period_ns(self) -> int:
        """From one frame to the next."""
        return int(SECOND_NS / self.rate_hz)

    @property
    def full_topic(self) -> str:
        """The topic that is published, from the root."""
        base = "/" + self.topic.lstrip("/")
        return f"{base}/compressed" if self.transport == "compressed" else base


@dataclass(frozen=True)
class PlannedFault:
    """A fault of the camera, from ``at_s`` on, for ``for_s``."""

    at_s: float
    for_s: float
    fault: Fault


@dataclass(frozen=True)
class RandomFaults:
    """Faults in random order: the same seed gives the same."""

    faults: tuple[Fault, ...]
    seed: int = 1


@dataclass(frozen=True)
class Step:
    """Something that is done to the device at ``at_s``."""

    at_s: float
    do: str


@dataclass(frozen=True)
class Scenario:
    """All of one scenario; ``given`` is what its file says, in plain values."""

    name: str
    description: str
    node: DeviceUnderTest
    camera: CameraPlan
    faults: tuple[PlannedFault, ...]
    random_faults: RandomFaults | None
    steps: tuple[Step, ...]
    expect: Expectations
    given: dict[str, Any]

    def schedule(self, begin_ns: int) -> FaultSchedule:
        """Return which fault is on when, for a camera that begins at ``begin_ns``."""
        duration_ns = int(self.camera.seconds * SECOND_NS)
        if self.random_faults is not None:
            chosen = self.random_faults
            return make_schedule(chosen.seed, begin_ns, duration_ns, chosen.faults)
        intervals = [
            Interval(
                planned.fault,
                begin_ns + int(planned.at_s * SECOND_NS),
                begin_ns + int((planned.at_s + planned.for_s) * SECOND_NS),
            )
            for planned in self.faults
        ]
        return FaultSchedule(begin_ns, begin_ns + duration_ns, intervals)
