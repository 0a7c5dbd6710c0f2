# SPDX-License-Identifier: Apache-2.0
"""Play a failing camera to a node in a process of its own, and note all that is seen of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perception_node.bench.camera.camera_faults import FaultyCamera
from perception_node.bench.camera.fault_schedule import FAULTS, SECOND_NS, make_schedule
from perception_node.bench.process_watch import ProcessSample, WatchedNode
from perception_node.bench.soak.camera import Playback, read_camera
from perception_node.bench.soak.listener import SoakListener
from perception_node.bench.soak.verdict import SoakRun
from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.player import Player
from perception_node.rehearsal.rehearsal import NODE, START_TIMEOUT_S, TYPES
from perception_node.ros.session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from perception_node.config.parameter import Value

DEADLINE_MS = 150
SAMPLE_PERIOD_S = 1.0
QUIET_S, POLL_S = 0.5, 0.05  # no result for so long: all that were sent are here
STATE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Soak:
    """What to do.

    Attributes:
        seconds: how long the camera plays.
        rate_hz: frames per second.
        seed: of the faults.
        transport: raw or compressed.
        command: what starts the node, without ROS arguments; empty for the node as it is.

    """

    seconds: float = 60.0
    rate_hz: float = 30.0
    seed: int = 1
    transport: str = "raw"
    command: Sequence[str] = ()

    @property
    def period_ns(self) -> int:
        """From one frame to the next."""
        return int(SECOND_NS / self.rate_hz)

    def parameters(self) -> dict[str, Value]:
        """Return the node's parameters: sensitive diagnostics, real stamps, the default model."""
        return {
            "autostart": True,
            "image_transport": self.transport,
            "deadline_ms": DEADLINE_MS,
            "engine_timeout_ms": 2000,  # a busy machine is no lost engine
            "diagnostics_period_s": 0.2,
            "image_timeout_s": 0.5,
            "stuck_after": int(self.rate_hz / 2),
            "warn_rate_hz": self.rate_hz / 2,
        }

    def run(self, console: Console) -> SoakRun:
        """Start the node, play to it, end it.

        Raises:
            EnvironmentLacks: the node does not start, or does not find the camera.

        """
        pictures = read_camera(self.transport)
        topic = "image" if self.transport == "raw" else "image/compressed"
        with (
            open_session("perception_soak") as node,
            WatchedNode(self.parameters(), command=self.command) as process,
            SoakListener(node, NODE) as listener,
        ):
            player = Player(node, {topic: TYPES[self.transport]})
            wait_until_ready(process, listener, player)
            duration_ns, faults = int(self.seconds * SECOND_NS), FAULTS[self.transport]
            schedule = make_schedule(self.seed, time.time_ns(), duration_ns, faults)
            camera = FaultyCamera(schedule, self.period_ns, self.transport, self.seed)
            playback = Playback(camera, pictures, player, topic, TYPES[self.transport])
            samples = watch(playback, process, listener, console)
            levels = dict(listener.record.last_levels)  # soon the camera is missed
            wait_until_quiet(listener)
            was_active = listener.is_active(STATE_TIMEOUT_S)
            exit_code = process.end()
            return SoakRun(
                schedule=schedule,
                period_ns=self.period_ns,
                pictures=len(pictures),
                deadline_ms=DEADLINE_MS,
                sent_ok=playback.sent_ok,
                record=replace(listener.record, last_levels=levels),
                samples=samples,
                log=process.log(),
                was_active=was_active,
                exit_code=exit_code,
            )


def wait_until_ready(process: WatchedNode, listener: SoakListener, player: Player) -> None:
    """Wait until the node listens to the camera, and nothing it says will be missed.

    Raises:
        EnvironmentLacks: it ended, or took too long.

    """
    end_s = time.monotonic() + START_TIMEOUT_S
    while not (listener.is_matched and player.has_subscribers):
        process.require_alive()
        if time.monotonic() > end_s:
            last = (process.log() or ["it logged nothing"])[-1]
            msg = f"the node did not become active in {START_TIMEOUT_S:.0f} s: {last}"
            raise EnvironmentLacks(msg)
        time.sleep(POLL_S)


def watch(
    playback: Playback, process: WatchedNode, listener: SoakListener, console: Console
) -> list[ProcessSample]:
    """Play, and look at the process every second; end early if it does."""
    samples = []
    playback.thread.start()
    with console.status("starting") as status:
        begin_s = due_s = time.monotonic()
        while playback.thread.is_alive() and (sample := process.sample()) is not None:
            samples.append(sample)
            status.update(
                f"{time.monotonic() - begin_s:.0f} s, camera: {playback.fault}, "
                f"{len(listener.record.stamps_ns)} results, {sample.own_mib:.0f} MiB, "
                f"{sample.descriptors} descriptors, {sample.threads} threads"
            )
            due_s += SAMPLE_PERIOD_S
            playback.thread.join(max(0.0, due_s - time.monotonic()))
    playback.stop.set()
    playback.thread.join()
    return samples


def wait_until_quiet(listener: SoakListener) -> None:
    """Wait until no more results come."""
    heard, since_s = -1, time.monotonic()
    while time.monotonic() - since_s < QUIET_S:
        if heard != len(listener.record.stamps_ns):
            heard, since_s = len(listener.record.stamps_ns), time.monotonic()
        time.sleep(POLL_S)
