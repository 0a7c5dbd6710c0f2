# SPDX-License-Identifier: Apache-2.0
"""The bag of what happened: images as they were sent, answers, /diagnostics.

Whoever writes into it only leaves bytes in a queue; a thread of its own writes them to the disk.
"""

from __future__ import annotations

import queue
import shutil
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from rosbags.rosbag2 import StoragePlugin, Writer

from perception_node.bench.hil.packed import Packed
from perception_node.errors import ConfigError
from perception_node.rehearsal.heard import Result
from perception_node.ros.definitions import choose_bag_version, make_typestore

if TYPE_CHECKING:
    from pathlib import Path

    from rosbags.interfaces import Connection

    from perception_node.bench.camera.fault_schedule import Fault, Interval
    from perception_node.bench.process_watch import ProcessSample


class SentFrame(NamedTuple):
    """One message that the host's camera published.

    Attributes:
        stamp_ns: its header's stamp, nanoseconds since the epoch.
        due_ns: when it should have been published.
        sent_ns: when it was: just before the publish call.
        fault: what was done to it.
        picture: number of the picture that it shows.

    """

    stamp_ns: int
    due_ns: int
    sent_ns: int
    fault: Fault
    picture: int


class Age(NamedTuple):
    """How old a result was when the device published it, as its ~/latency states."""

    stamp_ns: int
    age_ms: float


class DiagnosticChange(NamedTuple):
    """A row of /diagnostics whose level or message is not the one before.

    Attributes:
        time_ns: when it arrived.
        row: its task, such as ``input``.
        level: OK, WARN, ERROR or STALE.
        message: its text.

    """

    time_ns: int
    row: str
    level: str
    message: str


class StepDone(NamedTuple):
    """A step of the scenario that was taken.

    Attributes:
        time_ns: when it began.
        what: ``configure``, ``activate``, ``deactivate``, ``cleanup``, ``kill``.
        seconds: until it was done.
        problem: why it failed; empty if it did not.

    """

    time_ns: int
    what: str
    seconds: float
    problem: str


class StateChange(NamedTuple):
    """The device's lifecycle state from here on; ``unreachable`` while nobody answers."""

    time_ns: int
    state: str


@dataclass
class HilRecord:
    """Everything that was played and heard.

    Attributes:
        begin_ns: when the camera began.
        end_ns: when it ended, or was interrupted.
        complete: False if it was interrupted.
        faults: intervals in which the camera failed, on the host's steady clock.
        sent, answers, diagnostics, steps, states: in the order of their time.
        device: what the device says of itself: ``method`` (of ~/vision_info), ``host`` and others.
        log: lines of the node's log, where the host started it; empty otherwise.
        ages: in the order of arrival; empty where the scenario does not judge them.
        samples: looks at the node's process once a second, where the host started it and the
            scenario judges them.
        skipped: frames that this host could not send in time, and did not send.
        held_back: when frames were due that were not sent because the publish call before did not
            return: of a network that takes nothing, for example. They count as not answered.
        unexpected_ends: how often the node's process ended by itself, where the host started it.
        exit_code: of the node after SIGTERM, where the host started it; None otherwise.

    """

    begin_ns: int = 0
    end_ns: int = 0
    complete: bool = False
    faults: list[Interval] = field(default_factory=list)
    sent: Packed[SentFrame] = field(default_factory=lambda: Packed(SentFrame, "qqqoq"))
    answers: Packed[Result] = field(default_factory=lambda: Packed(Result, "qqodo"))
    ages: Packed[Age] = field(default_factory=lambda: Packed(Age, "qd"))
    diagnostics: list[DiagnosticChange] = field(default_factory=list)
    steps: list[StepDone] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    held_back: list[int] = field(default_factory=list)
    device: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    samples: list[ProcessSample] = field(default_factory=list)
    skipped: int = 0
    unexpected_ends: int = 0
    exit_code: int | None = None


MIB = 1 << 20
MAX_BYTES = 2048 * MIB
MAX_WAITING_BYTES = 256 * MIB  # nine seconds of 640x480 at 30 Hz
Message = tuple[str, str, bytes, int]  # topic, type, CDR bytes, epoch ns
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


class Recorder:
    """Writes a rosbag2 folder (mcap) from entering to leaving.

    Images are left out once the bag has its full size, or while the disk is too slow for them;
    all other messages, which are small, are kept. ``remarks`` says so afterwards.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        """Prepare a bag in ``folder``, which must not exist yet.

        Args:
            folder: of the bag; its parent is made if it is not there.
            max_bytes: of the images' bag; what comes then are no images.

        Raises:
            ConfigError: ``folder`` exists.

        """
        if folder.exists():
            msg = f"{folder}: exists already; choose another folder"
            raise ConfigError(msg)
        self._folder = folder
        self._max_bytes = max_bytes
        version = choose_bag_version()
        self._writer = Writer(folder, version=version, storage_plugin=StoragePlugin.MCAP)
        self._types = make_typestore()
        self._connections: dict[tuple[str, str], Connection] = {}
        self._waiting: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="recorder", daemon=True)
        self._lock = threading.Lock()
        self._written_bytes = self._waiting_bytes = 0
        self._full, self._overrun = 0, 0
        self._problem = ""

    def __enter__(self) -> Recorder:
        """Make the bag and start the thread.

        Raises:
            ConfigError: the folder cannot be written to.

        """
        try:
            self._writer.open()
        except OSError as error:
            msg = f"{self._folder}: {error.strerror}; choose another folder"
            raise ConfigError(msg) from error
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Write what waits, and the index; also after an exception, as the bag explains it."""
        self.close()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not in the bag, and why, one line each; complete after closing."""
        remarks = []
        if self._full:
            mib = self._max_bytes // MIB
            remarks.append(f"bag: full ({mib} MiB), {self._full} later images are left out")
        if self._overrun:
            remarks.append(f"bag: {self._overrun} images are left out, the disk is too slow")
        if self._problem:
            remarks.append(f"bag: {self._problem}")
        return tuple(remarks)

    def write(self, topic: str, type_name: str, data: bytes, time_ns: int) -> None:
        """Take a serialized message, from any thread; never waits for the disk.

        Args:
            topic: its resolved name.
            type_name: such as ``sensor_msgs/msg/Image``.
            data: its CDR bytes; not to be changed afterwards.
            time_ns: when it was sent or received, nanoseconds since the epoch.

        """
        is_image = type_name in IMAGE_TYPES
        with self._lock:
            if is_image and self._written_bytes + len(data) > self._max_bytes:
                self._full += 1
                return
            if is_image and self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                self._overrun += 1
                return
            self._written_bytes += len(data)
            self._waiting_bytes += len(data)
        self._waiting.put((topic, type_name, data, time_ns))

    def close(self) -> None:
        """Write what waits, and the index. A second call does nothing."""
        if not self._thread.is_alive():
            return
        self._waiting.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while (message := self._waiting.get()) is not None:
            topic, type_name, data, time_ns = message
            if not self._problem:
                self._write(topic, type_name, data, time_ns)
            with self._lock:
                self._waiting_bytes -= len(data)
        self._finish()

    def _write(self, topic: str, type_name: str, data: bytes, time_ns: int) -> None:
        try:
            self._writer.write(self._connect(topic, type_name), time_ns, data)
        except Exception as error:  # noqa: BLE001 - a bag is no reason to lose the run
            self._problem = f"ends early: {error}"

    def _connect(self, topic: str, type_name: str) -> Connection:
        topic = "/" + topic.lstrip("/")
        key = (topic, type_name)
        if key not in self._connections:
            self._connections[key] = self._writer.add_connection(
                topic, type_name, typestore=self._types
            )
        return self._connections[key]

    def _finish(self) -> None:
        """Write the index; a bag that cannot have one is removed, as nobody could read it."""
        try:
            self._writer.close()
        except Exception as error:  # noqa: BLE001 - see _write
            self._writer.abort()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._problem = f"there is none: {error}"
