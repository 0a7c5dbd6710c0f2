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

    from perception_node.config.parameter import Value
    from perception_node.config.sections import Transport


@dataclass(frozen=True)
class DiagnosticDemand:
    """A row of /diagnostics that must be seen.

    Attributes:
        row: its task, such as ``input``.
        level: OK, WARN, ERROR or STALE; empty for any.
        contains: a part of its message; empty for any.
        within_s: after the beginning of what it is about.
        during: a fault or a step; empty for the whole run.

    """

    row: str
    level: str = ""
    contains: str = ""
    within_s: float = 2.0
    during: str = ""


@dataclass(frozen=True)
class LeakLimits:
    """What the node's process may have more at the end of a run than after its warm-up.

    Attributes:
        memory_mib: of its own.
        memory_mib_per_h: the slope of that; None: it is not judged, as in a short run.
        shared_mib: memory that it shares, at most at any time. As it comes: the segments of two
            participants (launch/fastdds_profile.xml), which fill up as they are used.
        descriptors: open files and sockets.
        threads: threads.

    """

    memory_mib: float = 10.0
    memory_mib_per_h: float | None = None
    shared_mib: float = 2 * 32.0 + 8.0
    descriptors: float = 0.0
    threads: float = 0.0


@dataclass(frozen=True)
class Expectations:
    """What must hold. None, empty or False: it is not judged.

    Attributes:
        deadline_ms: an answer that comes later counts as missed; None takes the device's.
        settle_s: frames so shortly after a fault or a step are not judged.
        latency_ms: limits of ``p50``, ``p90``, ``p99``, ``max``.
        missed_percent: at most so many frames are answered too late or not at all.
        answered_percent: at least so many are answered, however late.
        never_late: nothing comes that is older than the deadline and the way back.
        arrival_allowance_ms: the way back.
        golden: file of labels that ``perception replay`` wrote.
        agreement_percent: at least so many answers have its label.
        same_labels: answers to the same picture have the same label.
        recovery_s: until the first answer after ``fault``, ``activate`` and ``kill``.
        diagnostics: rows of /diagnostics that must be seen.
        faults_named: rows of /diagnostics name each fault of the camera that lasts long enough,
            and no longer than it does; those that judge the node itself are well at the end.
        no_unexpected_alarms: no others may be seen, but those that faults and steps explain.
        exit_code: of the node, after SIGTERM.
        account_exact: the node's account adds up, and all that it published has come.
        leaks: what the node's process may have more at the end.
        published_age_ms: no result is older when it is published, as ~/latency states it.
        steady_ages: these ages do not grow from the first third of the run to the last.
        expected_log: the node has logged only what faults of a camera explain, and not too often.

    """

    deadline_ms: float | None = None
    settle_s: float = 1.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    missed_percent: float | None = None
    answered_percent: float | None = None
    never_late: bool = False
    arrival_allowance_ms: float = 50.0
    golden: Path | None = None
    agreement_percent: float = 99.0
    same_labels: bool = False
    recovery_s: dict[str, float] = field(default_factory=dict)
    diagnostics: tuple[DiagnosticDemand, ...] = ()
    faults_named: bool = False
    no_unexpected_alarms: bool = False
    exit_code: int | None = None
    account_exact: bool = False
    leaks: LeakLimits | None = None
    published_age_ms: float | None = None
    steady_ages: bool = False
    expected_log: bool = False

    @property
    def needs_ages(self) -> bool:
        """Something is judged by ~/latency."""
        return self.steady_ages or self.published_age_ms is not None


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
